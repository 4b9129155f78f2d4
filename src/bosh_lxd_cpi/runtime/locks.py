"""Named locks among the processes of one machine.

create_vm holds a lock with the name of its VM from before its first change until after its last one, and the kernel
releases the lock when the process dies. So cleanup sees which creations run, and calls that change the same object wait
for each other. All calls of one director run on one machine, and so does its cleanup.

A process removes the file of its lock when it releases the lock. So if no process holds a file, its process was killed.
The incomplete resources of that process can be removed at once.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.runtime import lock_files
from bosh_lxd_cpi.runtime.lock_files import FREE, HELD, lock, make_directory
from bosh_lxd_cpi.runtime.log import Log

POLL_SECONDS = 0.2
PREFIX = "creating-"


@contextlib.contextmanager
def exclusive(
    directory: str, name: str, *, log: Log, sleep: Callable[[float], object], required: bool = False
) -> Iterator[None]:
    """Hold the lock `name` in this context, after other processes have released it.

    `sleep` pauses between two attempts, and raises when the call has no time left. If the lock file cannot be used, the
    call continues without the lock and logs a warning, or raises LockUnavailable when the lock is `required`.
    """
    path = lock_path(directory, name)
    try:
        make_directory(directory)
        descriptor = lock(path)
        if descriptor is None:
            log.info(f"waiting for the call that holds the lock {name}")
        while descriptor is None:
            sleep(POLL_SECONDS)
            descriptor = lock(path)
    except OSError as failure:
        if required:
            raise errors.LockUnavailable(
                f"the lock {path} cannot be used: {failure.strerror or failure}", code="no_lock_directory"
            ) from failure
        log.warn(f"continuing without the lock {path}: {failure.strerror or failure}")
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(descriptor)


def is_held(directory: str, name: str) -> bool:
    """Return whether a process on this machine holds the lock. Raises OSError if the lock file cannot be used."""
    return lock_files.state(lock_path(directory, name)) == HELD


def is_abandoned(directory: str, name: str) -> bool:
    """Return whether a process on this machine was killed while it held the lock. Raises OSError."""
    return lock_files.state(lock_path(directory, name)) == FREE


def abandoned(directory: str) -> set[str]:
    """Return the names of the locks whose holders were killed. Raises OSError if the directory cannot be used."""
    try:
        names = [file.removeprefix(PREFIX) for file in lock_files.names(directory, PREFIX)]
    except FileNotFoundError:
        return set()
    return {name for name in names if is_abandoned(directory, name)}


def remove_abandoned(directory: str, name: str, *, created_before: float) -> None:
    """Remove the file of a lock that no process holds, if it is older than a time in Unix seconds. Raises OSError."""
    path = lock_path(directory, name)
    with contextlib.suppress(FileNotFoundError):
        if os.stat(path).st_mtime < created_before:
            lock_files.state(path, remove_if_free=True)


def lock_path(directory: str, name: str) -> str:
    """Return the path of the lock file."""
    return os.path.join(directory, f"{PREFIX}{name}")
