"""Persistent disks that follow their VM through a cluster: a local volume is copied to the VM's member, then deleted.

The receiving member pulls: no server has a copy by itself that works in every project (LXD 5.0.2 has none, Incus before
6.0.6 one for project default alone). The CPI may die in between and leave the disk on two members. So a copy is numbered
one higher than what it is made from, and once it is whole, the original gets the copy's number, too.
"""

from __future__ import annotations

from typing import Any

from bosh_lxd_cpi import errors, hints
from bosh_lxd_cpi.actions import volumes
from bosh_lxd_cpi.actions.context import Cpi
from bosh_lxd_cpi.lxd import operations

# No tag can have these names: BOSH's are below user.bosh.
COPY, COPIED = "user.bosh_copy", "user.bosh_copied"


def move(cpi: Cpi, pool: str, name: str, member: str) -> None:
    """Move a volume, with its snapshots, from where it is to another member.

    Requests: volume, members, server, offer, copy and wait, operations, mark and deletion of the original.
    """
    with cpi.exclusive(name):
        volume = cpi.client.volume(pool, name).metadata
        here = volume["location"]
        if here == member:
            return
        cpi.log.info(f"moving disk {name} from {here} to {member}")
        number = str(max(_number(volume, COPY), _number(volume, COPIED)) + 1)
        with cpi.rollback() as rollback:
            rollback.add(f"copy of disk {name} on {member}", lambda: _take_back(cpi, pool, name, member, number))
            _copy(cpi, pool, {**volume, "config": {**volume["config"], COPY: number}}, member)
            body = {"config": {**volume["config"], COPIED: number}, "description": volume["description"]}
            cpi.run_operation(
                lambda: cpi.client.replace_volume(pool, name, body, target=here), what=f"marking disk {name} as copied"
            )
        volumes.delete_volume(cpi, pool, name, target=here)


def _number(volume: dict[str, Any], mark: str) -> int:
    return int(volume["config"].get(mark, "0"))


def _copy(cpi: Cpi, pool: str, volume: dict[str, Any], member: str) -> None:
    name, here = volume["name"], volume["location"]
    urls = {one["server_name"]: one["url"] for one in cpi.client.cluster_members().metadata}
    certificate = cpi.client.server().metadata["environment"]["certificate"]
    offer = cpi.client.offer_volume(pool, name, target=here)
    source = {
        "type": "migration",
        "mode": "pull",
        "operation": f"{urls[here]}{offer.operation}",
        "certificate": certificate,
        "secrets": offer.metadata["metadata"],
        "name": name,
        "pool": pool,
    }
    body = {key: volume[key] for key in ("name", "type", "content_type", "config", "description")}
    cpi.run_operation(
        lambda: cpi.client.create_volume(pool, {**body, "source": source}, target=member),
        what=f"copying disk {name} to {member}",
        name=name,
    )
    operations.await_pending(cpi.client, name, f"sending disk {name} to {member}")


def _take_back(cpi: Cpi, pool: str, name: str, member: str, number: str) -> None:
    operations.await_pending(cpi.client, name, f"copying disk {name} to {member}")
    try:
        found = cpi.client.volume(pool, name, target=member).metadata
    except errors.NotFound:
        return
    if found["config"].get(COPY) == number:
        volumes.delete_volume(cpi, pool, name, target=member)


def settle(cpi: Cpi, pool: str, name: str) -> None:
    """Finish or take back the move of a disk that two members have. Raises CloudError if it was none of ours."""
    with cpi.exclusive(name):  # whoever moves it on this machine is done, or dead
        operations.await_pending(cpi.client, name, f"moving disk {name}")
        copies = [volume for volume in cpi.client.volumes(pool).metadata if volume["name"] == name]
        if len(copies) == 1:
            return
        *_, old, new = sorted(copies, key=lambda volume: _number(volume, COPY))
        spare = old if _number(old, COPIED) == _number(new, COPY) else new
        where = ", ".join(volume["location"] for volume in copies)
        if len(copies) > 2 or _number(old, COPY) == _number(new, COPY) or spare["used_by"]:
            raise errors.CloudError(
                f"disk {name} is on several cluster members: {where}",
                hint=hints.text("several_disks", disk=name, **cpi.client.names),
            )
        cpi.log.warn(f"disk {name} is on {where}: its move was cut short, and the one on {spare['location']} goes")
        volumes.delete_volume(cpi, pool, name, target=spare["location"])
