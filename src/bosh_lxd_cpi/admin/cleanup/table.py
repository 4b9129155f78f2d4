"""An inventory as a table for people and as JSON for programs."""
from __future__ import annotations

import json
import time
from collections.abc import Iterable

from bosh_lxd_cpi.admin.inventory import Inventory, Thing

COLUMNS = ("KIND", "AGE", "SIZE", "POOL", "DEPLOYMENT", "INSTANCE", "DIRECTOR", "STATE", "USED BY", "CID")
"""The CID comes last: a snapshot's is twice as long as any other."""
UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def as_json(found: Inventory, things: Iterable[Thing], *, now: float) -> str:
    """An array of objects; ages are seconds, sizes MiB, and null where the server does not know."""
    return json.dumps([_object(thing, found, now) for thing in things], indent=1)


def as_table(found: Inventory, things: Iterable[Thing], *, now: float) -> str:
    """Aligned columns; of a director's UUID the first eight characters, of an image without CID twelve."""
    rows = [COLUMNS, *(_row(thing, found, now) for thing in things)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def _object(thing: Thing, found: Inventory, now: float) -> dict[str, object]:
    created = None if thing.created is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(thing.created))
    return {"kind": thing.kind, "cid": thing.cid, "director": found.directors.get(thing.director, thing.director),
            "deployment": thing.deployment, "instance": thing.instance, "created_at": created,
            "age": None if thing.created is None else max(0, int(now - thing.created)),
            "size": thing.size, "pool": thing.pool, "location": thing.location,
            "used_by": list(thing.used_by), "state": thing.state}


def _row(thing: Thing, found: Inventory, now: float) -> tuple[str, ...]:
    director = found.directors.get(thing.director, thing.director)
    cells = (thing.kind, age(None if thing.created is None else now - thing.created), size(thing.size),
             thing.place or "-", thing.deployment or "-", thing.instance or "-", director[:8], thing.state or "-",
             ",".join(thing.used_by) or "-", thing.cid[:12] if thing.cid.isalnum() else thing.cid)
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
