"""The CPI's process ends in the middle of a call, at each of its requests: killed, or asked to stop."""

from __future__ import annotations

import signal

import pytest

from tests.host.fault_environment import World
from tests.host.proxy import ErrorPattern

KILLED = ErrorPattern("killed", delivered=True, signal=signal.SIGKILL)
STOPPED = ErrorPattern("stopped", delivered=True, answer="whole", signal=signal.SIGTERM)


def reached(world: World, at: int) -> bool:
    """Whether there was such a request."""
    return len(world.requests) >= at


@pytest.mark.parametrize("method", ["attach_disk", "detach_disk"])
@pytest.mark.parametrize("fault", [KILLED, STOPPED], ids=lambda fault: fault.name)
def test_repeated_call_completes_interrupted_attach_or_detach(world, method, fault):
    world.power("stop")
    at = 1
    while at == 1 or reached(world, at - 1):
        disk = world.disk()
        if method == "detach_disk":
            world.calm.call("attach_disk", world.shared_vm, disk)
        world.armed = fault, at
        outcome = world.attempt(method, world.shared_vm, disk)
        assert (outcome.error is None) == (fault == KILLED or not reached(world, at)), outcome
        if outcome.error:
            assert (outcome.error.type, outcome.error.message) == (
                "Bosh::Clouds::CloudError",
                "the call was stopped by SIGTERM",
            )
        world.server.wait_until_idle()
        assert world.calm.call("get_disks", world.shared_vm) in ([], [disk])
        world.calm.call(method, world.shared_vm, disk)
        assert world.calm.call("get_disks", world.shared_vm) == ([disk] if method == "attach_disk" else [])
        world.calm.call("detach_disk", world.shared_vm, disk)
        world.calm.call("delete_disk", disk)
        at += 1
    assert at > 4


@pytest.mark.long
def test_cleanup_removes_remains_of_killed_create_vm(world):
    at = 1
    while at == 1 or reached(world, at - 1):
        before = world.server.names()
        world.armed = KILLED, at
        outcome = world.attempt(*world.vm_call())
        world.cleanup()
        left = world.server.names() - before
        if outcome.result or world.requests[-1].startswith("PATCH"):  # complete: only BOSH can tell
            assert len(left) == 3
            world.calm.call("delete_vm", min(left, key=lambda name: not name.startswith("vm-")))
        assert world.server.names() == before, f"killed at {world.requests[-1]}"
        at += 1
    assert at > 8


def stop(world: World, at: int) -> None:
    """Stop a create_vm at a request, if there is such a one."""
    before = world.server.names()
    world.armed = STOPPED, at
    outcome = world.attempt(*world.vm_call())
    if reached(world, at):
        assert outcome.error, f"at {world.requests[at - 1]}"
        assert (outcome.error.type, outcome.error.ok_to_retry) == ("Bosh::Clouds::VMCreationFailed", True)
        assert outcome.error.message == "the call was stopped by SIGTERM"
    else:
        world.calm.call("delete_vm", outcome.result[0])
    assert world.server.names() == before, "without any cleaning up"


@pytest.mark.parametrize("at", [4, 7])
def test_sigterm_rolls_back_create_vm(world, at):
    stop(world, at)


@pytest.mark.long
def test_sigterm_rolls_back_create_vm_at_any_request(world):
    at = 1
    while at == 1 or reached(world, at - 1):
        stop(world, at)
        at += 1
    assert at > 8
