"""The storage pool."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin.doctor.context import CheckContext
from bosh_lxd_cpi.admin.doctor.result import CheckResult
from bosh_lxd_cpi.lxd import pools, sizes
from bosh_lxd_cpi.lxd.features import Features

GIB = 1 << 30
NOTHING, LITTLE = 2 * GIB, 10 * GIB
"""Free bytes below which not even one stemcell may fit, and below which a deployment will hardly."""
STEMCELL_MIB = 5120.0
"""The root disk of Ubuntu stemcells for OpenStack."""
PREFERRED = ("zfs", "btrfs", "lvm", "dir")
IN_A_FILE = ("btrfs", "zfs", "lvm")
GROWING = "storage_pool_loop_resize"
GROW = 30
"""GiB; as much as the server gives a new pool in a file at most."""


def pool(patient: CheckContext, features: Features) -> Iterator[CheckResult]:
    """Whether it is there, has room, and makes no VM slow or impossible."""
    name, client = patient.server.storage_pool_name, patient.client()
    try:
        found: dict[str, Any] = client.pool(name).metadata
    except errors.CloudError as failure:
        if "not found" not in failure.brief:
            raise
        others = ", ".join(other for other in pools.names(client, name) if other != name)
        yield patient.fail(
            "pool",
            f"there is no storage pool {name}",
            "create_pool",
            pools=others or "none",
            driver=_best_driver(patient),
        )
        return
    patient.has_pool, driver, config = True, found["driver"], found.get("config") or {}
    if found.get("status", "Created") != "Created":
        yield patient.fail("pool", f"{name} is {found['status'].lower()}", "pool_pending")
        return
    free, total = _space(client.pool_space(name).metadata["space"])
    room = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free" if total else "free space unknown"
    faults = [*_root_disks(patient, name, config)]
    if total and free < LITTLE:
        make = patient.fail if free < NOTHING else patient.warn
        faults.insert(
            0,
            make(
                "pool",
                f"{name} has {room}",
                _growth(patient, driver, config),
                driver=driver,
                size=f"{-(-total // GIB) + GROW}GiB",
            ),
        )
    if driver == "dir":
        better = _best_driver(patient)
        if better != "dir":
            faults.append(
                patient.warn(
                    "pool",
                    f"{name} is a plain directory: every VM copies its whole stemcell",
                    "slow_pool",
                    driver=better,
                )
            )
    if features.clustered and driver in _remote_drivers(patient) and not patient.server.predeploy_stemcell:
        faults.append(
            patient.warn(
                "pool",
                f"{name} ({driver}) is shared by the cluster: the first VMs of a stemcell"
                " may fail when they are made at once",
                "predeploy",
            )
        )
    yield from faults or [patient.ok("pool", f"{name}, {driver}, {room}")]


def _drivers(patient: CheckContext) -> list[dict[str, Any]]:
    return patient.metadata["environment"].get("storage_supported_drivers") or []


def _best_driver(patient: CheckContext) -> str:
    names = {driver["Name"] for driver in _drivers(patient)}
    return next((driver for driver in PREFERRED if driver in names), "dir")


def _remote_drivers(patient: CheckContext) -> set[str]:
    return {driver["Name"] for driver in _drivers(patient) if driver.get("Remote")}


def _space(space: dict[str, int]) -> tuple[int, int]:
    """Free and total bytes; zeros where the driver does not know."""
    total = space.get("total") or 0
    return max(0, total - (space.get("used") or 0)), total


def _growth(patient: CheckContext, driver: str, config: dict[str, str]) -> str:
    """The problem that has the best hint for a full pool of this kind."""
    if driver not in IN_A_FILE or not config.get("source", "").endswith(".img"):
        return "no_space"
    return "grow_pool" if GROWING in patient.metadata["api_extensions"] else "larger_pool"


def _root_disks(patient: CheckContext, name: str, config: dict[str, str]) -> Iterator[CheckResult]:
    given = sizes.mib(config.get("volume.size", ""))
    if given is not None and given < STEMCELL_MIB:
        yield patient.warn(
            "pool",
            f"{name} gives root disks {config['volume.size']}, less than a stemcell's {STEMCELL_MIB:.0f}MiB",
            "small_root_disks",
        )
