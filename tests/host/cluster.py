"""A cluster of test hosts. Each member has its own pool and bridges. A switch connects their networks.

The hosts are NAME-node1, NAME-node2 and so on, the members node1, node2 and so on. The switch is a bridge in the
network namespace bosh-NAME-switch. There, and in the network of each member, a member listens at `url`. In its own
network, it listens at Facts.url, too.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator

from tests.host import configuration, processes, server
from tests.host.kinds import KINDS
from tests.host.machine import run

FIRST = "node1"
OFFLINE_SECONDS = 12
"""Seconds without heartbeat after which a member is offline. The servers accept no less than 11."""


def up(
    kind: str, *, name: str, pool: str = "btrfs", members: int = 3, accepts_images: bool = True
) -> dict[str, server.Facts]:
    """Start a new cluster. Return the facts of its members by name. Raises HostError and deletes all members.

    A cluster of this name is deleted first. Without `accepts_images`, the members of LXD 6.9 have the defect that
    docs/how-to/troubleshoot.md describes.
    """
    down(name)
    try:
        processes.add_network(_switch(name))
        run("ip", "-n", _switch_netns(name), "link", "add", "switch", "type", "bridge")
        run("ip", "-n", _switch_netns(name), "address", "add", "10.247.0.254/24", "dev", "switch")
        run("ip", "-n", _switch_netns(name), "link", "set", "switch", "up")
        cluster = {FIRST: server.up(kind, name=f"{name}-{FIRST}", pool=pool)}
        _found(name, cluster[FIRST])
        for member in names(members)[1:]:

            def join(*_: str, member: str = member) -> None:
                _join(name, member, cluster[FIRST])

            cluster[member] = server.up(kind, name=f"{name}-{member}", pool=pool, configure=join)
            if accepts_images and kind == "lxd6":
                server.restart(f"{name}-{member}")
        return cluster
    except BaseException:
        down(name)
        raise


def down(name: str) -> None:
    """Stop all members and delete their data, if they exist."""
    for state in server.STATE.glob(f"{name}-node[0-9]"):
        server.down(state.name, wipe=True)
    processes.delete_network(_switch(name))


def exists(name: str) -> bool:
    """Return whether there is a cluster of this name."""
    return f"{name}-{FIRST}" in server.names()


def names(members: int) -> tuple[str, ...]:
    """Return the names of the members of a cluster of this size, at most 9."""
    return tuple(f"node{number}" for number in range(1, members + 1))


def address(member: str) -> str:
    """Return the address of a member in the network of the cluster."""
    return f"10.247.0.{member.removeprefix('node')}"


def url(member: str) -> str:
    """Return the URL of a member that works in the networks of all members and of the switch."""
    return f"https://{address(member)}:8443"


def netns_command(name: str) -> list[str]:
    """Return the prefix that runs a command in the network of the switch, as on a machine that is not a member."""
    return ["ip", "netns", "exec", _switch_netns(name)]


def kill(name: str, member: str) -> None:
    """Kill the daemon and the VMs of a member. Its address refuses connections."""
    server.stop_daemon(f"{name}-{member}", hard=True)
    processes.kill_vms(f"{name}-{member}")


def start(name: str, member: str) -> None:
    """Start the daemon of a member after `kill`. It starts the VMs that ran."""
    server.start_daemon(f"{name}-{member}")


def cut(name: str, member: str) -> None:
    """Cut a member off from the network of the cluster. Its daemon and its VMs continue to run."""
    run("ip", "-n", _switch_netns(name), "link", "set", member, "down")


def reconnect(name: str, member: str) -> None:
    """Connect a member to the network of the cluster again after `cut`."""
    run("ip", "-n", _switch_netns(name), "link", "set", member, "up")


def evacuate(name: str, member: str) -> None:
    """Evacuate a member: stop its VMs, and move those that can move."""
    server.client(f"{name}-{FIRST}", "cluster", "evacuate", member, stdin="yes\n")


def restore(name: str, member: str) -> None:
    """Restore a member after `evacuate`."""
    server.client(f"{name}-{FIRST}", "cluster", "restore", member, "--force")


FAILURES = {"killed": (kill, start), "cut off": (cut, reconnect), "evacuated": (evacuate, restore)}
"""Functions that take a member out of service and back, by the state of the member."""


@contextlib.contextmanager
def unavailable(name: str, member: str, failure: str) -> Iterator[None]:
    """A context manager: the member is in this state, a key of FAILURES. At the end it returns to service."""
    begin, end = FAILURES[failure]
    begin(name, member)
    try:
        yield
    finally:
        end(name, member)


def add_lan_bridge(name: str, member: str, bridge: str) -> None:
    """Add a bridge that the server does not manage to the network of a member, and connect it to the switch."""
    namespace = processes.netns(f"{name}-{member}")
    run("ip", "-n", namespace, "link", "add", bridge, "type", "bridge")
    run("ip", "-n", namespace, "link", "set", bridge, "up")
    _add_cable(name, namespace, interface="lan", port=f"{member}-lan")
    run("ip", "-n", namespace, "link", "set", "lan", "master", bridge, "up")


def _switch(name: str) -> str:
    return f"{name}-switch"


def _switch_netns(name: str) -> str:
    return processes.netns(_switch(name))


def _connect(name: str, member: str) -> None:
    """Connect the network of a host to the switch."""
    namespace = processes.netns(f"{name}-{member}")
    _add_cable(name, namespace, interface="cluster", port=member)
    run("ip", "-n", namespace, "address", "add", f"{address(member)}/24", "dev", "cluster")
    run("ip", "-n", namespace, "link", "set", "cluster", "up")


def _add_cable(name: str, namespace: str, *, interface: str, port: str) -> None:
    """Connect a new interface in a network namespace to a new port of the switch."""
    peer = ("type", "veth", "peer", "name", port, "netns", _switch_netns(name))
    run("ip", "-n", namespace, "link", "add", interface, *peer)
    run("ip", "-n", _switch_netns(name), "link", "set", port, "master", "switch", "up")


def _found(name: str, first: server.Facts) -> None:
    """Make the first member a cluster."""
    _connect(name, FIRST)
    server.client(first.name, "config", "set", f"cluster.https_address={address(FIRST)}:8443")
    server.client(first.name, "cluster", "enable", FIRST)
    server.client(first.name, "config", "set", f"cluster.offline_threshold={OFFLINE_SECONDS}")


def _join(name: str, member: str, first: server.Facts) -> None:
    """Join a new, unconfigured server to the cluster."""
    joiner = f"{name}-{member}"
    _connect(name, member)
    token = server.client(first.name, "cluster", "add", member).stdout.split()[-1]
    values = {"source": "", **({"size": "20GiB"} if first.driver == "btrfs" else {})}
    local = [
        {"entity": "storage-pool", "name": first.pool, "key": key, "value": value} for key, value in values.items()
    ]
    preseed = {
        "cluster": {
            "enabled": True,
            "server_name": member,
            "server_address": f"{address(member)}:8443",
            "cluster_token": token,
            "member_config": local,
        }
    }
    for command, stdin in (
        ((KINDS[first.kind].client, "config", "set", f"core.https_address={configuration.ADDRESS}"), ""),
        ((*KINDS[first.kind].init, "--preseed"), json.dumps(preseed)),
    ):
        run(*processes.enter_command(joiner, *command), stdin=stdin, env=server.CLIENT_ENVIRONMENT)
    for secret in ("client.crt", "client.key"):
        shutil.copy(server.STATE / first.name / secret, server.STATE / joiner)
