"""Config drives of VMs that the Go CPI created. They name the VM's persistent disks; the drives of this CPI do not.

The agent reads its drive at every start. It fails with "Unexpected disk attached" if the drive names a disk that was
detached while another disk was attached by a hint (bosh-agent, agent/bootstrap.go, comparePersistentDisk). The Go CPI
kept the content of the drives in agent_config.filestore_path, on the director's persistent disk.
"""

from __future__ import annotations

import json
from pathlib import Path

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import volumes
from bosh_lxd_cpi.actions.context import Context
from bosh_lxd_cpi.guest import disks
from bosh_lxd_cpi.guest.config_drive import drive
from bosh_lxd_cpi.lxd.resources import Instance
from bosh_lxd_cpi.model import naming
from bosh_lxd_cpi.runtime.files import write_file

DISK_PATHS = {"system": ("/dev/sda", naming.ROOT_DEVICE), "ephemeral": ("/dev/sdb", naming.EPHEMERAL_DEVICE)}
"""The paths of the Go CPI, and the devices they stand for. The names of devices are stable, the letters are not."""


def settings_file(context: Context, vm: str) -> Path:
    """Return the file in which the Go CPI kept the agent settings of a VM."""
    return Path(context.config.agent_config.filestore_path, f"{vm}.json")


def delete_settings(context: Context, vm: str) -> None:
    """Delete the settings file of a VM that is deleted: it holds secrets."""
    try:
        settings_file(context, vm).unlink(missing_ok=True)
    except OSError as failure:
        context.log.warn(f"the settings file of {vm} was not deleted: {failure}")


def remove_disk(context: Context, vm: str, disk: str) -> None:
    """Replace a VM's drive if it names this disk. No request if the Go CPI did not create the VM.

    The caller holds the lock of changes of the VM. The settings file is written last, so that the next detach_disk of
    the disk completes what a killed call left undone. Requests: server, instance; drive and wait; change; deletion of
    the old drive.
    """
    file = settings_file(context, vm)
    try:
        settings = json.loads(file.read_text("utf-8"))
        del settings["disks"]["persistent"][disk]
    except (OSError, ValueError, LookupError, TypeError):
        return
    features, instance = context.features(), context.client.instance(vm)
    if naming.CONFIG_DEVICE not in instance.devices:
        context.log.warn(f"{vm} has no device {naming.CONFIG_DEVICE}, so its config drive is not replaced")
        return
    for name, (path, device) in DISK_PATHS.items():
        if settings["disks"].get(name) == path:
            settings["disks"][name] = disks.path(device, kind=features.kind)
    old = instance.devices[naming.CONFIG_DEVICE]
    pool, new = old["pool"], naming.config_drive(context.new_id())
    context.log.info(f"replacing the config drive of {vm}: it names {disk}")
    with context.rollback() as rollback:
        rollback.add(f"volume {new}", lambda context: volumes.delete_volume(context, pool, new))
        volumes.import_drive(
            context,
            pool,
            new,
            content=drive.build(settings, context.config.agent_config),
            features=features,
            target=instance.location if features.is_clustered else "",
        )
        _replace_device(context, vm, instance, disks.volume_device(pool, new))
    volumes.delete_volume(context, pool, old["source"])
    write_file(file, json.dumps(settings).encode(), mode=0o600)


def _replace_device(context: Context, vm: str, instance: Instance, device: dict[str, str]) -> None:
    for _ in context.change_retry.attempts(context.client.deadline):
        try:
            return _patch_device(context, vm, instance, device)
        except errors.PreconditionFailed as failure:
            context.log.info(f"{failure}; reading the instance again")
            instance = context.client.instance(vm)
    raise errors.CloudError(
        f"the config drive of {vm} was not replaced, because another client changes the VM repeatedly"
    )


def _patch_device(context: Context, vm: str, instance: Instance, device: dict[str, str]) -> None:
    def is_done() -> bool:
        return bool(context.client.instance(vm).devices[naming.CONFIG_DEVICE] == device)

    body = {"description": instance.description, "devices": {naming.CONFIG_DEVICE: device}}
    try:
        context.run_operation(
            lambda: context.client.patch_instance(vm, body, instance.etag),
            what=f"changing the config drive of {vm}",
            name=vm,
            is_done=is_done,
        )
    except errors.AgentNotRunning:  # LXD 5.0 raises this after the change (see vms.describe)
        if not is_done():
            raise
