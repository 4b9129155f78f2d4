"""A cluster of two test hosts. Each has its own pool and bridges. A veth pair connects their networks.

The members reach each other at ADDRESSES. In its own network namespace, each member also listens at its Facts.url.
"""

from __future__ import annotations

import json
import shutil

from tests.host import configuration, server
from tests.host.kinds import KINDS
from tests.host.machine import run
from tests.host.processes import enter_command, netns

ADDRESSES = {"node1": "10.247.0.1", "node2": "10.247.0.2"}
"""Address by member name. The name of a host is CLUSTER-MEMBER."""
OFFLINE_SECONDS = 12
"""Seconds without heartbeat after which a member is offline. The servers accept no less than 11."""
FIRST, SECOND = ADDRESSES


def up(kind: str, *, name: str, pool: str = "btrfs") -> dict[str, server.Facts]:
    """Start a new cluster. Return the facts of its members by name. Raises HostError and deletes both members.

    A cluster of this name is deleted first.
    """
    down(name)
    try:
        first = server.up(kind, name=f"{name}-{FIRST}", pool=pool)
        second = server.up(kind, name=f"{name}-{SECOND}", pool=pool, configure=lambda joiner, *_: _join(first, joiner))
    except BaseException:
        down(name)
        raise
    return {FIRST: first, SECOND: second}


def down(name: str) -> None:
    """Stop both members and delete their data, if they exist."""
    for node in ADDRESSES:
        server.down(f"{name}-{node}", wipe=True)


def url(node: str) -> str:
    """Return the URL of a member that works in the networks of both members."""
    return f"https://{ADDRESSES[node]}:8443"


def _join(first: server.Facts, joiner: str) -> None:
    """Join a new, unconfigured server to a cluster with the first."""
    run(
        "ip",
        "link",
        "add",
        "cluster",
        "netns",
        first.netns,
        "type",
        "veth",
        "peer",
        "name",
        "cluster",
        "netns",
        netns(joiner),
    )
    for namespace, address in zip((first.netns, netns(joiner)), ADDRESSES.values(), strict=True):
        run("ip", "-n", namespace, "address", "add", f"{address}/24", "dev", "cluster")
        run("ip", "-n", namespace, "link", "set", "cluster", "up")
    server.client(first.name, "config", "set", f"cluster.https_address={ADDRESSES[FIRST]}:8443")
    server.client(first.name, "cluster", "enable", FIRST)
    server.client(first.name, "config", "set", f"cluster.offline_threshold={OFFLINE_SECONDS}")
    token = server.client(first.name, "cluster", "add", SECOND).stdout.split()[-1]
    values = {"source": "", **({"size": "20GiB"} if first.driver == "btrfs" else {})}
    local = [
        {"entity": "storage-pool", "name": first.pool, "key": key, "value": value} for key, value in values.items()
    ]
    preseed = {
        "cluster": {
            "enabled": True,
            "server_name": SECOND,
            "server_address": f"{ADDRESSES[SECOND]}:8443",
            "cluster_token": token,
            "member_config": local,
        }
    }
    for command, stdin in (
        ((KINDS[first.kind].client, "config", "set", f"core.https_address={configuration.ADDRESS}"), ""),
        ((*KINDS[first.kind].init, "--preseed"), json.dumps(preseed)),
    ):
        run(*enter_command(joiner, *command), stdin=stdin, env=server.CLIENT_ENVIRONMENT)
    for secret in ("client.crt", "client.key"):
        shutil.copy(server.STATE / first.name / secret, server.STATE / joiner)
