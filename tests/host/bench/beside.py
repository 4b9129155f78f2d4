"""This CPI and another one, by turns on the same server."""

from __future__ import annotations

import shlex
import statistics
from pathlib import Path
from typing import Any

from tests.host import server
from tests.host.bench import lifecycle
from tests.host.bench.lifecycle import markdown, progress
from tests.host.bench.processes import Cpi, install, namespace, write_configuration

DISK_MIB, DATA_MIB = 1024, 160
"""Size of the stemcell. The Go CPI accepts no image below 100 MiB."""
KEYS = ("wall", "cpu")


def measure(facts: server.Facts, scratch: Path, *, command: str, lifecycles: int) -> dict[str, Any]:
    """Return medians of seconds and of seconds of CPU for each method, and those of whole lifecycles."""
    home, image = install(scratch), lifecycle.large_stemcell(scratch, mib=DISK_MIB, data_mib=DATA_MIB)
    config, prefix = write_configuration(facts, scratch), namespace(facts)
    this = Cpi([*prefix, str(home / "bin/cpi"), "--config", str(config)], scratch)
    other = Cpi([*prefix, *shlex.split(command)], scratch, CPI_CONFIG=str(config))
    for number in range(lifecycles + 1):
        progress(f"lifecycle {number} of {lifecycles}" if number else "warm-up")
        for name, cpi in (("other", other), ("this", this)):
            lifecycle.run(cpi.call, image, version=f"{name}-{number}", disk=DISK_MIB)
            if not number:
                cpi.samples.clear()
    calls = {
        method: {
            name: {key: statistics.median(getattr(sample, key) for sample in cpi.samples[method]) for key in KEYS}
            for name, cpi in (("other", other), ("this", this))
        }
        for method in this.samples
    }
    total = {
        name: {key: sum(costs[name][key] for costs in calls.values()) for key in KEYS} for name in ("other", "this")
    }
    return {"lifecycles": lifecycles, "calls": {**calls, "lifecycle": total}}


def table(result: dict[str, Any]) -> str:
    """Return a row for each call, in milliseconds, with the ratios of this CPI to the other one."""
    header = ["call", "other ms", "this ms", "ratio", "other CPU ms", "this CPU ms", "CPU ratio"]
    rows = []
    for method, costs in result["calls"].items():
        row = [method]
        for key in KEYS:
            other, this = costs["other"][key], costs["this"][key]
            row += [f"{other * 1000:.0f}", f"{this * 1000:.0f}", f"{this / other:.2f}"]
        rows.append(row)
    return f"Medians of {result['lifecycles']} lifecycles, by turns.\n\n{markdown(header, rows)}"
