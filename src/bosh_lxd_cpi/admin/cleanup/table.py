"""An inventory as a table for people and as objects for programs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence

from bosh_lxd_cpi.admin import inventory as kinds
from bosh_lxd_cpi.admin.inventory import Inventory, Resource
from bosh_lxd_cpi.admin.output import FAIL, WARN, Terminal, count, names, printable
from bosh_lxd_cpi.model import naming

COLUMNS = ("KIND", "AGE", "SIZE", "POOL", "DEPLOYMENT", "INSTANCE", "DIRECTOR", "STATE", "USED BY", "CID")
"""The CID is the last column, because that of a snapshot is twice as long as others."""
OPTIONAL_COLUMNS = ("USED BY", "DIRECTOR", "POOL", "SIZE", "INSTANCE", "DEPLOYMENT", "AGE")
"""The columns that a narrow terminal does not show, the first of them first."""
STATUSES = {kinds.FAILED: FAIL, **dict.fromkeys((kinds.INCOMPLETE, kinds.ORPHAN, kinds.UNUSED, kinds.NO_ALIAS), WARN)}
"""The states whose lines have a color."""
UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
SHORT_UUID, SHORT_FINGERPRINT = 8, 12
MIB_PER_GIB = 1024
MAX_MIB = 10 * MIB_PER_GIB
"""Larger sizes are shown in GiB."""


def as_objects(
    inventory: Inventory, resources: Iterable[Resource], *, now: float, cpi: str = ""
) -> list[dict[str, object]]:
    """Return JSON objects. Ages are in seconds, sizes in MiB; values that the server does not return are null.

    `cpi` is the name of the CPI in a cpi-config.
    """
    return [{**_object(resource, inventory, now), "cpi": cpi} for resource in resources]


def as_table(inventory: Inventory, resources: Sequence[Resource], *, now: float, terminal: Terminal) -> str:
    """Return aligned columns and a line with the numbers. UUIDs of directors and fingerprints are shortened.

    On a terminal, the CID of a snapshot is shortened, too.
    """
    rows = [_row(resource, inventory, now, is_short=terminal.width is not None) for resource in resources]
    header, *lines = terminal.table(COLUMNS, rows, optional=OPTIONAL_COLUMNS)
    states = [STATUSES.get(resource.state, "") for resource in resources]
    return "\n".join([header, *map(terminal.color, lines, states), summary(resources)])


def summary(resources: Sequence[Resource]) -> str:
    """Return one line with the number of resources, of each kind, and in each state of unused resources."""
    numbers = Counter(resource.kind for resource in resources)
    states = Counter(resource.state for resource in resources if resource.state)
    parts = [f"{number} {kind}" for kind, number in (*numbers.items(), *sorted(states.items()))]
    return f"{count(len(resources), 'resource')}{': ' if parts else ''}{', '.join(parts)}"


def _object(resource: Resource, inventory: Inventory, now: float) -> dict[str, object]:
    created = None if resource.created is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(resource.created))
    return {
        "kind": resource.kind,
        "cid": resource.cid,
        "director": inventory.directors.get(resource.director, resource.director),
        "deployment": resource.deployment,
        "instance": resource.instance,
        "created_at": created,
        "age": None if resource.created is None else max(0, int(now - resource.created)),
        "size": resource.size,
        "pool": resource.pool,
        "location": resource.location,
        "used_by": list(resource.used_by),
        "state": resource.state,
    }


def _row(resource: Resource, inventory: Inventory, now: float, *, is_short: bool) -> tuple[str, ...]:
    director = inventory.directors.get(resource.director, resource.director)
    cells = (
        resource.kind,
        age(None if resource.created is None else now - resource.created),
        size(resource.size),
        resource.place or "-",
        resource.deployment or "-",
        resource.instance or "-",
        director[:SHORT_UUID],
        resource.state or "-",
        names(resource.used_by, "VM") if resource.used_by else "-",
        _short_cid(resource) if is_short or resource.cid.isalnum() else resource.cid,
    )
    return tuple(map(printable, cells))


def _short_cid(resource: Resource) -> str:
    if resource.kind == kinds.SNAPSHOT and (parts := naming.split_snapshot_cid(resource.cid)):
        return f"..._{parts[1]}"
    return resource.cid[:SHORT_FINGERPRINT] if resource.cid.isalnum() else resource.cid


def age(seconds: float | None) -> str:
    """Return an age in the largest unit that gives at least 1."""
    if seconds is None:
        return "?"
    unit, length = next(((unit, length) for unit, length in UNITS if seconds >= length), UNITS[-1])
    return f"{max(0, int(seconds // length))}{unit}"


def size(mib: float | None) -> str:
    """Return a size in KiB, MiB or GiB."""
    if mib is None:
        return "?"
    if mib < 1:
        return f"{mib * 1024:.0f}KiB"
    return f"{mib:.0f}MiB" if mib < MAX_MIB else f"{mib / MIB_PER_GIB:.0f}GiB"
