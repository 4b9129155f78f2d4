from __future__ import annotations

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions.interrupted_creations import remove_conflicting_vms
from bosh_lxd_cpi.model import naming
from bosh_lxd_cpi.runtime import lock_files, locks

NIC = {"type": "nic", "network": "lxdbr0", "ipv4.address": "10.0.0.5"}
VOLUMES = "/1.0/storage-pools/default/volumes/custom"
TAKEN = errors.AddressTaken("IP address taken", code="address_taken")


@pytest.fixture
def cid(clock) -> str:
    """The CID of a VM that the director of the context creates."""
    return f"vm-{naming.new_id(type(clock)(), 'd1r')}"


@pytest.fixture
def abandoned_lock(tmp_path, cid) -> None:
    """A process of this machine was killed during the creation of the VM."""
    directory = str(tmp_path / "locks")
    lock_files.make_directory(directory)
    lock_files.create(locks.lock_path(directory, cid))


def instance(name: str, *, state: str = "creating", **device: str) -> dict:
    devices = {"root": {"type": "disk", "path": "/", "pool": "fast"}, "eth0": {**NIC, **device}}
    return {"name": name, "status": "Stopped", "config": {"user.bosh.state": state}, "devices": devices}


def remove(context, *, failure: errors.ServerError = TAKEN, **device: str) -> None:
    remove_conflicting_vms(context(), "vm-new", devices={"eth0": {**NIC, **device}}, failure=failure)


@pytest.mark.usefixtures("abandoned_lock")
def test_removes_vm_of_killed_creation_with_volumes(context, wire, responses, cid, tmp_path):
    wire.script(
        (
            "GET /1.0/instances",
            responses.sync([instance("vm-new"), instance("web", **{"ipv4.address": "10.0.0.6"}), instance(cid)]),
        ),
        (f"GET /1.0/instances/{cid}", responses.sync(instance(cid))),
        (f"DELETE /1.0/instances/{cid}", responses.sync()),
        *(
            (f"DELETE {VOLUMES.replace('default', pool)}/{name}", responses.sync())
            for pool in ("default", "fast")
            for name in sorted(naming.own_volumes(cid))
        ),
    )
    remove(context)
    assert list((tmp_path / "locks").iterdir()) == []


@pytest.mark.parametrize("state", ["created", "failed"])
@pytest.mark.usefixtures("abandoned_lock")
def test_names_vm_in_another_state(context, wire, responses, cid, state):
    wire.script(("GET /1.0/instances", responses.sync([instance(cid, state=state)])))
    with pytest.raises(errors.AddressTaken) as raised:
        remove(context)
    assert raised.value.brief == f"IP address taken; {cid} has it"
    assert (raised.value.code, raised.value.fields["vm"]) == ("address_taken", cid)


def test_names_vm_without_lock_and_its_age(context, wire, responses, cid, clock):
    wire.script(("GET /1.0/instances", responses.sync([instance(cid)])))
    clock.now_is += 4 * 60
    with pytest.raises(errors.AddressTaken) as raised:
        remove(context)
    assert raised.value.brief == f"IP address taken; {cid} has it, which has been in the state creating for 4 minutes"
    assert raised.value.code == "interrupted_elsewhere"


def test_names_vm_of_another_director(context, wire, responses, clock, tmp_path):
    name = f"vm-{naming.new_id(type(clock)(), 'another')}"
    lock_files.make_directory(str(tmp_path / "locks"))
    lock_files.create(locks.lock_path(str(tmp_path / "locks"), name))
    wire.script(("GET /1.0/instances", responses.sync([instance(name)])))
    with pytest.raises(errors.AddressTaken, match=name):
        remove(context)


def test_removes_nothing_if_the_lock_cannot_be_used(context, wire, responses, cid, tmp_path, log):
    lock_files.make_directory(str(tmp_path / "locks"))
    (tmp_path / f"locks/creating-{cid}").mkdir()
    wire.script(("GET /1.0/instances", responses.sync([instance(cid)])))
    with pytest.raises(errors.AddressTaken, match=cid):
        remove(context)
    assert f"warn  test: the lock of {cid} cannot be used" in log.stream.getvalue()


@pytest.mark.parametrize("device", [{"ipv4.address": "10.0.0.6"}, {"network": "lxdbr1"}], ids=["address", "network"])
def test_raises_the_failure_if_no_vm_is_in_the_way(context, wire, responses, device):
    unfiltered = {"ipv6.address": "none"}
    wire.script(("GET /1.0/instances", responses.sync([instance("web", **unfiltered, **device)])))
    with pytest.raises(errors.AddressTaken) as raised:
        remove(context, **unfiltered)
    assert raised.value is TAKEN


@pytest.mark.parametrize(
    "failure, device, requests",
    [
        (errors.AlreadyExists("host name in use"), {"host_name": "tap1"}, 1),
        (errors.InUse("volume in use"), {"source": "data"}, 1),
        (errors.AlreadyExists("name in use"), {}, 0),
        (errors.InUse("volume in use"), {}, 0),
    ],
)
def test_names_vm_with_the_same_device(context, wire, responses, failure, device, requests):
    wire.script(*[("GET /1.0/instances", responses.sync([instance("web", state="", **device)]))] * requests)
    with pytest.raises(type(failure)) as raised:
        remove(context, failure=failure, **device)
    assert ("web has it" in raised.value.brief) == bool(requests)
