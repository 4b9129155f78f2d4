"""Block volumes, for VMs and for persistent disks alike."""
from __future__ import annotations

from collections.abc import Mapping

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions.cpi import Cpi, exists


def create_volume(cpi: Cpi, pool: str, name: str, size: int, *, config: Mapping[str, str], target: str = "") -> None:
    """Make an empty block volume of `size` MiB."""
    body = {"name": name, "type": "custom", "content_type": "block", "description": "made by BOSH",
            "config": {**config, "size": f"{size}MiB"}}
    cpi.finish(lambda: cpi.client.create_volume(pool, body, target=target), what=f"volume {name}", name=name,
               made=lambda: exists(lambda: cpi.client.volume(pool, name)))


def delete_volume(cpi: Cpi, pool: str, volume: str, *, target: str = "") -> None:
    """Delete a volume; one that is gone is no error. Of two members' volumes of this name `target` says which."""
    try:
        cpi.finish(lambda: cpi.client.delete_volume(pool, volume, target=target), what=f"deleting volume {volume}", name=volume,
                   made=lambda: not exists(lambda: cpi.client.volume(pool, volume, target=target)))
    except errors.NotFound:
        cpi.log.debug(f"there is no volume {volume} in pool {pool}")
