"""bin/cleanup: remove the unused resources of BOSH from the server, or list all its resources."""

from __future__ import annotations

import argparse
import json

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions.connection import open_transport
from bosh_lxd_cpi.actions.context import Context
from bosh_lxd_cpi.admin import cli, inventory, targets
from bosh_lxd_cpi.admin.cleanup import owner, selection, table
from bosh_lxd_cpi.admin.cleanup.prune import ALL, KEPT, REMOVED, WOULD_REMOVE, Policy, Pruner
from bosh_lxd_cpi.admin.inventory import Inventory
from bosh_lxd_cpi.admin.output import Terminal
from bosh_lxd_cpi.admin.targets import Target
from bosh_lxd_cpi.config import schema
from bosh_lxd_cpi.lxd.client import Client
from bosh_lxd_cpi.lxd.transport import Transport
from bosh_lxd_cpi.runtime import locks, throttle
from bosh_lxd_cpi.runtime.clock import Clock, Deadline
from bosh_lxd_cpi.runtime.log import secrets_in

NAME = "cleanup"
READ_SECONDS = 300.0
"""Time for reading the server."""

EPILOG = """\
The cleanup removes config drives and ephemeral disks without a VM, incomplete VMs with their own volumes, and images
without a stemcell CID. Never removed are resources that are in use, persistent, younger than --min-age, or that belong
to another director or to an unknown owner. Resources of a VM whose creation on this machine was killed may be younger.
Superseded stemcells are only removed by --delete-stemcell.
Exit status: 0, 1 if something could not be read or removed, 2 if the cleanup could not run, 130 after an interruption.
"""


def main(argv: list[str]) -> int:
    """Run the program and return its exit status."""
    program = cli.Program(NAME)
    arguments = _parser(program).parse_args(argv)
    return program.run(lambda: _run(arguments, program))


def _parser(program: cli.Program) -> argparse.ArgumentParser:
    parser = program.parser(
        description=(__doc__ or "").partition("\n")[0],
        epilog=EPILOG,
        json_help="print an array of objects: each resource, with what happened to it unless --list is given",
        verbose_help="also print the resources that stay, and do not cut lines",
        quiet_help="only print errors",
    )
    parser.add_argument(
        "--director",
        metavar="UUID",
        type=_not_empty,
        help="the director whose resources to remove, as --list shows it, or all (default: the property director_uuid,"
        " else the director whose calls run on this machine, else the only director with resources on the server"
        " except the owner of this VM)",
    )
    parser.add_argument(
        "--min-age", metavar="AGE", type=_duration, default="1h", help="a duration such as 90m (default: %(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only show what would be removed")
    parser.add_argument("--legacy", action="store_true", help="also remove unused config drives of go-lxd-cpi")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--list", action="store_true", help="list the resources of all directors, or of the one in --director"
    )
    mode.add_argument(
        "--delete-disk",
        metavar="CID",
        type=_not_empty,
        help="only remove this persistent disk, which must not be attached to a VM",
    )
    mode.add_argument(
        "--delete-stemcell",
        metavar="CID",
        type=_not_empty,
        help="only remove this stemcell, which no VM must use and which --list must show as superseded",
    )
    return parser


def _duration(text: str) -> float:
    try:
        return throttle.duration(text)
    except ValueError as failure:
        raise argparse.ArgumentTypeError(str(failure)) from None


def _not_empty(text: str) -> str:
    if not text.strip():  # probably a shell variable that is not set
        raise argparse.ArgumentTypeError("the value is empty")
    return text


def _run(arguments: argparse.Namespace, program: cli.Program) -> int:
    """Work on the server of the job, and on those of the cpi-config. An error on one does not stop the others."""
    documents: list[dict[str, object]] = []
    statuses: list[int] = []
    servers: set[tuple[str, str]] = set()
    missing: errors.CloudError | None = None
    for target in targets.read(arguments.cpi_config):
        program.name = f"{NAME} {target.name}".rstrip()
        try:
            statuses += _run_target(target, arguments, program, servers=servers, documents=documents)
        except (errors.DiskNotFound, errors.StemcellNotFound) as failure:
            missing = failure
        except errors.CpiError as failure:
            program.print_error(failure)
            statuses.append(cli.COULD_NOT_RUN)
    if missing and not statuses:
        raise missing
    if arguments.json:
        print(json.dumps(documents, indent=1))
    return max(statuses)


def _run_target(
    target: Target,
    arguments: argparse.Namespace,
    program: cli.Program,
    *,
    servers: set[tuple[str, str]],
    documents: list[dict[str, object]],
) -> list[int]:
    """Work on one server. Return the exit status, or nothing if its project is in `servers` already.

    Append what --json prints to `documents`.
    """
    program.hint_fields = dict
    program.log.hide(secrets_in(target.properties))
    config = schema.load(arguments.config, target.properties, warn=program.log.warn)
    program.log.hide(config.secrets())
    program.log.set_level(config.log_level)
    server = (config.server.url, config.server.project_name)
    if server in servers:
        return []
    servers.add(server)
    with open_transport(config, log=program.log) as transport:
        context = _context(config, transport, program)
        program.hint_fields = context.hint_fields
        return [_clean(context, arguments, program, target=target, documents=documents)]


def _context(config: schema.Config, transport: Transport, program: cli.Program) -> Context:
    clock = Clock()
    deadline = Deadline(clock, READ_SECONDS, what="reading the server")
    client = Client(transport, project=config.server.project_name, deadline=deadline, log=program.log)
    return Context(config=config, client=client, clock=clock, log=program.log, director="")


def _clean(
    context: Context,
    arguments: argparse.Namespace,
    program: cli.Program,
    *,
    target: Target,
    documents: list[dict[str, object]],
) -> int:
    clock = context.clock
    with program.progress("reading the server"):
        context.features()  # raises CertificateNotTrusted
        stock = inventory.read(context.client, context.config.server.storage_pool_name)
        snapshots = inventory.snapshots(context.client, stock) if arguments.list else []
    for failure in stock.failures:
        program.print_error(failure)
    director = _director(context, arguments, stock)
    if arguments.list:
        selected = director if arguments.director else ALL
        resources = [resource for resource in (*stock.resources, *snapshots) if selected in (ALL, resource.director)]
        if arguments.json:
            documents += table.as_objects(stock, resources, now=clock.time(), cpi=target.name)
        elif not arguments.quiet:
            target.print_title(context.config.server.url)
            terminal = Terminal(cut=not arguments.verbose)
            print(table.as_table(stock, resources, now=clock.time(), terminal=terminal))
        return cli.PROBLEMS_FOUND if stock.failures else cli.OK
    is_silent = arguments.json or arguments.quiet
    shown = () if is_silent else (REMOVED, WOULD_REMOVE, *((KEPT,) if arguments.verbose else ()))
    pruner = Pruner(context, program, dry_run=arguments.dry_run, shown=shown)
    if arguments.delete_disk:
        pruner.delete(selection.unattached_disk(stock, arguments.delete_disk, director))
    elif arguments.delete_stemcell:
        pruner.delete(selection.superseded_stemcell(stock, arguments.delete_stemcell, director))
    else:
        director = director or _all_directors(stock)
        policy = Policy(
            director=director,
            min_age=arguments.min_age,
            remove_legacy=arguments.legacy,
            now=clock.time(),
            interrupted=_abandoned_locks(context.config.lock_directory()),
        )
        if not is_silent:
            print(f"cleaning up{f' {target.name}' if target.name else ''} for director {_description(director, stock)}")
        pruner.run(stock, policy)
        if not is_silent:
            print(f"{clock.now()} {program.name}: {pruner.summary(len(stock.failures))}")
    resources = [outcome.resource for outcome in pruner.outcomes]
    objects = table.as_objects(stock, resources, now=clock.time(), cpi=target.name)
    documents += [
        {**document, "action": outcome.action, "reason": outcome.reason}
        for document, outcome in zip(objects, pruner.outcomes, strict=True)
    ]
    return cli.PROBLEMS_FOUND if pruner.has_failures or stock.failures else cli.OK


def _abandoned_locks(directory: str) -> set[str]:
    """Return the names of the locks whose holders were killed. Raises LockUnavailable."""
    try:
        return locks.abandoned(directory)
    except OSError as failure:
        reason = failure.strerror or failure
        raise errors.LockUnavailable(
            f"the lock directory {directory} cannot be used: {reason}", code="no_lock_directory"
        ) from failure


def _director(context: Context, arguments: argparse.Namespace, stock: Inventory) -> str:
    """Return the digest of the director, `ALL`, or "" if it is unknown. Raises ConfigError."""
    if arguments.director == ALL:
        return ALL
    if arguments.director:
        return owner.digest_of(arguments.director, stock.directors)
    return owner.director_of_this_machine(context.config, stock.directors)


def _all_directors(stock: Inventory) -> str:
    """Return `ALL` if no director has resources. Raises ConfigError otherwise, because it can be one of several."""
    if stock.directors:
        uuids = ", ".join(stock.directors.values())
        raise errors.ConfigError(f"several directors have resources on this server: {uuids}", code="several_directors")
    return ALL


def _description(director: str, stock: Inventory) -> str:
    if director == ALL or director in stock.directors:
        return stock.directors.get(director, director)
    others = ", ".join(stock.directors.values()) or "none"
    return f"with digest {director}, which has no resources here; directors with resources: {others}"
