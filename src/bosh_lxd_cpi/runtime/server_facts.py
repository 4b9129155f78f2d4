"""Facts that a call finds out about a server, for later calls: empty files in the lock directory."""

from __future__ import annotations

import contextlib
import hashlib
import os

from bosh_lxd_cpi.runtime import lock_files

CLUSTER = "cluster"
"""The server is a cluster."""
FAILED = "failed"
"""A call did not reach the server at this URL."""


def record(directory: str, fact: str, url: str) -> None:
    """Record a fact at the current time. Without a usable directory, nothing is recorded."""
    with contextlib.suppress(OSError):
        lock_files.make_directory(directory)
        lock_files.touch(_path(directory, fact, url))


def recorded_at(directory: str, fact: str, url: str) -> float | None:
    """Return when the fact was recorded last, in Unix seconds, or None."""
    try:
        return lock_files.modified(_path(directory, fact, url))
    except OSError:
        return None


def _path(directory: str, fact: str, url: str) -> str:
    return os.path.join(directory, f"{fact}-{hashlib.sha256(url.encode()).hexdigest()[:12]}")
