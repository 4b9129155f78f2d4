"""Persistent disks. The CID is the volume's name; the pool is found by looking, the configured one first.

guest.properties is imported where it is needed: look-ups do without, and they are most of all calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from bosh_lxd_cpi import errors, hints
from bosh_lxd_cpi.actions import vms, volumes
from bosh_lxd_cpi.actions.context import Cpi, identifier
from bosh_lxd_cpi.guest import disks
from bosh_lxd_cpi.lxd import pools, sizes
from bosh_lxd_cpi.lxd.operations import exists

REPEATS = 10
"""How often a change is made again on what somebody else has just changed."""
IN_DOUBT = (errors.PreconditionFailed, errors.AgentNotRunning, errors.NoResponse, errors.OperationNotFound)
"""After these the change may have been made, or may have to be made again."""

Value = TypeVar("Value")


class Disk(NamedTuple):
    """A persistent disk as the server has it."""

    pool: str
    volume: dict[str, Any]
    etag: str

    @property
    def users(self) -> list[str]:
        """Names of the instances that have it, running or not."""
        paths = [url.partition("?")[0] for url in self.volume.get("used_by") or []]
        return [path.rsplit("/", 1)[1] for path in paths if "/instances/" in path or "/virtual-machines/" in path]


def create_disk(cpi: Cpi, size: Any, cloud_properties: Any, vm_cid: Any = None) -> str:
    """Make a persistent disk of `size` MiB: one request, on a cluster two or three. `vm_cid` is where it will be used."""
    from bosh_lxd_cpi.guest.cloud_properties import parse_disk_properties, parse_size

    size = parse_size(size, "disk size")
    wanted = parse_disk_properties(cloud_properties)
    pool = wanted.storage_pool or cpi.config.server.storage_pool_name
    cid = f"{disks.PERSISTENT}{cpi.new_id()}"
    clustered = wanted.target or cpi.config.server.target  # else to ask where the VM is would be a request for nothing
    target = (_location(cpi, identifier(vm_cid, "vm_cid")) if vm_cid and clustered else "") or wanted.target
    with cpi.rollback() as rollback:
        rollback.add(f"disk {cid}", lambda: volumes.delete_volume(cpi, pool, cid))
        volumes.create_volume(cpi, pool, cid, size, config={**wanted.config, **cpi.marks()}, target=target)
    return cid


def _location(cpi: Cpi, vm_cid: str) -> str:
    try:
        location = cpi.client.instance(vm_cid).metadata["location"]
    except errors.NotFound:
        return ""
    return "" if location == "none" else location


def has_disk(cpi: Cpi, disk_cid: str) -> bool:
    """Whether the disk is there: one request when it is in the configured pool."""
    return find(cpi, identifier(disk_cid, "disk_cid")) is not None


def find(cpi: Cpi, cid: str) -> Disk | None:
    """The disk, in whichever pool it is."""
    return in_any_pool(cpi, cid, lambda pool: _disk(cpi, pool, cid))


def need(cpi: Cpi, cid: str) -> Disk:
    """The disk. Raises DiskNotFound."""
    disk = find(cpi, identifier(cid, "disk_cid"))
    if disk is None:
        raise errors.DiskNotFound(f"there is no disk {cid} in any storage pool of project {cpi.client.project}")
    return disk


def _disk(cpi: Cpi, pool: str, cid: str) -> Disk:
    reply = cpi.client.volume(pool, cid)
    return Disk(pool, reply.metadata, reply.etag)


def in_any_pool(cpi: Cpi, cid: str, attempt: Callable[[str], Value]) -> Value | None:
    """What `attempt` gives in the first pool where it does not raise NotFound; None when it does in all.

    A disk that two cluster members have is settled first.
    """
    for pool in pools.names(cpi.client, cpi.config.server.storage_pool_name):
        cpi.client.names["pool"] = pool
        try:
            return attempt(pool)
        except errors.NotFound:
            continue
        except errors.Ambiguous:
            from bosh_lxd_cpi.actions import disk_migration

            disk_migration.settle(cpi, pool, cid)
            return attempt(pool)
    return None


def delete_disk(cpi: Cpi, disk_cid: str) -> None:
    """Delete a disk with its snapshots. One that is gone is no error; one that is attached is refused."""
    cid = identifier(disk_cid, "disk_cid")
    try:
        deleted = in_any_pool(cpi, cid, lambda pool: _delete(cpi, pool, cid))
    except errors.InUse as failure:
        raise errors.CloudError(
            f"disk {cid} is attached to a VM, so it is not deleted",
            detail=str(failure),
            hint=hints.text("attached_delete", disk=cid, **cpi.client.names),
        ) from failure
    if deleted is None:
        cpi.log.info(f"disk {cid} is gone already")


def _delete(cpi: Cpi, pool: str, cid: str) -> bool:
    cpi.run_operation(
        lambda: cpi.client.delete_volume(pool, cid),
        what=f"deleting disk {cid}",
        name=cid,
        is_done=lambda: not exists(lambda: cpi.client.volume(pool, cid)),
    )
    return True


def attach_disk(cpi: Cpi, vm_cid: str, disk_cid: str) -> dict[str, str]:
    """Give a VM a disk, running or not; answers the hint by which its agent finds it. Once more changes nothing.

    Requests: server, volume, instance, change. Raises VMNotFound, DiskNotFound, and CloudError when another VM has the
    disk: LXD 5.0 would let two VMs write to it.
    """
    vm, disk, features = identifier(vm_cid, "vm_cid"), identifier(disk_cid, "disk_cid"), cpi.features()
    with cpi.exclusive(f"attachment-of-{disk}"), cpi.exclusive(vms.changes_of(vm)):
        return _attach(cpi, vm, disk, kind=features.kind)


def _attach(cpi: Cpi, vm: str, disk_cid: str, *, kind: str) -> dict[str, str]:
    disk = need(cpi, disk_cid)
    if others := [user for user in disk.users if user != vm]:
        raise errors.CloudError(
            f"disk {disk_cid} is attached to {', '.join(others)} already", hint="Detach it there first"
        )
    device = disks.persistent_device(disk_cid)
    for _ in range(REPEATS):
        instance, etag = need_instance(cpi, vm)
        if names := disks.devices_of(instance["devices"], disk_cid):
            return disks.hint(names[0], kind=kind)
        disk = _colocated(cpi, disk, instance["location"])
        body = {"description": instance["description"], "devices": {device: disks.volume_device(disk.pool, disk_cid)}}
        try:
            cpi.run_operation(
                lambda: cpi.client.patch_instance(vm, body, etag), what=f"attaching {disk_cid} to {vm}", name=vm
            )
            return disks.hint(device, kind=kind)
        except IN_DOUBT as failure:
            cpi.log.info(f"{failure}; looking again")
    raise errors.CloudError(f"instance {vm} kept changing while {disk_cid} was attached to it")


def need_instance(cpi: Cpi, cid: str) -> tuple[dict[str, Any], str]:
    """An instance and its ETag. Raises VMNotFound."""
    try:
        reply = cpi.client.instance(cid)
    except errors.NotFound:
        raise errors.VMNotFound(f"there is no VM {cid}") from None
    return reply.metadata, reply.etag


def _colocated(cpi: Cpi, disk: Disk, member: str) -> Disk:
    """The disk on the VM's cluster member."""
    if disk.volume.get("location") in ("", "none", None, member) or member in ("", "none"):
        return disk
    from bosh_lxd_cpi.actions import disk_migration

    disk_migration.move(cpi, disk.pool, disk.volume["name"], member)
    return disk._replace(volume={**disk.volume, "location": member})


def detach_disk(cpi: Cpi, vm_cid: str, disk_cid: str) -> None:
    """Take a disk away from a VM. One that is not attached or not there is no error. Raises VMNotFound.

    Requests: instance, change and wait. A PATCH cannot remove a device on Incus, so the whole instance is put back.
    """
    from bosh_lxd_cpi.actions import legacy_config_drive

    vm, disk = identifier(vm_cid, "vm_cid"), identifier(disk_cid, "disk_cid")
    with cpi.exclusive(vms.changes_of(vm)):
        _detach(cpi, vm, disk)
    legacy_config_drive.forget_disk(cpi, vm, disk)


def _detach(cpi: Cpi, vm: str, disk: str) -> None:
    for _ in range(REPEATS):
        instance, etag = need_instance(cpi, vm)
        names = disks.devices_of(instance["devices"], disk)
        if not names:
            return
        left = {name: device for name, device in instance["devices"].items() if name not in names}
        body = {
            key: instance[key] for key in ("architecture", "config", "description", "ephemeral", "profiles", "stateful")
        }
        try:
            cpi.run_operation(
                lambda: cpi.client.replace_instance(vm, {**body, "devices": left}, etag),
                what=f"detaching {disk} from {vm}",
                name=vm,
            )
            return
        except IN_DOUBT as failure:
            cpi.log.info(f"{failure}; looking again")
    raise errors.CloudError(f"instance {vm} kept changing while {disk} was detached from it")


def get_disks(cpi: Cpi, vm_cid: str) -> list[str]:
    """CIDs of the persistent disks attached to a VM: one request. Raises VMNotFound."""
    instance, _ = need_instance(cpi, identifier(vm_cid, "vm_cid"))
    return disks.persistent_disks(instance["devices"])


def resize_disk(cpi: Cpi, disk_cid: str, new_size: Any) -> None:
    """Grow a disk to `new_size` MiB; the same size again is fine. Raises NotSupported for a smaller one."""
    from bosh_lxd_cpi.guest.cloud_properties import parse_size

    size = parse_size(new_size, "disk size")
    _change(cpi, disk_cid, lambda disk: _resize(cpi, disk, disk_cid, size, disk.volume["config"]))


def update_disk(cpi: Cpi, disk_cid: str, new_size: Any, cloud_properties: Any) -> None:
    """Bring a disk to a new size and new properties in place. Raises NotSupported when that needs another volume."""
    from bosh_lxd_cpi.guest.cloud_properties import parse_disk_properties, parse_size

    size, wanted = parse_size(new_size, "disk size"), parse_disk_properties(cloud_properties)

    def change(disk: Disk) -> None:
        if (wanted.storage_pool or disk.pool) != disk.pool:
            raise errors.NotSupported(
                f"disk {disk_cid} is in pool {disk.pool} and cannot move to {wanted.storage_pool} in place"
            )
        _resize(cpi, disk, disk_cid, size, {**disk.volume["config"], **wanted.config})

    _change(cpi, disk_cid, change)


def _resize(cpi: Cpi, disk: Disk, cid: str, size: int, config: dict[str, str]) -> None:
    now = sizes.mib(disk.volume["config"].get("size", "")) or 0
    if size < now:
        raise errors.NotSupported(f"disk {cid} has {now:g} MiB and cannot shrink to {size}")
    if size > now:
        config = {**config, "size": f"{size}MiB"}
    if config == disk.volume["config"]:
        return
    try:
        _replace(cpi, disk, cid, config=config, what=f"resizing disk {cid}")
    except errors.InUse as failure:
        raise errors.CloudError(
            f"disk {cid} cannot grow while it is attached to {', '.join(disk.users)}",
            detail=str(failure),
            hint=hints.text("attached_grow"),
        ) from failure


def set_disk_metadata(cpi: Cpi, disk_cid: str, metadata: Any) -> None:
    """Describe a disk and tag it: two requests. Raises DiskNotFound."""
    if not isinstance(metadata, dict):
        raise errors.BadRequest("metadata must be a mapping")
    _change(
        cpi,
        disk_cid,
        lambda disk: _replace(
            cpi,
            disk,
            disk_cid,
            config={**disk.volume["config"], **vms.tags(metadata)},
            description=describe(metadata),
            what=f"describing disk {disk_cid}",
        ),
    )


def _change(cpi: Cpi, cid: str, change: Callable[[Disk], None]) -> None:
    """Change a disk as it is; once more if somebody else has changed it meanwhile."""
    identifier(cid, "disk_cid")
    with cpi.exclusive(vms.changes_of(cid)):
        for _ in range(REPEATS):
            try:
                return change(need(cpi, cid))
            except errors.PreconditionFailed as failure:
                cpi.log.info(f"{failure}; looking again")
    raise errors.CloudError(f"disk {cid} kept changing, so that it could not be changed as asked")


def describe(metadata: dict[str, Any]) -> str:
    """One line for people: deployment and instance."""
    index = metadata.get("instance_index", metadata.get("index", ""))
    group = metadata.get("instance_group") or metadata.get("job") or ""
    instance = f"{group}/{index}" if group else str(metadata.get("instance_id", ""))
    return " ".join(filter(None, [str(metadata.get("deployment", "")), instance]))


def _replace(
    cpi: Cpi, disk: Disk, cid: str, *, config: dict[str, str], what: str, description: str | None = None
) -> None:
    body = {"config": config, "description": disk.volume["description"] if description is None else description}

    def made() -> bool:
        return _disk(cpi, disk.pool, cid).volume["config"] == config

    try:
        cpi.run_operation(
            lambda: cpi.client.replace_volume(disk.pool, cid, body, disk.etag), what=what, name=cid, is_done=made
        )
    except errors.PreconditionFailed:  # by ourselves, when the first answer got lost and the request was repeated
        if not made():
            raise
