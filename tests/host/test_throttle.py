"""Concurrent create_vm calls on a real server, with and without the throttle."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bosh_lxd_cpi.runtime import throttle
from tests.host.director import Director, environment, manual_network
from tests.host.guest import report

SMALL = {"instance_type": "c1-m0.375"}
PATIENCE = 1800
"""Seconds for all guests to boot under emulation."""
LOOK = 0.05
"""Seconds between two counts of the slot holders."""


@contextmanager
def watched(path: Path) -> Iterator[list[int]]:
    """Count the slot holders periodically; yield the list of counts."""
    counts: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK):
            counts.append(len(throttle.holders(str(path))))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield counts
    finally:
        over.set()
        watcher.join()


def create_at_once(cpi: Director, stemcell: str, number: int, *, limit: int, directory: Path) -> list[int]:
    """Create VMs concurrently, wait for the guests, delete the VMs concurrently. Return the counts of slot holders."""
    slots = directory / "slots"
    config = {
        **cpi.config,
        "throttle_config": {"enabled": bool(limit), "path": str(slots), "limit": limit or 1, "wait": "30m", "hold": 0},
    }

    def director(index: int) -> Director:
        own = directory / f"{limit}-{index}"
        own.mkdir(exist_ok=True)
        return Director(config, own, prefix=cpi.prefix)

    def create(index: int) -> str:
        network = {"default": manual_network(f"10.245.0.{100 + index}")}
        return director(index).call("create_vm", f"agent-{index}", stemcell, SMALL, network, [], environment())[0]

    def hear(index: int) -> dict[str, Any]:
        return report.wait_for_report(f"10.245.0.{100 + index}", netns_command=cpi.prefix, seconds=PATIENCE)

    with ThreadPoolExecutor(number) as pool, watched(slots) as inside:
        vms = list(pool.map(create, range(number)))
        reports = list(pool.map(hear, range(number)))
        list(pool.map(lambda vm: director(vms.index(vm)).call("delete_vm", vm), vms))
    assert [seen["agent_id"] for seen in reports] == [f"agent-{index}" for index in range(number)]
    assert [seen["vm"]["id"] for seen in reports] == vms and len(set(vms)) == number
    return inside


def check(cpi: Director, stemcell: str, tmp_path: Path, *, number: int, limit: int) -> None:
    inside = create_at_once(cpi, stemcell, number, limit=limit, directory=tmp_path)
    assert max(inside) == limit, "it never held anybody back, or let too many in"
    assert not throttle.holders(str(tmp_path / "slots")) and not list((tmp_path / "slots").glob("ticket-*"))
    assert max(create_at_once(cpi, stemcell, number, limit=0, directory=tmp_path)) == 0


def test_four_concurrent_vms_with_two_slots_and_without(cpi, stemcell_cids, tmp_path):
    check(cpi, stemcell_cids["jammy"], tmp_path, number=4, limit=2)


@pytest.mark.long
def test_twelve_concurrent_vms_with_three_slots_and_without(cpi, stemcell_cids, tmp_path):
    check(cpi, stemcell_cids["jammy"], tmp_path, number=12, limit=3)
