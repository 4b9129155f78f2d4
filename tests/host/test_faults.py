"""Faults between the CPI and the server, at every request of every method that changes something.

A call may succeed despite the fault. If it fails, the error has the right type. After the reaction of the director (the
same call again, or nothing) and bin/cleanup, no resources are left and none are lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from tests.host import server, test_member_failures
from tests.host.director import ROOT
from tests.host.fault_environment import FaultEnvironment, Outcome
from tests.host.proxy import FAULTS, Fault
from tests.host.tiny_stemcell import STEMCELL

DOCUMENT = ROOT / "docs/reliability.md"
SHORT_RUN = ("create_disk", "attach_disk", "snapshot_disk"), ("refused", "cut after", "locked")
"""Methods and faults of the short run."""

# -- scenarios: a call with a fault, the next call of the director, and the checks of the server -----------------


def create_stemcell(env: FaultEnvironment) -> Outcome:
    other = {**STEMCELL, "version": "2"}
    outcome = env.call_with_fault("create_stemcell", env.other_image, other)
    cid = outcome.result or env.director.call("create_stemcell", env.other_image, other)
    assert cid in env.server.names()
    for unknown_cid in {resource["cid"] for resource in env.list_resources() if resource["kind"] == "image"} - {
        cid,
        env.stemcell,
    }:
        assert env.next_fault[0].name == "gone"
        env.director.call("delete_stemcell", unknown_cid)
    env.director.call("delete_stemcell", cid)
    if outcome.error:
        env.cleanup()
    return outcome


def delete_stemcell(env: FaultEnvironment) -> Outcome:
    cid = env.director.call("create_stemcell", env.other_image, {**STEMCELL, "version": "2"})
    outcome = env.call_with_fault("delete_stemcell", cid)
    env.director.call("delete_stemcell", cid)
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
    for unknown_cid in {name for name in env.server.names() - before if name.startswith("vm-")}:
        assert outcome.error and env.next_fault[0].name == "gone" and env.has_completed_vm()
        assert unknown_cid in {resource["cid"] for resource in env.list_resources()}
        env.director.call("delete_vm", unknown_cid)
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
    for unknown_cid in env.server.names() - before:
        assert env.next_fault[0].name == "gone"
        assert [resource["state"] for resource in env.list_resources() if resource["cid"] == unknown_cid] == ["orphan"]
        env.cleanup("--delete-disk", unknown_cid)
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
    snapshot_names = {snapshot.partition("_")[2]}
    other_names = env.server.names() - before - snapshot_names
    env.director.call("delete_snapshot", snapshot)
    if other_names:  # the server cannot be reached; cleanup lists the snapshot, and delete_disk deletes it
        assert env.next_fault[0].name == "gone"
        assert other_names <= {resource["cid"].partition("_")[2] for resource in env.list_resources()}
    env.director.call("delete_disk", disk)
    return outcome


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (
        create_stemcell,
        delete_stemcell,
        create_vm,
        delete_vm,
        create_disk,
        attach_disk,
        detach_disk,
        resize_disk,
        snapshot_disk,
    )
}


def run_scenario(
    env: FaultEnvironment, scenario: Callable[[FaultEnvironment], Outcome], fault: Fault, number: int
) -> str:
    """Run a scenario with a fault. Return `ok`, `error`, or an empty string if there was no such request."""
    env.next_fault = (fault, number)
    before = env.server.names()
    outcome = scenario(env)
    assert env.server.names() == before, f"{fault.name} at request {number}, {outcome}"
    if outcome.error is None:
        return "ok" if len(env.requests) >= number else ""
    method = scenario.__name__
    kind = "VMCreationFailed" if method == "create_vm" else "CloudError"
    assert outcome.error.type == f"Bosh::Clouds::{kind}", outcome.error
    assert outcome.error.ok_to_retry == (method == "create_vm" and fault.name != "500"), outcome.error
    return "error"


@pytest.mark.parametrize("fault", SHORT_RUN[1])
@pytest.mark.parametrize("method", SHORT_RUN[0])
def test_fault_leaves_nothing(env, method, fault):
    env.power("stop")  # the server detaches disks of stopped VMs at once
    assert list(run_with_fault_at_each_request(env, method, FAULTS[fault]))


def run_with_fault_at_each_request(env: FaultEnvironment, method: str, fault: Fault) -> Iterator[tuple[str, str]]:
    """Yield each request and the outcome of the call with the fault at this request."""
    number = 1
    while outcome := run_scenario(env, SCENARIOS[method], fault, number):
        yield env.requests[number - 1] if len(env.requests) >= number else "", outcome
        number += 1


Results = dict[tuple[str, str], list[tuple[str, str]]]
"""Request and outcome of each call, by method and fault."""


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest, host: server.Facts) -> Iterator[Results]:
    """Results on the server, cached between runs so that a part can be repeated."""
    cache_key = f"faults/{host.kind}"
    rows_by_key = request.config.cache.get(cache_key, [])
    results = {(method, fault): [tuple(row) for row in rows] for method, fault, rows in rows_by_key}
    yield results
    request.config.cache.set(cache_key, [[*key, rows] for key, rows in results.items()])


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("method", SCENARIOS)
def test_every_fault_leaves_nothing(env, results, method, fault):
    env.power("start")
    results[method, fault] = list(run_with_fault_at_each_request(env, method, FAULTS[fault]))


@pytest.mark.long
@pytest.mark.only("incus")
def test_results_match_documentation(results, request):
    """Compare the methods that ran with every fault. With --write-docs, write their sections, and keep the others."""
    current = {
        method: table(method, results) for method in SCENARIOS if all((method, fault) in results for fault in FAULTS)
    }
    document, heading, members = DOCUMENT.read_text("utf-8").partition(test_member_failures.HEADING)
    expected = {section.split()[1]: section for section in re.findall(r"(?ms)^\n## .*?(?=^\n## |\Z)", document)}
    if request.config.getoption("--write-docs"):
        expected |= current
        DOCUMENT.write_text(HEAD + "".join(expected[method] for method in SCENARIOS) + heading + members, "utf-8")
    compare(list(rows("".join(current.values()))), list(rows("".join(expected[method] for method in current))))


def compare(current: list[list[str]], expected: list[list[str]]) -> None:
    assert [row[0] for row in current] == [row[0] for row in expected]
    assert [
        row
        for row, expected_row in zip(current, expected, strict=False)
        if any(cell == "error" != expected_cell for cell, expected_cell in zip(row, expected_row, strict=False))
    ] == []


HEAD = """\
# Reliability

The test injects every fault at every request of these methods on a real Incus 6.0. Each call ends in bounded time. An
error has the type that lets the director continue (create_vm: `VMCreationFailed` with `ok_to_retry`, except after an
unknown error). The test repeats the call if a director does. Afterwards it runs `bin/cleanup`. Then no unused resource
is on the server, and no resource is lost. The test shortens the timeouts of the CPI to a few seconds.
`bin/test --long tests/host/test_faults.py --write-docs` writes this page.

| fault | effect on the request |
|---|---|
| refused | the connection is refused, for half a second |
| cut before | the connection is reset before the server receives the request |
| cut after | the server processes it, the connection closes without a response |
| cut amid | the server processes it, the connection closes in the middle of the response |
| stalled | the server processes it, the response never arrives, the connection stays open |
| 503 | the server does not receive it, the response is 503 `Daemon is starting up` |
| locked | the server does not receive it, the response is 500 `database is locked` |
| 412 | the server does not receive it, the response is 412 `Precondition failed` |
| 500 | the server does not receive it, the response is an unknown error with status 500 |
| crash | the server processes it, then the daemon is killed and started again |
| gone | the server processes it, and is unreachable until the next call |

`ok`: the call succeeded. `error`: the call failed and left nothing behind. With `gone` after its last request, the call
has created a stemcell, VM, persistent disk or snapshot whose CID BOSH does not know. The server has no information that
identifies it as unused, so `bin/cleanup` keeps it. `bin/cleanup --list` shows it.

The caller may end, too: Ctrl-C ends `bosh create-env` at once, but not the CPI that it started. If the CPI cannot write
its response, it deletes the stemcell, VM, disk or snapshot that it created. SIGTERM ends a call at once: the call rolls
back its changes and responds with an error. If the CPI is killed during create_vm, the server completes the VM, which
keeps its address. The next create_vm with this address, on the same machine, removes that VM first.

A server that crashes during a creation keeps an incomplete disk, snapshot or VM. The call deletes it and creates it
again. If the server may still be creating a volume, its name is not used again: create_disk creates another disk, and
create_vm fails (request 4). `tests/host/test_server_crash.py` kills the server in the middle of every creation.
"""


def table(method: str, results: Results) -> str:
    """Return the section of a method. A cell is empty if the call with this fault did not make the request."""
    text = f"\n## {method}\n\n| request | {' | '.join(FAULTS)} |\n|---{'|---' * len(FAULTS)}|\n"
    for number, (line, _) in enumerate(results[method, "412"]):  # this fault does not change earlier requests
        cells = [results[method, fault][number][1] if number < len(results[method, fault]) else "" for fault in FAULTS]
        text += f"| {number + 1}. `{line}` | {' | '.join(cells)} |\n"
    return text


def rows(text: str) -> Iterator[list[str]]:
    """Yield the cells of the rows that begin with a number."""
    for line in text.splitlines():
        if re.match(r"\| \d+\. ", line):
            yield [cell.strip() for cell in line.strip("|").split("|")]
