"""Short runs of bin/bench: the results are complete, and the costs are within the limits."""

from __future__ import annotations

import pytest

from tests.host.bench import beside, cli, costs, fill, lifecycle, parallel
from tests.host.bench.costs import LIBRARY, LOOKUPS, MAX_INFO, MAX_LOOKUP, MAX_OTHER, NOTHING
from tests.host.director import ROOT
from tests.host.tiny_stemcell import Connection

TOLERANCE = 1.4
"""Factor of the limits, because other tests run at the same time."""
BYTES_PER_VM = 60
"""Bytes of the response of create_vm for each other VM: a network lists its users. All other calls are flat."""


@pytest.fixture(scope="module")
def result(host, tmp_path_factory):
    return costs.measure(host, tmp_path_factory.mktemp("bench"), lifecycles=3, others=0)


def first_cells(table: str) -> list[str]:
    return [row.split("|")[1].strip() for row in table.splitlines() if row.startswith("| ")][1:]


def test_measures_every_method(result):
    assert len(result["calls"]) == 17 and set(LOOKUPS) < result["calls"].keys()
    assert {
        method for method, row in result["calls"].items() if not (row["requests"] and row["bytes"] and row["cpu"])
    } == set()
    assert first_cells(costs.table(result)) == [f"`{NOTHING}`", f"`{LIBRARY}`", "info", *result["calls"]]


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


@pytest.fixture
def others(host):
    """Delete the VMs and volumes beside which the benchmark ran."""
    yield
    connection = Connection(host)
    for url in connection.query("GET", "/1.0/instances"):
        connection.run_operation("DELETE", url)
    for url in connection.query("GET", f"/1.0/storage-pools/{host.pool}/volumes/custom"):
        connection.run_operation("DELETE", url)


def test_calls_read_no_more_beside_many_vms(host, others, tmp_path):
    number = lifecycle.OTHERS + 20
    result = fill.measure(host, tmp_path, number=number)
    growth = {
        method: few_and_many[number]["bytes"] - few_and_many[lifecycle.OTHERS]["bytes"]
        for method, few_and_many in result["calls"].items()
    }
    assert 0 < growth.pop("create_vm") <= 20 * BYTES_PER_VM
    assert {method: size for method, size in growth.items() if size > 100} == {}
    assert {
        method
        for method, few_and_many in result["calls"].items()
        if few_and_many[number]["requests"] > few_and_many[lifecycle.OTHERS]["requests"]
    } == set()
    assert first_cells(fill.table(result)) == list(result["calls"])


def test_callers_work_at_the_same_time(host, tmp_path):
    result = parallel.measure(host, tmp_path, callers=3)
    assert [(row["call"], row["limit"]) for row in result["calls"]] == [
        ("create_vm", 0),
        ("delete_vm", 0),
        ("create_vm", parallel.LIMIT),
        ("delete_vm", parallel.LIMIT),
    ]
    assert all(row["requests"] >= 6 and row["cpu"] and row["memory"] for row in result["calls"])
    assert first_cells(parallel.table(result)) == ["create_vm", "delete_vm"] * 2


def test_compares_with_another_cpi(host, tmp_path):
    command = f"sh -c 'exec {ROOT}/bin/cpi --config \"$CPI_CONFIG\"'"
    result = beside.measure(host, tmp_path, command=command, lifecycles=1)
    assert first_cells(beside.table(result)) == list(result["calls"]) and "lifecycle" in result["calls"]
    assert all(costs["other"]["wall"] and costs["this"]["cpu"] for costs in result["calls"].values())


@pytest.mark.parametrize("value", ["0", "-1", "x"])
def test_rejects_invalid_numbers(value, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--lives", value])
    assert exit_.value.code == 2 and "must be a whole number of at least 1" in capsys.readouterr().err
