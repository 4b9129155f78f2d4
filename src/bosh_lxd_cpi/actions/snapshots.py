"""Snapshots of persistent disks. The CID is `<disk>_<snapshot>`: the server needs both names."""

from __future__ import annotations

from typing import Any

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import disks, vms
from bosh_lxd_cpi.actions.context import Cpi, identifier
from bosh_lxd_cpi.lxd import operations
from bosh_lxd_cpi.lxd.operations import exists

SEPARATOR = "_snap-"


def snapshot_disk(cpi: Cpi, disk_cid: str, metadata: Any = None) -> str:
    """Snapshot a disk, also one that a running VM writes to; answers the snapshot's CID. Raises DiskNotFound.

    Requests: snapshot, wait, describe; servers before LXD 6 take no description with the first.
    """
    cid = identifier(disk_cid, "disk_cid")
    if not isinstance(metadata or {}, dict):
        raise errors.BadRequest("metadata must be a mapping")
    name = f"snap-{cpi.new_id()}"
    with cpi.rollback() as rollback:
        rollback.add(f"snapshot {name}", lambda: _take_back(cpi, cid, name))
        pool = disks.in_any_pool(cpi, cid, lambda pool: _snapshot(cpi, pool, cid, name))
        if pool is not None:
            description = _description(metadata or {}, by=cpi.director)
            cpi.run_operation(
                lambda: cpi.client.describe_snapshot(pool, cid, name, description), what=f"describing snapshot {name}"
            )
    if pool is None:
        raise errors.DiskNotFound(f"there is no disk {cid} to make a snapshot of")
    return f"{cid}_{name}"


def _take_back(cpi: Cpi, cid: str, name: str) -> None:
    """Delete a snapshot, but not while it is being made: Incus then forgets it and keeps it, and with it the disk."""
    operations.await_pending(cpi.client, name, f"snapshot of {cid}")
    delete_snapshot(cpi, f"{cid}_{name}")


def _snapshot(cpi: Cpi, pool: str, cid: str, name: str) -> str:
    cpi.run_operation(
        lambda: cpi.client.create_snapshot(pool, cid, name),
        what=f"snapshot of {cid}",
        name=name,
        is_done=lambda: exists(lambda: cpi.client.snapshot(pool, cid, name)),
    )
    return pool


def _description(metadata: dict[str, Any], *, by: str) -> str:
    """The metadata as JSON, as far as it is no longer than tags may be: a snapshot has no configuration to put it in."""
    import json

    kept, room = {}, vms.MOST_CHARACTERS
    for key, value in {"director_uuid": by, **metadata}.items():
        length = len(json.dumps({key: value}))
        if length <= room:
            kept[key] = value
            room -= length
    return json.dumps(kept, sort_keys=True)


def delete_snapshot(cpi: Cpi, snapshot_cid: str) -> None:
    """Delete a snapshot. One that is gone, or whose disk is gone, is no error."""
    disk, separator, uuid = identifier(snapshot_cid, "snapshot_cid").partition(SEPARATOR)
    if not separator:
        raise errors.BadRequest(f"{snapshot_cid} is not the CID of a snapshot: <disk>{SEPARATOR}<uuid>")
    name = f"snap-{uuid}"
    if disks.in_any_pool(cpi, disk, lambda pool: _delete(cpi, pool, disk, name)) is None:
        cpi.log.info(f"snapshot {snapshot_cid} is gone already")


def _delete(cpi: Cpi, pool: str, disk: str, name: str) -> bool:
    cpi.run_operation(
        lambda: cpi.client.delete_snapshot(pool, disk, name),
        what=f"deleting snapshot {name} of {disk}",
        name=name,
        is_done=lambda: not exists(lambda: cpi.client.snapshot(pool, disk, name)),
    )
    return True
