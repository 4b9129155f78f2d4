"""Files with a flock, in a directory that several users may share.

The kernel drops the flock of a process that dies, so a crash, kill -9 or a reboot releases it at once. Nothing depends
on a pid, which means nothing to workers in other PID namespaces.

In /tmp, every user can create the directory first. So each access opens the directory, checks who can write to it, and
opens the file below it. A file that is not regular is closed at once.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

HELD, FREE, MISSING = "held", "free", "missing"
"""State of a lock: a process holds the file; the file exists, but no process holds it; the file does not exist."""


def default_directory(parent: str) -> str:
    """Return the lock directory below a directory for temporary files: one for each user if all users write there."""
    with suppress(OSError):
        if os.stat(parent).st_mode & stat.S_IWOTH:
            return os.path.join(parent, f"lxd_cpi-{os.geteuid()}")
    return os.path.join(parent, "lxd_cpi")


def lock(path: str) -> int | None:
    """Return the descriptor of the locked file, or None if another process holds it. Raises OSError.

    A file that was unlinked between open and flock protects nothing and counts as held; the next attempt creates a new
    one. A hard link counts as held, too, so that root does not write to a file of another user. One gap remains: when a
    cleaner of the directory removes a file that is held, the holder and the process that creates the file anew both
    hold it. Such cleaners go by age, and each use of a slot renews its age.
    """
    descriptor = create(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink == 1:
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None


def state(path: str, *, remove_if_free: bool = False) -> str:
    """Return HELD, FREE or MISSING. Raises OSError if the file cannot be opened.

    A free file is removed under the lock, so no process can lock it in the same moment and lose it.
    """
    try:
        descriptor = _open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return MISSING
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if remove_if_free:
            with suppress(FileNotFoundError):
                os.unlink(path)
    except BlockingIOError:
        return HELD
    finally:
        os.close(descriptor)
    return FREE


def read(path: str) -> str:
    """Return the first 1000 bytes of a file. Raises OSError."""
    descriptor = _open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 1000).decode("utf-8", "replace")
    finally:
        os.close(descriptor)


def touch(path: str) -> None:
    """Create a file if it does not exist, and set the time of its modification. Raises OSError."""
    descriptor = create(path)
    try:
        os.utime(descriptor)
    finally:
        os.close(descriptor)


def modified(path: str) -> float:
    """Return the time of the last modification of a file in Unix seconds. Raises OSError."""
    descriptor = _open(path, os.O_RDONLY)
    try:
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)


def names(path: str, prefix: str) -> list[str]:
    """Return the sorted names of the files in a directory that start with a prefix, and that can be trusted.

    Raises OSError if the directory cannot be read or trusted.
    """
    with _opened(path) as directory:
        return sorted(
            name for name in os.listdir(directory) if name.startswith(prefix) and _is_trusted(name, directory)
        )


def create(path: str) -> int:
    """Open a file for reading and writing, and create it with mode 0666 if it does not exist. Raises OSError.

    The cron job of root and the workers of vcap share it. The mode of the directory keeps other users out. The first
    attempt is without O_CREAT, which fs.protected_regular forbids for files of other users in a sticky directory.
    """
    while True:
        with suppress(FileNotFoundError):
            return _open(path, os.O_RDWR)
        with suppress(FileExistsError):
            descriptor = _open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            os.fchmod(descriptor, 0o666)
            return descriptor


def _open(path: str, flags: int) -> int:
    """Open a regular file in a directory that can be trusted. O_NONBLOCK: a FIFO must not block the call."""
    with _opened(os.path.dirname(path)) as directory:
        flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(os.path.basename(path), flags, 0o666, dir_fd=directory)
        reason = _reason_against_file(os.fstat(descriptor), os.fstat(directory))
    if reason:
        os.close(descriptor)
        raise OSError(errno.EPERM, reason, path)
    return descriptor


def _is_trusted(name: str, directory: int) -> bool:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return not _reason_against_file(status, os.fstat(directory))


def _reason_against_file(status: os.stat_result, directory: os.stat_result) -> str:
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    is_own = status.st_uid in (os.geteuid(), 0, directory.st_uid)
    return "" if is_own or directory.st_mode & stat.S_IWGRP else "it belongs to another user"


@contextmanager
def _opened(path: str) -> Iterator[int]:
    """Open a directory whose files can be trusted. Raises OSError."""
    if os.path.islink(path):
        raise OSError(errno.ELOOP, "it is a symbolic link", path)
    descriptor = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if reason := _reason_against_directory(os.fstat(descriptor), os.stat("..", dir_fd=descriptor)):
            raise OSError(errno.EPERM, reason, path)
        yield descriptor
    finally:
        os.close(descriptor)


def check_directory(path: str) -> None:
    """Raise OSError if the directory cannot be opened or trusted."""
    with _opened(path):
        pass


def _reason_against_directory(status: os.stat_result, parent: os.stat_result) -> str:
    """Return why another user can have created the files in a directory, or "".

    It must belong to this user, to root, or to those who can replace it: the owner of its parent, or the group for
    which the parent is writable. So root's cron job uses the directory of the workers, whose user is vcap.
    """
    is_shared = status.st_gid == parent.st_gid and not parent.st_mode & stat.S_IWOTH
    if status.st_uid not in (os.geteuid(), 0, parent.st_uid) and not (is_shared and parent.st_mode & stat.S_IWGRP):
        return "it belongs to another user"
    if status.st_mode & stat.S_IWOTH:
        return "every user can write to it"
    if status.st_mode & stat.S_IWGRP and status.st_uid != 0 and not is_shared:
        return "its group can write to it"
    return ""


def make_directory(path: str) -> None:
    """Create a directory and its parents, if they do not exist. Raises OSError.

    root gives each directory to the owner and the group of its parent, because they may need it next. The group can
    write to the directory if it is the group of the parent, except in a directory that all users share.
    """
    if os.path.isdir(path):
        return
    parent = os.path.dirname(os.path.abspath(path))
    make_directory(parent)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        owner = os.stat(parent)
        if os.geteuid() == 0:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        is_shared = os.fstat(descriptor).st_gid == owner.st_gid and not owner.st_mode & stat.S_IWOTH
        os.fchmod(descriptor, 0o770 if is_shared else 0o700)
        os.close(descriptor)
