"""A short run of bin/bench: the result is complete and within the limits."""

from __future__ import annotations

import pytest

from tests.host import bench
from tests.host.bench import LIBRARY, LOOKUPS, MAX_INFO, MAX_LOOKUP, MAX_OTHER, NOTHING

TOLERANCE = 1.4
"""Factor of the limits, because other tests run at the same time."""


@pytest.fixture(scope="module")
def result(host, tmp_path_factory):
    return bench.measure(host, tmp_path_factory.mktemp("bench"), lifecycles=3, others=0)


def test_measures_every_method(host, result):
    assert len(result["calls"]) == 17 and set(LOOKUPS) < result["calls"].keys()
    assert {
        method for method, row in result["calls"].items() if not (row["requests"] and row["bytes"] and row["cpu"])
    } == set()
    rows = bench.table(result).splitlines()
    assert [row.split("|")[1].strip() for row in rows if row.startswith("| ")][1:] == [
        f"`{NOTHING}`",
        f"`{LIBRARY}`",
        "info",
        *result["calls"],
    ]


def test_cpu_time_is_within_limits(result):
    """CPU time grows when other processes share a core, hence the tolerance."""
    ratios = {
        "info": result["info"]["ratio"] / MAX_INFO,
        **{
            method: row["ratio"] / (MAX_LOOKUP if method in LOOKUPS else MAX_OTHER)
            for method, row in result["calls"].items()
        },
    }
    assert {method: ratio for method, ratio in ratios.items() if ratio > TOLERANCE} == {}
