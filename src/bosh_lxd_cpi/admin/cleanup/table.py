"""An inventory as a table for people and as JSON for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

from bosh_lxd_cpi.admin.inventory import Inventory, Resource

COLUMNS = ("KIND", "AGE", "SIZE", "POOL", "DEPLOYMENT", "INSTANCE", "DIRECTOR", "STATE", "USED BY", "CID")
"""The CID comes last: a snapshot's is twice as long as any other."""
UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def as_json(found: Inventory, resources: Iterable[Resource], *, now: float) -> str:
    """An array of objects; ages are seconds, sizes MiB, and null where the server does not know."""
    return json.dumps([_object(resource, found, now) for resource in resources], indent=1)


def as_table(found: Inventory, resources: Iterable[Resource], *, now: float) -> str:
    """Aligned columns; of a director's UUID the first eight characters, of an image without CID twelve."""
    rows = [COLUMNS, *(_row(resource, found, now) for resource in resources)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def _object(resource: Resource, found: Inventory, now: float) -> dict[str, object]:
    created = None if resource.created is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(resource.created))
    return {
        "kind": resource.kind,
        "cid": resource.cid,
        "director": found.directors.get(resource.director, resource.director),
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


def _row(resource: Resource, found: Inventory, now: float) -> tuple[str, ...]:
    director = found.directors.get(resource.director, resource.director)
    cells = (
        resource.kind,
        age(None if resource.created is None else now - resource.created),
        size(resource.size),
        resource.place or "-",
        resource.deployment or "-",
        resource.instance or "-",
        director[:8],
        resource.state or "-",
        ",".join(resource.used_by) or "-",
        resource.cid[:12] if resource.cid.isalnum() else resource.cid,
    )
    return tuple("".join(sign if sign.isprintable() else "?" for sign in cell) for cell in cells)


def age(seconds: float | None) -> str:
    """In the largest unit that it fills."""
    if seconds is None:
        return "?"
    unit, length = next(((unit, length) for unit, length in UNITS if seconds >= length), UNITS[-1])
    return f"{max(0, int(seconds // length))}{unit}"


def size(mib: float | None) -> str:
    """With the unit that leaves at most four digits."""
    if mib is None:
        return "?"
    if mib < 1:
        return f"{mib * 1024:.0f}KiB"
    return f"{mib:.0f}MiB" if mib < 10240 else f"{mib / 1024:.0f}GiB"
