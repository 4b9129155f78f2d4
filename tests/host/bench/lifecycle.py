"""The lifecycle of a VM: the calls that the benchmarks make, and other resources on the server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.host import server
from tests.host.director import environment, manual_network
from tests.host.tiny_stemcell import STEMCELL, VM, Connection

OTHERS = 5
"""VMs and volumes on the server besides those of the benchmark."""
METADATA = {"director": "bosh", "deployment": "d", "job": "web", "index": "0", "id": "1", "name": "web/1"}
DISK_METADATA = {"director": "bosh", "deployment": "d", "instance_id": "1", "instance_group": "web"}


def run(call: Callable[..., Any], image: Path, **stemcell_properties: Any) -> None:
    """Make the calls of a director for a stemcell and a VM with a disk, from creation to deletion."""
    stemcell = call("create_stemcell", str(image), {**STEMCELL, **stemcell_properties})
    vm, *_ = call("create_vm", "agent", stemcell, VM, {"default": manual_network("10.245.0.61")}, [], environment())
    call("set_vm_metadata", vm, METADATA)
    disk = call("create_disk", 16, {}, vm)
    call("set_disk_metadata", disk, DISK_METADATA)
    call("attach_disk", vm, disk)
    call("get_disks", vm)
    call("has_disk", disk)
    call("has_vm", vm)
    call("delete_snapshot", call("snapshot_disk", disk, {"deployment": "d", "job": "web", "index": 0}))
    call("reboot_vm", vm)
    call("detach_disk", vm, disk)
    call("resize_disk", disk, 32)
    call("delete_disk", disk)
    call("delete_vm", vm)
    call("delete_stemcell", stemcell)


def request(method: str, *arguments: Any) -> bytes:
    """Return a request as a director writes it."""
    context = {"director_uuid": "bench", "request_id": "cpi-1"}
    return json.dumps({"method": method, "arguments": arguments, "context": context, "api_version": 2}).encode()


def large_stemcell(directory: Path, *, mib: int, data_mib: int) -> Path:
    """Write the image of a stemcell whose data cannot be compressed and are spread over the disk. Return its path."""
    raw, disk, image = directory / "raw.img", directory / "root.img", directory / f"image-{mib}-{data_mib}"
    with raw.open("wb") as file:
        for number in range(data_mib):
            file.seek(number * (mib // data_mib) << 20)
            file.write(os.urandom(1 << 20))
        file.truncate(mib << 20)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, disk], check=True)
    raw.unlink()
    with tarfile.open(image, "w:gz", compresslevel=1) as tar:
        tar.add(disk, "root.img")
    disk.unlink()
    return image


def create_others(facts: server.Facts, numbers: range) -> None:
    """Create stopped VMs with a NIC on the bridge of the benchmark's VMs, and a volume for each."""
    connection = Connection(facts)
    for number in numbers:
        if number % 50 == 49:
            progress(f"{number + 1} other VMs")
        connection.run_operation(
            "POST",
            "/1.0/instances",
            {
                "name": f"other-{number}",
                "type": "virtual-machine",
                "source": {"type": "none"},
                "devices": {
                    "root": {"type": "disk", "path": "/", "pool": facts.pool, "size": "16MiB"},
                    "eth0": {"type": "nic", "network": facts.network},
                },
            },
        )
        connection.run_operation(
            "POST",
            f"/1.0/storage-pools/{facts.pool}/volumes/custom",
            {"name": f"other-{number}", "content_type": "block", "config": {"size": "8MiB"}},
        )


def progress(text: str) -> None:
    """Write a line to stderr."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown. The first column is text, the others are numbers."""
    lines = [f"| {' | '.join(cells)} |" for cells in (header, *rows)]
    lines.insert(1, f"|---|{'---:|' * (len(header) - 1)}")
    return re.sub(" +\\|", " |", "\n".join(lines))
