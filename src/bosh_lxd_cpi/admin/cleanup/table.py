"""An inventory as a table for people and as objects for programs."""

from __future__ import annotations

import time
from collections.abc import Iterable

from bosh_lxd_cpi.admin.inventory import Inventory, Resource

COLUMNS = ("KIND", "AGE", "SIZE", "POOL", "DEPLOYMENT", "INSTANCE", "DIRECTOR", "STATE", "USED BY", "CID")
"""The CID is the last column, because that of a snapshot is twice as long as others."""
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


def as_table(inventory: Inventory, resources: Iterable[Resource], *, now: float) -> str:
    """Return aligned columns. UUIDs of directors and fingerprints of images are shortened."""
    rows = [COLUMNS, *(_row(resource, inventory, now) for resource in resources)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


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


def _row(resource: Resource, inventory: Inventory, now: float) -> tuple[str, ...]:
    director = inventory.directors.get(resource.director, resource.director)
    is_fingerprint = resource.cid.isalnum()
    cells = (
        resource.kind,
        age(None if resource.created is None else now - resource.created),
        size(resource.size),
        resource.place or "-",
        resource.deployment or "-",
        resource.instance or "-",
        director[:SHORT_UUID],
        resource.state or "-",
        ",".join(resource.used_by) or "-",
        resource.cid[:SHORT_FINGERPRINT] if is_fingerprint else resource.cid,
    )
    return tuple(_printable(cell) for cell in cells)


def _printable(text: str) -> str:
    """Return the text without characters that a terminal could interpret."""
    return "".join(character if character.isprintable() else "?" for character in text)


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
