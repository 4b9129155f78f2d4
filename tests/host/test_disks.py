"""Persistent disks and snapshots on real servers, checked in the guest and on the server."""

from __future__ import annotations

import json
import math
import subprocess

import pytest

from tests.host import processes, server
from tests.host.director import CallError, environment, manual_network
from tests.host.fault_environment import cpi_with_short_timeouts
from tests.host.machine import wait_until
from tests.host.paused_program import PausedProgram
from tests.host.tiny_stemcell import Connection

IP, OTHER_IP = "10.245.0.31", "10.245.0.32"
MISSING_UUID = "01a2030b-da83-881f-9150-000000000000"


@pytest.fixture
def vm(cpi, stemcell_cids):
    """A VM that is deleted at the end."""
    cid, _ = cpi.call(
        "create_vm",
        "a",
        stemcell_cids["jammy"],
        {"instance_type": "c1-m0.375", "ephemeral_disk": 64},
        {"n": manual_network(IP)},
        [],
        environment(),
    )
    yield cid
    cpi.call("delete_vm", cid)


@pytest.fixture
def make_disk(cpi):
    """A function that creates disks, which are deleted at the end."""
    cids = []

    def make(size=64, properties=None, vm_cid=None):
        cids.append(cpi.call("create_disk", size, properties or {}, vm_cid))
        return cids[-1]

    yield make
    for cid in cids:
        cpi.call("delete_disk", cid)


def volume(host, cid):
    path = f"/1.0/storage-pools/default/volumes/custom/{cid}?project={host.project}"
    return json.loads(server.client(host.name, "query", path).stdout)


@pytest.mark.every_server
def test_disks_keep_hints_and_contents_after_detach_and_reboot(cpi, vm, make_disk, guests):
    boot = guests.wait(IP)["boot_id"]
    disks = [make_disk(size) for size in (64, 96, 128)]
    hints = [cpi.call("attach_disk", vm, disk)["path"] for disk in disks]
    assert cpi.last.requests <= 4
    assert len(set(hints)) == 3
    for disk, hint in zip(disks, hints, strict=True):
        guests.request(IP, "mark", device=hint, text=disk)
    sizes = [guests.request(IP, "size", device=hint) for hint in hints]
    assert sizes == [size << 20 for size in (64, 96, 128)]

    cpi.call("detach_disk", vm, disks[0])
    assert cpi.last.requests <= 4
    assert cpi.call("get_disks", vm) == sorted(disks[1:])
    assert hints[0] not in guests.report(IP)["by_id"]
    cpi.call("reboot_vm", vm)
    report = guests.wait(IP, not_boot=boot)
    for disk, hint in zip(disks[1:], hints[1:], strict=True):
        assert hint.rsplit("/", 1)[1] in report["by_id"]
        assert disk in json.dumps(guests.request(IP, "read", device=hint))
    assert cpi.call("attach_disk", vm, disks[0]) == {"path": hints[0]}
    assert disks[0] in json.dumps(guests.request(IP, "read", device=hints[0]))
    for disk in disks:
        cpi.call("detach_disk", vm, disk)


@pytest.mark.every_server
def test_attach_and_detach_are_idempotent(cpi, vm, make_disk):
    disk = make_disk(vm_cid=vm)
    assert cpi.call("get_disks", vm) == []
    hint = cpi.call("attach_disk", vm, disk)
    assert cpi.call("attach_disk", vm, disk) == hint
    assert cpi.call("get_disks", vm) == [disk]
    assert cpi.call("detach_disk", vm, disk) is None
    assert cpi.call("detach_disk", vm, disk) is None
    assert cpi.call("detach_disk", vm, f"vol-p-{MISSING_UUID}") is None
    assert cpi.call("get_disks", vm) == []


@pytest.mark.every_server
def test_rejects_disk_attached_to_another_vm(host, cpi, vm, make_disk, stemcell_cids):
    disk = make_disk()
    other, _ = cpi.call(
        "create_vm",
        "b",
        stemcell_cids["jammy"],
        {"instance_type": "c1-m0.375"},
        {"n": manual_network(OTHER_IP)},
        [disk],
        environment(),
    )
    cpi.call("attach_disk", vm, disk)
    with pytest.raises(CallError, match=f"attached to {vm}"):
        cpi.call("attach_disk", other, disk)
    with pytest.raises(CallError, match="Detach the disk first"):
        cpi.call("delete_disk", disk)
    cpi.call("delete_vm", other)
    cpi.call("detach_disk", vm, disk)


@pytest.mark.every_server
def test_missing_disks(cpi, vm):
    missing = f"vol-p-{MISSING_UUID}"
    assert cpi.call("has_disk", missing) is False
    assert cpi.call("delete_disk", missing) is None
    for method, arguments in (
        ("attach_disk", (vm, missing)),
        ("set_disk_metadata", (missing, {})),
        ("resize_disk", (missing, 100)),
        ("snapshot_disk", (missing, {})),
        ("update_disk", (missing, 100, {})),
    ):
        with pytest.raises(CallError) as exc_info:
            cpi.call(method, *arguments)
        assert exc_info.value.type == "Bosh::Clouds::DiskNotFound", method
    with pytest.raises(CallError) as exc_info:
        cpi.call("attach_disk", f"vm-{MISSING_UUID}", missing)
    assert exc_info.value.type in ("Bosh::Clouds::DiskNotFound", "Bosh::Clouds::VMNotFound")
    with pytest.raises(CallError) as exc_info:
        cpi.call("detach_disk", f"vm-{MISSING_UUID}", missing)
    assert exc_info.value.type == "Bosh::Clouds::VMNotFound"


@pytest.mark.every_server
def test_updated_disk_has_the_options_of_a_new_disk(host, cpi, make_disk):
    pool = f"/1.0/storage-pools/{host.pool}"
    Connection(host).query("PATCH", pool, {"config": {"volume.snapshots.expiry": "9d"}})
    try:
        new = options(host, make_disk())
        assert new == {"snapshots.expiry": "9d"}
        changed = {"snapshots.expiry": "1d", "snapshots.schedule": "@daily"}
        disk = make_disk(64, {"config": changed})
        assert options(host, disk) == changed
        cpi.call("update_disk", disk, 64, {"config": {"snapshots.pattern": "bosh-%d"}})
        assert options(host, disk) == {"snapshots.pattern": "bosh-%d", **new}
        cpi.call("update_disk", disk, 64, {})
        assert options(host, disk) == new
    finally:
        Connection(host).query("PATCH", pool, {"config": {"volume.snapshots.expiry": ""}})


@pytest.mark.every_server
def test_disk_of_another_pool_is_copied_to_the_default_pool(host, cpi, make_disk):
    pools = "/1.0/storage-pools"
    Connection(host).run_operation("POST", pools, {"name": "second", "driver": "dir"})
    try:
        disk = make_disk(64, {"storage_pool": "second"})
        with pytest.raises(CallError, match="is in pool second and cannot move to pool default") as raised:
            cpi.call("update_disk", disk, 64, {})
        assert raised.value.type == "Bosh::Clouds::NotSupported"
        cpi.call("delete_disk", disk)
    finally:
        Connection(host).run_operation("DELETE", f"{pools}/second")


def options(host, disk):
    """Return the volume options of a disk that the CPI does not write for every disk."""
    config = volume(host, disk)["config"]
    return {key: value for key, value in config.items() if key.startswith("snapshots.")}


@pytest.mark.every_server
def test_attach_of_a_used_disk_to_a_missing_vm(cpi, vm, make_disk):
    disk = make_disk()
    cpi.call("attach_disk", vm, disk)
    with pytest.raises(CallError) as exc_info:
        cpi.call("attach_disk", f"vm-{MISSING_UUID}", disk)
    assert exc_info.value.type == "Bosh::Clouds::VMNotFound"
    cpi.call("detach_disk", vm, disk)


@pytest.mark.every_server
@pytest.mark.parametrize(
    "cid",
    [
        "i-0a1b2c3d4e5f",
        "6F1c8e52-0000-4000-8000-000000000001",
        "vol_p.1",
        "x" * 200,
        "agent_id:1;resource_group_name:bosh",
        "projects/p/zones/z/disks/d",
        "ami-1 light",
    ],
)
def test_cids_of_other_clouds_do_not_exist(cpi, cid):
    assert [cpi.call(method, cid) for method in ("has_vm", "has_disk")] == [False, False]
    for method in ("delete_vm", "delete_disk", "delete_snapshot", "delete_stemcell"):
        assert cpi.call(method, cid) is None


@pytest.mark.every_server
def test_disk_calls_wait_for_slow_storage(host, cpi, volume_change, tmp_path):
    """Most servers respond to changes of volumes when they are complete."""
    cpi.program = cpi_with_short_timeouts(tmp_path, 2, read_seconds=1, storage_seconds=math.inf)
    disk = call_slowly(host, cpi, "create_disk", 64, {})
    assert cpi.last.requests == volume_change
    call_slowly(host, cpi, "delete_disk", disk)
    assert cpi.last.requests == volume_change


def call_slowly(host, cpi, method, *arguments):
    """Return the result of a call during which the storage does not respond for longer than a time-out."""
    with PausedProgram(host.name, "btrfs", f"subvolume {method.partition('_')[0]} *") as btrfs:
        process = cpi.start(method, *arguments)
        btrfs.wait()
        assert not wait_until(lambda: process.poll() is not None, seconds=2)
        btrfs.resume()
        return cpi.finish(process, method, 0)


@pytest.mark.every_server
def test_resizes_disk(host, cpi, vm, volume_change, make_disk):
    disk = make_disk(64)
    assert cpi.call("has_disk", disk) is True and cpi.last.requests == 1
    cpi.call("resize_disk", disk, 128)
    assert cpi.last.requests <= 1 + volume_change
    cpi.call("resize_disk", disk, 128)
    assert volume(host, disk)["config"]["size"] == "128MiB"
    for method, arguments in (
        ("resize_disk", (disk, 127)),
        ("update_disk", (disk, 127, {})),
        ("update_disk", (disk, 128, {"storage_pool": "other"})),
    ):
        with pytest.raises(CallError) as exc_info:
            cpi.call(method, *arguments)
        assert exc_info.value.type == "Bosh::Clouds::NotSupported"
    assert cpi.call("update_disk", disk, 256, {}) is None
    assert volume(host, disk)["config"]["size"] == "256MiB"
    cpi.call("attach_disk", vm, disk)
    with pytest.raises(CallError, match=r"cannot grow while it is attached.*bosh stop --hard"):
        cpi.call("resize_disk", disk, 512)
    cpi.call("resize_disk", disk, 256)
    cpi.call("detach_disk", vm, disk)


@pytest.mark.every_server
def test_disk_metadata_and_snapshots_of_attached_disk(host, cpi, vm, volume_change, make_disk):
    disk = make_disk()
    cpi.call("attach_disk", vm, disk)
    cpi.call(
        "set_disk_metadata",
        disk,
        {"deployment": "cf", "instance_group": "db", "instance_index": 0, "attached_at": "now"},
    )
    assert cpi.last.requests <= 1 + volume_change
    document = volume(host, disk)
    assert document["description"] == "cf db/0"
    assert document["config"]["user.bosh.deployment"] == "cf"

    snapshot = cpi.call("snapshot_disk", disk, {"deployment": "cf", "job": "db", "index": 0, "agent_id": "x"})
    assert cpi.last.requests <= 2 + volume_change
    name = snapshot.removeprefix(f"{disk}_")
    path = f"/1.0/storage-pools/default/volumes/custom/{disk}/snapshots/{name}?project={host.project}"
    description = json.loads(json.loads(server.client(host.name, "query", path).stdout)["description"])
    assert (description["deployment"], description["index"]) == ("cf", 0)
    assert cpi.call("delete_snapshot", snapshot) is None
    assert cpi.last.requests <= 2
    assert cpi.call("delete_snapshot", snapshot) is None
    assert cpi.call("delete_snapshot", f"vol-p-{MISSING_UUID}_snap-{MISSING_UUID}") is None
    cpi.call("detach_disk", vm, disk)


def test_finds_disks_in_another_pool(host, cpi, vm):
    server.client(host.name, "storage", "create", "second", "dir")
    try:
        disk = cpi.call("create_disk", 32, {"storage_pool": "second", "config": {"user.owner": "me"}}, None)
        assert cpi.call("has_disk", disk) is True
        cpi.call("attach_disk", vm, disk)
        assert cpi.call("get_disks", vm) == [disk]
        cpi.call("delete_snapshot", cpi.call("snapshot_disk", disk, {}))
        cpi.call("detach_disk", vm, disk)
        cpi.call("resize_disk", disk, 64)
        cpi.call("delete_disk", disk)
        assert cpi.call("has_disk", disk) is False
    finally:
        server.client(host.name, "storage", "delete", "second")


@pytest.mark.parametrize(
    "arguments",
    [
        (0, {}, None),
        (-1, {}, None),
        ("a", {}, None),
        (1 << 60, {}, None),
        (1.5, {}, None),
        (64, {"pool": "x"}, None),
        (64, {"config": {"size": "1GiB"}}, None),
        (64, [], None),
    ],
    ids=str,
)
def test_rejects_invalid_disk_before_any_change(cpi, arguments):
    with pytest.raises(CallError) as exc_info:
        cpi.call("create_disk", *arguments)
    assert exc_info.value.type == "Bosh::Clouds::CloudError"
    assert cpi.last.requests == 0


@pytest.fixture
def full_pool(host):
    """A full storage pool."""
    server.client(host.name, "storage", "create", "full", "btrfs", "size=256MiB")
    fill = f"dd if=/dev/zero of=/var/lib/{host.type}/storage-pools/full/fill bs=64K; sync"
    subprocess.run(processes.enter_command(host.name, "sh", "-c", fill), stderr=subprocess.DEVNULL, check=True)
    yield "full"
    server.client(host.name, "storage", "delete", "full")


@pytest.mark.every_server
@pytest.mark.only("incus", "lxd")
def test_full_pool_raises_no_disk_space_and_leaves_nothing(cpi, stemcell_cids, full_pool):
    with pytest.raises(CallError) as exc_info:
        cpi.call(
            "create_vm",
            "a",
            stemcell_cids["jammy"],
            {"instance_type": "c1-m0.375", "storage_pool": full_pool},
            {"n": manual_network(IP)},
            [],
            environment(),
        )
    assert (exc_info.value.type, exc_info.value.ok_to_retry) == ("Bosh::Clouds::NoDiskSpace", False)
    assert "storage info full" in exc_info.value.message


@pytest.mark.every_server
@pytest.mark.parametrize("missing", ["pool", "project"])
def test_rollback_of_nothing_logs_no_warning(cpi, missing):
    if missing == "project":
        cpi.config["server"]["project_name"] = "nowhere"
    with pytest.raises(CallError) as raised:
        cpi.call("create_disk", 16, {"storage_pool": "nowhere"} if missing == "pool" else {}, None)
    assert "rolling back: disk vol-p-" in raised.value.call.stderr
    assert "could not roll back" not in raised.value.call.stderr
