"""Persistent disks: create, attach, detach, resize, describe, delete.

guest.cloud_properties is imported where it is needed, because look-ups do without it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import placement, vms, volumes
from bosh_lxd_cpi.actions.context import Context, is_foreign, parse_cid
from bosh_lxd_cpi.actions.disk_lookup import Disk, change_in_any_pool, disks_used_by, locate, locate_for_change
from bosh_lxd_cpi.guest import disks
from bosh_lxd_cpi.lxd import operations, sizes
from bosh_lxd_cpi.lxd.operations import exists
from bosh_lxd_cpi.lxd.resources import Instance
from bosh_lxd_cpi.model import labels, naming

IN_DOUBT = (errors.PreconditionFailed, errors.AgentNotRunning, errors.NoResponse, errors.OperationNotFound)
"""After these errors the change may have been made, or has to be made again."""


def create_disk(context: Context, size: Any, cloud_properties: Any, vm_cid: Any = None) -> str:
    """Create a persistent disk of `size` MiB and return its CID: one request, two or three on a cluster.

    On a cluster the disk is created on the member of `vm_cid`, the VM that will use it, or else on its target.
    """
    from bosh_lxd_cpi.guest.cloud_properties import parse_disk_properties, parse_size

    size = parse_size(size, "disk size")
    properties = parse_disk_properties(cloud_properties)
    pool = properties.storage_pool or context.config.server.storage_pool_name
    target = placement.disk_target(context, properties.target, vm_cid)
    return _create(context, pool, size=size, options=properties.config, target=target)


def _create(context: Context, pool: str, *, size: int, options: Mapping[str, str], target: str) -> str:
    """Create a disk and return its CID. If a response is lost, delete the disk and create another one."""
    with context.rollback() as rollback:
        for attempt in context.client.retry.attempts(context.client.deadline):
            cid = naming.disk_cid(context.new_id())
            delete = functools.partial(volumes.delete_volume, pool=pool, volume=cid)
            rollback.add(f"disk {cid}", delete)
            config = {**labels.with_disk_options(options), **context.owner_labels()}
            try:
                volumes.create_volume(context, pool, cid, size=size, config=config, target=target)
                return cid
            except (errors.NoResponse, errors.OperationNotFound) as failure:
                if attempt.is_last:
                    raise
                context.log.warn(f"{failure}; deleting {cid} and creating another disk")
                operations.wait_for_pending(context.client, cid, what=f"creating disk {cid}")
                delete(context)
    raise AssertionError("the last attempt returns or raises")


def has_disk(context: Context, disk_cid: str) -> bool:
    """Return whether the disk exists: one request when it is in the default pool."""
    try:
        return not is_foreign(disk_cid) and locate(context, parse_cid(disk_cid, "disk_cid")) is not None
    except (errors.Ambiguous, errors.MemberUnavailable):  # an (interrupted) migration; or the database has the disk
        return True


def delete_disk(context: Context, disk_cid: str) -> None:
    """Delete a disk and its snapshots. Succeed if there is none. Raises CloudError if it is attached."""
    if is_foreign(disk_cid) or not change_in_any_pool(
        context, parse_cid(disk_cid, "disk_cid"), lambda pool: _delete(context, pool, disk_cid)
    ):
        context.log.info(f"there is no disk {disk_cid}")


def _delete(context: Context, pool: str, cid: str) -> bool:
    try:
        context.run_operation(
            lambda: context.client.delete_volume(pool, cid),
            what=f"deleting disk {cid}",
            name=cid,
            is_done=lambda: not exists(lambda: context.client.volume(pool, cid)),
        )
    except errors.InUse as failure:
        raise errors.CloudError(
            f"disk {cid} cannot be deleted, because it is attached to a VM",
            detail=str(failure),
            code="attached_delete",
            disk=cid,
            pool=pool,
        ) from failure
    return True


def attach_disk(context: Context, vm_cid: str, disk_cid: str) -> dict[str, str]:
    """Attach a disk to a VM, running or stopped, and return the disk hint for its agent. Attaching twice is no error.

    Requests: server, volume, instance, change. Raises VMNotFound, DiskNotFound, and CloudError if another VM has the
    disk: LXD 5.0 would let two VMs write to it.
    """
    vm, disk = parse_cid(vm_cid, "vm_cid"), parse_cid(disk_cid, "disk_cid")
    features = context.features()
    with context.exclusive(naming.attachment_lock(disk), required=True), context.exclusive(naming.change_lock(vm)):
        return _attach(context, vm, disk, kind=features.kind)


def _attach(context: Context, vm: str, disk_cid: str, *, kind: str) -> dict[str, str]:
    disk = locate_for_change(context, disk_cid)
    if others := [user for user in disk.volume.users if user != vm]:
        vms.read_vm(context, vm)  # for a missing VM, VMNotFound takes precedence over the error below
        users = ", ".join(others)
        raise errors.CloudError(f"disk {disk_cid} is already attached to {users}", code="attached_elsewhere")
    device, location = naming.persistent_device(disk_cid), disk.volume.location
    for _ in context.change_retry.attempts(context.client.deadline):
        instance = vms.read_vm(context, vm)
        if names := disks.devices_of(instance.devices, disk_cid):
            return disks.hint(names[0], kind=kind)
        location = _move_to(context, disk, location, instance.location)
        try:
            _add_device(context, vm, instance, {device: disks.volume_device(disk.pool, disk_cid)})
            return disks.hint(device, kind=kind)
        except IN_DOUBT as failure:
            context.log.info(f"{failure}; reading the instance again")
    raise errors.CloudError(f"disk {disk_cid} was not attached: instance {vm} was changed at the same time, repeatedly")


def _add_device(context: Context, vm: str, instance: Instance, device: dict[str, Any]) -> None:
    body = {"description": instance.description, "devices": device}
    context.run_operation(
        lambda: context.client.patch_instance(vm, body, instance.etag), what=f"attaching a disk to {vm}", name=vm
    )


def _move_to(context: Context, disk: Disk, location: str, member: str) -> str:
    """Move the disk to the VM's cluster member if it is elsewhere. Return where it is."""
    if location in (*placement.NO_MEMBER, member) or member in placement.NO_MEMBER:
        return location
    from bosh_lxd_cpi.actions import disk_migration

    disk_migration.move(context, disk.pool, disk.volume.name, member)
    return member


def detach_disk(context: Context, vm_cid: str, disk_cid: str) -> None:
    """Detach a disk from a VM. Succeed if it is not attached or does not exist. Raises VMNotFound.

    Requests: instance, change and wait. A PATCH cannot remove a device on Incus, so the whole instance is replaced.
    """
    from bosh_lxd_cpi.actions import legacy_config_drive

    vm, disk = parse_cid(vm_cid, "vm_cid"), parse_cid(disk_cid, "disk_cid")
    with context.exclusive(naming.change_lock(vm)):
        _detach(context, vm, disk)
        legacy_config_drive.remove_disk(context, vm, disk)


def _detach(context: Context, vm: str, disk: str) -> None:
    for _ in context.change_retry.attempts(context.client.deadline):
        instance = vms.read_vm(context, vm)
        names = disks.devices_of(instance.devices, disk)
        if not names:
            return
        devices = {name: device for name, device in instance.devices.items() if name not in names}
        try:
            _replace_devices(context, vm, instance, devices)
            return
        except IN_DOUBT as failure:
            context.log.info(f"{failure}; reading the instance again")
    raise errors.CloudError(f"disk {disk} was not detached: instance {vm} was changed at the same time, repeatedly")


def _replace_devices(context: Context, vm: str, instance: Instance, devices: dict[str, Any]) -> None:
    body = instance.replacement(devices)
    context.run_operation(
        lambda: context.client.replace_instance(vm, body, instance.etag), what=f"detaching a disk from {vm}", name=vm
    )


def get_disks(context: Context, vm_cid: str) -> list[str]:
    """Return the CIDs of the persistent disks that are attached to a VM: one request. Raises VMNotFound."""
    cid = parse_cid(vm_cid, "vm_cid")
    try:
        return disks.persistent_disks(vms.read_vm(context, cid).devices)
    except errors.MemberUnavailable:
        return disks_used_by(context, cid)


def resize_disk(context: Context, disk_cid: str, new_size: Any) -> None:
    """Grow a disk to `new_size` MiB. The same size is no error. Raises NotSupported for a smaller one."""
    from bosh_lxd_cpi.guest.cloud_properties import parse_size

    size = parse_size(new_size, "disk size")

    def change(disk: Disk) -> None:
        try:
            _resize(context, disk, size, disk.volume.config)
        except errors.InUse as failure:
            raise errors.CloudError(
                f"disk {disk_cid} cannot grow while it is attached to {', '.join(disk.volume.users)}",
                detail=str(failure),
                code="attached_grow",
            ) from failure

    _change(context, disk_cid, change)


def update_disk(context: Context, disk_cid: str, new_size: Any, cloud_properties: Any) -> None:
    """Change size (MiB) and properties of a disk in place. An absent property means its default.

    Raises NotSupported if that needs another volume, or if the server refuses the change: BOSH has detached the disk,
    and copies it to a new one only after this error.
    """
    from bosh_lxd_cpi.actions import disk_options
    from bosh_lxd_cpi.guest.cloud_properties import parse_disk_properties, parse_size

    size, properties = parse_size(new_size, "disk size"), parse_disk_properties(cloud_properties)

    def change(disk: Disk) -> None:
        pool = properties.storage_pool or context.config.server.storage_pool_name
        if pool != disk.pool:
            raise errors.NotSupported(f"disk {disk_cid} is in pool {disk.pool} and cannot move to pool {pool} in place")
        try:
            _resize(context, disk, size, disk_options.replace(context, disk, properties.config))
        except errors.ServerError as failure:
            if failure.transient or isinstance(failure, (errors.NotFound, errors.Ambiguous, errors.Forbidden)):
                raise
            raise errors.NotSupported(failure.brief, detail=failure.detail) from failure

    _change(context, disk_cid, change)


def _resize(context: Context, disk: Disk, size: int, config: dict[str, str]) -> None:
    cid, current = disk.volume.name, sizes.mib(disk.volume.config.get("size", "")) or 0
    if size < current:
        raise errors.NotSupported(f"disk {cid} has {current:g} MiB and cannot shrink to {size} MiB")
    if size > current:
        config = {**config, "size": f"{size}MiB"}
    if config != disk.volume.config:
        _replace(context, disk, config=config, what=f"resizing disk {cid}")


def set_disk_metadata(context: Context, disk_cid: str, metadata: Any) -> None:
    """Set the description and the labels of a disk: two requests. Raises DiskNotFound."""
    if not isinstance(metadata, dict):
        raise errors.BadRequest("metadata must be an object")

    def change(disk: Disk) -> None:
        config = {**disk.volume.config, **labels.metadata_labels(metadata)}
        _replace(
            context, disk, config=config, description=describe(metadata), what=f"describing disk {disk.volume.name}"
        )

    _change(context, disk_cid, change)


def _change(context: Context, cid: str, change: Callable[[Disk], None]) -> None:
    """Change a disk as it is now, again if another client changed it in the meantime."""
    with context.exclusive(naming.change_lock(parse_cid(cid, "disk_cid"))):
        for _ in context.change_retry.attempts(context.client.deadline):
            try:
                return change(locate_for_change(context, cid))
            except errors.PreconditionFailed as failure:
                context.log.info(f"{failure}; reading the disk again")
    raise errors.CloudError(f"disk {cid} was not changed: another client changed it at the same time, repeatedly")


def describe(metadata: dict[str, Any]) -> str:
    """Return one line for people: deployment and instance."""
    index = metadata.get("instance_index", metadata.get("index", ""))
    group = metadata.get("instance_group") or metadata.get("job") or ""
    instance = f"{group}/{index}" if group else str(metadata.get("instance_id", ""))
    return " ".join(filter(None, [str(metadata.get("deployment", "")), instance]))


def _replace(
    context: Context, disk: Disk, *, config: dict[str, str], what: str, description: str | None = None
) -> None:
    name, etag = disk.volume.name, disk.volume.etag
    body = {"config": config, "description": disk.volume.description if description is None else description}

    context.run_operation(
        lambda: context.client.replace_volume(disk.pool, name, body, etag=etag),
        what=what,
        name=name,
        is_done=lambda: context.client.volume(disk.pool, name).config == config,
    )
