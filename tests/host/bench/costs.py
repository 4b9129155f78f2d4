"""The cost of each call in the lifecycle of a VM, of the server and of the CPI."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.host import server
from tests.host.bench import lifecycle, warm
from tests.host.bench.lifecycle import OTHERS, markdown, progress
from tests.host.bench.processes import Cpi, install, namespace, write_configuration
from tests.host.bench.warm import ServerTime
from tests.host.tiny_stemcell import stemcell_image

NOTHING, LIBRARY = "python3 -I -S -c pass", "python3 -I -S -c 'import urllib3'"
LOOKUPS = ("has_vm", "has_disk", "get_disks")
MAX_INFO, MAX_LOOKUP, MAX_OTHER = 2.2, 1.0, 1.15
"""Limits of CPU time: of `info` relative to NOTHING, of look-ups and of other calls relative to LIBRARY."""


class ComparedCpi(Cpi):
    """The CPI, with its CPU time relative to that of reference processes."""

    def __init__(self, facts: server.Facts, home: Path, config: Path, scratch: Path) -> None:
        prefix, python = namespace(facts), os.path.realpath(home / "python3")
        super().__init__([*prefix, str(home / "bin/cpi"), "--config", str(config)], scratch)
        self.ratios: dict[str, list[float]] = {}
        import_library = f"import sys; sys.path.insert(0, {str(home)!r}); import urllib3"
        self._base = {
            NOTHING: [*prefix, python, "-I", "-S", "-c", "pass"],
            LIBRARY: [*prefix, python, "-I", "-S", "-c", import_library],
        }

    def call(self, method: str, *arguments: Any) -> Any:
        """Run the two reference processes, `info` and the call, and return the result of the call."""
        nothing, library = (self.run(name, command, b"")[0] for name, command in self._base.items())
        info, *_ = self.run("info", self.command, lifecycle.request("info"))
        result = super().call(method, *arguments)
        # Compare processes that run close together, so that other load affects both.
        self.ratios.setdefault("info", []).append(info.cpu / nothing.cpu)
        self.ratios.setdefault(method, []).append(self.samples[method][-1].cpu / library.cpu)
        return result


def measure(facts: server.Facts, scratch: Path, *, lifecycles: int, others: int = OTHERS) -> dict[str, Any]:
    """Run the lifecycles, alternately as processes and in the running process."""
    home, image = install(scratch), stemcell_image(scratch)
    config = write_configuration(facts, scratch, log_level="error")
    lifecycle.create_others(facts, range(others))
    cpi, times = ComparedCpi(facts, home, config, scratch), []
    with warm.start(facts, home, config) as process:
        for number in range(lifecycles):
            progress(f"lifecycle {number + 1} of {lifecycles}")
            lifecycle.run(cpi.call, image)
            times.append(process.run_lifecycle(image))
    return evaluate(cpi, times, others=others)


def evaluate(cpi: ComparedCpi, warm: list[dict[str, ServerTime]], *, others: int) -> dict[str, Any]:
    """Return medians, ratios and the calls above their limit, in seconds, bytes and MiB."""
    median, samples = statistics.median, cpi.samples

    def cost(name: str) -> dict[str, Any]:
        return {
            "wall": median(sample.wall for sample in samples[name]),
            "cpu": median(sample.cpu for sample in samples[name]),
            "memory": max(sample.memory for sample in samples[name]) / 1024,
        }

    base = {name: cost(name) for name in (NOTHING, LIBRARY)}
    info = {**cost("info"), "ratio": median(cpi.ratios["info"])}
    calls: dict[str, dict[str, Any]] = {}
    for method in warm[0]:
        cpi_times = [sample.wall - times[method].server for sample, times in zip(samples[method], warm, strict=False)]
        calls[method] = {
            **cost(method),
            "ratio": median(cpi.ratios[method]),
            "requests": max(times[method].requests for times in warm),
            "bytes": max(times[method].bytes for times in warm),
            "server": median(times[method].server for times in warm),
            "cpi": median(cpi_times),
            "cpi ratio": median(cpi_times) / base[LIBRARY]["wall"],
        }
    slow = [method for method, row in calls.items() if row["ratio"] > (MAX_LOOKUP if method in LOOKUPS else MAX_OTHER)]
    return {
        "lifecycles": len(warm),
        "others": others,
        "base": base,
        "info": info,
        "calls": calls,
        "lifecycle": sum(row["wall"] for row in calls.values()) + len(calls) * info["wall"],
        "too slow": [*slow, *(["info"] if info["ratio"] > MAX_INFO else [])],
    }


def table(result: dict[str, Any]) -> str:
    """Return the result as a table in milliseconds, KiB and MiB."""
    return "\n".join(lines(result))


def lines(result: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the table in Markdown."""
    yield (
        f"Medians of {result['lifecycles']} lifecycles with {result['others']} other instances and volumes on the"
        f" server; a lifecycle took {result['lifecycle']:.1f} s.\n"
    )
    header = [
        "call",
        "wall ms",
        "server ms",
        "CPI wall ms",
        "ratio",
        "CPU ms",
        "CPU ratio",
        "requests",
        "KiB",
        "peak MiB",
    ]
    rows = {**{f"`{name}`": row for name, row in result["base"].items()}, "info": result["info"], **result["calls"]}
    yield markdown(header, [[name, *cells(row)] for name, row in rows.items()])
    yield (
        "\nRatio: of CPI wall ms to the wall ms of the second row. CPU ratio: of `info` to the first row, of all others"
        f" to the second. The CPU ratio has limits, because other load changes it little. Calls above their limit:"
        f" {', '.join(result['too slow']) or 'none'}."
    )


def cells(row: dict[str, Any]) -> list[str]:
    """Return the cells of a row. A value that does not exist is empty."""
    return [
        f"{row['wall'] * 1000:.0f}",
        *(f"{row[key] * 1000:.0f}" if key in row else "" for key in ("server", "cpi")),
        f"{row['cpi ratio']:.2f}" if "cpi ratio" in row else "",
        f"{row['cpu'] * 1000:.1f}",
        f"{row['ratio']:.2f}" if "ratio" in row else "",
        str(row.get("requests", "")),
        f"{row['bytes'] / 1024:.0f}" if "bytes" in row else "",
        f"{row['memory']:.0f}",
    ]
