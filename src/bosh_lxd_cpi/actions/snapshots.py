"""Snapshots of persistent disks. The CID is `<disk>_<snapshot>`, because the server needs both names."""

from __future__ import annotations

import contextlib
from typing import Any

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions.context import Context, is_foreign, parse_cid
from bosh_lxd_cpi.actions.disk_lookup import change_in_any_pool
from bosh_lxd_cpi.lxd import operations
from bosh_lxd_cpi.lxd.operations import exists
from bosh_lxd_cpi.model import labels, naming


def snapshot_disk(context: Context, disk_cid: str, metadata: Any = None) -> str:
    """Create a snapshot of a disk, also while a VM uses it, and return the snapshot's CID. Raises DiskNotFound.

    Requests: snapshot, wait, description. Servers before LXD 6 take no description with the first one.
    """
    cid = parse_cid(disk_cid, "disk_cid")
    if not isinstance(metadata or {}, dict):
        raise errors.BadRequest("metadata must be an object")
    name = naming.snapshot_name(context.new_id())
    with context.rollback() as rollback:
        rollback.add(f"snapshot {name}", lambda context: _remove(context, cid, name))
        pool = change_in_any_pool(context, cid, lambda pool: _snapshot(context, pool, cid, name))
        if pool is not None:
            description = _description(metadata or {}, director=context.director)
            context.run_operation(
                lambda: context.client.describe_snapshot(pool, cid, name, description=description),
                what=f"describing snapshot {name}",
            )
    if pool is None:
        raise errors.DiskNotFound(f"there is no disk {cid} to create a snapshot of")
    return naming.snapshot_cid(cid, name)


def _remove(context: Context, cid: str, name: str) -> None:
    """Delete a snapshot after its creation has ended. During it, Incus forgets the snapshot and keeps its data."""
    operations.wait_for_pending(context.client, name, what=f"creating snapshot {name} of {cid}")
    delete_snapshot(context, naming.snapshot_cid(cid, name))


def _snapshot(context: Context, pool: str, cid: str, name: str) -> str:
    context.run_operation(
        lambda: context.client.create_snapshot(pool, cid, name),
        what=f"creating a snapshot of {cid}",
        name=name,
        start_over=lambda: _delete_incomplete(context, pool, cid, name),
    )
    return pool


def _delete_incomplete(context: Context, pool: str, cid: str, name: str) -> None:
    with contextlib.suppress(errors.NotFound):
        _delete(context, pool, cid, name)


def _description(metadata: dict[str, Any], *, director: str) -> str:
    """Return the metadata as JSON, without entries beyond the limit of labels. A snapshot has no configuration."""
    import json

    entries, remaining = {}, labels.MAX_TOTAL_LENGTH
    for key, value in {"director_uuid": director, **metadata}.items():
        length = len(json.dumps({key: value}))
        if length <= remaining:
            entries[key] = value
            remaining -= length
    return json.dumps(entries, sort_keys=True)


def delete_snapshot(context: Context, snapshot_cid: str) -> None:
    """Delete a snapshot. Succeed if the snapshot or its disk does not exist."""
    if is_foreign(snapshot_cid) or naming.SNAPSHOT_SEPARATOR not in parse_cid(snapshot_cid, "snapshot_cid"):
        context.log.info(f"there is no snapshot {snapshot_cid}")
        return
    names = naming.split_snapshot_cid(snapshot_cid)
    if names is None:
        raise errors.BadRequest(f"{snapshot_cid} is not the CID of a snapshot: <disk>{naming.SNAPSHOT_SEPARATOR}<uuid>")
    disk, name = names
    if not change_in_any_pool(context, disk, lambda pool: _delete(context, pool, disk, name)):
        context.log.info(f"there is no snapshot {snapshot_cid}")


def _delete(context: Context, pool: str, disk: str, name: str) -> bool:
    context.run_operation(
        lambda: context.client.delete_snapshot(pool, disk, name),
        what=f"deleting snapshot {name} of {disk}",
        name=name,
        is_done=lambda: not exists(lambda: context.client.snapshot(pool, disk, name)),
    )
    return True
