"""The CPI process receives SIGKILL or SIGTERM at each request of a call."""

from __future__ import annotations

import signal

import pytest

from tests.host.fault_environment import FaultEnvironment
from tests.host.proxy import Fault

KILLED = Fault("killed", delivered=True, signal=signal.SIGKILL)
STOPPED = Fault("stopped", delivered=True, response="whole", signal=signal.SIGTERM)


def reached(env: FaultEnvironment, at: int) -> bool:
    """Return whether the call made this many requests."""
    return len(env.requests) >= at


@pytest.mark.parametrize("method", ["attach_disk", "detach_disk"])
@pytest.mark.parametrize("fault", [KILLED, STOPPED], ids=lambda fault: fault.name)
def test_repeated_call_completes_interrupted_attach_or_detach(env, method, fault):
    env.power("stop")
    at = 1
    while at == 1 or reached(env, at - 1):
        disk = env.disk()
        if method == "detach_disk":
            env.director.call("attach_disk", env.shared_vm, disk)
        env.next_fault = fault, at
        outcome = env.call_with_fault(method, env.shared_vm, disk)
        assert (outcome.error is None) == (fault == KILLED or not reached(env, at)), outcome
        if outcome.error:
            assert (outcome.error.type, outcome.error.message) == (
                "Bosh::Clouds::CloudError",
                "the call was stopped by SIGTERM",
            )
        env.server.wait_until_idle()
        assert env.director.call("get_disks", env.shared_vm) in ([], [disk])
        env.director.call(method, env.shared_vm, disk)
        assert env.director.call("get_disks", env.shared_vm) == ([disk] if method == "attach_disk" else [])
        env.director.call("detach_disk", env.shared_vm, disk)
        env.director.call("delete_disk", disk)
        at += 1
    assert at > 4


@pytest.mark.long
def test_cleanup_removes_remains_of_killed_create_vm(env):
    at = 1
    while at == 1 or reached(env, at - 1):
        before = env.server.names()
        env.next_fault = KILLED, at
        outcome = env.call_with_fault(*env.vm_call())
        env.cleanup()
        left = env.server.names() - before
        if outcome.result or env.requests[-1].startswith("PATCH"):  # complete: only BOSH can tell
            assert len(left) == 3
            env.director.call("delete_vm", min(left, key=lambda name: not name.startswith("vm-")))
        assert env.server.names() == before, f"killed at {env.requests[-1]}"
        at += 1
    assert at > 8


def stop(env: FaultEnvironment, at: int) -> None:
    """Stop a create_vm at a request, if it makes that many."""
    before = env.server.names()
    env.next_fault = STOPPED, at
    outcome = env.call_with_fault(*env.vm_call())
    if reached(env, at):
        assert outcome.error, f"at {env.requests[at - 1]}"
        assert (outcome.error.type, outcome.error.ok_to_retry) == ("Bosh::Clouds::VMCreationFailed", True)
        assert outcome.error.message == "the call was stopped by SIGTERM"
    else:
        env.director.call("delete_vm", outcome.result[0])
    assert env.server.names() == before, "without any cleaning up"


@pytest.mark.parametrize("at", [4, 7])
def test_sigterm_rolls_back_create_vm(env, at):
    stop(env, at)


@pytest.mark.long
def test_sigterm_rolls_back_create_vm_at_any_request(env):
    at = 1
    while at == 1 or reached(env, at - 1):
        stop(env, at)
        at += 1
    assert at > 8
