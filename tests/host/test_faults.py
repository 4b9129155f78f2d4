"""Faults between the CPI and the server, at every request of every method that changes something.

A call may succeed despite the fault. If it fails, the error has the right type. After the reaction of the director (the
same call again, or nothing) and bin/cleanup, no resources are left and none are lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from tests.host.director import ROOT
from tests.host.fault_environment import FaultEnvironment, Outcome
from tests.host.proxy import FAULTS, Fault
from tests.host.tiny_stemcell import STEMCELL

DOCUMENT = ROOT / "docs/reliability.md"
SLICE = ("create_disk", "attach_disk", "snapshot_disk"), ("refused", "cut after", "locked")
"""Methods and faults of the short run."""

# -- the scenarios: a call, the director's next move, and what has to be true then --------------------------------


def create_stemcell(env: FaultEnvironment) -> Outcome:
    other = {**STEMCELL, "version": "2"}  # as if it were another one
    outcome = env.call_with_fault("create_stemcell", env.other_image, other)
    cid = outcome.result or env.director.call("create_stemcell", env.other_image, other)
    assert cid in env.server.names()
    for unreported in {resource["cid"] for resource in env.list_resources() if resource["kind"] == "image"} - {
        cid,
        env.stemcell,
    }:
        assert env.next_fault[0].name == "gone"
        env.director.call("delete_stemcell", unreported)
    env.director.call("delete_stemcell", cid)
    if outcome.error:
        env.cleanup()
    return outcome


def create_vm(env: FaultEnvironment) -> Outcome:
    before = env.server.names()
    outcome = env.call_with_fault(*env.vm_call())
    if outcome.result:
        vm = outcome.result[0]
        assert env.server.names() - before == {vm, vm.replace("vm-", "vol-e-"), vm.replace("vm-", "vol-c-")}
        instance = env.server.query("GET", f"/1.0/instances/{vm}")
        assert (instance["status"], instance["config"]["user.bosh.state"]) == ("Running", "created")
        env.director.call("delete_vm", vm)
    else:
        env.cleanup()
    for unreported in {name for name in env.server.names() - before if name.startswith("vm-")}:
        fault, at = env.next_fault
        assert outcome.error and fault.name == "gone" and env.requests[at - 1].startswith("PATCH")
        assert unreported in {resource["cid"] for resource in env.list_resources()}
        env.director.call("delete_vm", unreported)
    return outcome


def delete_vm(env: FaultEnvironment) -> Outcome:
    vm = env.vm()
    outcome = env.call_with_fault("delete_vm", vm)
    if outcome.error:
        env.director.call("delete_vm", vm)
    assert env.director.call("has_vm", vm) is False
    return outcome


def attach_disk(env: FaultEnvironment) -> Outcome:
    disk = env.disk()
    outcome = env.call_with_fault("attach_disk", env.shared_vm, disk)
    hint = outcome.result or env.director.call("attach_disk", env.shared_vm, disk)
    assert hint["path"].startswith("/dev/disk/by-id/")
    assert env.director.call("get_disks", env.shared_vm) == [disk]
    env.director.call("detach_disk", env.shared_vm, disk)
    env.director.call("delete_disk", disk)
    return outcome


def detach_disk(env: FaultEnvironment) -> Outcome:
    disk = env.disk()
    env.director.call("attach_disk", env.shared_vm, disk)
    outcome = env.call_with_fault("detach_disk", env.shared_vm, disk)
    if outcome.error:
        env.director.call("detach_disk", env.shared_vm, disk)
    assert env.director.call("get_disks", env.shared_vm) == []
    env.director.call("delete_disk", disk)
    return outcome


def create_disk(env: FaultEnvironment) -> Outcome:
    before = env.server.names()
    outcome = env.call_with_fault("create_disk", 16, {}, env.shared_vm)
    if outcome.result:
        assert env.server.names() - before == {outcome.result}
        env.director.call("delete_disk", outcome.result)
    for unreported in env.server.names() - before:
        assert env.next_fault[0].name == "gone"
        assert [resource["state"] for resource in env.list_resources() if resource["cid"] == unreported] == ["orphan"]
        env.cleanup("--delete-disk", unreported)
    return outcome


def resize_disk(env: FaultEnvironment) -> Outcome:
    disk = env.disk()
    outcome = env.call_with_fault("resize_disk", disk, 32)
    if outcome.error:
        env.director.call("resize_disk", disk, 32)
    assert env.server.query("GET", f"/1.0/storage-pools/default/volumes/custom/{disk}")["config"]["size"] == "32MiB"
    env.director.call("delete_disk", disk)
    return outcome


def snapshot_disk(env: FaultEnvironment) -> Outcome:
    disk = env.disk()
    before = env.server.names()
    outcome = env.call_with_fault("snapshot_disk", disk, {"deployment": "d"})
    snapshot = outcome.result or env.director.call("snapshot_disk", disk, {"deployment": "d"})
    mine = {snapshot.partition("_")[2]}
    extra = env.server.names() - before - mine
    env.director.call("delete_snapshot", snapshot)
    if extra:  # only where the server could not be reached any more: it is listed, and goes with its disk
        assert env.next_fault[0].name == "gone"
        assert extra <= {resource["cid"].partition("_")[2] for resource in env.list_resources()}
    env.director.call("delete_disk", disk)
    return outcome


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (
        create_stemcell,
        create_vm,
        delete_vm,
        create_disk,
        attach_disk,
        detach_disk,
        resize_disk,
        snapshot_disk,
    )
}


def play(env: FaultEnvironment, scenario: Callable[[FaultEnvironment], Outcome], fault: Fault, at: int) -> str:
    """Run a scenario with a fault. Return `ok`, `error`, or an empty string if there was no such request."""
    env.next_fault = (fault, at)
    before = env.server.names()
    outcome = scenario(env)
    assert env.server.names() == before, f"{fault.name} at request {at}, {outcome}"
    if outcome.error is None:
        return "ok" if len(env.requests) >= at else ""
    method = scenario.__name__
    kind = "VMCreationFailed" if method == "create_vm" else "CloudError"
    assert outcome.error.type == f"Bosh::Clouds::{kind}", outcome.error
    assert outcome.error.ok_to_retry == (method == "create_vm" and fault.name != "500"), outcome.error
    return "error"


@pytest.mark.parametrize("fault", SLICE[1])
@pytest.mark.parametrize("method", SLICE[0])
def test_fault_leaves_nothing(env, method, fault):
    env.power("stop")  # so that disks come and go at once
    assert list(sweep(env, method, FAULTS[fault]))


def sweep(env: FaultEnvironment, method: str, fault: Fault) -> Iterator[tuple[str, str]]:
    """Yield each request and the outcome of the call with the fault at this request."""
    at = 1
    while how := play(env, SCENARIOS[method], fault, at):
        yield env.requests[at - 1] if len(env.requests) >= at else "", how
        at += 1


Results = dict[tuple[str, str], list[tuple[str, str]]]
"""By method and fault: how the call went, request by request."""


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Iterator[Results]:
    """Results, cached between runs so that a part can be repeated."""
    kept = request.config.cache.get("faults/results", [])
    results = {(method, fault): [tuple(row) for row in rows] for method, fault, rows in kept}
    yield results
    request.config.cache.set("faults/results", [[*key, rows] for key, rows in results.items()])


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("method", SCENARIOS)
def test_every_fault_leaves_nothing(env, results, method, fault):
    env.power("start")
    results[method, fault] = list(sweep(env, method, FAULTS[fault]))


@pytest.mark.long
def test_results_match_documentation(results, request):
    if request.config.getoption("--write-docs"):
        DOCUMENT.write_text(HEAD + "".join(table(method, results) for method in SCENARIOS), "utf-8")
    documented, seen = (
        list(rows(text)) for text in (DOCUMENT.read_text("utf-8"), "".join(table(one, results) for one in SCENARIOS))
    )
    assert [row[0] for row in seen] == [row[0] for row in documented]
    assert [
        now
        for now, then in zip(seen, documented, strict=False)
        if any(a == "error" != b for a, b in zip(now, then, strict=False))
    ] == []


HEAD = """\
# Reliability

The test meets one request of one call with one fault, on a real Incus 6.0, for every request of these methods and every
fault. In each case below, the call ended in bounded time. An error had the type that lets the director continue
(create_vm: `VMCreationFailed` with `ok_to_retry`, except after an unknown error). After the director's next step, which
is the same call once more where the director repeats it, and after `bin/cleanup`, nothing superfluous was left on the
server, and nothing was lost. The test shortens the waiting times of the CPI to a few seconds. `bin/test --long
tests/host/test_faults.py --write-docs` writes this page.

| fault | what happens to the request |
|---|---|
| refused | the connection is refused, for half a second |
| cut before | the connection is reset before the server receives the request |
| cut after | the server processes it, the connection closes without a response |
| cut amid | the server processes it, the connection closes in the middle of the response |
| stalled | the server processes it, the response never arrives, the connection stays open |
| 503 | `Daemon is starting up` instead |
| locked | 500 `database is locked` instead |
| 412 | `Precondition failed` instead |
| 500 | an unknown error instead |
| crash | the server processes it, then the daemon is killed and started again |
| gone | the server processes it, and is unreachable until the next call |

`ok`: the call succeeded. `error`: the call failed and left nothing behind. With `gone` after its last request, the call
has created a stemcell, VM, persistent disk or snapshot whose CID BOSH does not know. Nothing distinguishes it from one
that BOSH knows, so it stays; `bin/cleanup --list` shows it.

The caller may end, too: Ctrl-C ends `bosh create-env` at once, but not the CPI that it started. If the CPI cannot write
its response, it deletes the stemcell, VM, disk or snapshot that it created. SIGTERM ends a call at once: the call rolls
back its changes and responds with an error.
"""


def table(method: str, results: Results) -> str:
    """A method's part of the document; a request that no fault met is one that this run did not come to."""
    text = f"\n## {method}\n\n| request | {' | '.join(FAULTS)} |\n|---{'|---' * len(FAULTS)}|\n"
    for at, (line, _) in enumerate(results[method, "412"]):  # the fault that changes nothing of what comes before it
        cells = [results[method, fault][at][1] if at < len(results[method, fault]) else "" for fault in FAULTS]
        text += f"| {at + 1}. `{line}` | {' | '.join(cells)} |\n"
    return text


def rows(text: str) -> Iterator[list[str]]:
    """The rows of all tables that begin with a number."""
    for line in text.splitlines():
        if re.match(r"\| \d+\. ", line):
            yield [cell.strip() for cell in line.strip("|").split("|")]
