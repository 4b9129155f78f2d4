"""Measure the CPI on a real server. bin/bench starts the server, and deletes it at the end.

Without a mode: the cost of each call in the lifecycle of a VM. Each call is a process after an `info` call, as with a
director. The server time of a call is the time that the same requests take from a running process with an open
connection. The rest is CPI time. It is compared to the time that Python takes to start and to import urllib3, measured
between the calls. Values are medians, except peak memory, which is the maximum and includes at least the memory of this
program.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.host import server
from tests.host.bench import beside, costs, fill, parallel, pools
from tests.host.machine import HostError, unsupported_reason


def main(argv: list[str]) -> int:
    """Return the exit status: 0, 1 if a cost is above its limit, 2 if the benchmark could not run."""
    parser = argparse.ArgumentParser(
        prog="bin/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument(
        "--fill", type=_positive, metavar="N", help="compare the calls beside 5 and beside N VMs on the same bridge"
    )
    modes.add_argument(
        "--parallel", type=_positive, metavar="N", help="N callers create a VM each, with and without throttling"
    )
    modes.add_argument(
        "--pools", action="store_true", help="time and space of a VM by storage driver and root_disk (takes minutes)"
    )
    modes.add_argument(
        "--beside",
        metavar="COMMAND",
        help="compare with another CPI, by turns on the same server. The environment variable CPI_CONFIG of the command"
        " is the path of the configuration in the format of this CPI",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    parser.add_argument(
        "--lifecycles", "--lives", type=_positive, default=10, metavar="N", help="lifecycles to measure (default: 10)"
    )
    parser.add_argument("--host", default="bench", help="name of the test host (default: %(default)s)")
    options = parser.parse_args(argv)
    if reason := unsupported_reason():
        print(f"bench: this machine cannot run a test host: {reason}", file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory() as scratch:
            result, table = _run(options, Path(scratch))
    except HostError as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 2
    print(json.dumps(result, indent=1) if options.json else table(result))
    if slow := result.get("too slow"):
        print(f"bench: done; above the limit: {', '.join(slow)}", file=sys.stderr)
        return 1
    print("bench: done", file=sys.stderr)
    return 0


def _run(options: argparse.Namespace, scratch: Path) -> tuple[dict[str, Any], Callable[[dict[str, Any]], str]]:
    """Return the result of the selected mode, and the function that formats it."""
    if options.pools:
        return pools.measure(scratch, host=options.host), pools.table
    with server.temporary_host("incus", name=options.host) as facts:
        if options.fill:
            return fill.measure(facts, scratch, number=options.fill), fill.table
        if options.parallel:
            return parallel.measure(facts, scratch, callers=options.parallel), parallel.table
        if options.beside:
            return beside.measure(facts, scratch, command=options.beside, lifecycles=options.lifecycles), beside.table
        return costs.measure(facts, scratch, lifecycles=options.lifecycles), costs.table


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)
