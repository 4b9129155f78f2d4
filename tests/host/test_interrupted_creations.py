"""The CPI is killed during create_vm. The server completes the VM, so the address is not free for the next call."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.runtime import locks
from bosh_lxd_cpi.runtime.log import Log
from tests.host.fault_environment import FaultEnvironment, Outcome
from tests.host.proxy import Fault

pytestmark = pytest.mark.every_server
KILLED = Fault("killed", delivered=True, signal=signal.SIGKILL)


@pytest.fixture
def instance_request(volume_change) -> int:
    """The number of the request that creates the instance. The one for the ephemeral disk is before it."""
    return 6 + volume_change


def interrupt(env: FaultEnvironment, instance_request: int, *, waits: bool = False) -> tuple[tuple, set[str]]:
    """Kill a create_vm at the request for the instance, or at the next one, which waits.

    Return its arguments, and the names of all resources before the call.
    """
    before, call = env.server.names(), env.vm_call()
    env.next_fault = KILLED, instance_request + waits
    assert env.call_with_fault(*call) == Outcome()
    assert env.requests[instance_request - 1] == "POST /instances"
    return call, before


def lock_files(env: FaultEnvironment) -> list[Path]:
    return list(Path(env.lock_directory).glob("creating-*"))


@pytest.mark.parametrize("waits", [False, True])
def test_create_vm_replaces_vm_of_killed_creation(env, instance_request, waits):
    call, before = interrupt(env, instance_request, waits=waits)
    vm, _ = env.director.call(*call)
    assert {name[-36:] for name in env.server.names() - before} == {vm[-36:]}
    assert len(env.server.names() - before) == 3
    env.director.call("delete_vm", vm)
    assert (env.server.names(), lock_files(env)) == (before, [])


def test_create_vm_names_vm_of_creation_elsewhere(env, instance_request):
    call, before = interrupt(env, instance_request)
    env.server.wait_until_idle()
    [file] = lock_files(env)
    vm = file.name.removeprefix(locks.PREFIX)
    with locks.exclusive(env.lock_directory, vm, log=Log("test"), sleep=pytest.fail):
        with pytest.raises(
            errors.VMCreationFailed, match=f"{vm} has it, which has been in the state creating for 0 min"
        ) as running:
            env.director.call(*call)
        assert "1 being created" in env.cleanup()
    assert not lock_files(env)
    with pytest.raises(
        errors.VMCreationFailed, match=f"{vm} has it, which has been in the state creating for 0 min"
    ) as after_end:
        env.director.call(*call)
    for raised in (running, after_end):
        assert (raised.value.code, raised.value.ok_to_retry) == ("interrupted_elsewhere", True)
    assert vm in env.server.names()
    env.cleanup()
    assert env.server.names() == before


@pytest.mark.parametrize("offset", [-3, -2, 0])
def test_cleanup_removes_young_resources_of_killed_creation(env, instance_request, offset):
    before, call = env.server.names(), env.vm_call()
    env.next_fault = KILLED, instance_request + offset
    assert env.call_with_fault(*call) == Outcome()
    assert len(lock_files(env)) == 1
    env.cleanup("--min-age", "1h", "--dry-run")
    assert len(lock_files(env)) == 1
    output = env.cleanup("--min-age", "1h")
    assert "too young" not in output, output
    assert (env.server.names(), lock_files(env)) == (before, [])
