"""A disposable, real LXD or Incus server with virtual machines, for tests.

The server runs in namespaces of its own and listens at 127.0.0.1:8443 there; several, of different names, run side by
side, and nothing of this machine's network is touched. Its virtual machines are real ones under QEMU's software
emulation, so no KVM is needed; they reach nothing outside. The first start of a kind builds a Debian tree, which takes
a minute or two and up to 450 MB in /var/cache/bosh-lxd-cpi; later starts take two seconds. Data is kept in
/var/lib/bosh-lxd-cpi until "down NAME --wipe". Needs root on x86-64 Linux; lacking packages are installed by apt-get.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys

from tests.host import server
from tests.host.kinds import KINDS


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        if os.geteuid() != 0:
            raise server.HostError("needs root")
        return asked.action(asked) or 0
    except (server.HostError, OSError) as error:
        print(f"testhost: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="testhost", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    def action(function, **options) -> argparse.ArgumentParser:
        added = actions.add_parser(
            function.__name__.strip("_"), help=function.__doc__, description=function.__doc__, **options
        )
        added.set_defaults(action=function)
        return added

    add = action(_up)
    add.add_argument("kind", choices=KINDS, help="incus: Incus 6.0, incus7: Incus 7, lxd: LXD 5.0")
    add.add_argument("--name", help="what to call it (default: its kind)")
    add.add_argument("--pool", choices=("btrfs", "dir"), default="btrfs", help="storage driver (default: btrfs)")
    action(_facts).add_argument("name")
    for function in (_run, _client):
        add = action(function)
        add.add_argument("name")
        add.add_argument("words", nargs=argparse.REMAINDER, metavar="...")
    add = action(_down)
    add.add_argument("name")
    add.add_argument("--wipe", action="store_true", help="forget its data, too")
    action(_list)
    return parser


def _up(asked: argparse.Namespace) -> None:
    """start a server, set up and ready, and print its facts as JSON"""
    _print(server.up(asked.kind, name=asked.name, pool=asked.pool))


def _facts(asked: argparse.Namespace) -> None:
    """print those facts again"""
    _print(server.facts(asked.name))


def _run(asked: argparse.Namespace) -> None:
    """run a command of this machine in the server's network"""
    server.facts(asked.name)
    _become([*server.netns_command(asked.name), *(asked.words or ["bash"])], os.environ)


def _client(asked: argparse.Namespace) -> None:
    """run the server's own client in the server's file system (/tmp is shared)"""
    _become(server.client_command(asked.name, *asked.words), {**os.environ, **server.CLIENT_ENVIRONMENT})


def _down(asked: argparse.Namespace) -> None:
    """end a server; its data stays for the next up, unless wiped"""
    server.down(asked.name, wipe=asked.wipe)


def _list(_: argparse.Namespace) -> None:
    """list all servers of this machine"""
    for known in map(server.facts, server.names()):
        print(f"{known.name}\t{known.kind}\t{known.version}\t{'running' if server.running(known.name) else 'down'}")


def _print(known: server.Facts) -> None:
    print(json.dumps(dataclasses.asdict(known), indent=1))


def _become(command: list[str], environment: dict[str, str]) -> None:
    os.execvpe(command[0], command, environment)


if __name__ == "__main__":
    sys.exit(main())
