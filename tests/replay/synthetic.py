"""Fixtures derived from recorded ones: for servers that the test host does not have, and faults that none has on demand.

Each is a row of TABLE: the recording it comes from, what is changed in the server's answers, and how that is known. Only
answers are changed; what is asked of them is what the CPI asks when it gets them. bin/record derives them anew.
"""
from __future__ import annotations

import copy
import re
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

from bosh_lxd_cpi import replay
from bosh_lxd_cpi.lxd.cassette import Mismatch, Player, ReplayClock, line

Call = dict[str, Any]
Exchange = dict[str, Any]


class Row(NamedTuple):
    """One derived fixture."""

    server: str
    scenario: str
    base: str
    """Server and scenario of the recording, and after # the number of the one call to take, else all."""
    change: str
    source: str
    changes: tuple[Callable[[Call], None], ...]


# -- answers ----------------------------------------------------------------------------------------------------------


def sync(metadata: Any) -> dict[str, Any]:
    body = {"type": "sync", "status": "Success", "status_code": 200, "operation": "", "error_code": 0, "error": "",
            "metadata": metadata}
    return {"status": 200, "headers": {"Content-Type": "application/json"}, "body": body}


def refusal(text: str, code: int, *, status: int = 0) -> dict[str, Any]:
    """A refusal; `status` is the HTTP status if that is another than the code."""
    body = {"type": "error", "error": text, "error_code": code, "metadata": None, "status": "", "status_code": 0}
    return {"status": status or code, "headers": {"Content-Type": "application/json"}, "body": body}


def exchange(method: str, path: str, response: dict[str, Any] | None = None, *, ms: int = 5, **more: Any) -> Exchange:
    return {"request": {"method": method, "path": path}, "ms": ms, **({"response": response} if response else {}), **more}


def first(call: Call, method: str, pattern: str) -> int:
    """The index of the first exchange with this method and path."""
    return next(index for index, one in enumerate(call["interactions"])
                if one["request"]["method"] == method and re.search(pattern, one["request"]["path"]))


def put_before(method: str, pattern: str, *answers: dict[str, Any]) -> Callable[[Call], None]:
    """The first such request gets these answers before the recorded one."""
    def change(call: Call) -> None:
        at = first(call, method, pattern)
        path = call["interactions"][at]["request"]["path"]
        call["interactions"][at:at] = [exchange(method, path, answer) for answer in answers]
    return change


def answered(method: str, pattern: str, answer: dict[str, Any]) -> Callable[[Call], None]:
    """The first such request gets this answer, and nothing comes after it."""
    def change(call: Call) -> None:
        at = first(call, method, pattern)
        call["interactions"][at:] = [exchange(method, call["interactions"][at]["request"]["path"], answer)]
    return change


# -- other servers ----------------------------------------------------------------------------------------------------


def lxd(version: str, *extensions: str) -> Callable[[Call], None]:
    """The server says that it is an LXD with these extensions more; texts are LXD's."""
    def change(call: Call) -> None:
        call["config"]["server"]["type"] = "lxd"
        for one in call["interactions"]:
            body = one.get("response", {}).get("body", {})
            if body.get("type") == "error":
                body["error"] = re.sub(r'^Failed to fetch instance ".*?" in project ".*?": ', "", body["error"])
            if one["request"]["path"] == "/1.0":
                metadata = body["metadata"]
                metadata["environment"].update(server="lxd", server_version=version)
                metadata["api_extensions"] = [name for name in metadata["api_extensions"] if "incus" not in name] + list(extensions)
    return change


def the_project_is_there(call: Call) -> None:
    """LXD answers 404 for an instance of a project that is none, too: then the CPI looks whether there is one."""
    if call["stdin"]["method"] == "has_vm" and call["interactions"][-1]["response"]["status"] == 404:
        call["interactions"].append(exchange("GET", "/1.0/projects/bosh", sync({"name": "bosh", "config": {}, "description": ""})))


def volumes_are_asynchronous(call: Call) -> None:
    """Every change of a volume that succeeded at once is an operation that has to be waited for."""
    changed = []
    for one in call["interactions"]:
        request, response = one["request"], one.get("response", {})
        is_change = request["method"] != "GET" and "/volumes/custom" in request["path"]
        if not is_change or response.get("body", {}).get("type") != "sync":
            changed.append(one)
            continue
        path = f"/1.0/operations/{uuid.uuid5(uuid.NAMESPACE_URL, line(request) + call['at'])}"
        resource = request["path"] if request["method"] != "POST" else f"{request['path']}/{request['body']['name']}"
        operation = {"id": path.rsplit("/", 1)[1], "class": "task", "description": "Changing storage volume", "created_at": call["at"],
                     "updated_at": call["at"], "status": "Running", "status_code": 103, "resources": {"storage_volumes": [resource]},
                     "metadata": None, "may_cancel": False, "err": "", "location": "none"}
        body = {**sync(operation)["body"], "type": "async", "status": "Operation created", "status_code": 100, "operation": path}
        headers = {"Content-Type": "application/json", "Location": path}
        changed.append({**one, "response": {"status": 202, "headers": headers, "body": body}})
        changed.append(exchange("GET", f"{path}/wait", sync({**operation, "status": "Success", "status_code": 200})))
    call["interactions"] = changed


AGENT = refusal("LXD VM agent isn't currently running", 500)


def the_guest_could_not_be_told(call: Call) -> None:
    """Attaching works, and is refused all the same; the next look shows the disk."""
    if call["stdin"]["method"] != "attach_disk" or not any(one["request"]["method"] == "PATCH" for one in call["interactions"]):
        return
    at = first(call, "PATCH", "/instances/")
    patch = call["interactions"][at]
    looked = copy.deepcopy(call["interactions"][at - 1])
    looked["response"]["body"]["metadata"]["devices"].update(patch["request"]["body"]["devices"])
    patch["response"] = copy.deepcopy(AGENT)
    call["interactions"].insert(at + 1, looked)


# -- faults -----------------------------------------------------------------------------------------------------------

DEADLINE = refusal("context deadline exceeded", 500, status=200)
LOST = {"type": "LostAnswer", "brief": "https://127.0.0.1:8443 gave no answer: Connection aborted"}
REFUSED = {"type": "Unreachable", "brief": "no connection to https://127.0.0.1:8443: Connection refused"}


def creation(call: Call) -> tuple[int, str, str]:
    """In a create_vm: the index of the wait for the instance, the operation's path, the instance's path."""
    at = first(call, "POST", "^/1.0/instances$")
    name = call["interactions"][at]["request"]["body"]["name"]
    return at + 1, call["interactions"][at]["response"]["body"]["operation"], f"/1.0/instances/{name}"


def state(call: Call, **changes: Any) -> dict[str, Any]:
    """The instance's creation with its state changed."""
    at, _, _ = creation(call)
    return sync({**call["interactions"][at]["response"]["body"]["metadata"], **changes})


RUNNING = {"status": "Running", "status_code": 103}


def wait_times_out_with_an_error(call: Call) -> None:
    at, operation, _ = creation(call)
    call["interactions"][at:at] = [exchange("GET", f"{operation}/wait", DEADLINE, ms=30000),
                                   exchange("GET", operation, state(call, **RUNNING))]


def wait_times_out_with_the_state(call: Call) -> None:
    at, operation, _ = creation(call)
    call["interactions"].insert(at, exchange("GET", f"{operation}/wait", state(call, **RUNNING), ms=30000))


def instance_runs(call: Call, path: str) -> Exchange:
    metadata = {"name": path.rsplit("/", 1)[1], **RUNNING, "type": "virtual-machine", "location": "none"}
    return exchange("GET", path, sync(metadata))


def operation_is_forgotten(call: Call) -> None:
    at, operation, path = creation(call)
    call["interactions"][at:at + 1] = [
        exchange("GET", f"{operation}/wait", refusal("Operation not found", 404)),
        exchange("GET", "/1.0/operations", sync({})), instance_runs(call, path), instance_runs(call, path)]


def operation_is_cancelled(call: Call) -> None:
    at, operation, path = creation(call)
    ended = state(call, status="Cancelled", status_code=401)
    call["interactions"][at:] = [exchange("GET", f"{operation}/wait", ended)] + _nothing_left(call, path)


def _nothing_left(call: Call, path: str) -> list[Exchange]:
    """What the clean-up after a failed creation meets when the server has undone its own part: only the volumes."""
    volumes = [one["request"]["headers"].get("X-LXD-name") or one["request"]["body"]["name"]
               for one in call["interactions"] if one["request"]["method"] == "POST" and "/volumes/" in one["request"]["path"]]
    pools = sync([{"name": "default"}])
    return [exchange("GET", path, refusal("Instance not found", 404)), exchange("GET", "/1.0/storage-pools", pools),
            *(exchange("DELETE", f"/1.0/storage-pools/default/volumes/custom/{name}", sync({})) for name in sorted(volumes))]


def answer_is_lost_while_the_server_works_on(call: Call) -> None:
    at, operation, path = creation(call)
    running = sync({"running": [{**state(call, **RUNNING)["body"]["metadata"]}]})
    post, wait = call["interactions"][at - 1], call["interactions"][at]
    post.pop("response")
    post["error"] = LOST
    call["interactions"][at:at + 1] = [exchange("GET", "/1.0/operations", running), wait, instance_runs(call, path),
                                       instance_runs(call, path)]


def answer_is_lost_and_the_name_taken(call: Call) -> None:
    """The volume is not there yet at the first look, and is there when it is made once more."""
    [made] = call["interactions"]
    path, name = made["request"]["path"], made["request"]["body"]["name"]
    volume = sync({**made["request"]["body"], "used_by": [], "location": "none", "project": "bosh"})
    operations = exchange("GET", "/1.0/operations", sync({}))
    call["interactions"] = [
        exchange("POST", path, error=LOST), operations, exchange("GET", f"{path}/{name}", refusal("Storage pool volume not found", 404)),
        exchange("POST", path, refusal("Volume by that name already exists", 409)), operations, exchange("GET", f"{path}/{name}", volume)]


def somebody_else_changed_it(call: Call) -> None:
    at = first(call, "PATCH", "/instances/")
    path = call["interactions"][at]["request"]["path"]
    looked = copy.deepcopy(call["interactions"][at - 1])
    text = f"ETag doesn't match: {'ab' * 32} vs {looked['response']['headers']['ETag'].strip(chr(34))}"
    looked["response"]["headers"]["ETag"] = f'"{"ab" * 32}"'
    call["interactions"][at:at] = [exchange("PATCH", path, refusal(text, 412)), looked]


def nobody_answers(call: Call) -> None:
    path = call["interactions"][0]["request"]["path"]
    call["interactions"] = [exchange("GET", path, error=REFUSED, repeat=True)]


BAD_GATEWAY = {"status": 502, "headers": {"Content-Type": "text/html"}, "text": "<html><h1>502 Bad Gateway</h1></html>"}

LXD_521 = "the server is LXD 5.21 in name, version and texts; ISO volumes, start in create and security.csm are as recorded"
FACTS_521 = "canonical/lxd stable-5.21: lxd/api_1.0.go, shared/version/api.go (custom_volume_iso, instance_create_start, security_csm)"
ASYNC = "every change of a volume or its snapshot is an operation"
FACTS_66 = "canonical/lxd lxd-6.6: extension storage_and_profile_operations, lxd/storage_volumes.go"
BOOT_MODE = "extension instance_boot_mode, which removed security.csm and security.secureboot"
FACTS_67 = "canonical/lxd main after lxd-6.6: extension instance_boot_mode, lxd/instance/drivers/driver_qemu.go"
WAIT = "lxd/operations.go operationWaitGet; Incus before 6.0.5 and 6.12"

V521, V66 = lxd("5.21.3"), lxd("6.6", "storage_and_profile_operations")
V67 = lxd("6.7", "storage_and_profile_operations", "instance_boot_mode")
POOL_VOLUMES = "/volumes/custom"

TABLE = (
    Row("lxd-5.21", "vm", "incus/vm", LXD_521, FACTS_521, (V521, the_project_is_there)),
    Row("lxd-5.21", "vm_by_uefi", "incus/vm_by_uefi", LXD_521, FACTS_521, (V521,)),
    Row("lxd-5.21", "vm_refused", "incus/vm_refused", LXD_521 + "; failures of operations are errors under HTTP 200, as recorded",
        FACTS_521 + "; " + WAIT, (V521,)),
    Row("lxd-5.21", "disk_attached", "incus/disk_attached", "attaching is refused because no agent runs, although it was done",
        "canonical/lxd 5.20 to 5.21.2 and 6.1: lxd/instance/drivers/driver_qemu.go, the event to the guest after an update",
        (lxd("5.21.2"), the_guest_could_not_be_told)),
    Row("lxd-6.6", "vm", "incus/vm", ASYNC, FACTS_66, (V66, the_project_is_there, volumes_are_asynchronous)),
    Row("lxd-6.6", "disk", "incus/disk", ASYNC, FACTS_66, (V66, volumes_are_asynchronous)),
    Row("lxd-6.6", "disk_snapshots", "incus/disk_snapshots", ASYNC, FACTS_66, (V66, volumes_are_asynchronous)),
    Row("lxd-6.7", "vm", "incus/vm", f"{BOOT_MODE}; {ASYNC}", FACTS_67,
        (V67, the_project_is_there, volumes_are_asynchronous)),
    Row("lxd-6.7", "vm_by_uefi", "incus/vm_by_uefi", f"{BOOT_MODE}; {ASYNC}", FACTS_67, (V67, volumes_are_asynchronous)),
    Row("faults", "wait_times_out_with_an_error", "incus/vm#0", "the first wait ends after 30 s with an error under HTTP 200", WAIT,
        (wait_times_out_with_an_error,)),
    Row("faults", "wait_times_out_with_the_state", "incus7/vm#0", "the first wait ends after 30 s with the state Running",
        "lxc/incus 6.0.5 and 6.12 on, LXD 5.0.2: cmd/incusd/operations.go operationWaitGet", (wait_times_out_with_the_state,)),
    Row("faults", "operation_is_forgotten", "incus/vm#0", "the operation is not found, the instance runs",
        "operations are forgotten five seconds after their end and with a restart: lxd/operations", (operation_is_forgotten,)),
    Row("faults", "operation_is_cancelled", "incus/vm#0", "the operation ends as Cancelled, without a text",
        "shared/api/status_code.go: 401", (operation_is_cancelled,)),
    Row("faults", "answer_is_lost_while_the_server_works_on", "incus/vm#0",
        "the connection breaks before the answer to the creation; the list of operations shows it", "a broken connection",
        (answer_is_lost_while_the_server_works_on,)),
    Row("faults", "answer_is_lost_and_the_name_taken", "incus/disk#0",
        "the connection breaks before the answer; the volume is not there, then its name is taken, then it is there",
        "a broken connection; HTTP 409 as recorded for a duplicate by hand", (answer_is_lost_and_the_name_taken,)),
    Row("faults", "somebody_else_changed_it", "incus/disk_attached#0", "the first PATCH is refused with HTTP 412",
        "util.EtagCheck", (somebody_else_changed_it,)),
    Row("faults", "database_is_locked", "incus/disk#0", "the first POST is refused with HTTP 500, database is locked",
        "internal/server/db/query/retry.go", (put_before("POST", POOL_VOLUMES, refusal("database is locked", 500)),)),
    Row("faults", "server_is_starting", "incus/vm#1", "twice HTTP 503 before the answer", "cmd/incusd/daemon.go",
        (put_before("GET", "/instances/", *[refusal("Daemon is starting up", 503)] * 2),)),
    Row("faults", "no_space", "incus/disk#0", "the volume cannot be made: no space left on device", "errno ENOSPC",
        (answered("POST", POOL_VOLUMES, refusal("Failed creating volume: no space left on device", 500)),
         lambda call: call["interactions"].append(exchange(
             "DELETE", call["interactions"][0]["request"]["path"] + "/" + call["stdout"]["result"],
             refusal("Storage pool volume not found", 404))))),
    Row("faults", "nobody_answers", "incus/vm#1", "every connection is refused", "a stopped daemon", (nobody_answers,)),
    Row("faults", "a_proxy_answers", "incus/vm#1", "HTTP 502 with HTML before the answer", "any reverse proxy in front of the server",
        (put_before("GET", "/instances/", BAD_GATEWAY),)),
)


# -- deriving ---------------------------------------------------------------------------------------------------------


class Deriving(Player):
    """Gives the changed answers in their order, and keeps what was asked for them."""

    def __init__(self, interactions: list[Exchange], clock: ReplayClock) -> None:
        super().__init__(interactions, clock)
        self.kept: list[Exchange] = []

    def _play(self, asked: Exchange) -> Exchange:
        if self._next == len(self.interactions):
            raise Mismatch(f"asked beyond the changed answers: {line(asked)}")
        given = self.interactions[self._next]
        if line(asked) != line(given["request"]):
            raise Mismatch(f"asked {line(asked)}, where the changed answers have {line(given['request'])}")
        self._next += not given.get("repeat")
        outcome = {key: given[key] for key in ("response", "error") if key in given}
        self.kept.append({"n": len(self.kept) + 1, "t_ms": round(self._clock.monotonic() * 1000), "ms": given["ms"], "request": asked,
                          **outcome})
        return self.kept[-1]


def derive(row: Row, base: dict[str, Any]) -> dict[str, Any]:
    """The fixture that a row makes of its base. Raises Mismatch when the CPI does not ask for all the changed answers."""
    _, _, number = row.base.partition("#")
    calls = copy.deepcopy([base["calls"][int(number)]] if number else base["calls"])
    return {"format": base["format"], "scenario": row.scenario, "recorded": base["recorded"],
            "synthetic": {"base": f"{row.base.partition('#')[0]}.json{'#' * bool(number)}{number}", "change": row.change,
                          "source": row.source},
            "calls": [_derived(call, row) for call in calls]}


def _derived(call: Call, row: Row) -> Call:
    for change in row.changes:
        change(call)
    clock = ReplayClock(**call["clock"])
    player = Deriving(call["interactions"], clock)
    answer, _ = replay.answered(call, clock, player)
    left = [one for one in call["interactions"][player._next:] if not one.get("repeat")]
    if left:
        raise Mismatch(f"{row.server}/{row.scenario}: not asked for: {line(left[0]['request'])}; the answer is {answer}")
    return {**call, "stdout": answer, "duration_ms": round(clock.monotonic() * 1000), "interactions": player.kept}

