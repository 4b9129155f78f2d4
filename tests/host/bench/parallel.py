"""Many callers that create and delete a VM each at the same time, without throttling and with it."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.host import server
from tests.host.bench.lifecycle import markdown, progress
from tests.host.bench.processes import Cpi, Sample, install, namespace, write_configuration
from tests.host.director import environment, manual_network
from tests.host.tiny_stemcell import STEMCELL, VM, stemcell_image

LIMIT = 4
"""Calls at a time with throttling, the default of throttle_config.limit."""
FIRST_ADDRESS = 60


def measure(facts: server.Facts, scratch: Path, *, callers: int) -> dict[str, Any]:
    """Return the costs of create_vm and delete_vm, without and with throttling."""
    home, image, rows = install(scratch), stemcell_image(scratch), []
    throttled = {"enabled": True, "path": str(scratch / "slots"), "limit": LIMIT, "wait": "30m"}
    for throttle in ({}, throttled):
        config = write_configuration(facts, scratch, throttle_config=throttle)
        cpi = Cpi([*namespace(facts), str(home / "bin/cpi"), "--config", str(config)], scratch)
        stemcell = cpi.call("create_stemcell", str(image), STEMCELL)

        def create(number: int, cpi: Cpi = cpi, stemcell: str = stemcell) -> Any:
            networks = {"default": manual_network(f"10.245.0.{FIRST_ADDRESS + number}")}
            return cpi.call("create_vm", f"agent-{number}", stemcell, VM, networks, [], environment())[0]

        with ThreadPoolExecutor(callers) as pool:
            progress(f"{callers} callers, {f'{LIMIT} at a time' if throttle else 'not throttled'}")
            start = time.monotonic()
            vms = list(pool.map(create, range(callers)))
            created = time.monotonic()
            list(pool.map(lambda vm, cpi=cpi: cpi.call("delete_vm", vm), vms))
            deleted = time.monotonic()
        cpi.call("delete_stemcell", stemcell)
        for method, seconds in (("create_vm", created - start), ("delete_vm", deleted - created)):
            rows.append(_row(method, LIMIT if throttle else 0, seconds, cpi.samples[method]))
    return {"callers": callers, "calls": rows}


def _row(method: str, limit: int, seconds: float, samples: list[Sample]) -> dict[str, Any]:
    return {
        "call": method,
        "limit": limit,
        "all": seconds,
        "median": statistics.median(sample.wall for sample in samples),
        "longest": max(sample.wall for sample in samples),
        "cpu": statistics.median(sample.cpu for sample in samples),
        "memory": max(sample.memory for sample in samples) / 1024,
        "requests": max(sample.requests for sample in samples),
        "retries": sum(sample.retries for sample in samples),
    }


def table(result: dict[str, Any]) -> str:
    """Return a row for each method and throttling. Requests are the most of one call, retries those of all calls."""
    header = [
        f"{result['callers']} callers",
        "at a time",
        "s, all calls",
        "s, median call",
        "s, longest call",
        "CPU ms",
        "peak MiB",
        "requests",
        "retries",
    ]
    rows = [
        [
            row["call"],
            str(row["limit"] or "all"),
            *(f"{row[key]:.1f}" for key in ("all", "median", "longest")),
            f"{row['cpu'] * 1000:.0f}",
            f"{row['memory']:.0f}",
            str(row["requests"]),
            str(row["retries"]),
        ]
        for row in result["calls"]
    ]
    return markdown(header, rows)
