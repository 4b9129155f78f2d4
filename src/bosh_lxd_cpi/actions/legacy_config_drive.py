"""Configuration drives of VMs that go-lxd-cpi made. They name the VM's persistent disks, ours do not.

The agent reads its drive at every start. With a disk on it that has left meanwhile, and another that it was told of by a
hint, it gives up: "Unexpected disk attached" (bosh-agent, agent/bootstrap.go, comparePersistentDisk). What go-lxd-cpi
wrote is in agent_config.filestore_path, which is on the director's persistent disk.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import volumes
from bosh_lxd_cpi.actions.context import Cpi
from bosh_lxd_cpi.guest import disks
from bosh_lxd_cpi.guest.config_drive import drive

LETTERS = {"system": ("/dev/sda", disks.ROOT_DEVICE), "ephemeral": ("/dev/sdb", disks.EPHEMERAL_DEVICE)}
"""How go-lxd-cpi names these disks, and their devices, which keep their names when letters change at a start."""


def settings_file(cpi: Cpi, vm: str) -> Path:
    """Where go-lxd-cpi kept the settings of a VM's agent."""
    return Path(cpi.config.agent_config.filestore_path, f"{vm}.json")


def forget_vm(cpi: Cpi, vm: str) -> None:
    """Remove the settings of a VM that is deleted: there are secrets in them."""
    try:
        settings_file(cpi, vm).unlink(missing_ok=True)
    except OSError as failure:
        cpi.log.warn(f"the settings that go-lxd-cpi kept of {vm} stay: {failure}")


def forget_disk(cpi: Cpi, vm: str, disk: str) -> None:
    """Give a VM a new drive when the one it has names this disk. No request where there is none of go-lxd-cpi's.

    Requests: server, instance; drive and wait; change; removal of the old drive.
    """
    file = settings_file(cpi, vm)
    try:
        settings = json.loads(file.read_text("utf-8"))
        del settings["disks"]["persistent"][disk]
    except (OSError, ValueError, LookupError, TypeError):
        return
    features, instance = cpi.features(), cpi.client.instance(vm).metadata
    for name, (letter, device) in LETTERS.items():
        if settings["disks"].get(name) == letter:
            settings["disks"][name] = disks.path(device, kind=features.kind)
    old = instance["devices"][disks.CONFIG_DEVICE]
    pool, new = old["pool"], f"{disks.CONFIG}{cpi.new_id()}"
    cpi.log.info(f"{vm} gets a configuration drive without {disk}")
    with cpi.rollback() as rollback:
        rollback.add(f"volume {new}", lambda: volumes.delete_volume(cpi, pool, new))
        volumes.import_drive(
            cpi,
            pool,
            new,
            drive.configured(settings, cpi.config.agent_config),
            features=features,
            target=instance["location"] if features.clustered else "",
        )
        _insert(cpi, vm, instance["description"], disks.volume_device(pool, new))
    volumes.delete_volume(cpi, pool, old["source"])
    written = file.with_suffix(".new")
    written.touch(mode=0o600)
    written.write_text(json.dumps(settings), "utf-8")
    os.replace(written, file)


def _insert(cpi: Cpi, vm: str, description: str, drive: dict[str, str]) -> None:
    def there() -> bool:
        return cpi.client.instance(vm).metadata["devices"][disks.CONFIG_DEVICE] == drive

    body = {"description": description, "devices": {disks.CONFIG_DEVICE: drive}}
    try:
        cpi.run_operation(
            lambda: cpi.client.patch_instance(vm, body), what=f"changing the drive of {vm}", name=vm, is_done=there
        )
    except errors.AgentNotRunning:  # LXD 5.0 says so after the change (see vms.describe)
        if not there():
            raise
