"""Record the scenarios on real servers as fixtures, or compare the responses of the servers with the fixtures."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.host import server
from tests.host.kinds import PACKAGED
from tests.replay import fixtures, synthetic
from tests.replay.recording import ROOT, directors, record, record_demo
from tests.replay.scenarios import RACES, SCENARIOS
from tests.replay.shape import shape_diff
from tests.replay.synthetic import TABLE, Mismatch


def main(argv: list[str]) -> int:
    """Return 0 if everything is recorded or matches, 1 if something differs, 2 if a test server cannot be started."""
    parser = argparse.ArgumentParser(prog="bin/record", description=__doc__)
    parser.add_argument(
        "--kind", action="append", choices=PACKAGED, help="only on this kind of server (can be repeated)"
    )
    for option, text in (
        ("--check", "write nothing; report recordings whose shape differs from that of the current responses"),
        ("--demo", "record the session that bin/demo --replay plays, with a guest that boots"),
        ("--derive", "only derive the synthetic fixtures again; requires no server"),
    ):
        parser.add_argument(option, action="store_true", help=text)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"only these: {', '.join(SCENARIOS)}")
    options = parser.parse_args(argv)
    if unknown := set(options.scenarios) - SCENARIOS.keys():
        parser.error(f"unknown scenario: {', '.join(sorted(unknown))}")
    os.chdir(ROOT)  # the recordings contain the relative path of the stemcell
    if options.derive:
        return derive()
    if options.demo:
        fixtures.write("demo", "session", record_demo())
        fixtures.write_manifest()
        return 0
    names = options.scenarios or list(SCENARIOS)
    try:
        differences = [run(kind, names, check=options.check) for kind in options.kind or PACKAGED]
    except server.HostError as error:
        print(f"record: {error}", file=sys.stderr)
        return 2
    return int(any(differences)) if options.check else derive()


def derive() -> int:
    """Write the derived fixtures. Return 1 if a row does not fit the current requests of the CPI."""
    status = 0
    for row in TABLE:
        try:
            base = fixtures.load(*row.base.partition("#")[0].split("/"))
            fixtures.write(row.server, row.scenario, synthetic.derive(row, base))
        except Mismatch as mismatch:
            print(f"{row.server}/{row.scenario}: {mismatch}", file=sys.stderr)
            status = 1
    fixtures.write_manifest()
    return status


def run(kind: str, names: list[str], *, check: bool) -> bool:
    """Run the scenarios on a new server. Return whether one of them differs in shape from its fixture."""
    differs = False
    with (
        server.temporary_host(kind, name=f"rec-{kind}-{os.getpid()}") as facts,
        tempfile.TemporaryDirectory() as directory,
        directors(facts, Path(directory)) as create_director,
    ):
        for name in names:
            start = time.monotonic()
            print(f"{kind}: {name}", end="", flush=True)
            fixture = record(name, create_director(name))
            diff = ""
            if not check:
                fixtures.write(kind, name, fixture)
            elif name not in RACES:
                diff = shape_diff(fixtures.load(kind, name), fixture)
            differs = differs or bool(diff)
            seconds = time.monotonic() - start
            print(f"  [{len(fixture['calls'])} calls, {seconds:.1f} s]", f"DIFFERS\n{diff}" if diff else "")
    return differs


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
