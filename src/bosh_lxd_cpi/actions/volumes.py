"""Volumes: empty ones, for VMs and for persistent disks alike, and configuration drives."""

from __future__ import annotations

from collections.abc import Mapping

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions.context import Cpi
from bosh_lxd_cpi.lxd.features import Features
from bosh_lxd_cpi.lxd.operations import exists


def create_volume(cpi: Cpi, pool: str, name: str, size: int, *, config: Mapping[str, str], target: str = "") -> None:
    """Make an empty block volume of `size` MiB."""
    cpi.client.names["pool"] = pool
    body = {
        "name": name,
        "type": "custom",
        "content_type": "block",
        "description": "made by BOSH",
        "config": {**config, "size": f"{size}MiB"},
    }
    cpi.run_operation(
        lambda: cpi.client.create_volume(pool, body, target=target),
        what=f"volume {name}",
        name=name,
        is_done=lambda: exists(lambda: cpi.client.volume(pool, name)),
    )


def import_drive(cpi: Cpi, pool: str, name: str, content: bytes, *, features: Features, target: str = "") -> None:
    """Make a volume of a configuration drive: one request and a wait."""
    from bosh_lxd_cpi.lxd.volume_backup import volume_backup

    cpi.client.names["pool"] = pool
    iso = features.iso_volumes and cpi.config.agent_config.type == "CDROM"
    sent = content if iso else volume_backup(name, pool, content)

    def start_over() -> bool:
        """It is never surely made: a server that was killed in the midst of it knows the volume, and has nothing in it."""
        delete_volume(cpi, pool, name, target=target)
        return False

    cpi.run_operation(
        lambda: cpi.client.import_volume(pool, name, sent, iso=iso, target=target),
        what=f"config drive {name}",
        name=name,
        is_done=start_over,
    )


def delete_volume(cpi: Cpi, pool: str, volume: str, *, target: str = "") -> None:
    """Delete a volume; one that is gone is no error. Of two members' volumes of this name `target` says which."""
    try:
        cpi.run_operation(
            lambda: cpi.client.delete_volume(pool, volume, target=target),
            what=f"deleting volume {volume}",
            name=volume,
            is_done=lambda: not exists(lambda: cpi.client.volume(pool, volume, target=target)),
        )
    except errors.NotFound:
        cpi.log.debug(f"there is no volume {volume} in pool {pool}")
