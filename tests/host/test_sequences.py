"""Sequences of calls as recorded from directors and the BOSH CLI."""

from __future__ import annotations

import json

import pytest

from tests.host import server
from tests.host.director import CallError, environment, manual_network

IP = "10.245.0.51"
SMALL = {"instance_type": "c1-m0.375", "ephemeral_disk": 64}


@pytest.fixture
def create(cpi, stemcell_cids):
    def create(disks=(), ip=IP):
        cid, _ = cpi.call(
            "create_vm", "a", stemcell_cids["jammy"], SMALL, {"n": manual_network(ip)}, list(disks), environment()
        )
        cpi.call(
            "set_vm_metadata", cid, {"deployment": "d", "job": "db", "index": "0", "name": "db/0", "director": "x"}
        )
        return cid

    return create


def attach(cpi, vm, disk):
    """Attach a disk with the calls of director and CLI, and return its path in the guest."""
    hint = cpi.call("attach_disk", vm, disk)["path"]
    cpi.call("set_disk_metadata", disk, {"deployment": "d", "instance_group": "db", "instance_index": "0"})
    return hint


@pytest.mark.every_server
def test_create_env_resizes_disk_by_migration_and_is_deleted(cpi, create, guests):
    vm = create()
    disk = cpi.call("create_disk", 64, {}, vm)
    hint = attach(cpi, vm, disk)
    guests.wait(IP)
    guests.request(IP, "mark", device=hint, text="before migration")

    assert cpi.call("has_vm", vm) is True
    cpi.call("delete_vm", vm)  # the CLI does not detach the disk before
    vm = create([disk])
    assert attach(cpi, vm, disk) == hint
    larger_disk = cpi.call("create_disk", 128, {}, vm)
    other_hint = attach(cpi, vm, larger_disk)
    guests.wait(IP)
    assert "before migration" in str(guests.request(IP, "read", device=hint))
    guests.request(IP, "mark", device=other_hint, text="after migration")
    cpi.call("detach_disk", vm, disk)
    cpi.call("delete_disk", disk)
    assert "after migration" in str(guests.request(IP, "read", device=other_hint))

    assert cpi.call("has_vm", vm) is True
    cpi.call("delete_vm", vm)
    cpi.call("delete_disk", larger_disk)


@pytest.mark.every_server
def test_cloud_check_recreates_missing_vm_with_its_disk(host, cpi, create, guests):
    vm = create()
    disk = cpi.call("create_disk", 64, {}, vm)
    hint = attach(cpi, vm, disk)
    guests.wait(IP)
    guests.request(IP, "mark", device=hint, text="before recreation")
    server.client(host.name, "delete", "--force", "--project", host.project, vm)

    assert cpi.call("has_vm", vm) is False
    assert cpi.call("has_disk", disk) is True
    cpi.call("delete_vm", vm)
    vm = create([disk])
    assert attach(cpi, vm, disk) == hint
    guests.wait(IP)
    assert "before recreation" in str(guests.request(IP, "read", device=hint))
    cpi.call("delete_vm", vm)
    cpi.call("delete_disk", disk)


def test_hard_stop_and_start_with_snapshots_enabled(cpi, create, guests):
    vm = create()
    disk = cpi.call("create_disk", 64, {}, vm)
    attach(cpi, vm, disk)
    snapshot = cpi.call("snapshot_disk", disk, {"deployment": "d", "job": "db", "index": 0, "director_name": "x"})
    cpi.call("detach_disk", vm, disk)
    cpi.call("delete_vm", vm)

    vm = create([disk])
    hint = attach(cpi, vm, disk)
    assert hint.rsplit("/", 1)[1] in guests.wait(IP)["by_id"]
    cpi.call("delete_snapshot", snapshot)
    cpi.call("detach_disk", vm, disk)
    cpi.call("resize_disk", disk, 96)
    cpi.call("resize_disk", disk, 96)
    assert attach(cpi, vm, disk) == hint
    cpi.call("delete_vm", vm)
    cpi.call("delete_disk", disk)


def test_failed_create_can_be_repeated_with_same_address(cpi, create, stemcell_cids, guests):
    with pytest.raises(CallError):
        cpi.call(
            "create_vm",
            "a",
            stemcell_cids["jammy"],
            {**SMALL, "config": {"no.such.key": "1"}},
            {"n": manual_network(IP)},
            [],
            environment(),
        )
    vm = create()
    assert guests.wait(IP)["user_data"]["vm"]["id"] == vm
    cpi.call("delete_vm", vm)


@pytest.mark.every_server
def test_all_methods_work_for_a_paused_vm(host, cpi, create):
    def pause(vm: str) -> None:
        server.client(host.name, "pause", vm, "--project", host.project)

    vm = create()
    disk = cpi.call("create_disk", 16, {}, vm)
    cpi.call("attach_disk", vm, disk)
    pause(vm)
    assert cpi.call("has_vm", vm) is True and cpi.call("get_disks", vm) == [disk]
    cpi.call("set_vm_metadata", vm, {"name": "db/0"})
    cpi.call("delete_snapshot", cpi.call("snapshot_disk", disk, {}))
    cpi.call("detach_disk", vm, disk)
    cpi.call("attach_disk", vm, disk)
    cpi.call("reboot_vm", vm)
    document = server.client(host.name, "query", f"/1.0/instances/{vm}?project={host.project}").stdout
    assert json.loads(document)["status"] == "Running"
    pause(vm)
    cpi.call("delete_vm", vm)
    cpi.call("delete_disk", disk)
