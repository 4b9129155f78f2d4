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
BOOT_SECONDS = 1800
"""Seconds for all guests to boot under emulation."""
POLL_SECONDS = 0.05
"""Seconds between two counts of the slot holders."""


@contextmanager
def count_slot_holders(path: Path) -> Iterator[list[int]]:
    """Count the slot holders periodically; yield the list of counts."""
    counts: list[int] = []
    stop = threading.Event()

    def poll() -> None:
        while not stop.wait(POLL_SECONDS):
            counts.append(len(throttle.holders(str(path))))

    poller = threading.Thread(target=poll)
    poller.start()
    try:
        yield counts
    finally:
        stop.set()
        poller.join()


def create_concurrently(cpi: Director, stemcell: str, number: int, *, limit: int, directory: Path) -> list[int]:
    """Create VMs concurrently, wait for the guests, delete the VMs concurrently. Return the counts of slot holders."""
    slots = directory / "slots"
    config = {
        **cpi.config,
        "throttle_config": {"enabled": bool(limit), "path": str(slots), "limit": limit or 1, "wait": "30m", "hold": 0},
    }

    def director(index: int) -> Director:
        subdirectory = directory / f"{limit}-{index}"
        subdirectory.mkdir(exist_ok=True)
        return Director(config, subdirectory, prefix=cpi.prefix)

    def create(index: int) -> str:
        network = {"default": manual_network(f"10.245.0.{100 + index}")}
        return director(index).call("create_vm", f"agent-{index}", stemcell, SMALL, network, [], environment())[0]

    def wait_for_report(index: int) -> dict[str, Any]:
        return report.wait_for_report(f"10.245.0.{100 + index}", netns_command=cpi.prefix, seconds=BOOT_SECONDS)

    with ThreadPoolExecutor(number) as pool, count_slot_holders(slots) as counts:
        vms = list(pool.map(create, range(number)))
        reports = list(pool.map(wait_for_report, range(number)))
        list(pool.map(lambda vm: director(vms.index(vm)).call("delete_vm", vm), vms))
    assert [guest_report["agent_id"] for guest_report in reports] == [f"agent-{index}" for index in range(number)]
    assert [guest_report["vm"]["id"] for guest_report in reports] == vms and len(set(vms)) == number
    return counts


def check_limit(cpi: Director, stemcell: str, tmp_path: Path, *, number: int, limit: int) -> None:
    """Create and delete VMs concurrently, with the throttle and without it."""
    counts = create_concurrently(cpi, stemcell, number, limit=limit, directory=tmp_path)
    assert max(counts) == limit, "the number of holders does not reach the limit or exceeds it"
    assert not throttle.holders(str(tmp_path / "slots")) and not list((tmp_path / "slots").glob("ticket-*"))
    assert max(create_concurrently(cpi, stemcell, number, limit=0, directory=tmp_path)) == 0


def test_four_concurrent_vms_with_two_slots_and_without(cpi, stemcell_cids, tmp_path):
    check_limit(cpi, stemcell_cids["jammy"], tmp_path, number=4, limit=2)


@pytest.mark.long
def test_twelve_concurrent_vms_with_three_slots_and_without(cpi, stemcell_cids, tmp_path):
    check_limit(cpi, stemcell_cids["jammy"], tmp_path, number=12, limit=3)
