"""bin/doctor: check what a deployment needs from the server, and print a remedy for every problem."""

from __future__ import annotations

import argparse
import ipaddress
import json
from collections.abc import Callable, Iterator

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin import cli, targets
from bosh_lxd_cpi.admin.doctor.checks import cluster, connection, local, network, project, server, storage
from bosh_lxd_cpi.admin.doctor.checks.network import Manifest
from bosh_lxd_cpi.admin.doctor.context import CheckContext
from bosh_lxd_cpi.admin.doctor.result import CheckResult, summary
from bosh_lxd_cpi.admin.output import FAIL, WARN, Terminal
from bosh_lxd_cpi.admin.targets import Target
from bosh_lxd_cpi.config import schema
from bosh_lxd_cpi.runtime import throttle
from bosh_lxd_cpi.runtime.clock import Clock
from bosh_lxd_cpi.runtime.log import Log, secrets_in

EPILOG = """\
Each line shows a status, the subject of the check and the result. The status is ok, warn, fail, or skip for what this
client cannot check. A second line shows the remedy: a command for the server's client, or a property. The last line
repeats the remedy of the problem to solve first. Without --deep, the doctor changes nothing; --deep removes everything
that it creates.
Exit status: 0 if no check failed, 1 if a check failed, 2 if the checks could not run, 130 after an interruption.
"""


def main(argv: list[str]) -> int:
    """Run the program and return its exit status."""
    program = cli.Program("doctor", log_level="error")
    arguments = _parser(program).parse_args(argv)
    if arguments.verbose:
        program.log.set_level("debug")
    return program.run(lambda: _run(arguments, program))


def _parser(program: cli.Program) -> argparse.ArgumentParser:
    parser = program.parser(
        description=(__doc__ or "").partition("\n")[0],
        epilog=EPILOG,
        json_help="print an array of objects with the keys check, status, message, hint and cpi",
        verbose_help="also log the requests to stderr, and do not cut lines",
        quiet_help="only print warnings and failures",
    )
    parser.add_argument("--cidr", type=_cidr, help="internal_cidr of the manifest")
    parser.add_argument("--gateway", type=ipaddress.IPv4Address, help="internal_gw of the manifest")
    parser.add_argument("--ip", type=ipaddress.IPv4Address, help="internal_ip of the manifest; it has to be free")
    parser.add_argument("--cpu", type=int, help="the largest number of CPUs of a vm_type in the cloud-config")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--deep", action="store_true", help="also create and delete a VM for each firmware, with disks and snapshots"
    )
    mode.add_argument("--locks", action="store_true", help="only list the calls that hold a throttle slot now")
    return parser


def _cidr(text: str) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network(text, strict=False)


_cidr.__name__ = "network"  # argparse shows it in "invalid network value"


def _run(arguments: argparse.Namespace, program: cli.Program) -> int:
    if arguments.locks:
        config, _ = schema.examine(arguments.config)
        return _print_locks(config, is_json=arguments.json)
    reports = [_check(target, arguments, program) for target in targets.read(arguments.cpi_config)]
    if arguments.json:
        print(json.dumps([document for report in reports for document in report.as_objects()], indent=1))
    return cli.PROBLEMS_FOUND if any(report.has_failures for report in reports) else cli.OK


def _check(target: Target, arguments: argparse.Namespace, program: cli.Program) -> _Report:
    """Check the configuration of a CPI and its server."""
    unknown_properties: list[str] = []
    log = program.log
    log.hide(secrets_in(target.properties))
    config, faults = schema.examine(arguments.config, target.properties, warn=unknown_properties.append)
    log.hide(config.secrets())
    report = _Report(log, target, arguments)
    if not arguments.json:
        target.print_title(config.server.url)
    with CheckContext(config, clock=Clock(), log=log, progress=program.progress) as context:
        for result in local.configuration(context, arguments.config, faults=faults, unknown=unknown_properties):
            report.add(result)
        for result in _checks(context, Manifest(arguments.cidr, arguments.gateway, arguments.ip), cpu=arguments.cpu):
            report.add(result)
        if arguments.deep and report.has_failures:
            report.add(context.skip("deep", "not run", "fix_failures_first"))
        elif arguments.deep:
            from bosh_lxd_cpi.admin.doctor import smoke_test

            smoke_test.run(context, ip=arguments.ip or network.free_address(context), report=report.add)
    report.print_summary()
    return report


def _print_locks(config: schema.Config, *, is_json: bool) -> int:
    directory, limit = config.lock_directory(), config.throttle_config.limit
    holders = throttle.holders(directory)
    if is_json:
        print(json.dumps([holder._asdict() for holder in holders], indent=1))
    else:
        for holder in holders:
            print(f"{holder.slot}  {holder.label}  since {holder.since}, process {holder.pid} in its PID namespace")
        print(f"{len(holders)} of {limit} slots held in {directory}")
    return cli.OK


class _Report:
    """The results of one CPI. Prints each of them at once, unless they are for JSON."""

    def __init__(self, log: Log, target: Target, arguments: argparse.Namespace) -> None:
        self._log, self._target, self._arguments = log, target, arguments
        self._terminal = Terminal(cut=not arguments.verbose)
        self._results: list[CheckResult] = []

    def add(self, result: CheckResult) -> None:
        redacted = result._replace(message=self._log.redact(result.message), hint=self._log.redact(result.hint))
        self._results.append(redacted)
        if not self._arguments.json and (result.status in (WARN, FAIL) or not self._arguments.quiet):
            print(redacted.text(self._terminal), flush=True)

    @property
    def has_failures(self) -> bool:
        return any(result.status == FAIL for result in self._results)

    def print_summary(self) -> None:
        if not (self._arguments.json or self._arguments.quiet):
            print(f"{f'{self._target.name}: ' if self._target.name else ''}{summary(self._results)}")

    def as_objects(self) -> list[dict[str, str]]:
        return [{**result._asdict(), "cpi": self._target.name} for result in self._results]


def _checks(context: CheckContext, manifest: Manifest, *, cpu: int | None) -> Iterator[CheckResult]:
    """Run all checks that change nothing. A check that needs the result of a failed check is skipped."""
    yield from local.locks(context)
    yield from _guarded(context, "server", lambda: connection.connection(context))
    features = context.features
    if not features:
        return
    checks: dict[str, Callable[[], Iterator[CheckResult]]] = {
        "server": lambda: server.server(context, features),
        "virtual machines": lambda: server.virtual_machines(context, features),
        "cpu": lambda: server.cpu(context, cpu),
        "cluster": lambda: cluster.cluster(context, features),
        "firmware": lambda: server.boot(context, features),
        "project": lambda: project.project(context, features),
        "pool": lambda: storage.pool(context, features),
        "network": lambda: network.network(context, manifest),
        "profile": lambda: project.profile(context),
        "leftovers": lambda: project.leftovers(context),
    }
    for name, check in checks.items():
        if context.is_unresponsive:
            yield context.skip("further checks", "not made, because the server does not respond", "fix_failures_first")
            return
        yield from _guarded(context, name, check)


def _guarded(context: CheckContext, name: str, check: Callable[[], Iterator[CheckResult]]) -> Iterator[CheckResult]:
    """Yield the results of a check when it is complete. If the check raises an error, the last one is a failure."""
    results = []
    try:
        with context.progress(f"checking the {name}"):
            for result in check():
                results.append(result)
    except errors.CpiError as failure:
        results.append(context.error(name, failure))
        context.is_unresponsive = failure.transient and not isinstance(failure, errors.MemberUnavailable)
    yield from results
