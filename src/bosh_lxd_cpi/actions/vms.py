"""VMs after their creation: look up, describe, restart, delete."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import volumes
from bosh_lxd_cpi.actions.context import Context, is_foreign, parse_cid
from bosh_lxd_cpi.guest import disks
from bosh_lxd_cpi.lxd import instances, operations, pools
from bosh_lxd_cpi.lxd.operations import exists
from bosh_lxd_cpi.lxd.resources import Instance
from bosh_lxd_cpi.model import labels, naming


def has_vm(context: Context, vm_cid: str) -> bool:
    """Return whether the VM exists: one request, and a second one before false (see lxd/session.py)."""
    if is_foreign(vm_cid):
        return False
    cid = parse_cid(vm_cid, "vm_cid")
    try:
        return exists(lambda: context.client.instance(cid))
    except errors.MemberUnavailable:  # the cluster's database has the VM
        return True


def reboot_vm(context: Context, vm_cid: str) -> None:
    """Restart a VM at once, or start it if it is stopped: three requests. Raises VMNotFound.

    BOSH reboots VMs whose agent does not respond, so this does not ask the guest to shut down.
    """
    cid = parse_cid(vm_cid, "vm_cid")
    try:
        if context.client.instance(cid).status == "Stopped":
            start(context, cid)
        else:
            _restart(context, cid)
    except errors.NotFound:
        raise errors.VMNotFound(f"there is no VM {cid}") from None


def _restart(context: Context, cid: str) -> None:
    """Restart a VM.

    On Incus 7.5.1 the operation never ends and the VM stays stopped if the guest resets at the same moment
    (docs/development/lxd-api.md §6). A restart stops a VM for a moment only. So the restart has failed if two
    consecutive checks return Stopped.
    """
    stopped_checks = 0

    def start_if_stopped() -> bool:
        nonlocal stopped_checks
        stopped_checks = stopped_checks + 1 if context.client.instance(cid).status == "Stopped" else 0
        if stopped_checks < 2:
            return False
        context.log.warn(f"{cid} is stopped and its restart does not end; starting it")
        try:
            start(context, cid)
        except errors.Busy as failure:
            context.log.warn(f"{failure}; waiting for the restart")
            return False
        return True

    try:
        operations.run_operation(
            context.client,
            lambda: context.client.set_instance_state(cid, "restart", force=True),
            what=f"restarting {cid}",
            name=cid,
            is_done=lambda: _is_running(context, cid),
            is_over=start_if_stopped,
        )
    except errors.AlreadyInState:  # the VM stopped between the two requests
        start(context, cid)


def start(context: Context, cid: str) -> None:
    """Start a VM unless it runs."""
    try:
        context.run_operation(
            lambda: context.client.set_instance_state(cid, "start"),
            what=f"starting {cid}",
            name=cid,
            is_done=lambda: _is_running(context, cid),
        )
    except errors.AlreadyInState:
        context.log.info(f"{cid} is running already")


def _is_running(context: Context, cid: str) -> bool:
    return context.client.instance(cid).status == "Running"


def read_vm(context: Context, cid: str) -> Instance:
    """Return the instance of a VM: one request. Raises VMNotFound."""
    try:
        return context.client.instance(cid)
    except errors.NotFound:
        raise errors.VMNotFound(f"there is no VM {cid}") from None


def delete_vm(context: Context, vm_cid: str) -> None:
    """Delete a VM with its ephemeral disk and config drive, but not its persistent disks. Succeed if there is none.

    The director calls this for VMs that vanished, too. What they left behind is found by name, in every pool.
    """
    from bosh_lxd_cpi.actions import legacy_config_drive

    if is_foreign(vm_cid):
        context.log.info(f"there is no VM {vm_cid}")
        return
    cid = parse_cid(vm_cid, "vm_cid")
    destroy(context, cid)
    legacy_config_drive.delete_settings(context, cid)


def destroy(context: Context, cid: str, *, extra_pools: Iterable[str] = ()) -> None:
    """Delete a VM, the volumes that it uses alone, and volumes of its name in the default pool and in `extra_pools`."""
    instance = instances.remove(context.client, cid)
    default_pool = context.config.server.storage_pool_name
    if instance is None:
        context.log.info(f"there is no VM {cid}; looking for its volumes")
        all_pools = {*pools.names(context.client, default_pool), *extra_pools}
        own = {(pool, name) for pool in all_pools for name in naming.own_volumes(cid)}
    else:
        own = set(disks.volumes_to_delete(instance.devices))
        names = {name for _, name in own}
        own |= {
            (pool, name)
            for pool in {default_pool, *extra_pools}
            for name in naming.own_volumes(cid)
            if name not in names
        }
    for pool, name in sorted(own):
        volumes.delete_volume(context, pool, name)


def set_vm_metadata(context: Context, vm_cid: str, metadata: Any) -> None:
    """Set the description and the labels of a VM: one request. Raises VMNotFound."""
    cid = parse_cid(vm_cid, "vm_cid")
    if not isinstance(metadata, dict):
        raise errors.BadRequest("metadata must be an object")
    try:
        with context.exclusive(naming.change_lock(cid)):
            describe(context, cid, description=_description(metadata), config=labels.metadata_labels(metadata))
    except errors.NotFound:
        raise errors.VMNotFound(f"there is no VM {cid}") from None


def describe(context: Context, cid: str, *, description: str, config: dict[str, str]) -> None:
    """Set the description and configuration keys of a VM, running or stopped."""
    try:
        context.run_operation(
            lambda: context.client.patch_instance(cid, {"description": description, "config": config}),
            what=f"describing {cid}",
            name=cid,
        )
    except errors.AgentNotRunning:
        # LXD 5.0 notifies the guest after the change. That fails without an LXD agent (docs/development/lxd-api.md §4).
        current = context.client.instance(cid).config
        if any(current.get(key, "") != value for key, value in config.items()):
            raise


def _description(metadata: dict[str, Any]) -> str:
    """Return `group/index`, as the Go CPI does, or else BOSH's name of the VM."""
    group, index = metadata.get("instance_group") or metadata.get("job"), metadata.get("index")
    if group and index not in (None, ""):
        return f"{group}/{index}"
    return str(metadata.get("name") or group or f"compiling {metadata.get('compiling', '')}".strip())
