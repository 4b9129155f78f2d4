"""Which creations and moves are under way on this machine, for cleanup to leave alone and for others to wait for.

create_vm holds a lock named after the VM from before its first request to after its last; the kernel drops it when the
process dies. All calls of one director run on one machine, and so does its cleanup.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator

from bosh_lxd_cpi.runtime import throttle
from bosh_lxd_cpi.runtime.log import Log

PAUSE = 0.2
"""Seconds between two looks at a lock that another call holds."""


@contextlib.contextmanager
def creating(directory: str, name: str, log: Log, *, sleep: Callable[[float], object]) -> Iterator[None]:
    """Say that `name` is being made, once nobody else says so; `sleep` raises when that takes too long.

    Without a usable directory there is no lock, and cleanup has only the age to go by.
    """
    try:
        throttle.make_directory(directory)
        lock = throttle.lock(_path(directory, name))
        if lock is None:
            log.info(f"waiting for another call to be done with {name}")
        while lock is None:
            sleep(PAUSE)
            lock = throttle.lock(_path(directory, name))
    except OSError as failure:
        log.debug(f"no lock for {name}: {failure}")
        yield
        return
    try:
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
