"""Virtual machines after their creation: look, describe, restart, delete."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from bosh_lxd_cpi import errors, hints
from bosh_lxd_cpi.actions import volumes
from bosh_lxd_cpi.actions.context import Cpi, identifier
from bosh_lxd_cpi.guest import disks
from bosh_lxd_cpi.lxd import instances, pools
from bosh_lxd_cpi.lxd.operations import exists

OWN_MARKS = ("director_uuid", "state")
"""What cleanup goes by: a tag of such a name must not look as if it were ours."""
MOST_CHARACTERS = 128 << 10
"""Of all values together: Incus 7 takes no request above 1 MiB, and in JSON a character may need six bytes."""
LONGEST_VALUE = 8192
"""Characters of one metadata value that are kept; a database row is no place for more."""


def has_vm(cpi: Cpi, vm_cid: str) -> bool:
    """Whether the VM is there: one request, and on LXD one more before saying no.

    LXD 5.0 says "Instance not found" for a project that is not there, too, and cloud-check would replace every VM.
    """
    cid = identifier(vm_cid, "vm_cid")
    if exists(lambda: cpi.client.instance(cid)):
        return True
    if cpi.config.server.type != "incus" and not exists(cpi.client.own_project):
        raise errors.CloudError(
            f"there is no project {cpi.client.project}", hint=hints.text("no_project", **cpi.client.names)
        )
    return False


def reboot_vm(cpi: Cpi, vm_cid: str) -> None:
    """Restart a VM at once, or start one that is stopped: three requests. Raises VMNotFound.

    BOSH reboots VMs whose agent no longer answers, so the guest is not asked.
    """
    cid = identifier(vm_cid, "vm_cid")
    try:
        if _status(cpi, cid) == "Stopped":
            start(cpi, cid)
        else:
            _restart(cpi, cid)
    except errors.NotFound:
        raise errors.VMNotFound(f"there is no VM {cid}") from None


def _restart(cpi: Cpi, cid: str) -> None:
    try:
        cpi.run_operation(
            lambda: cpi.client.set_instance_state(cid, "restart", force=True),
            what=f"restarting {cid}",
            name=cid,
            is_done=lambda: _status(cpi, cid) == "Running",
        )
    except errors.AlreadyInState:
        start(cpi, cid)  # it stopped in between


def start(cpi: Cpi, cid: str) -> None:
    """Start a stopped VM; one that runs is fine."""
    try:
        cpi.run_operation(
            lambda: cpi.client.set_instance_state(cid, "start"),
            what=f"starting {cid}",
            name=cid,
            is_done=lambda: _status(cpi, cid) == "Running",
        )
    except errors.AlreadyInState:
        cpi.log.info(f"{cid} is running already")


def delete_vm(cpi: Cpi, vm_cid: str) -> None:
    """Delete a VM with its ephemeral disk and config drive; persistent disks stay. One that is gone is no error.

    The director sends this for VMs that vanished, too: what they left behind is found by its name, in every pool.
    """
    from bosh_lxd_cpi.actions import legacy_config_drive

    cid = identifier(vm_cid, "vm_cid")
    destroy(cpi, cid)
    legacy_config_drive.forget_vm(cpi, cid)


def destroy(cpi: Cpi, cid: str, *, its_pools: Iterable[str] = ()) -> None:
    """Delete a VM with the volumes that it uses, and those of its name in the configured pool and in `its_pools`."""
    instance = instances.remove(cpi.client, cid)
    if instance is None:
        cpi.log.info(f"{cid} is gone already; looking for what it left behind")
        looked_in = pools.names(cpi.client, cpi.config.server.storage_pool_name)
        own = {(pool, volume) for pool in looked_in for volume in disks.own_volumes(cid)}
    else:
        own = set(disks.volumes_to_delete(instance["devices"]))
        named = {volume for _, volume in own}
        looked_in = {cpi.config.server.storage_pool_name, *its_pools}
        own |= {(pool, volume) for pool in looked_in for volume in disks.own_volumes(cid) if volume not in named}
    for pool, volume in sorted(own):
        volumes.delete_volume(cpi, pool, volume)


def set_vm_metadata(cpi: Cpi, vm_cid: str, metadata: Any) -> None:
    """Describe a VM and tag it: one request. Raises VMNotFound."""
    cid = identifier(vm_cid, "vm_cid")
    if not isinstance(metadata, dict):
        raise errors.BadRequest("metadata must be a mapping")
    try:
        with cpi.exclusive(changes_of(cid)):
            describe(cpi, cid, description=_description(metadata), config=tags(metadata))
    except errors.NotFound:
        raise errors.VMNotFound(f"there is no VM {cid}") from None


def changes_of(cid: str) -> str:
    """The name of the lock for changes of a VM: detaching takes seconds, and would never end among others that are fast."""
    return f"changes-of-{cid}"


def describe(cpi: Cpi, cid: str, *, description: str, config: dict[str, str]) -> None:
    """Set description and configuration keys of a VM, running or not."""
    try:
        cpi.run_operation(
            lambda: cpi.client.patch_instance(cid, {"description": description, "config": config}),
            what=f"describing {cid}",
            name=cid,
        )
    except errors.AgentNotRunning:
        # LXD 5.0 tells the guest after the change, and fails when no LXD agent listens there (facts: lxd-api 4).
        now = cpi.client.instance(cid).metadata["config"]
        if any(now.get(key, "") != value for key, value in config.items()):
            raise


def _description(metadata: dict[str, Any]) -> str:
    """`group/index` as go-lxd-cpi wrote it, else the name BOSH gives the VM."""
    group, index = metadata.get("instance_group") or metadata.get("job"), metadata.get("index")
    if group and index not in (None, ""):
        return f"{group}/{index}"
    return str(metadata.get("name") or group or f"compiling {metadata.get('compiling', '')}".strip())


def tags(metadata: dict[str, Any]) -> dict[str, str]:
    """Metadata of any JSON type as user.bosh.* keys; a key may hold letters, digits and a few signs."""
    found, room = {}, MOST_CHARACTERS
    for key, value in metadata.items():
        if value is not None:
            found[f"user.bosh.{_key(key)}"] = text = _value(value)[: min(LONGEST_VALUE, room)]
            room -= len(text)
    return found


def _key(key: str) -> str:
    plain = "".join(sign if sign.isalnum() or sign in "-_." else "_" for sign in key)
    return f"tag.{plain}" if plain in OWN_MARKS else plain


def _value(value: Any) -> str:
    """Without what servers cut or replace, so that what they have can be compared with what was sent."""
    if not isinstance(value, str):
        return json.dumps(value, sort_keys=True)
    return value.partition("\0")[0].encode("utf-8", "replace").decode()


def _status(cpi: Cpi, cid: str) -> str:
    return cpi.client.instance(cid).metadata["status"]
