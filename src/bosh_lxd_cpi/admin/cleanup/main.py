"""bin/cleanup: remove from the server what BOSH made and nobody uses; list what there is."""

from __future__ import annotations

import argparse
import os
import sys

from bosh_lxd_cpi import errors, hints
from bosh_lxd_cpi.admin import inventory
from bosh_lxd_cpi.admin.cleanup import owner, table
from bosh_lxd_cpi.admin.cleanup.prune import ALL, SECONDS, Policy, Pruner, patience
from bosh_lxd_cpi.admin.inventory import Inventory, Resource
from bosh_lxd_cpi.config import schema
from bosh_lxd_cpi.lxd.client import Client
from bosh_lxd_cpi.lxd.features import features
from bosh_lxd_cpi.lxd.transport import HttpTransport
from bosh_lxd_cpi.runtime import throttle
from bosh_lxd_cpi.runtime.clock import Clock, Deadline
from bosh_lxd_cpi.runtime.log import Log

DONE, SOME_FAILED, COULD_NOT_RUN, INTERRUPTED = 0, 1, 2, 130
JOB_CONFIG = "/var/vcap/jobs/lxd_cpi/config/cpi.json"

EPILOG = """\
Removed are configuration drives and ephemeral disks that no VM has, VMs that were never finished (with their disks) and
images without a stemcell CID. Never removed is what bears no mark of this CPI or another director's, is younger than
--min-age, in use, or persistent. Exit status: 0, 1 when something could not be removed, 2 when nothing could be done.
"""


def main(argv: list[str]) -> int:
    """Do what the command line says; answers the exit status."""
    parser = _parser()
    asked = parser.parse_args(argv)
    if asked.json and not asked.list:
        parser.error("--json goes with --list")
    log = Log("cleanup")
    try:
        return _serve(asked, log)
    except errors.CpiError as failure:
        print(log.redact(f"cleanup: {failure.message}"), file=sys.stderr)
        return COULD_NOT_RUN
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody is reading any more
        return COULD_NOT_RUN
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cleanup",
        description=__doc__.partition("\n")[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", metavar="FILE", default=JOB_CONFIG, help="the job's properties (default: %(default)s)"
    )
    parser.add_argument(
        "--director",
        metavar="UUID",
        type=_name,
        help="whose resources, as --list shows him, or all for everybody's (default: the property"
        " director_uuid, else the director whose calls run on this machine, else the only one with"
        " resources on the server beside whoever made this VM)",
    )
    parser.add_argument(
        "--min-age", metavar="AGE", type=_duration, default="1h", help="such as 90m (default: %(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="remove nothing, only tell what would be")
    parser.add_argument("--legacy", action="store_true", help="also remove go-lxd-cpi's unused configuration drives")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--list", action="store_true", help="list everything that BOSH made, of all directors unless one is named"
    )
    what.add_argument(
        "--delete-disk",
        metavar="CID",
        type=_name,
        help="remove this persistent disk, which no VM has, and nothing else",
    )
    parser.add_argument("--json", action="store_true", help="with --list: for programs")
    return parser


def _duration(text: str) -> float:
    try:
        return throttle.duration(text)
    except ValueError as failure:
        raise argparse.ArgumentTypeError(str(failure)) from None


def _name(text: str) -> str:
    if not text.strip():  # a variable that was not set
        raise argparse.ArgumentTypeError("it is empty")
    return text


def _serve(asked: argparse.Namespace, log: Log) -> int:
    settings = schema.load(asked.config, warn=log.warn)
    log.hide(settings.secrets())
    log.set_level(settings.log_level)
    clock = Clock()
    client = Client(
        HttpTransport(settings.server),
        project=settings.server.project_name,
        deadline=Deadline(clock, SECONDS, what="reading the server"),
        log=log,
    )
    with patience("reading the server"):
        _check_trust(client, settings)
        found = inventory.read(client, settings.server.storage_pool_name)
        snapshots = inventory.snapshots(client, found) if asked.list else []
    for failure in found.failures:
        print(log.redact(f"cleanup: {failure}"), file=sys.stderr)
    whose = _named(found, asked.director) if asked.director else owner.this_machines(settings, found.directors)
    sweep = Pruner(client, settings.lock_directory(), dry_run=asked.dry_run)
    if asked.list:
        resources = [
            resource
            for resource in (*found.resources, *snapshots)
            if not asked.director or whose in (ALL, resource.director)
        ]
        print((table.as_json if asked.json else table.as_table)(found, resources, now=clock.time()))
    elif asked.delete_disk:
        sweep.delete_disk(_orphan(found, asked.delete_disk, whose))
    else:
        whose = whose or _all(found)
        print(f"cleaning up for director {_known_as(whose, found)}")
        sweep.run(found, Policy(director=whose, min_age=asked.min_age, legacy=asked.legacy, now=clock.time()))
        print(f"{clock.now()} cleanup: {sweep.summary(len(found.failures))}")
    return SOME_FAILED if sweep.failed or found.failures else DONE


def _check_trust(client: Client, settings: schema.Config) -> None:
    server = features(client.server().metadata)
    client.names["client"] = server.client
    if not server.trusted:
        raise errors.Untrusted(
            f"the server at {settings.server.url} does not trust our client certificate",
            hint=hints.text("certificate_not_trusted", client=server.client),
        )


def _named(found: Inventory, name: str) -> str:
    """The digest of the director that the command line names, or `ALL`. Raises ConfigError."""
    return ALL if name == ALL else owner.named(name, found.directors)


def _known_as(whose: str, found: Inventory) -> str:
    if whose == ALL or whose in found.directors:
        return found.directors.get(whose, whose)
    return (
        f"{whose} (by its digest), who has nothing here; others have: {', '.join(found.directors.values()) or 'nobody'}"
    )


def _all(found: Inventory) -> str:
    """`ALL` where no director has anything. Raises ConfigError where it could be one of several."""
    if found.directors:
        raise errors.ConfigError(
            "several directors have resources on this server: " + ", ".join(found.directors.values()),
            hint=f"Name one with --director, or --director {ALL} for everybody's; the property"
            " director_uuid does it for good",
        )
    return ALL


def _orphan(found: Inventory, cid: str, whose: str) -> Resource:
    """The persistent disk of this name. Raises DiskNotFound, and CloudError for one that is not to be deleted."""
    disks = [resource for resource in found.resources if (resource.kind, resource.cid) == (inventory.DISK, cid)]
    if not disks:
        raise errors.DiskNotFound(f"there is no persistent disk {cid}", hint="--list shows those that there are")
    disk, *others = disks
    if others:
        raise errors.CloudError(
            f"disk {cid} is in {', '.join(disk.place for disk in disks)}, so it is not deleted",
            hint="Any CPI call for the disk, such as bosh attach-disk, settles which one is right",
        )
    if disk.used_by:
        raise errors.CloudError(
            f"disk {cid} is attached to {', '.join(disk.used_by)}, so it is not deleted", hint="Detach it first"
        )
    if whose not in ("", ALL, disk.director) and disk.director != inventory.UNKNOWN_OWNER:
        raise errors.CloudError(
            f"disk {cid} belongs to another director, {found.directors[disk.director]}",
            hint=f"Say so with --director {found.directors[disk.director]}",
        )
    return disk
