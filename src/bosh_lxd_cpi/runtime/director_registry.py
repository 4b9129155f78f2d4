"""The UUIDs of the directors that call the CPI on this machine, as empty files in the lock directory.

No property contains the UUID of a director, because the director generates it at its first start. Every call contains
it, so create_vm records it here and cleanup reads it.
"""

from __future__ import annotations

import contextlib
import os
import re

PREFIX = "director-"
UUID = re.compile(r"[0-9A-Za-z-]{1,64}")


def remember(directory: str, uuid: str) -> None:
    """Record the UUID of a director. Without a usable directory nothing is recorded, and cleanup needs --director."""
    if UUID.fullmatch(uuid):
        with contextlib.suppress(OSError):
            os.close(os.open(os.path.join(directory, PREFIX + uuid), os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o660))


def directors(directory: str) -> list[str]:
    """Return the UUIDs of the directors that created VMs from this machine."""
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    return sorted(name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX))
