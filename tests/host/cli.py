"""Start and stop test hosts: real LXD or Incus servers with virtual machines.

Each server runs in its own namespaces and listens on 127.0.0.1:8443 there. Several servers with different names can run
at the same time. The network of this machine is not changed. QEMU emulates the virtual machines, so KVM is not needed.
They have no access to other networks. The first start of a kind builds a Debian root file system, which takes one or
two minutes and up to 450 MB in /var/cache/bosh-lxd-cpi. Later starts take two seconds. Data stays in
/var/lib/bosh-lxd-cpi until "down NAME --wipe". Requires root on x86-64 Linux. apt-get installs missing
packages.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys

from tests.host import cluster, server
from tests.host.kinds import KINDS


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        if os.geteuid() != 0:
            raise server.HostError("root is required")
        return options.action(options) or 0
    except (server.HostError, OSError, subprocess.CalledProcessError) as error:
        print(f"testhost: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="testhost", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    def action(function, **settings) -> argparse.ArgumentParser:
        subparser = actions.add_parser(
            function.__name__.strip("_"), help=function.__doc__, description=function.__doc__, **settings
        )
        subparser.set_defaults(action=function)
        return subparser

    add = action(_up)
    add.add_argument("kind", choices=KINDS, help="incus: Incus 6.0, incus7: Incus 7, lxd: LXD 5.0; see README.md")
    add.add_argument("--name", help="name of the host (default: its kind)")
    add.add_argument("--pool", choices=("btrfs", "dir"), default="btrfs", help="storage driver (default: btrfs)")
    add.add_argument("--members", type=int, metavar="N", help="start a new cluster of N members instead of one server")
    action(_facts).add_argument("name")
    for function in (_run, _client):
        add = action(function)
        add.add_argument("name")
        add.add_argument("command", nargs=argparse.REMAINDER, metavar="...")
    add = action(_down)
    add.add_argument("name")
    add.add_argument("--wipe", action="store_true", help="also delete its data")
    action(_list)
    for function in (cluster.kill, cluster.start, cluster.cut, cluster.reconnect, cluster.evacuate, cluster.restore):
        add = action(function)
        add.add_argument("name", help="name of the cluster")
        add.add_argument("member", help="node1, node2 and so on")
        add.set_defaults(action=lambda options, change=function: change(options.name, options.member))
    return parser


def _up(options: argparse.Namespace) -> None:
    """start and configure a server or a cluster, and print its connection data as JSON"""
    name = options.name or options.kind
    if options.members:
        for facts in cluster.up(options.kind, name=name, pool=options.pool, members=options.members).values():
            _print(facts)
    else:
        _print(server.up(options.kind, name=name, pool=options.pool))


def _facts(options: argparse.Namespace) -> None:
    """print the connection data of a server as JSON"""
    _print(server.facts(options.name))


def _run(options: argparse.Namespace) -> None:
    """run a command of this machine in the network of the server"""
    server.facts(options.name)
    _exec([*server.netns_command(options.name), *(options.command or ["bash"])], os.environ)


def _client(options: argparse.Namespace) -> None:
    """run the client lxc or incus in the file system of the server (/tmp is shared)"""
    _exec(server.client_command(options.name, *options.command), {**os.environ, **server.CLIENT_ENVIRONMENT})


def _down(options: argparse.Namespace) -> None:
    """stop a server; the next up continues with its data, unless --wipe is given, which a cluster needs"""
    if not cluster.exists(options.name):
        server.down(options.name, wipe=options.wipe)
    elif options.wipe:
        cluster.down(options.name)
    else:
        raise server.HostError(f"{options.name}: a cluster cannot start again; delete it with down --wipe")


def _list(_: argparse.Namespace) -> None:
    """list all servers on this machine"""
    for facts in map(server.facts, server.names()):
        print(f"{facts.name}\t{facts.kind}\t{facts.version}\t{'running' if server.running(facts.name) else 'down'}")


def _print(facts: server.Facts) -> None:
    print(json.dumps(dataclasses.asdict(facts), indent=1))


def _exec(command: list[str], environment: dict[str, str]) -> None:
    os.execvpe(command[0], command, environment)


if __name__ == "__main__":
    sys.exit(main())
