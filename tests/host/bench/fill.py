"""The bytes and the server time of each call beside few and beside many VMs on the same bridge."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from tests.host import server
from tests.host.bench import lifecycle, warm
from tests.host.bench.lifecycle import OTHERS, markdown, progress
from tests.host.bench.processes import install, write_configuration
from tests.host.bench.warm import ServerTime
from tests.host.tiny_stemcell import stemcell_image

LIFECYCLES = 5
"""Beside few and beside many VMs."""


def measure(facts: server.Facts, scratch: Path, *, number: int) -> dict[str, Any]:
    """Run lifecycles beside OTHERS VMs and beside `number` VMs. Return the costs of each method, by number of VMs."""
    home, image, config = (
        install(scratch),
        stemcell_image(scratch),
        write_configuration(facts, scratch, log_level="error"),
    )
    calls: dict[str, dict[int, dict[str, float]]] = {}
    with warm.start(facts, home, config) as process:
        existing = 0
        for count in (OTHERS, max(number, OTHERS)):
            lifecycle.create_others(facts, range(existing, count))
            existing = count
            progress(f"{LIFECYCLES} lifecycles beside {count} other VMs")
            times = [process.run_lifecycle(image) for _ in range(LIFECYCLES)]
            for method in times[0]:
                calls.setdefault(method, {})[count] = _cost([time[method] for time in times])
    return {"calls": calls}


def _cost(times: list[ServerTime]) -> dict[str, float]:
    return {
        "server": statistics.median(time.server for time in times),
        "requests": max(time.requests for time in times),
        "bytes": max(time.bytes for time in times),
    }


def table(result: dict[str, Any]) -> str:
    """Return a row for each call. Times are medians in milliseconds."""
    few, many = next(iter(result["calls"].values()))
    header = [
        "call",
        f"requests beside {few}",
        f"beside {many}",
        f"bytes beside {few}",
        f"beside {many}",
        f"server ms beside {few}",
        f"beside {many}",
    ]
    return markdown(
        header,
        [
            [
                method,
                *(str(cost["requests"]) for cost in costs.values()),
                *(f"{cost['bytes']:,}" for cost in costs.values()),
                *(f"{cost['server'] * 1000:.0f}" for cost in costs.values()),
            ]
            for method, costs in result["calls"].items()
        ],
    )
