"""VMs of interrupted creations that conflict with another create_vm.

If the CPI is killed during create_vm, the server completes the creation and starts the VM. It keeps its address, and
BOSH does not know it. The lock file of its creation shows that the CPI was killed on this machine
(runtime/locks.py), so that the VM can be removed.
"""

from __future__ import annotations

from collections.abc import Mapping

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import vms
from bosh_lxd_cpi.actions.context import Context
from bosh_lxd_cpi.lxd.resources import Instance
from bosh_lxd_cpi.model import labels, naming
from bosh_lxd_cpi.runtime import locks

Devices = Mapping[str, Mapping[str, str]]

UNIQUE_KEYS = {
    errors.AddressTaken: ("ipv4.address", "ipv6.address", "hwaddr"),
    errors.AlreadyExists: ("host_name",),
    errors.InUse: ("source",),
}
"""The keys of devices whose values only one VM of a network or pool can have, by the error if another VM has them."""


def remove_conflicting_vms(context: Context, cid: str, *, devices: Devices, failure: errors.ServerError) -> None:
    """Remove the VMs that caused the failure of the creation of a VM with these devices, with their volumes.

    Requests: instances; and the removal. Raises the failure, with the name of the conflicting VM, unless a create_vm of
    this director on this machine was killed during the creation of that VM.
    """
    keys = UNIQUE_KEYS[type(failure)]
    values = _values(devices, keys)
    others = [instance for instance in context.client.instances() if instance.name != cid] if values else []
    holders = [instance for instance in others if values & _values(instance.devices, keys)]
    if not holders:
        raise failure
    for instance in holders:
        if not _is_interrupted(context, instance):
            raise _describe(context, instance, failure)
        context.log.warn(f"removing {instance.name}, whose creation was interrupted: {failure}")
        pools = [device["pool"] for device in instance.devices.values() if device.get("pool")]
        with context.exclusive(instance.name):  # another call may be removing it
            vms.destroy(context, instance.name, extra_pools=pools)


def _values(devices: Devices, keys: tuple[str, ...]) -> set[tuple[str, str, str]]:
    """Return key and value of what only one VM can have, with the network or pool in which it is unique."""
    return {
        (key, device[key], device.get("network") or device.get("parent") or device.get("pool", ""))
        for device in devices.values()
        for key in keys
        if device.get(key, "none") != "none"  # an address can be none
    }


def _is_creating(instance: Instance) -> bool:
    return bool(instance.config.get(labels.STATE) == labels.CREATING)


def _is_interrupted(context: Context, instance: Instance) -> bool:
    """Return whether this machine started the creation of a VM for this director, and the CPI was killed."""
    origin = naming.origin(instance.name)
    if not (origin and origin.director == naming.director_digest(context.director) and _is_creating(instance)):
        return False
    try:
        return locks.is_abandoned(context.config.lock_directory(), instance.name)
    except OSError as failure:
        context.log.warn(f"the lock of {instance.name} cannot be used: {failure}")
        return False


def _describe(context: Context, instance: Instance, failure: errors.ServerError) -> errors.ServerError:
    """Return the failure with the name of the conflicting VM, and how long it has been in creation."""
    brief, code = f"{failure.brief}; {instance.name} has it", failure.code
    origin = naming.origin(instance.name)
    if origin and _is_creating(instance):
        minutes = (context.clock.time() - origin.created) / 60
        brief, code = (
            f"{brief}, which has been in the state creating for {minutes:.0f} minutes",
            "interrupted_elsewhere",
        )
    return type(failure)(brief, detail=failure.detail, code=code, **{**failure.fields, "vm": instance.name})
