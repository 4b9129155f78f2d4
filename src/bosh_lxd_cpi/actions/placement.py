"""The cluster member for a VM or a disk. A target is the name of a member, or `@` and the name of a cluster group.

A server places a new VM in a group itself. It accepts no group for a volume, so the CPI selects the member.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions.context import Context, parse_cid
from bosh_lxd_cpi.actions.disk_lookup import locate
from bosh_lxd_cpi.lxd import sizes
from bosh_lxd_cpi.lxd.resources import ClusterMember
from bosh_lxd_cpi.runtime import server_facts

NO_MEMBER = ("", "none")
"""The location of an object that is on no member: the server is no cluster, or the pool is remote."""


def disk_target(context: Context, target: str, vm_cid: Any) -> str:
    """Return the member for a new disk, or "" if the server may choose: the member of the VM, or one of its target.

    One request for the VM if the server can be a cluster, one for a group. A single server gets no request for the VM,
    because every call that reads the server's properties records whether it is a cluster.
    """
    if vm_cid and _can_be_cluster(context, target):
        target = _member_of_vm(context, parse_cid(vm_cid, "vm_cid")) or target
    if not target.startswith("@"):
        return target
    return _any(context, _online(_in_groups(context.client.cluster_members(), {target}), target)).server_name


def vm_target(context: Context, targets: set[str], disk_cids: Any) -> str:
    """Return the target for a new VM on a cluster, or "" if the server may choose.

    `targets` are those of VM and networks. A VM without member in its targets goes to its disks, if that member is
    online and belongs to all groups in `targets`. Requests: one for each disk, members, project.
    """
    names = {target for target in targets if not target.startswith("@")}
    groups = targets - names
    member = "" if names else _member_of_disks(context, disk_cids)
    if member and _is_possible(context, member, groups):
        return member
    if len(targets) < 2:
        return targets.pop() if targets else ""
    members = _in_groups(context.client.cluster_members(), groups)
    if not names:
        return _any(context, _online(members, " and ".join(sorted(groups)))).server_name
    [name] = names
    if name not in (each.server_name for each in members):
        raise errors.InvalidProperties(
            f"VM and networks have different targets: {name} is not in {' and '.join(sorted(groups))}",
            code="different_targets",
        )
    return name


def _can_be_cluster(context: Context, target: str) -> bool:
    server, directory = context.config.server, context.config.lock_directory()
    if target or server.target or len(server.urls) > 1:
        return True
    return server_facts.recorded_at(directory, server_facts.CLUSTER, server.url) is not None


def _member_of_vm(context: Context, vm_cid: str) -> str:
    """Return the member of a VM, or "" if there is no such VM or no cluster."""
    try:
        location = context.client.instance(vm_cid).location
    except errors.NotFound:
        return ""
    return "" if location in NO_MEMBER else location


def _member_of_disks(context: Context, disk_cids: Any) -> str:
    """Return the member with the most data of these disks, or "". A disk that cannot be read does not count."""
    mib: dict[str, float] = {}
    for cid in disk_cids if isinstance(disk_cids, list) else ():
        try:
            disk = locate(context, cid) if isinstance(cid, str) else None
        except errors.CloudError as failure:
            context.log.warn(f"disk {cid} does not decide on the member of the VM: {failure}")
            continue
        if disk and disk.volume.location not in NO_MEMBER:
            size = sizes.mib(disk.volume.config.get("size", "")) or 0
            mib[disk.volume.location] = mib.get(disk.volume.location, 0) + size
    return max(sorted(mib), key=lambda member: mib[member], default="")


def _in_groups(members: Iterable[ClusterMember], groups: set[str]) -> list[ClusterMember]:
    return [member for member in members if groups <= {f"@{group}" for group in member.groups}]


def _online(members: list[ClusterMember], groups: str) -> list[ClusterMember]:
    """Return the members that are online. Raises CloudError if there is none."""
    if not members:
        raise errors.CloudError(f"there is no cluster member in {groups}", code="no_cluster_group")
    online = [member for member in members if member.is_online]
    if not online:
        names = ", ".join(member.server_name for member in members)
        raise errors.CloudError(f"no cluster member in {groups} is online: {names}", code="no_member")
    return online


def _any(context: Context, members: list[ClusterMember]) -> ClusterMember:
    return members[int(context.clock.random_hex(4), 16) % len(members)]


def _is_possible(context: Context, member: str, groups: set[str]) -> bool:
    """Return whether a VM may go to a member: it is online and in the groups, and the project allows to select it."""
    try:
        members = _in_groups(context.client.cluster_members(), groups)
        if member not in (each.server_name for each in members if each.is_online):
            return False
        config = context.client.own_project().config
    except errors.CloudError as failure:
        context.log.warn(f"the disks do not decide on the member of the VM: {failure}")
        return False
    return config.get("restricted") != "true" or (
        config.get("restricted.cluster.target") == "allow" and not config.get("restricted.cluster.groups")
    )
