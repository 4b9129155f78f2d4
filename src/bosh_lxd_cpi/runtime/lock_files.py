"""Files with a flock, in a directory that several users share.

The kernel drops the flock of a process that dies, so a crash, kill -9 or a reboot releases it at once. Nothing depends
on a pid, which means nothing to workers in other PID namespaces.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress


def lock(path: str) -> int | None:
    """Return the descriptor of the locked file, or None if another process holds it. Raises OSError.

    A file that was unlinked between open and flock protects nothing and counts as held; the next attempt creates a new
    one. A hard link counts as held, too, so that root does not write to a file of another user. One gap remains: when a
    cleaner of the directory removes a file that is held, the holder and the process that creates the file anew both
    hold it. Such cleaners go by age, and each use of a slot renews its age.
    """
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink == 1:
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None


def is_locked(path: str, *, remove_if_free: bool = False) -> bool:
    """Return whether a process has locked the file. Raises OSError if the file cannot be opened.

    A free file is removed under the lock, so no process can lock it in the same moment and lose it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if remove_if_free:
            with suppress(FileNotFoundError):
                os.unlink(path)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _open(path: str) -> int:
    """Open the file for reading and writing, and create it with mode 0666 if it does not exist.

    The cron job of root and the workers of vcap share it. The mode 0770 of the directory keeps other users out. The
    first attempt is without O_CREAT, which fs.protected_regular forbids for files of other users in a sticky directory.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        with suppress(FileNotFoundError):
            return os.open(path, flags)
        with suppress(FileExistsError):
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
            os.fchmod(descriptor, 0o666)
            return descriptor


def make_directory(path: str) -> None:
    """Create a directory and its parents with mode 0770. Raises OSError.

    root gives each directory to the owner of its parent, because that user may need it next.
    """
    if os.path.isdir(path):
        return
    parent = os.path.dirname(os.path.abspath(path))
    make_directory(parent)
    with suppress(FileExistsError):
        os.mkdir(path, 0o770)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        os.fchmod(descriptor, 0o770)
        if os.geteuid() == 0:
            owner = os.stat(parent)
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        os.close(descriptor)
