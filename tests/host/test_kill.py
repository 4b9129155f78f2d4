"""The CPI process receives SIGKILL or SIGTERM at each request of a call."""

from __future__ import annotations

import signal

import pytest

from tests.host.fault_environment import FaultEnvironment, Outcome
from tests.host.proxy import Fault
from tests.host.tiny_stemcell import STEMCELL

KILLED = Fault("killed", delivered=True, signal=signal.SIGKILL)
STOPPED = Fault("stopped", delivered=True, response="complete", signal=signal.SIGTERM)


def made_requests(env: FaultEnvironment, number: int) -> bool:
    """Return whether the call made this many requests."""
    return len(env.requests) >= number


@pytest.mark.parametrize("method", ["attach_disk", "detach_disk"])
@pytest.mark.parametrize("fault", [KILLED, STOPPED], ids=lambda fault: fault.name)
def test_repeated_call_completes_interrupted_attach_or_detach(env, method, fault):
    env.power("stop")
    number = 1
    while number == 1 or made_requests(env, number - 1):
        disk = env.disk()
        if method == "detach_disk":
            env.director.call("attach_disk", env.shared_vm, disk)
        env.next_fault = fault, number
        outcome = env.call_with_fault(method, env.shared_vm, disk)
        assert (outcome.error is None) == (fault == KILLED or not made_requests(env, number)), outcome
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
        number += 1
    assert number > 4


@pytest.mark.parametrize("number", [2, 3, 4], ids=["upload", "import", "alias"])
def test_repeated_call_completes_killed_create_stemcell(env, number):
    call = "create_stemcell", env.other_image, {**STEMCELL, "version": "killed"}
    before = set(env.server.query("GET", "/1.0/images"))
    env.next_fault = KILLED, number
    assert env.call_with_fault(*call) == Outcome() and len(env.requests) == number
    env.server.wait_until_idle()
    cid = env.director.call(*call)
    assert env.director.call(*call) == cid
    assert len(set(env.server.query("GET", "/1.0/images")) - before) == 1
    env.director.call("delete_stemcell", cid)
    assert set(env.server.query("GET", "/1.0/images")) == before


@pytest.mark.long
def test_cleanup_removes_resources_of_killed_create_vm(env):
    number = 1
    while number == 1 or made_requests(env, number - 1):
        before = env.server.names()
        env.next_fault = KILLED, number
        outcome = env.call_with_fault(*env.vm_call())
        env.cleanup()
        remaining = env.server.names() - before
        if outcome.result or env.has_completed_vm():  # cleanup does not remove it
            assert len(remaining) == 3
            env.director.call("delete_vm", min(remaining, key=lambda name: not name.startswith("vm-")))
        assert env.server.names() == before, f"killed at {env.requests[-1]}"
        number += 1
    assert number > 8


def stop_create_vm(env: FaultEnvironment, number: int) -> None:
    """Stop a create_vm at a request, if it makes this many."""
    before = env.server.names()
    env.next_fault = STOPPED, number
    outcome = env.call_with_fault(*env.vm_call())
    if made_requests(env, number):
        assert outcome.error, f"at {env.requests[number - 1]}"
        assert (outcome.error.type, outcome.error.ok_to_retry) == ("Bosh::Clouds::VMCreationFailed", True)
        assert outcome.error.message == "the call was stopped by SIGTERM"
    else:
        env.director.call("delete_vm", outcome.result[0])
    assert env.server.names() == before, f"not rolled back: {env.faulty_director.last.stderr}"


@pytest.mark.parametrize("number", [4, 7])
def test_sigterm_rolls_back_create_vm(env, number):
    stop_create_vm(env, number)


@pytest.mark.long
def test_sigterm_rolls_back_create_vm_at_any_request(env):
    number = 1
    while number == 1 or made_requests(env, number - 1):
        stop_create_vm(env, number)
        number += 1
    assert number > 8
