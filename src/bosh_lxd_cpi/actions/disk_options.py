"""The volume options of a persistent disk that come from its cloud_properties.

A label of the disk lists them, because the configuration of a volume also has options of the pool and of the server.
"""

from __future__ import annotations

from collections.abc import Mapping

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions.context import Context
from bosh_lxd_cpi.actions.disk_lookup import Disk
from bosh_lxd_cpi.model import labels


def replace(context: Context, disk: Disk, options: Mapping[str, str]) -> dict[str, str]:
    """Return the configuration of a disk with these options. Its other labelled options get the pool's defaults.

    A new volume has these defaults, but a PUT without an option removes it. One request if the disk loses options.
    Raises NotSupported if the client certificate may not read the defaults.
    """
    options_to_reset = labels.disk_options(disk.volume.config) - options.keys()
    config = {
        key: value for key, value in disk.volume.config.items() if key not in (*options_to_reset, labels.DISK_OPTIONS)
    }
    return {**config, **_defaults(context, disk, options_to_reset), **labels.with_disk_options(options)}


def _defaults(context: Context, disk: Disk, options: set[str]) -> dict[str, str]:
    if not options:
        return {}
    pool = context.client.pool(disk.pool)
    if not pool.is_readable:
        raise errors.NotSupported(
            f"disk {disk.volume.name} loses the options {', '.join(sorted(options))}, but the client certificate may"
            f" not read their defaults in pool {disk.pool}"
        )
    return {option: pool.config[f"volume.{option}"] for option in options if pool.config.get(f"volume.{option}")}
