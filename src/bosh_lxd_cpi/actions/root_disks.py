"""The size of root disks in pools that clone the volume of an image.

Such a pool unpacks an image once, into a volume of its own. A root disk of at least the size of this volume is a clone:
it takes neither time nor space. For a smaller one, the server unpacks the whole image again, for each VM
(docs/development/lxd-api.md §3). `root_disk` is a minimum as all sizes of BOSH are, so the CPI takes the larger size.
"""

from __future__ import annotations

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions.context import Context
from bosh_lxd_cpi.lxd import pools
from bosh_lxd_cpi.lxd.features import Features


def size(context: Context, features: Features, *, pool: str, root_disk: int) -> int:
    """Return the size of a root disk in MiB, at least `root_disk`. With 0, the pool or the image decides.

    Requests: the pool, if `root_disk` is not 0 and the server has a pool that clones.
    """
    if not root_disk or not features.clones_images:
        return root_disk
    try:
        minimum = pools.image_volume_size(context.client.pool(pool))
    except (errors.NotFound, errors.Forbidden) as failure:
        context.log.debug(f"the size of the root disk is not checked: {failure}")
        return root_disk
    if root_disk < minimum:
        context.log.info(
            f"the root disk has {minimum} MiB instead of {root_disk}, because VMs in pool {pool} are clones of a volume"
            " of this size"
        )
    return max(root_disk, minimum)
