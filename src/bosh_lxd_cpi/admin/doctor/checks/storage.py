"""Checks the storage pool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin.doctor.context import CheckContext
from bosh_lxd_cpi.admin.doctor.result import CheckResult
from bosh_lxd_cpi.lxd import pools, sizes
from bosh_lxd_cpi.lxd.features import Features
from bosh_lxd_cpi.lxd.resources import PoolSpace, StoragePool

GIB = 1 << 30
FAIL_BELOW, WARN_BELOW = 2 * GIB, 10 * GIB
"""Free bytes: a single stemcell may not fit into less than the first, a deployment hardly into less than the second."""
STEMCELL_MIB = 5120.0
"""The root disk of Ubuntu stemcells for OpenStack."""
PREFERRED_DRIVERS = ("zfs", "btrfs", "lvm", "dir")
LOOP_DRIVERS = ("btrfs", "zfs", "lvm")
"""Drivers whose pools can be in a file."""
RESIZE_EXTENSION = "storage_pool_loop_resize"
GROWTH_GIB = 30
"""What the hints suggest to add: the server's own maximum for a new pool in a file."""


def pool(context: CheckContext, features: Features) -> Iterator[CheckResult]:
    """Check that the pool exists, has free space, and suits VMs."""
    name, client = context.server.storage_pool_name, context.client()
    try:
        storage_pool = client.pool(name)
    except errors.CloudError as failure:
        if "not found" not in failure.brief:
            raise
        others = ", ".join(other for other in pools.names(client, name) if other != name)
        driver = _best_driver(context)
        yield context.fail(
            "pool", f"there is no storage pool {name}", "create_pool", pools=others or "none", driver=driver
        )
        return
    context.has_pool = True
    if unusable := list(_unusable(context, storage_pool)):
        yield from unusable
        return
    spaces = {member: _space(context, name, member) for member in _places(context, storage_pool)}
    problems = [
        *_low_space(context, storage_pool, spaces),
        *_root_disks(context, storage_pool),
        *_driver(context, storage_pool, features),
    ]
    about, minimum = f"{name}, {storage_pool.driver}", pools.image_volume_size(storage_pool)
    roots = f", root disks of at least {minimum} MiB" if minimum and storage_pool.is_readable else ""
    place, space = min(spaces.items(), key=lambda item: item[1].free)
    free = f", {_text(space)}{_on(place)}" if space.total else ""
    yield from problems or [context.ok("pool", f"{about}{free}{roots}")]
    if not space.total:
        message = f"the server hides the space of {name}"
        yield context.skip("pool space", message, "hidden", command=f"storage info {name}")
    if not storage_pool.is_readable:
        message = f"the server hides the settings of {name}, such as volume.size"
        yield context.skip("pool settings", message, "hidden", command=f"storage show {name}")


def _unusable(context: CheckContext, storage_pool: StoragePool) -> Iterator[CheckResult]:
    """Yield a failure if the pool cannot be used, or cannot be used on some members."""
    name, missing = storage_pool.name, [member for member in context.members if member not in storage_pool.locations]
    if missing:
        message = f"{name} is missing on {', '.join(missing)}"
        yield context.fail("pool", message, "pool_pending", driver=storage_pool.driver, member=missing[0])
        return
    members = context.online_members or [""]
    statuses = {member: context.client().pool(name, target=member).status for member in members if member}
    for member, status in (statuses or {"": storage_pool.status}).items():
        if status not in ("", "Created"):
            code = "pool_unavailable" if status == "Unavailable" else "pool_pending"
            yield context.fail("pool", f"{name} is {status.lower()}{_on(member)}", code, driver=storage_pool.driver)


def _places(context: CheckContext, storage_pool: StoragePool) -> list[str]:
    """Return the online members if each has a part of the pool of its own, otherwise one empty name."""
    is_shared = storage_pool.driver in _remote_drivers(context)
    return [""] if is_shared else context.online_members or [""]


def _space(context: CheckContext, name: str, member: str) -> PoolSpace:
    """Return the space of a pool on a member. It is empty if the certificate may not read it, as an identity of LXD."""
    try:
        return context.client().pool_space(name, target=member)
    except errors.Forbidden as failure:
        return PoolSpace({}, endpoint=failure.brief)


def _on(member: str) -> str:
    return f" on {member}" if member else ""


def _text(space: PoolSpace) -> str:
    return f"{space.free / GIB:.1f} of {space.total / GIB:.1f} GiB free"


def _low_space(
    context: CheckContext, storage_pool: StoragePool, spaces: Mapping[str, PoolSpace]
) -> Iterator[CheckResult]:
    for member, space in spaces.items():
        if space.total and space.free < WARN_BELOW:
            problem = context.fail if space.free < FAIL_BELOW else context.warn
            message = f"{storage_pool.name} has {_text(space)}{_on(member)}"
            size = f"{-(-space.total // GIB) + GROWTH_GIB}GiB"
            yield problem("pool", message, _growth_hint(context, storage_pool), driver=storage_pool.driver, size=size)


def _growth_hint(context: CheckContext, storage_pool: StoragePool) -> str:
    """Return the code of the hint for a full pool of this kind."""
    is_file = str(storage_pool.config.get("source", "")).endswith(".img")
    if storage_pool.driver not in LOOP_DRIVERS or not is_file:
        return "no_space"
    return "grow_pool" if RESIZE_EXTENSION in context.server_info.api_extensions else "larger_pool"


def _root_disks(context: CheckContext, storage_pool: StoragePool) -> Iterator[CheckResult]:
    default_size = storage_pool.config.get("volume.size", "")
    size = sizes.mib(default_size)
    if size is not None and size < STEMCELL_MIB:
        yield context.warn(
            "pool",
            f"root disks in {storage_pool.name} have {default_size}, less than a stemcell's {STEMCELL_MIB:.0f}MiB",
            "small_root_disks",
        )


def _driver(context: CheckContext, storage_pool: StoragePool, features: Features) -> Iterator[CheckResult]:
    name, driver, best_driver = storage_pool.name, storage_pool.driver, _best_driver(context)
    if driver == "dir" and best_driver != "dir":
        message = f"{name} has the driver dir: every VM copies its whole stemcell"
        yield context.warn("pool", message, "slow_pool", driver=best_driver)
    if features.is_clustered and driver in _remote_drivers(context) and not context.server.predeploy_stemcell:
        message = f"the cluster shares {name} ({driver}): the first VMs of a stemcell may fail if created in parallel"
        yield context.warn("pool", message, "predeploy")


def _drivers(context: CheckContext) -> list[dict[str, Any]]:
    return context.server_info.environment.get("storage_supported_drivers") or []


def _best_driver(context: CheckContext) -> str:
    names = {driver["Name"] for driver in _drivers(context)}
    return next((driver for driver in PREFERRED_DRIVERS if driver in names), "dir")


def _remote_drivers(context: CheckContext) -> set[str]:
    return {driver["Name"] for driver in _drivers(context) if driver.get("Remote")}
