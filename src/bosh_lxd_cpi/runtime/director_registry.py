"""The UUIDs of the directors that call the CPI on this machine, as empty files in the lock directory.

No property contains the UUID of a director, because the director generates it at its first start. Every call contains
it, so create_vm records it here and cleanup reads it.
"""

from __future__ import annotations

import contextlib
import os
import re

from bosh_lxd_cpi.runtime import lock_files

PREFIX = "director-"
UUID = re.compile(r"[0-9A-Za-z-]{1,64}")


def remember(directory: str, uuid: str) -> None:
    """Record the UUID of a director. Without a usable directory nothing is recorded, and cleanup needs --director."""
    if UUID.fullmatch(uuid):
        with contextlib.suppress(OSError):
            os.close(lock_files.create(os.path.join(directory, PREFIX + uuid)))


def directors(directory: str) -> list[str]:
    """Return the UUIDs of the directors that created VMs from this machine, none if the directory cannot be used."""
    try:
        return [name.removeprefix(PREFIX) for name in lock_files.names(directory, PREFIX)]
    except OSError:
        return []
