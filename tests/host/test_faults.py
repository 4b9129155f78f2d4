"""What goes wrong between the CPI and the server, at every request of every method that changes something.

A call may succeed in spite of it. If it fails, then with an error of the right type; and after the director's next move
(the same once more, or nothing) and bin/cleanup the server holds nothing too much, and nothing is lost.
"""
from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import server
from director import ROOT, UUID, Director, Refused, configuration, environment, manual_network
from proxy import FAULTS, NONE, Fault, Proxy
from tiny import STEMCELL, VM, Connection, stemcell_image

from bosh_lxd_cpi import cleanup, methods, rpc
from bosh_lxd_cpi.log import Log

DOCUMENT = ROOT / "docs/reliability.md"
SLICE = ("create_disk", "attach_disk", "snapshot_disk"), ("refused", "cut after", "locked")
"""Methods and faults of the short run."""
LONGEST_CALL = 300
"""Seconds after which a call counts as hanging."""

IMPATIENT = """\
#!/bin/sh
# bin/cpi, but it waits seconds for what may take half a minute: the tests would take hours otherwise.
exec {root}/.venv/bin/python3 -BIS -c '
import os, sys
sys.path.insert(0, "{root}")
from bosh_lxd_cpi import cli
cli._find_libraries()
from bosh_lxd_cpi.lxd import client, operations
client.PATIENCE = operations.PATIENCE = {patience}
operations.WAIT_SLICE, client.WAIT_MARGIN, client.UPLOAD_SECONDS = 10, 2, 4
client.Client._send.__kwdefaults__["timeout"] = 4.0
sys.exit(cli.main(sys.argv[1:], os.environ))' "$@"
"""


def impatient(directory: Path, patience: int) -> Path:
    """A bin/cpi that knocks at a closed door for `patience` seconds only."""
    program = directory / f"cpi-{patience}"
    program.write_text(IMPATIENT.format(root=ROOT, patience=patience), "utf-8")
    program.chmod(0o755)
    return program


class Outcome(NamedTuple):
    """How a call ended."""

    result: Any
    error: Refused | None


class Calm(Director):
    """A director whose calls meet no fault, and need no process."""

    def call(self, method: str, *arguments: Any) -> Any:
        """The result of a call. Raises CpiError."""
        file = self.command()[-1]
        return methods.call(rpc.parse(self.request(method, *arguments)), config_path=file, environ=self.environment(), log=Log(method))

    def cleanup(self, *arguments: str) -> str:
        """What bin/cleanup says."""
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            assert cleanup.main(["--config", self.command()[-1], *arguments]) == cleanup.DONE
        return output.getvalue()


class World:
    """A server with a stemcell on it, a director whose calls meet a fault and one whose calls do not."""

    def __init__(self, host: server.Facts, directory: Path, proxy: Proxy) -> None:
        self.proxy, self.server = proxy, Connection(host)
        config = {**configuration(host, **proxy.settings()), "director_uuid": UUID}
        config["throttle_config"] = {"path": str(directory / "lxd_cpi")}
        self.programs = {patience: impatient(directory, patience) for patience in (2, 10)}
        self.troubled, self.calm = Director(config, directory), Calm(config, directory)
        self.stemcell = self.calm.call("create_stemcell", str(stemcell_image(directory)), STEMCELL)
        self.other_image = str(stemcell_image(directory, mib=17))
        self._address = 10
        self.shared_vm = self.vm()
        self.armed, self.requests = (NONE, 0), []

    def attempt(self, method: str, *arguments: Any) -> Outcome:
        """Make the call that meets the fault."""
        fault, at = self.armed
        self.troubled.program = self.programs[2 if fault.lasting else 10]
        self.proxy.arm(fault, at)
        process = self.troubled.start(method, *arguments)
        try:
            process.wait(LONGEST_CALL)
            return Outcome(self.troubled.finish(process, method, 0), None)
        except Refused as refused:
            return Outcome(None, refused)
        finally:
            process.kill()
            process.communicate()
            self.requests = [exchange.line for exchange in self.proxy.seen]
            self.proxy.heal()

    def run(self, scenario: Callable[[World], Outcome], fault: Fault, at: int) -> str:
        """Play a scenario with a fault; answers how it went, empty if there was no such request. Raises AssertionError."""
        self.armed = (fault, at)
        before = self.server.names()
        outcome = scenario(self)
        assert self.server.names() == before, f"{fault.name} at request {at}, {outcome}"
        if len(self.requests) < at:
            return ""
        if outcome.error is None:
            return "ok"
        method = scenario.__name__
        assert outcome.error.type == f"Bosh::Clouds::{'VMCreationFailed' if method == 'create_vm' else 'CloudError'}", outcome.error
        assert outcome.error.ok_to_retry == (method == "create_vm" and fault.name != "500"), outcome.error
        return "error"

    def power(self, action: str) -> None:
        """Stop or start the shared VM."""
        self.server.do("PUT", f"/1.0/instances/{self.shared_vm}/state", {"action": action, "force": action == "stop"})

    def disk(self) -> str:
        return self.calm.call("create_disk", 16, {}, self.shared_vm)

    def vm(self) -> str:
        return self.calm.call(*self.vm_call())[0]

    def vm_call(self) -> tuple[Any, ...]:
        self._address = 10 + (self._address + 1) % 200
        return ("create_vm", "agent", self.stemcell, VM, {"n": manual_network(f"10.245.0.{self._address}")}, [], environment())

    def cleanup(self, *arguments: str) -> str:
        """Clean up what nobody works at any more."""
        self.server.wait_until_idle()
        return self.calm.cleanup(*(arguments or ("--min-age", "0")))

    def listed(self) -> list[dict[str, Any]]:
        """What bin/cleanup lists."""
        return json.loads(self.cleanup("--list", "--json"))


# -- the scenarios: a call, the director's next move, and what has to be true then --------------------------------------


def create_stemcell(world: World) -> Outcome:
    other = {**STEMCELL, "version": "2"}  # as if it were another one
    outcome = world.attempt("create_stemcell", world.other_image, other)
    cid = outcome.result or world.calm.call("create_stemcell", world.other_image, other)
    assert cid in world.server.names()
    for untold in {thing["cid"] for thing in world.listed() if thing["kind"] == "image"} - {cid, world.stemcell}:
        assert world.armed[0].name == "gone"
        world.calm.call("delete_stemcell", untold)
    world.calm.call("delete_stemcell", cid)
    if outcome.error:
        world.cleanup()
    return outcome


def create_vm(world: World) -> Outcome:
    before = world.server.names()
    outcome = world.attempt(*world.vm_call())
    if outcome.result:
        vm = outcome.result[0]
        assert world.server.names() - before == {vm, vm.replace("vm-", "vol-e-"), vm.replace("vm-", "vol-c-")}
        instance = world.server.ask("GET", f"/1.0/instances/{vm}")
        assert (instance["status"], instance["config"]["user.bosh.state"]) == ("Running", "created")
        world.calm.call("delete_vm", vm)
    else:
        world.cleanup()
    return outcome


def delete_vm(world: World) -> Outcome:
    vm = world.vm()
    outcome = world.attempt("delete_vm", vm)
    if outcome.error:
        world.calm.call("delete_vm", vm)
    assert world.calm.call("has_vm", vm) is False
    return outcome


def attach_disk(world: World) -> Outcome:
    disk = world.disk()
    outcome = world.attempt("attach_disk", world.shared_vm, disk)
    hint = outcome.result or world.calm.call("attach_disk", world.shared_vm, disk)
    assert hint["path"].startswith("/dev/disk/by-id/")
    assert world.calm.call("get_disks", world.shared_vm) == [disk]
    world.calm.call("detach_disk", world.shared_vm, disk)
    world.calm.call("delete_disk", disk)
    return outcome


def detach_disk(world: World) -> Outcome:
    disk = world.disk()
    world.calm.call("attach_disk", world.shared_vm, disk)
    outcome = world.attempt("detach_disk", world.shared_vm, disk)
    if outcome.error:
        world.calm.call("detach_disk", world.shared_vm, disk)
    assert world.calm.call("get_disks", world.shared_vm) == []
    world.calm.call("delete_disk", disk)
    return outcome


def create_disk(world: World) -> Outcome:
    before = world.server.names()
    outcome = world.attempt("create_disk", 16, {}, world.shared_vm)
    if outcome.result:
        assert world.server.names() - before == {outcome.result}
        world.calm.call("delete_disk", outcome.result)
    for untold in world.server.names() - before:
        assert world.armed[0].name == "gone"
        assert [thing["state"] for thing in world.listed() if thing["cid"] == untold] == ["orphan"]
        world.cleanup("--delete-disk", untold)
    return outcome


def resize_disk(world: World) -> Outcome:
    disk = world.disk()
    outcome = world.attempt("resize_disk", disk, 32)
    if outcome.error:
        world.calm.call("resize_disk", disk, 32)
    assert world.server.ask("GET", f"/1.0/storage-pools/default/volumes/custom/{disk}")["config"]["size"] == "32MiB"
    world.calm.call("delete_disk", disk)
    return outcome


def snapshot_disk(world: World) -> Outcome:
    disk = world.disk()
    before = world.server.names()
    outcome = world.attempt("snapshot_disk", disk, {"deployment": "d"})
    snapshot = outcome.result or world.calm.call("snapshot_disk", disk, {"deployment": "d"})
    mine = {snapshot.partition("_")[2]}
    too_much = world.server.names() - before - mine
    world.calm.call("delete_snapshot", snapshot)
    if too_much:  # only where the server could not be reached any more: it is listed, and goes with its disk
        assert world.armed[0].name == "gone"
        assert too_much <= {thing["cid"].partition("_")[2] for thing in world.listed()}
    world.calm.call("delete_disk", disk)
    return outcome


SCENARIOS = {scenario.__name__: scenario for scenario in (
    create_stemcell, create_vm, delete_vm, create_disk, attach_disk, detach_disk, resize_disk, snapshot_disk)}


@pytest.fixture(scope="module")
def world(host: server.Facts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("faults")
    with Proxy(directory, host) as proxy:
        world = World(host, directory, proxy)
        yield world
        world.calm.call("delete_vm", world.shared_vm)
        world.calm.call("delete_stemcell", world.stemcell)


@pytest.mark.parametrize("fault", SLICE[1])
@pytest.mark.parametrize("method", SLICE[0])
def test_a_fault_at_any_request_leaves_nothing_behind(world, method, fault):
    world.power("stop")  # so that disks come and go at once
    assert list(sweep(world, method, FAULTS[fault]))


def sweep(world: World, method: str, fault: Fault) -> Iterator[tuple[str, str]]:
    """The request and how the call went, for each of its requests."""
    at = 1
    while how := world.run(SCENARIOS[method], fault, at):
        yield world.requests[at - 1], how
        at += 1


Results = dict[tuple[str, str], list[tuple[str, str]]]
"""By method and fault: how the call went, request by request."""


@pytest.fixture(scope="module")
def results() -> Results:
    return {}


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("method", SCENARIOS)
def test_every_fault_at_any_request_leaves_nothing_behind(world, results, method, fault):
    world.power("start")
    results[method, fault] = list(sweep(world, method, FAULTS[fault]))


@pytest.mark.long
def test_no_call_fails_where_the_documentation_says_that_it_succeeds(results, request):
    if request.config.getoption("--write-docs"):
        DOCUMENT.write_text(HEAD + "".join(table(method, results) for method in SCENARIOS), "utf-8")
    documented, seen = (list(rows(text)) for text in (DOCUMENT.read_text("utf-8"), "".join(table(one, results) for one in SCENARIOS)))
    assert [row[0] for row in seen] == [row[0] for row in documented]
    assert [now for now, then in zip(seen, documented) if any(a == "error" != b for a, b in zip(now, then))] == []


HEAD = """\
# When something goes wrong

One request of one call meets one fault, on a real Incus 6.0, for every request of these methods and every fault. In each of
the cases below the call ended in bounded time; an error had the type that lets the director do the right thing (create_vm:
`VMCreationFailed` with `ok_to_retry`, except after an error that nobody knows); and after the director's next move, the same
call once more where it makes one, and `bin/cleanup`, the server held nothing too much and nothing was lost. Written by
`bin/test --long tests/host/test_faults.py --write-docs`.

| fault | what happens to the request |
|---|---|
| refused | nobody listens, for half a second |
| cut before | the connection is reset, the server never hears of it |
| cut after | the server does it, the connection closes without an answer |
| cut amid | the server does it, the connection closes in the middle of the answer |
| stalled | the server does it, the answer never comes, the connection stays open |
| 503 | `Daemon is starting up` instead |
| locked | 500 `database is locked` instead |
| 412 | `Precondition failed` instead |
| 500 | an error that nobody has seen before instead |
| crash | the server does it, then the daemon is killed, and started again |
| gone | the server does it, and from then on cannot be reached any more; it can again for the next call |

`ok`: the call succeeded all the same. `error`: it failed, cleanly. With `gone`, a stemcell, persistent disk or snapshot may be
on the server that BOSH was never told about. It is not removed by itself, but `bin/cleanup --list` shows it.
"""


def table(method: str, results: Results) -> str:
    """A method's part of the document; a request that no fault met is one that this run did not come to."""
    longest = max((results[method, fault] for fault in FAULTS), key=len)
    text = f"\n## {method}\n\n| request | {' | '.join(FAULTS)} |\n|---{'|---' * len(FAULTS)}|\n"
    for at, (line, _) in enumerate(longest):
        cells = [results[method, fault][at][1] if at < len(results[method, fault]) else "" for fault in FAULTS]
        text += f"| {at + 1}. `{line}` | {' | '.join(cells)} |\n"
    return text


def rows(text: str) -> Iterator[list[str]]:
    """The rows of all tables that begin with a number."""
    for line in text.splitlines():
        if line.startswith("| ") and line[2].isdigit():
            yield [cell.strip() for cell in line.strip("|").split("|")]
