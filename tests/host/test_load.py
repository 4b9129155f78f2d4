"""Concurrent calls for minutes: results, remaining resources and memory."""

from __future__ import annotations

import itertools
import os
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bosh_lxd_cpi.runtime import throttle
from tests.host import server
from tests.host.director import MAX_MEMORY, Director, cpi_with_memory, environment, manual_network, peak_memory
from tests.host.test_throttle import count_slot_holders
from tests.host.tiny_stemcell import STEMCELL, VM, Connection, stemcell_image

LIMIT = 4
GIB = 1 << 30


@pytest.fixture
def create_director(cpi: Director, tmp_path: Path) -> Callable[[], Director]:
    """A function that creates directors, which use cpi_with_memory and share the throttle."""
    program = cpi_with_memory(tmp_path)
    config = {
        **cpi.config,
        "throttle_config": {"enabled": True, "path": str(tmp_path / "slots"), "limit": LIMIT, "wait": "30m"},
    }
    numbers = itertools.count()

    def create() -> Director:
        directory = tmp_path / f"director-{next(numbers)}"
        directory.mkdir()
        return Director(config, directory, prefix=cpi.prefix, cpi=program)

    return create


def disk_lifecycle(call: Callable[..., Any], stemcell: str, number: int) -> Iterator[bool]:
    """Run the lifecycle of a disk. Each step yields whether its result is correct."""
    disk = call("create_disk", 8, {}, None)
    yield call("has_disk", disk) is True
    yield call("set_disk_metadata", disk, {"deployment": f"load-{number}"}) is None
    snapshot = call("snapshot_disk", disk, {"deployment": "load"})
    yield snapshot.startswith(f"{disk}_snap-")
    yield call("delete_snapshot", snapshot) is None
    yield call("resize_disk", disk, 16) is None
    yield call("delete_disk", disk) is None
    yield call("has_disk", disk) is False


def vm_lifecycle(call: Callable[..., Any], stemcell: str, number: int) -> Iterator[bool]:
    """Run the lifecycle of a VM with a disk. Each step yields whether its result is correct."""
    network = {"n": manual_network(f"10.245.0.{10 + number}")}
    vm, networks = call("create_vm", f"agent-{number}", stemcell, VM, network, [], environment())
    disk = call("create_disk", 8, {}, vm)
    yield networks == network
    yield call("has_vm", vm) is True
    yield call("set_vm_metadata", vm, {"deployment": "load", "job": "web", "index": str(number)}) is None
    yield call("get_disks", vm) == []
    hint = call("attach_disk", vm, disk)
    yield call("attach_disk", vm, disk) == hint
    yield call("get_disks", vm) == [disk]
    yield call("detach_disk", vm, disk) is None
    yield call("get_disks", vm) == []
    yield call("delete_vm", vm) is None
    yield call("has_vm", vm) is False
    yield call("delete_disk", disk) is None


def load(create_director: Callable[[], Director], stemcell: str, slots: Path, *, workers: int, seconds: float) -> int:
    """Run lifecycles for this many seconds, every eighth that of a VM. Return the number of calls."""
    end = time.monotonic() + seconds

    def work(number: int) -> Director:
        director = create_director()
        while time.monotonic() < end:
            steps = (disk_lifecycle, vm_lifecycle)[number % 8 == 0](director.call, stemcell, number)
            assert all(steps), f"{director.calls[-1]}"
        return director

    with ThreadPoolExecutor(workers) as pool, count_slot_holders(slots) as counts:
        directors = list(pool.map(work, range(workers)))
    assert max(counts) <= LIMIT and not throttle.holders(str(slots))
    assert not [path for path in Path(slots).iterdir() if path.name.startswith(("ticket-", "creating-"))]
    assert max(peak_memory(director) for director in directors) < MAX_MEMORY
    return sum(len(director.calls) for director in directors)


@pytest.fixture
def stemcell(cpi: Director, tmp_path: Path) -> Iterator[str]:
    cid = cpi.call("create_stemcell", str(stemcell_image(tmp_path)), STEMCELL)
    yield cid
    cpi.call("delete_stemcell", cid)


def test_twelve_directors_for_twenty_seconds(create_director, stemcell, tmp_path):
    assert load(create_director, stemcell, tmp_path / "slots", workers=12, seconds=20) > 12


@pytest.mark.long
def test_fifty_directors_for_five_minutes(create_director, stemcell, tmp_path):
    assert load(create_director, stemcell, tmp_path / "slots", workers=50, seconds=300) > 50


@pytest.mark.long
@pytest.mark.parametrize("disk_format", ["qcow2", "raw"])
def test_large_stemcell_is_never_in_memory(host: server.Facts, create_director, tmp_path, disk_format):
    """The disk has 5 GiB, of which 1.5 GiB are data."""
    image = large_stemcell(tmp_path, disk_format)
    director = create_director()
    cid = director.call(
        "create_stemcell", str(image), {**STEMCELL, "disk": 5120, "disk_format": disk_format, "version": disk_format}
    )
    fingerprint = Connection(host).query("GET", f"/1.0/images/aliases/{cid}")["target"]
    size = Connection(host).query("GET", f"/1.0/images/{fingerprint}")["size"]
    director.call("delete_stemcell", cid)
    assert 1.5 * GIB <= size < 1.6 * GIB
    assert peak_memory(director) < MAX_MEMORY


def large_stemcell(directory: Path, disk_format: str) -> Path:
    raw, image = directory / "root.img", directory / "image"
    with raw.open("wb") as file:
        for megabyte in range(0, 1536):
            file.seek(megabyte * (3 << 20))
            file.write(os.urandom(1 << 20))
        file.truncate(5 * GIB)
    if disk_format == "qcow2":
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, f"{raw}.qcow2"], check=True)
        Path(f"{raw}.qcow2").rename(raw)
    with tarfile.open(image, "w:gz", compresslevel=1) as tar:
        tar.add(raw, "root.img")
    raw.unlink()
    return image
