"""Which creations are under way on this machine, for cleanup to leave alone.

create_vm holds a lock named after the VM from before its first request to after its last; the kernel drops it when the
process dies. All calls of one director run on one machine, and so does its cleanup.
"""
from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from bosh_lxd_cpi.log import Log


@contextlib.contextmanager
def creating(directory: str, name: str, log: Log) -> Iterator[None]:
    """Say that `name` is being made. Without a usable directory cleanup has only the age to go by."""
    try:
        os.makedirs(directory, mode=0o770, exist_ok=True)
        lock = os.open(_path(directory, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o660)
    except OSError as failure:
        log.debug(f"no lock for {name}: {failure}")
        yield
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(_path(directory, name))
        os.close(lock)


def is_being_created(directory: str, name: str) -> bool:
    """Whether a process on this machine is making `name` right now. Raises OSError when it may not look."""
    try:
        lock = os.open(_path(directory, name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _path(directory: str, name: str) -> str:
    return os.path.join(directory, f"creating-{name}")
