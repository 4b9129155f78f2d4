"""Time and space of VMs by storage driver and root_disk, with a stemcell of realistic size."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from tests.host import server
from tests.host.bench.lifecycle import large_stemcell, markdown, progress
from tests.host.bench.processes import Cpi, install, namespace, write_configuration
from tests.host.director import environment, manual_network
from tests.host.kinds import KINDS
from tests.host.processes import enter_command
from tests.host.tiny_stemcell import STEMCELL, VM, Connection

DRIVERS = ("btrfs", "dir")
ROOT_DISKS = (0, 5120, 10240, 20480)
VIRTUAL_MIB, DATA_MIB = 5120, 1300


def measure(scratch: Path, *, host: str) -> dict[str, Any]:
    """Return the costs of the first and of a further VM, for each driver and root_disk."""
    progress(f"writing a stemcell of {VIRTUAL_MIB} MiB with {DATA_MIB} MiB of data")
    home, image, rows = install(scratch), large_stemcell(scratch, mib=VIRTUAL_MIB, data_mib=DATA_MIB), []
    for driver in DRIVERS:
        with server.temporary_host("incus", name=host, pool=driver) as facts:
            config = write_configuration(facts, scratch)
            cpi = Cpi([*namespace(facts), str(home / "bin/cpi"), "--config", str(config)], scratch)
            for root_disk in ROOT_DISKS:
                progress(f"{driver}, root_disk {root_disk or 'not set'}")
                rows.append({"driver": driver, "root_disk": root_disk, **_costs(cpi, facts, image, root_disk)})
    return {"rows": rows}


def _costs(cpi: Cpi, facts: server.Facts, image: Path, root_disk: int) -> dict[str, Any]:
    """Return seconds and MiB of the first VM of a new stemcell, and of a second one."""
    cid = cpi.call("create_stemcell", str(image), {**STEMCELL, "disk": VIRTUAL_MIB, "version": str(root_disk)})
    costs, vms = {}, []
    for number, name in enumerate(("first", "further")):
        before = _used_mib(facts)
        networks = {"default": manual_network(f"10.245.0.{61 + number}")}
        vms.append(cpi.call("create_vm", "a", cid, {**VM, "root_disk": root_disk}, networks, [], environment())[0])
        costs[name] = {"seconds": cpi.samples["create_vm"][-1].wall, "mib": _used_mib(facts) - before}
    for vm in vms:
        cpi.call("delete_vm", vm)
    cpi.call("delete_stemcell", cid)
    return costs


def _used_mib(facts: server.Facts) -> float:
    """Return the MiB that the pool uses. A pool of directories shares its file system, so its files are counted."""
    pool = f"{KINDS[facts.kind].var}/storage-pools/{facts.pool}"
    if facts.driver == "dir":
        command = enter_command(facts.name, "du", "--summarize", "--block-size=1M", pool)
        return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[0])
    subprocess.run(
        enter_command(facts.name, "btrfs", "filesystem", "sync", pool), stdout=subprocess.DEVNULL, check=True
    )
    space = Connection(facts).query("GET", f"/1.0/storage-pools/{facts.pool}/resources")["space"]
    return float(space["used"]) / (1 << 20)


def table(result: dict[str, Any]) -> str:
    """Return a row for each driver and root_disk."""
    header = ["driver", "root_disk MiB", "first VM s", "MiB", "further VM s", "MiB"]
    rows = [
        [
            row["driver"],
            str(row["root_disk"] or "not set"),
            *(f"{row[name][key]:.{digits}f}" for name in ("first", "further") for key, digits in DIGITS.items()),
        ]
        for row in result["rows"]
    ]
    return f"Stemcell of {VIRTUAL_MIB} MiB with {DATA_MIB} MiB of data.\n\n{markdown(header, rows)}"


DIGITS = {"seconds": 1, "mib": 0}
