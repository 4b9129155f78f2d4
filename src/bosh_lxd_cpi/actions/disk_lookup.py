"""Finds a persistent disk. Its CID is the name of the volume; the pool is not part of it, so this looks in every pool.

Looking changes nothing. A change first completes or rolls back an interrupted migration of the disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions.context import Context, parse_cid
from bosh_lxd_cpi.lxd import pools
from bosh_lxd_cpi.lxd.resources import Volume
from bosh_lxd_cpi.model import naming

Value = TypeVar("Value")


class Disk(NamedTuple):
    """A persistent disk and the pool that it is in."""

    pool: str
    volume: Volume


def locate(context: Context, cid: str) -> Disk | None:
    """Return the disk, or None if no pool has it. The default pool comes first, so this takes one request mostly.

    Raises Ambiguous if several cluster members have it.
    """
    for pool in pools.names(context.client, context.config.server.storage_pool_name):
        try:
            return Disk(pool, context.client.volume(pool, cid))
        except errors.NotFound:
            continue
    return None


def disks_used_by(context: Context, vm: str) -> list[str]:
    """Return the CIDs of the disks of a VM whose cluster member is offline: one request for each pool, and the pools.

    The cluster's database has the volumes of all members, and the instances that use them.
    """
    return sorted(
        volume.name
        for pool in pools.names(context.client, context.config.server.storage_pool_name)
        for volume in context.client.volumes(pool)
        if volume.name.startswith(naming.PERSISTENT) and vm in volume.users
    )


def locate_for_change(context: Context, disk_cid: str) -> Disk:
    """Return the disk that is about to be changed. Raises DiskNotFound."""
    cid = parse_cid(disk_cid, "disk_cid")
    disk = change_in_any_pool(context, cid, lambda pool: Disk(pool, context.client.volume(pool, cid)))
    if disk is None:
        raise errors.DiskNotFound(f"there is no disk {cid} in any storage pool of project {context.client.project}")
    return disk


def change_in_any_pool(context: Context, cid: str, change: Callable[[str], Value]) -> Value | None:
    """Return what `change` returns in the first pool where it does not raise NotFound, or None if it does in all."""
    for pool in pools.names(context.client, context.config.server.storage_pool_name):
        try:
            return change(pool)
        except errors.NotFound:
            continue
        except errors.Ambiguous:
            from bosh_lxd_cpi.actions import disk_migration

            disk_migration.recover_interrupted_migration(context, pool, cid)
            return change(pool)
    return None
