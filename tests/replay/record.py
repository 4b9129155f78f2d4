"""Record the scenarios on real servers as fixtures, or check that the servers still answer as recorded."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.host import server
from tests.host.kinds import KINDS
from tests.replay import fixtures, synthetic
from tests.replay.drift import drift
from tests.replay.recording import ROOT, record, record_demo, worlds
from tests.replay.scenarios import SCENARIOS, UNSTEADY
from tests.replay.synthetic import TABLE, Mismatch


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bin/record", description=__doc__)
    parser.add_argument("--kind", action="append", choices=KINDS, help="only on this kind of server (may be repeated)")
    for option, text in (
        ("--check", "keep nothing; report where the shape of a recording has changed"),
        ("--demo", "record what bin/demo --replay plays, with a guest that boots"),
        ("--derive", "only derive the synthetic fixtures anew; needs no server"),
    ):
        parser.add_argument(option, action="store_true", help=text)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"only these: {', '.join(SCENARIOS)}")
    asked = parser.parse_args(argv)
    if unknown := set(asked.scenarios) - SCENARIOS.keys():
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    os.chdir(ROOT)  # the path of the stemcell is recorded
    if asked.derive:
        return derive()
    if asked.demo:
        fixtures.write("demo", "session", record_demo())
        fixtures.write_manifest()
        return 0
    try:
        drifted = [run(kind, asked.scenarios or list(SCENARIOS), check=asked.check) for kind in asked.kind or KINDS]
    except server.HostError as failure:
        print(f"record: {failure}", file=sys.stderr)
        return 2
    if not asked.check:
        fixtures.write_manifest()
        return derive()
    return int(any(drifted))


def derive() -> int:
    """Write the derived fixtures, as far as they can be: a CPI that asks for something else needs other rows."""
    status = 0
    for row in TABLE:
        try:
            base = fixtures.load(*row.base.partition("#")[0].split("/"))
            fixtures.write(row.server, row.scenario, synthetic.derive(row, base))
        except Mismatch as failure:
            print(f"{row.server}/{row.scenario}: {failure}", file=sys.stderr)
            status = 1
    fixtures.write_manifest()
    return status


def run(kind: str, names: list[str], *, check: bool) -> bool:
    """Do the scenarios on a server of their own; whether one of them has drifted."""
    drifted = False
    with (
        server.disposable(kind, name=f"rec-{kind}-{os.getpid()}") as facts,
        tempfile.TemporaryDirectory() as scratch,
        worlds(facts, Path(scratch)) as make,
    ):
        for name in names:
            began = time.monotonic()
            print(f"{kind}: {name}", end="", flush=True)
            fixture = record(name, make(name))
            if check and name not in UNSTEADY:
                found = drift(fixtures.load(kind, name), fixture)
                drifted = drifted or bool(found)
            else:
                found = ""
            if not check:
                fixtures.write(kind, name, fixture)
            seconds = time.monotonic() - began
            print(f"  [{len(fixture['calls'])} calls, {seconds:.1f} s]", "DRIFT\n" + found if found else "")
    return drifted


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
