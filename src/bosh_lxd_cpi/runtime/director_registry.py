"""The directors that make calls from this machine, as empty files beside the locks.

No property holds a director's UUID: the director makes one up when it first starts. Each call brings it along, so
create_vm notes it here, and cleanup reads it.
"""

from __future__ import annotations

import contextlib
import os
import re

PREFIX = "director-"
UUID = re.compile(r"[0-9A-Za-z-]{1,64}")


def remember(directory: str, uuid: str) -> None:
    """Note that `uuid` makes calls here, as an empty file beside the locks. Where that cannot be, cleanup has to be told."""
    if UUID.fullmatch(uuid):
        with contextlib.suppress(OSError):
            os.close(os.open(os.path.join(directory, PREFIX + uuid), os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o660))


def known(directory: str) -> list[str]:
    """The UUIDs of the directors that made VMs from this machine."""
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    return sorted(name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX))
