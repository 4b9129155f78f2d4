"""Moves a persistent disk to its VM's cluster member: a local volume is copied there, then the original is deleted.

The receiving member pulls the volume, because no server has a copy that works in every project: LXD 5.0.2 has none,
and Incus before 6.0.6 has one for the default project only. The CPI may die in between and leave the disk on two
members. So each copy has a number, one higher than the original's. Once the copy is complete, the original is labelled
with the number of the copy.
"""

from __future__ import annotations

from typing import Any

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import volumes
from bosh_lxd_cpi.actions.context import Context
from bosh_lxd_cpi.lxd import operations
from bosh_lxd_cpi.lxd.resources import Volume
from bosh_lxd_cpi.model.labels import COPIED, COPY, copy_number


def move(context: Context, pool: str, name: str, member: str) -> None:
    """Move a volume and its snapshots to another cluster member.

    Requests: volume, members, server, offer, copy and wait, operations, label and deletion of the original.
    """
    with context.exclusive(name, required=True):
        volume = context.client.volume(pool, name)
        source = volume.location
        if source == member:
            return
        context.log.info(f"moving disk {name} from {source} to {member}")
        number = str(max(_number(volume, COPY), _number(volume, COPIED)) + 1)
        with context.rollback() as rollback:
            rollback.add(
                f"copy of disk {name} on {member}",
                lambda context: _remove_copy(context, pool, name, member=member, number=number),
            )
            _copy(context, pool, volume, number=number, member=member)
            body = {"config": {**volume.config, COPIED: number}, "description": volume.description}
            context.run_operation(
                lambda: context.client.replace_volume(pool, name, body, target=source),
                what=f"labelling disk {name} as copied",
            )
        volumes.delete_volume(context, pool, name, target=source)


def _number(volume: Volume, label: str) -> int:
    return copy_number(volume.config, label)


def _copy(context: Context, pool: str, volume: Volume, *, number: str, member: str) -> None:
    name, source = volume.name, volume.location
    urls = {other.server_name: other.url for other in context.client.cluster_members()}
    certificate = context.client.server().certificate
    offer = context.client.offer_volume(pool, name, target=source)
    body: dict[str, Any] = {
        "name": name,
        "type": volume.type,
        "content_type": volume.content_type,
        "config": {**volume.config, COPY: number},
        "description": volume.description,
        "source": {
            "type": "migration",
            "mode": "pull",
            "operation": f"{urls[source]}{offer.operation}",
            "certificate": certificate,
            "secrets": offer.metadata["metadata"],
            "name": name,
            "pool": pool,
        },
    }
    context.run_operation(
        lambda: context.client.create_volume(pool, body, target=member),
        what=f"copying disk {name} to {member}",
        name=name,
    )
    operations.wait_for_pending(context.client, name, what=f"sending disk {name} to {member}")


def _remove_copy(context: Context, pool: str, name: str, *, member: str, number: str) -> None:
    operations.wait_for_pending(context.client, name, what=f"copying disk {name} to {member}")
    try:
        copy = context.client.volume(pool, name, target=member)
    except errors.NotFound:
        return
    if copy.config.get(COPY) == number:
        volumes.delete_volume(context, pool, name, target=member)


def recover_interrupted_migration(context: Context, pool: str, name: str) -> None:
    """Complete or roll back the migration of a disk that two members have.

    Raises CloudError if the copies are not those of a migration.
    """
    with context.exclusive(name, required=True):  # a migration on this machine has ended when this returns
        operations.wait_for_pending(context.client, name, what=f"moving disk {name}")
        copies = [volume for volume in context.client.volumes(pool) if volume.name == name]
        if len(copies) < 2:
            return
        *_, older, newer = sorted(copies, key=lambda volume: _number(volume, COPY))
        superfluous = older if _number(older, COPIED) == _number(newer, COPY) else newer
        members = ", ".join(volume.location for volume in copies)
        if len(copies) > 2 or _number(older, COPY) == _number(newer, COPY) or superfluous.used_by:
            raise errors.CloudError(
                f"disk {name} exists on several cluster members: {members}", code="several_disks", disk=name, pool=pool
            )
        member = superfluous.location
        context.log.warn(f"disk {name} is on {members} after an interrupted migration; deleting the one on {member}")
        volumes.delete_volume(context, pool, name, target=member)
