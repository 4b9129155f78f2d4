"""The servers that are clusters, as empty files in the lock directory.

create_disk needs the member of the VM on a cluster only. So a call that reads the server's properties records here that
it is a cluster, and create_disk on a single server sends no request for the VM.
"""

from __future__ import annotations

import contextlib
import hashlib
import os

from bosh_lxd_cpi.runtime import lock_files


def remember(directory: str, url: str) -> None:
    """Record that the server is a cluster. Without a usable directory, nothing is recorded."""
    with contextlib.suppress(OSError):
        lock_files.make_directory(directory)
        lock_files.touch(_path(directory, url))


def is_known(directory: str, url: str) -> bool:
    """Return whether the server is known to be a cluster."""
    try:
        return lock_files.modified(_path(directory, url)) > 0
    except OSError:
        return False


def _path(directory: str, url: str) -> str:
    return os.path.join(directory, f"cluster-{hashlib.sha256(url.encode()).hexdigest()[:12]}")
