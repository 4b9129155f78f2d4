"""Storage volumes: empty ones, for VMs and for persistent disks, and config drives."""

from __future__ import annotations

from collections.abc import Mapping

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions.context import Context
from bosh_lxd_cpi.lxd.features import Features
from bosh_lxd_cpi.lxd.operations import exists


def create_volume(
    context: Context, pool: str, name: str, *, size: int, config: Mapping[str, str], target: str = ""
) -> None:
    """Create an empty block volume of `size` MiB.

    A lost response is raised. The server may still be working on the volume, and most servers have no operation that
    shows when the creation ends. So the caller deletes the volume, and does not use its name again.
    """
    body = {
        "name": name,
        "type": "custom",
        "content_type": "block",
        "description": "made by BOSH",
        "config": {**config, "size": f"{size}MiB"},
    }
    context.run_operation(
        lambda: context.client.create_volume(pool, body, target=target),
        what=f"creating volume {name}",
        name=name,
        pool=pool,
    )


def import_drive(
    context: Context, pool: str, name: str, *, content: bytes, features: Features, target: str = ""
) -> None:
    """Create a volume from the content of a config drive: one request and a wait."""
    from bosh_lxd_cpi.lxd.volume_backup import volume_backup

    iso = features.has_iso_volumes and context.config.agent_config.type == "CDROM"
    body = content if iso else volume_backup(name, pool, content)
    context.run_operation(
        lambda: context.client.import_volume(pool, name, body, iso=iso, target=target),
        what=f"creating config drive {name}",
        name=name,
        pool=pool,
        start_over=lambda: delete_volume(context, pool, name, target=target),
    )


def delete_volume(context: Context, pool: str, volume: str, *, target: str = "") -> None:
    """Delete a volume if it and its pool exist.

    `target` selects the cluster member if several have a volume of this name.
    """
    try:
        context.run_operation(
            lambda: context.client.delete_volume(pool, volume, target=target),
            what=f"deleting volume {volume}",
            name=volume,
            pool=pool,
            is_done=lambda: not exists(lambda: context.client.volume(pool, volume, target=target)),
        )
    except errors.NotFound:
        context.log.debug(f"there is no volume {volume} in pool {pool}")
    except errors.CloudError as failure:
        if failure.code != "no_pool":
            raise
        context.log.debug(f"there is no pool {pool}")
