"""Checks the members of a cluster: their states, their database, their versions, and that server.target is there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin.doctor.context import CheckContext
from bosh_lxd_cpi.admin.doctor.result import CheckResult
from bosh_lxd_cpi.lxd.features import Features, features
from bosh_lxd_cpi.lxd.resources import ClusterMember

NO_DATABASE = "context deadline exceeded"
"""The error of a member that does not find the others, on Incus 7.0 and LXD 5.0 (measured)."""
VOTERS = {"database", "database-voter", "database-leader"}
"""Roles of the members that vote. The cluster stops unless more than half of them are online. LXD 6.9 has the last two,
other servers the first one, and the last one in addition."""
SMALLEST = 3
"""Members that a cluster needs to survive the loss of one."""


def cluster(context: CheckContext, server_features: Features) -> Iterator[CheckResult]:
    """Check the members of a cluster. Sets the members of the context."""
    if not server_features.is_clustered:
        return
    try:
        members = context.client().cluster_members()
    except errors.Forbidden:
        yield context.skip("cluster", "the server hides its members from this client", "hidden", command="cluster list")
        return
    except errors.CloudError as failure:
        if NO_DATABASE not in failure.brief:
            raise
        raise errors.Busy(failure.brief, code="no_quorum") from failure
    names = [member.server_name for member in members]
    context.members = names
    context.online_members = [member.server_name for member in members if member.is_online]
    groups = sorted({group for member in members for group in member.groups})
    problems = [
        *_target(context, names, groups),
        *_states(context, members),
        *_quorum(context, members),
        *_versions(context),
    ]
    about = f"{len(names)} members online: {', '.join(names)}; groups: {', '.join(groups) or 'none'}"
    yield from problems or [context.ok("cluster", about)]


def _target(context: CheckContext, names: Iterable[str], groups: Iterable[str]) -> Iterator[CheckResult]:
    target = context.server.target
    if target.startswith("@") and target[1:] not in groups:
        message = f"server.target {target} is no group with members; groups: {', '.join(groups) or 'none'}"
        yield context.fail("cluster", message, "no_cluster_group")
    elif target and not target.startswith("@") and target not in names:
        yield context.fail("cluster", f"server.target {target} is none of {', '.join(names)}", "no_target")


def _states(context: CheckContext, members: Iterable[ClusterMember]) -> Iterator[CheckResult]:
    evacuated = [member.server_name for member in members if member.is_evacuated]
    offline = [member.server_name for member in members if not (member.is_online or member.is_evacuated)]
    if evacuated:
        yield context.warn("cluster", f"evacuated: {', '.join(evacuated)}", "member_evacuated")
    if offline:
        yield context.warn("cluster", f"not online: {', '.join(offline)}", "member_offline")


def _quorum(context: CheckContext, members: list[ClusterMember]) -> Iterator[CheckResult]:
    voters = [member for member in members if VOTERS.intersection(member.roles)]
    online = [member for member in voters if member.is_online or member.is_evacuated]
    if len(members) < SMALLEST:
        message = f"{len(members)} members: the cluster can stop if one of them fails"
        yield context.warn("cluster", message, "small_cluster")
    elif len(online) - 1 <= len(voters) / 2:
        message = f"{len(online)} of {len(voters)} database members are online: the cluster stops if another one fails"
        yield context.warn("cluster", message, "few_database_members")


def _versions(context: CheckContext) -> Iterator[CheckResult]:
    """Compare the versions of the members that are online, by a request for each."""
    members_of: dict[str, list[str]] = defaultdict(list)
    for name in context.online_members:
        members_of[features(context.client().server(target=name)).version].append(name)
    if len(members_of) > 1:
        yield context.warn("cluster", f"the members have several versions: {_text(members_of)}", "several_versions")


def _text(members_of: Mapping[str, list[str]]) -> str:
    return "; ".join(f"{version} on {', '.join(names)}" for version, names in sorted(members_of.items()))
