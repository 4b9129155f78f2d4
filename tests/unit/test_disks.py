"""Devices and hints; tests/host uses them on servers."""

from __future__ import annotations

import re

import pytest

from bosh_lxd_cpi.guest import disks

VOLUMES = {
    "root": {"type": "disk", "path": "/", "pool": "default"},
    "eth0": {"type": "nic", "network": "lxdbr0"},
    "ephemeral": {"type": "disk", "pool": "slow", "source": "vol-e-1"},
    "config": {"type": "disk", "pool": "fast", "source": "vol-c-1"},
    "persistent-1": {"type": "disk", "pool": "fast", "source": "vol-p-2"},
    "p0123456789ab": {"type": "disk", "pool": "fast", "source": "vol-p-1"},
    "data": {"type": "disk", "pool": "fast", "source": "data"},
    "share": {"type": "disk", "path": "/mnt", "source": "/vol-e-1"},
    "odd": {"type": "unix-char", "source": "vol-p-3"},
}


@pytest.mark.parametrize("name", ["p0123456789ab", "ephemeral", "config"])
def test_serial_numbers_are_short_enough_for_every_server(name):
    """LXD before 6.4 cuts them off at 20 characters (docs/development/lxd-api.md §4)."""
    assert len(f"incus_{name}") <= 20 and re.fullmatch("[a-z0-9]+", name)


@pytest.mark.parametrize(
    "device, kind, path",
    [
        ("ephemeral", "lxd", "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_lxd_ephemeral"),
        ("p0123456789ab", "incus", "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_incus_p0123456789ab"),
        ("persistent-1", "incus", "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_incus_persistent--1"),
    ],
)
def test_path_in_guest_is_by_id(device, kind, path):
    assert disks.path(device, kind=kind) == path
    assert disks.hint(device, kind=kind) == {"path": path}


def test_devices_of_volumes_and_root_disk():
    assert disks.volume_device("fast", "vol-p-1") == {"type": "disk", "pool": "fast", "source": "vol-p-1"}
    assert disks.root_device("fast", 10240) == {"type": "disk", "path": "/", "pool": "fast", "size": "10240MiB"}
    assert disks.root_device("fast", 0) == {"type": "disk", "path": "/", "pool": "fast"}


def test_finds_devices_of_a_disk_by_source():
    assert disks.devices_of(VOLUMES, "vol-p-1") == ["p0123456789ab"]
    assert disks.devices_of(VOLUMES, "vol-p-2") == ["persistent-1"]
    assert disks.devices_of(VOLUMES, "vol-p-3") == [] == disks.devices_of({}, "vol-p-1")


def test_finds_persistent_disks_by_volume_name():
    assert disks.persistent_disks(VOLUMES) == ["vol-p-1", "vol-p-2"]


def test_deletes_only_own_volumes_with_a_vm():
    assert list(disks.volumes_to_delete(VOLUMES)) == [("slow", "vol-e-1"), ("fast", "vol-c-1")]
