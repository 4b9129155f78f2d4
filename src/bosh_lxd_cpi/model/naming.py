"""New names. The UUID in a CID says when it was made and for which director.

A config drive uploaded as an ISO volume can carry no mark of its own, and its name is all that is left of it when its VM
is gone; so the name tells cleanup whether the resource is ours, whose, and how old. Layout, as RFC 9562 allows in version 8:
48 bits of Unix milliseconds, 26 random bits, 48 bits of the director UUID's sha256. go-lxd-cpi's UUIDs are version 4.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from bosh_lxd_cpi.runtime.clock import Clock

UUID = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-([0-9a-f]{12})$")


class Origin(NamedTuple):
    """What an id of ours says: Unix seconds, and the director's digest."""

    created: float
    director: str


def director_digest(director_uuid: str) -> str:
    """Twelve hex digits that stand for a director."""
    return hashlib.sha256(director_uuid.encode()).hexdigest()[:12]


def new_id(clock: Clock, director_uuid: str) -> str:
    """A new UUID for something of this director's."""
    millis, random = f"{int(clock.time() * 1000):012x}"[-12:], clock.random_hex(7)
    variant = "89ab"[int(random[3], 16) % 4]
    return f"{millis[:8]}-{millis[8:]}-8{random[:3]}-{variant}{random[4:7]}-{director_digest(director_uuid)}"


def origin(name: str) -> Origin | None:
    """What the UUID at the end of a name says, or None when it is not one of ours."""
    match = UUID.search(name)
    return Origin(int(match[1] + match[2], 16) / 1000, match[3]) if match else None
