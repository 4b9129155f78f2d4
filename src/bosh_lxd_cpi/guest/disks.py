"""Devices of volumes and disks, and the disk hints by which the agent finds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bosh_lxd_cpi.model import naming

Device = Mapping[str, str]


def path(device: str, *, kind: str) -> str:
    """Where udev in the guest puts a SCSI disk, for ever; /dev/sdX changes with probing order and hot-plugging."""
    return f"/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_{kind}_{device.replace('-', '--')}"


def hint(device: str, *, kind: str) -> dict[str, str]:
    """The answer to attach_disk."""
    return {"path": path(device, kind=kind)}


def volume_device(pool: str, volume: str) -> dict[str, str]:
    """The device that gives a VM a volume."""
    return {"type": "disk", "pool": pool, "source": volume}


def root_device(pool: str, size: int) -> dict[str, str]:
    """The root disk; without a size (MiB) it is as large as the pool or the image says."""
    return {"type": "disk", "path": "/", "pool": pool, **({"size": f"{size}MiB"} if size else {})}


def devices_of(devices: Mapping[str, Device], disk_cid: str) -> list[str]:
    """Names of the devices that are this disk: one, under our name or go-lxd-cpi's, or none."""
    return [
        name for name, device in devices.items() if device.get("type") == "disk" and device.get("source") == disk_cid
    ]


def persistent_disks(devices: Mapping[str, Device]) -> list[str]:
    """CIDs of the persistent disks among a VM's devices."""
    return sorted(
        device["source"]
        for device in devices.values()
        if device.get("type") == "disk" and device.get("source", "").startswith(naming.PERSISTENT)
    )


def volumes_to_delete(devices: Mapping[str, Device]) -> Iterator[tuple[str, str]]:
    """Pool and name of every volume that belongs to a VM alone; go-lxd-cpi named them by uuids of their own."""
    for device in devices.values():
        source = device.get("source", "")
        if device.get("type") == "disk" and source.startswith((naming.EPHEMERAL, naming.CONFIG_DRIVE)):
            yield device["pool"], source
