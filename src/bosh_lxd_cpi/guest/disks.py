"""Devices of volumes and disks, and the disk hints by which the agent finds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bosh_lxd_cpi.model import naming

Device = Mapping[str, str]


def path(device: str, *, kind: str) -> str:
    """Return the path in the guest of a disk, by the name of its device. `kind` is `lxd` or `incus`.

    udev creates this link from the serial number. It is stable, while /dev/sdX depends on probing order and
    hot-plugging (docs/development/lxd-api.md §4).
    """
    return f"/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_{kind}_{device.replace('-', '--')}"


def hint(device: str, *, kind: str) -> dict[str, str]:
    """Return the disk hint that attach_disk sends to the agent."""
    return {"path": path(device, kind=kind)}


def volume_device(pool: str, volume: str) -> dict[str, str]:
    """Return the device that attaches a volume to a VM."""
    return {"type": "disk", "pool": pool, "source": volume}


def root_device(pool: str, size: int) -> dict[str, str]:
    """Return the device of the root disk. With size 0 (MiB), the pool or the image decides on its size."""
    return {"type": "disk", "path": "/", "pool": pool, **({"size": f"{size}MiB"} if size else {})}


def devices_of(devices: Mapping[str, Device], disk_cid: str) -> list[str]:
    """Return the names of a VM's devices for a persistent disk: at most one, named by this CPI or by the Go CPI."""
    return [
        name for name, device in devices.items() if device.get("type") == "disk" and device.get("source") == disk_cid
    ]


def persistent_disks(devices: Mapping[str, Device]) -> list[str]:
    """Return the CIDs of the persistent disks among a VM's devices."""
    return sorted(
        device["source"]
        for device in devices.values()
        if device.get("type") == "disk" and device.get("source", "").startswith(naming.PERSISTENT)
    )


def volumes_to_delete(devices: Mapping[str, Device]) -> Iterator[tuple[str, str]]:
    """Yield pool and name of every volume that is deleted with a VM.

    The names are read from the devices, because the Go CPI used a UUID of its own for each volume.
    """
    for device in devices.values():
        pool, source = device.get("pool"), device.get("source", "")
        if pool and device.get("type") == "disk" and source.startswith((naming.EPHEMERAL, naming.CONFIG_DRIVE)):
            yield pool, source
