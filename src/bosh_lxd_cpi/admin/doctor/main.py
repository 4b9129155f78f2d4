"""bin/doctor: find what would make a deployment fail before it does, and say how to hint it."""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin.doctor.checks import connection, local, network, project, server, storage
from bosh_lxd_cpi.admin.doctor.checks.network import Wanted
from bosh_lxd_cpi.admin.doctor.context import CheckContext
from bosh_lxd_cpi.admin.doctor.result import FAIL, CheckResult, as_json, summary
from bosh_lxd_cpi.config import schema
from bosh_lxd_cpi.runtime import throttle
from bosh_lxd_cpi.runtime.clock import Clock
from bosh_lxd_cpi.runtime.log import Log

WELL, ILL, COULD_NOT_RUN, INTERRUPTED = 0, 1, 2, 130
JOB_CONFIG = "/var/vcap/jobs/lxd_cpi/config/cpi.json"

EPILOG = """\
Every line says ok, warn or fail, what was looked at and what was found; below it is what hints it: a command of the
server's own client, or a property. Nothing is changed, but by --deep, which takes everything away again.
Exit status: 0, 1 when something failed, 2 when nothing could be looked at.
"""


def main(argv: list[str]) -> int:
    """Do what the command line says; answers the exit status."""
    asked = _parser().parse_args(argv)
    log = Log("doctor", level="error")
    try:
        unknown: list[str] = []
        settings, faults = schema.examine(asked.config, warn=unknown.append)
        log.hide(settings.secrets())
        if asked.locks:
            return _show_locks(settings, as_objects=asked.json)
        report = _Report(log, as_objects=asked.json)
        _examine(CheckContext(settings, clock=Clock(), log=log), asked, faults, unknown, report)
        report.close()
        return ILL if report.failed else WELL
    except (errors.CpiError, OSError) as failure:
        if isinstance(failure, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody is reading any more
        else:
            print(log.redact(f"doctor: {getattr(failure, 'message', failure)}"), file=sys.stderr)
        return COULD_NOT_RUN
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # there is only the exit status left to give
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="doctor",
        description=__doc__.partition("\n")[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", metavar="FILE", default=JOB_CONFIG, help="the job's properties (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="an array of {check, status, found, hint}, for programs")
    parser.add_argument("--cidr", type=_network, help="the manifest's internal_cidr")
    parser.add_argument("--gateway", type=ipaddress.IPv4Address, help="the manifest's internal_gw")
    parser.add_argument("--ip", type=ipaddress.IPv4Address, help="the manifest's internal_ip: is it free?")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--deep", action="store_true", help="also make a VM for each firmware, with all that belongs to one"
    )
    what.add_argument("--locks", action="store_true", help="only list the calls that hold a throttle slot now")
    return parser


def _network(text: str) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network(text, strict=False)


def _show_locks(settings: schema.Config, *, as_objects: bool) -> int:
    directory, limit = settings.lock_directory(), settings.throttle_config.limit
    holders = throttle.holders(directory)
    if as_objects:
        print(json.dumps([holder._asdict() for holder in holders], indent=1))
    else:
        for holder in holders:
            print(f"{holder.slot}  {holder.label}  since {holder.since}, process {holder.pid} of its own container")
        print(f"{len(holders)} of {limit} slots held in {directory}")
    return WELL


class _Report:
    """Prints findings as they come, or all at the end for programs."""

    def __init__(self, log: Log, *, as_objects: bool) -> None:
        self._log, self._as_objects = log, as_objects
        self._colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._shown: list[CheckResult] = []

    def add(self, finding: CheckResult) -> None:
        shown = finding._replace(found=self._log.redact(finding.found), hint=self._log.redact(finding.hint))
        self._shown.append(shown)
        if not self._as_objects:
            print(shown.text(colour=self._colour), flush=True)

    @property
    def failed(self) -> bool:
        return any(finding.status == FAIL for finding in self._shown)

    def close(self) -> None:
        print(as_json(self._shown) if self._as_objects else summary(self._shown))


def _examine(
    patient: CheckContext, asked: argparse.Namespace, faults: list[str], unknown: list[str], report: _Report
) -> None:
    for finding in local.configuration(patient, asked.config, faults=faults, unknown=unknown):
        report.add(finding)
    for finding in _surface(patient, Wanted(asked.cidr, asked.gateway, asked.ip)):
        report.add(finding)
    if asked.deep and report.failed:
        report.add(patient.warn("deep", "not tried", "fix_failures_first"))
    elif asked.deep:
        from bosh_lxd_cpi.admin.doctor import smoke_test

        smoke_test.prove(patient, ip=asked.ip or network.free(patient), report=report.add)


def _surface(patient: CheckContext, wanted: Wanted) -> Iterator[CheckResult]:
    """All that can be found without making anything. What needs something that failed is left out."""
    yield from local.locks(patient)
    yield from _guarded(patient, "server", lambda: connection.examine(patient))
    features = patient.features
    if not features:
        return
    yield from _guarded(patient, "server", lambda: server.server(patient, features))
    yield from _guarded(patient, "virtual machines", lambda: server.virtual_machines(patient, features))
    yield from _guarded(patient, "cluster", lambda: server.cluster(patient, features))
    yield from _guarded(patient, "firmware", lambda: server.boot(patient, features))
    yield from _guarded(patient, "project", lambda: project.project(patient, features))
    yield from _guarded(patient, "pool", lambda: storage.pool(patient, features))
    yield from _guarded(patient, "network", lambda: network.network(patient, wanted))
    if patient.server.project_name in patient.projects:
        yield from _guarded(patient, "profile", lambda: project.profile(patient))
        if patient.has_pool:
            yield from _guarded(patient, "leftovers", lambda: project.leftovers(patient))


def _guarded(patient: CheckContext, check: str, look: Callable[[], Iterator[CheckResult]]) -> Iterator[CheckResult]:
    """The findings of a check, or why it could not be made."""
    try:
        yield from look()
    except errors.CpiError as failure:
        yield CheckResult(check, FAIL, failure.brief, failure.hint or patient.hint("see_server_log"))
