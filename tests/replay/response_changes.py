"""Changes of the responses in a recorded call: responses of other servers, and of servers with a fault.

A change is a function that modifies the responses of a recorded call in place. It does not modify the requests:
synthetic.py records the requests that the CPI sends for these responses.
"""

from __future__ import annotations

import copy
import re
import uuid
from collections.abc import Callable
from typing import Any

from bosh_lxd_cpi.recording.player import request_line

Call = dict[str, Any]
Exchange = dict[str, Any]
Change = Callable[[Call], None]
JSON = {"Content-Type": "application/json"}
POOL_VOLUMES = "/volumes/custom"


# -- responses --------------------------------------------------------------------------------------------------------


def sync_response(metadata: Any) -> dict[str, Any]:
    body = {
        "type": "sync",
        "status": "Success",
        "status_code": 200,
        "operation": "",
        "error_code": 0,
        "error": "",
        "metadata": metadata,
    }
    return {"status": 200, "headers": JSON, "body": body}


def error_response(message: str, code: int, *, status: int = 0) -> dict[str, Any]:
    """Return an error response. `status` is the HTTP status if it differs from the code."""
    body = {"type": "error", "error": message, "error_code": code, "metadata": None, "status": "", "status_code": 0}
    return {"status": status or code, "headers": JSON, "body": body}


def exchange(method: str, path: str, response: dict[str, Any] | None = None, *, ms: int = 5, **fields: Any) -> Exchange:
    return {
        "request": {"method": method, "path": path},
        "ms": ms,
        **({"response": response} if response else {}),
        **fields,
    }


def first(call: Call, method: str, pattern: str) -> int:
    """Return the index of the first exchange with this method and a path that matches the pattern."""
    return next(
        index
        for index, interaction in enumerate(call["interactions"])
        if interaction["request"]["method"] == method and re.search(pattern, interaction["request"]["path"])
    )


def insert_responses(method: str, pattern: str, *responses: dict[str, Any]) -> Change:
    """Return a change that inserts responses before the recorded one of the first such request."""

    def change(call: Call) -> None:
        index = first(call, method, pattern)
        path = call["interactions"][index]["request"]["path"]
        call["interactions"][index:index] = [exchange(method, path, response) for response in responses]

    return change


# -- other servers ----------------------------------------------------------------------------------------------------


Replacement = tuple[str, str]
LXD_MESSAGES = (
    ("Storage pool volume not found", "Storage volume not found"),
    ("Image alias not found", "Not Found"),
    (
        r"Failed initializing instance: Invalid config: Unknown configuration key: (\S+)",
        '"\\1" isn\'t supported for "virtual-machine"',
    ),
    ("Failed initializing", "Failed initialising"),
)
LXD_68_MESSAGES = (
    *LXD_MESSAGES,
    ("isn't supported", "is not supported"),
    ("Failed to fetch", "Failed fetching"),
    ('Requested profile "(.*)" doesn\'t exist', r'Profile "\1" not found in project "bosh"'),
)


def lxd(version: str, *extensions: str, messages: tuple[Replacement, ...] = LXD_MESSAGES) -> Change:
    """Return a change to an LXD server with further extensions. The messages are those of LXD 5.21.7 and 6.9."""

    def change(call: Call) -> None:
        call["config"]["server"]["type"] = "lxd"
        for interaction in call["interactions"]:
            body = interaction.get("response", {}).get("body", {})
            if body.get("type") == "error":
                body["error"] = _replace_messages(body["error"], messages)
            for operation in _operations(interaction):
                operation["err"] = _replace_messages(operation["err"], messages)
            if interaction["request"]["path"] == "/1.0":
                metadata = body["metadata"]
                metadata["environment"].update(server="lxd", server_version=version)
                common = [name for name in metadata["api_extensions"] if "incus" not in name]
                metadata["api_extensions"] = [*common, *extensions]

    return change


def _replace_messages(text: str, messages: tuple[Replacement, ...]) -> str:
    for pattern, replacement in messages:
        text = re.sub(pattern, replacement, text)
    return text


def _operations(interaction: Exchange) -> list[dict[str, Any]]:
    """Return the operations in a response."""
    metadata = interaction.get("response", {}).get("body", {}).get("metadata")
    if interaction["request"]["path"] == "/1.0/operations":
        return [operation for group in metadata.values() for operation in group]
    return [metadata] if isinstance(metadata, dict) and metadata.get("class") == "task" else []


def volume_changes_are_operations(call: Call) -> None:
    """Replace each synchronous change of a volume by an operation and a wait for it."""
    interactions = []
    for interaction in call["interactions"]:
        request, response = interaction["request"], interaction.get("response", {})
        is_change = request["method"] != "GET" and "/volumes/custom" in request["path"]
        if not is_change or response.get("body", {}).get("type") != "sync":
            interactions.append(interaction)
            continue
        resource = request["path"] if request["method"] != "POST" else f"{request['path']}/{request['body']['name']}"
        operation_response, path = _operation_response(call, request, resource, kind="storage_volumes")
        ended = {**operation_response["body"]["metadata"], "status": "Success", "status_code": 200}
        interactions.extend(
            [{**interaction, "response": operation_response}, exchange("GET", f"{path}/wait", sync_response(ended))]
        )
    call["interactions"] = interactions


def operations_have_entity_url(call: Call) -> None:
    """Move the URL of an operation's object, or of the project, from its resources to its metadata."""
    for interaction in call["interactions"]:
        for operation in _operations(interaction):
            urls = [url for group in (operation["resources"] or {}).values() for url in group]
            metadata = {**(operation["metadata"] or {}), "entity_url": (urls or ["/1.0/projects/bosh"])[0]}
            operation.update(resources={}, metadata=metadata, err_code=500 if operation["err"] else 0)


def snapshot_operation_fails(call: Call) -> None:
    """Let the operation that deletes a snapshot fail, because the snapshot does not exist."""
    request = call["interactions"][0]["request"]
    *_, pool, _, _, volume, _, snapshot = request["path"].split("/")
    text = (
        f'Storage volume "{volume}/{snapshot}" in project "bosh" of type "custom" does not exist on pool "{pool}": '
        "Storage volume not found"
    )
    operation_response, path = _operation_response(call, request, request["path"], kind="storage_volume_snapshots")
    failed = {**operation_response["body"]["metadata"], "status": "Failure", "status_code": 400, "err": text}
    _, _project, *rest = call["interactions"]
    call["interactions"] = [
        exchange("DELETE", request["path"], operation_response),
        exchange("GET", f"{path}/wait", error_response(text, 404, status=200)),
        exchange("GET", path, sync_response(failed)),
        *rest,
    ]


def snapshot_delete_fails_with_500(call: Call) -> None:
    """Let the DELETE of a missing snapshot fail before there is an operation."""
    deletion = call["interactions"][0]
    text = 'Failed creating "Deleting storage volume snapshot" operation record: Failed fetching entity reference: '
    deletion["response"] = error_response(f'{text}No such entity "{deletion["request"]["path"]}?project=bosh"', 500)


def _operation_response(call: Call, request: dict[str, Any], resource: str, *, kind: str) -> tuple[dict[str, Any], str]:
    """Return the response that starts an operation on a resource, and the path of the operation."""
    path = f"/1.0/operations/{uuid.uuid5(uuid.NAMESPACE_URL, request_line(request) + call['at'])}"
    operation = {
        "id": path.rsplit("/", 1)[1],
        "class": "task",
        "description": "Changing storage volume",
        "created_at": call["at"],
        "updated_at": call["at"],
        "status": "Running",
        "status_code": 103,
        "resources": {kind: [resource]},
        "metadata": None,
        "may_cancel": False,
        "err": "",
        "location": "none",
    }
    body = {
        **sync_response(operation)["body"],
        "type": "async",
        "status": "Operation created",
        "status_code": 100,
        "operation": path,
    }
    return {"status": 202, "headers": {**JSON, "Location": path}, "body": body}, path


AGENT = error_response("LXD VM agent isn't currently running", 500)


def agent_not_running(call: Call) -> None:
    """Let the PATCH that attaches a disk fail after it succeeded. The next response contains the disk."""
    if "PATCH" not in [interaction["request"]["method"] for interaction in call["interactions"]]:
        return
    index = first(call, "PATCH", "/instances/")
    patch = call["interactions"][index]
    instance = copy.deepcopy(call["interactions"][index - 1])
    instance["response"]["body"]["metadata"]["devices"].update(patch["request"]["body"]["devices"])
    patch["response"] = copy.deepcopy(AGENT)
    call["interactions"].insert(index + 1, instance)


# -- faults -----------------------------------------------------------------------------------------------------------

DEADLINE = error_response("context deadline exceeded", 500, status=200)
LOST = {"type": "NoResponse", "brief": "https://127.0.0.1:8443 did not respond: Connection aborted"}
REFUSED = {"type": "Unreachable", "brief": "cannot connect to https://127.0.0.1:8443: Connection refused"}


def creation(call: Call) -> tuple[int, str, str]:
    """Return, for a create_vm, the index of the wait for the instance, and the paths of operation and instance."""
    index = first(call, "POST", "^/1.0/instances$")
    name = call["interactions"][index]["request"]["body"]["name"]
    return index + 1, call["interactions"][index]["response"]["body"]["operation"], f"/1.0/instances/{name}"


def state(call: Call, **changes: Any) -> dict[str, Any]:
    """Return the response with the operation that creates the instance in another state."""
    index, _, _ = creation(call)
    return sync_response({**call["interactions"][index]["response"]["body"]["metadata"], **changes})


RUNNING = {"status": "Running", "status_code": 103}


def wait_times_out_with_error(call: Call) -> None:
    index, operation, _ = creation(call)
    call["interactions"][index:index] = [
        exchange("GET", f"{operation}/wait", DEADLINE, ms=30000),
        exchange("GET", operation, state(call, **RUNNING)),
    ]


def wait_times_out_with_state(call: Call) -> None:
    index, operation, _ = creation(call)
    call["interactions"].insert(index, exchange("GET", f"{operation}/wait", state(call, **RUNNING), ms=30000))


def operation_not_found(call: Call) -> None:
    index, operation, path = creation(call)
    post, wait = call["interactions"][index - 1 : index + 1]
    call["interactions"][index:index] = [
        exchange("GET", f"{operation}/wait", error_response("Operation not found", 404)),
        exchange("GET", "/1.0/operations", sync_response({})),
        exchange("GET", path, sync_response({"name": path.rsplit("/", 1)[1], "status": "Stopped", "location": "none"})),
        exchange("DELETE", path, {**post["response"]}),
        {**wait},
        {**post},
    ]


def operation_cancelled(call: Call) -> None:
    index, operation, path = creation(call)
    ended = state(call, status="Cancelled", status_code=401)
    call["interactions"][index:] = [exchange("GET", f"{operation}/wait", ended), *_rollback(call, path)]


def _rollback(call: Call, path: str) -> list[Exchange]:
    """Return the exchanges of the rollback after a failed creation: the instance is missing, the volumes exist."""
    posts = [
        interaction["request"] for interaction in call["interactions"] if interaction["request"]["method"] == "POST"
    ]
    volume_posts = [post for post in posts if POOL_VOLUMES in post["path"]]
    volumes = sorted(post["headers"].get("X-LXD-name") or post["body"]["name"] for post in volume_posts)
    pools = sync_response([{"name": "default"}])
    return [
        exchange("GET", path, error_response("Instance not found", 404)),
        exchange("GET", "/1.0/storage-pools", pools),
        *(
            exchange("DELETE", f"/1.0/storage-pools/default{POOL_VOLUMES}/{name}", sync_response({}))
            for name in volumes
        ),
    ]


def response_lost_while_operation_runs(call: Call) -> None:
    index, _, _ = creation(call)
    running = sync_response({"running": [{**state(call, **RUNNING)["body"]["metadata"]}]})
    post, wait = call["interactions"][index - 1], call["interactions"][index]
    post.pop("response")
    post["error"] = LOST
    call["interactions"][index : index + 1] = [
        exchange("GET", "/1.0/operations", running),
        wait,
    ]


def response_lost_and_name_taken(call: Call) -> None:
    """Let the instance be missing at first, and be created by the first request while the second one is sent."""
    index, _, path = creation(call)
    running = sync_response({"running": [{**state(call, **RUNNING)["body"]["metadata"]}]})
    call["interactions"][index - 1 : index] = [
        exchange("POST", "/1.0/instances", error=LOST),
        exchange("GET", "/1.0/operations", sync_response({})),
        exchange("GET", path, error_response("Instance not found", 404)),
        exchange("POST", "/1.0/instances", error_response(f"Instance {path.rsplit('/', 1)[1]!r} already exists", 409)),
        exchange("GET", "/1.0/operations", running),
    ]


def precondition_failed(call: Call) -> None:
    index = first(call, "PATCH", "/instances/")
    path = call["interactions"][index]["request"]["path"]
    instance = copy.deepcopy(call["interactions"][index - 1])
    text = f"ETag doesn't match: {'ab' * 32} vs {instance['response']['headers']['ETag'].strip(chr(34))}"
    instance["response"]["headers"]["ETag"] = f'"{"ab" * 32}"'
    call["interactions"][index:index] = [exchange("PATCH", path, error_response(text, 412)), instance]


def server_unreachable(call: Call) -> None:
    path = call["interactions"][0]["request"]["path"]
    call["interactions"] = [exchange("GET", path, error=REFUSED, repeat=True)]


BAD_GATEWAY = {"status": 502, "headers": {"Content-Type": "text/html"}, "text": "<html><h1>502 Bad Gateway</h1></html>"}


def no_space(call: Call) -> None:
    [post] = call["interactions"]
    path, name = post["request"]["path"], post["request"]["body"]["name"]
    call["interactions"] = [
        exchange("POST", path, error_response("Failed creating volume: no space left on device", 500)),
        exchange("DELETE", f"{path}/{name}", error_response("Storage pool volume not found", 404)),
        exchange("GET", "/1.0/projects/bosh", sync_response({"name": "bosh"})),
    ]
