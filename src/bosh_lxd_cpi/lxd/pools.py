"""The storage pools to look in, and the volumes of images in them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.lxd import sizes
from bosh_lxd_cpi.lxd.client import Client
from bosh_lxd_cpi.lxd.resources import StoragePool

CLONING_DRIVERS = ("btrfs", "ceph", "linstor", "lvm", "truenas", "zfs")
"""Drivers of pools that unpack an image once, and clone the volume for each instance."""
DEFAULT_SIZE = 10240
"""MiB of a volume without size, if the pool does not have the option volume.size."""


def image_volume_size(pool: StoragePool) -> int:
    """Return the MiB of the volumes of images in this pool; 0 if it unpacks the image for each instance.

    The volume of a larger image has the size of the image (docs/development/lxd-api.md §3).
    """
    if pool.driver not in CLONING_DRIVERS or pool.config.get("lvm.use_thinpool") == "false":
        return 0
    return math.ceil(sizes.mib(pool.config.get("volume.size", "")) or DEFAULT_SIZE)


def names(client: Client, configured: str) -> Iterator[str]:
    """Yield the configured pool, then, after one request, all others.

    Incus 6.0 refuses the list to restricted certificates. Then only the configured pool is used.
    """
    yield configured
    try:
        pools = client.pools()
    except errors.Forbidden:
        client.log.warn(f"the server does not list its storage pools for this certificate: using only {configured}")
        return
    yield from (pool.name for pool in pools if pool.name != configured)
