"""At most `limit` calls make the server work at once, however many processes BOSH starts, under however many users.

A directory holds the files `slot-00`, `slot-01` ... A call is inside while it has a flock on one of them. The kernel
drops the flock of a process that dies, so a crash, kill -9 or reboot frees a slot at once, and nobody is ever judged
by its pid, which means nothing to workers in other PID namespaces. Slot files stay when they are free.

Polling alone would let a late comer be lucky for ever, so whoever comes draws a ticket first: a file
`ticket-<monotonic ns>-<pid>`, also under a flock, removed once its owner is inside. Only the owner of the oldest living
ticket tries the slots. From the moment that a ticket is locked, everybody who comes later finds it older than his own
and waits behind it: later comers overtake nobody. Dead tickets are removed by whoever stands right behind them.
A stopped (SIGSTOP) process keeps its turn as it keeps its slot; those behind it run into their own `wait`.
"""

from __future__ import annotations

import fcntl
import math
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from bosh_lxd_cpi import errors

POLL = 0.1
"""Seconds between two looks at the queue; forty waiters cost some seven percent of one core."""

UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|h|m|s)")


class Settings(NamedTuple):
    """`hold` and `wait` are seconds; 0 means without end."""

    enabled: bool
    path: str
    limit: int
    hold: float
    wait: float


class Holder(NamedTuple):
    """Who is inside, as he wrote himself into his slot file; `pid` counts in his own PID namespace."""

    slot: str
    label: str
    since: str
    pid: str


def duration(text: str | int | float) -> float:
    """Seconds in "2m", "90s", "1h30m", "500ms" (as go-lxd-cpi writes them) or in a plain number. Raises ValueError."""
    with suppress(TypeError, ValueError):
        seconds = float(text)
        if not isinstance(text, bool) and 0 <= seconds < math.inf:
            return seconds
    parts = _PART.findall(str(text))
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration; write 2m, 90s, 1h30m, 500ms or a number of seconds")
    return sum(float(number) * UNITS[unit] for number, unit in parts)


@contextmanager
def slot(
    settings: Settings,
    *,
    label: str,
    log: Callable[[str], object],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> Iterator[None]:
    """Stay inside this context in one of the slots, waiting for it no longer than `wait` seconds.

    `label` is one line that tells others who holds the slot: method and request id. After `hold` seconds the slot is
    given up, with a line to `log`, while the work in the context goes on.
    Raises ThrottleTimeout naming the holders, or ConfigError at once when the directory cannot be used.
    """
    if not settings.enabled:
        yield
        return
    begin = clock()
    try:
        held = [_enter(settings, settings.wait or math.inf, clock, sleep)]
    except OSError as failure:
        raise errors.ConfigError(
            f"the throttle's directory {directory(settings.path)} cannot be used: {failure}",
            code="no_lock_directory",
        ) from failure
    _write(held[0], f"{os.getpid()}\t{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}\t{label}\n")
    if clock() - begin >= POLL:
        log(f"waited {clock() - begin:.1f} s for a throttle slot")

    def expire() -> None:
        if _leave(held):
            log(f"gave up its throttle slot after {settings.hold:g} s and goes on without")

    timer = threading.Timer(settings.hold, expire)
    timer.daemon = True
    if settings.hold:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        _leave(held)


def directory(path: str) -> str:
    """Where the slots are: at `path`, but beside it, as PATH.d, where go-lxd-cpi has or had its socket."""
    with suppress(OSError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            return path + ".d"
    return path + ".d" if path.endswith(".sock") else path


def holders(path: str) -> list[Holder]:
    """Everybody who is inside now; none if there is no directory. Raises OSError if it cannot be read.

    To find out, each slot is locked for an instant, shared: two readers don't see each other, and a call that meets
    one at a free slot takes it for busy and has it at its next look, one POLL later.
    """
    found = []
    with suppress(FileNotFoundError):
        for name in sorted(os.listdir(directory(path))):
            file = os.path.join(directory(path), name)
            if name.startswith("slot-") and _is_locked(file):
                with open(file, encoding="utf-8", errors="replace") as text:
                    pid, since, label = (text.readline().rstrip("\n").split("\t", 2) + ["", "", ""])[:3]
                found.append(Holder(name, label, since, pid))
    return found


def _enter(settings: Settings, wait: float, clock: Callable[[], float], sleep: Callable[[float], object]) -> int:
    """The descriptor of a slot that is now ours."""
    end = clock() + wait
    place = directory(settings.path)
    make_directory(place)
    ticket, ticket_fd = _draw_ticket(place)
    try:
        while True:
            if _is_first(place, ticket):
                for number in range(settings.limit):
                    fd = lock(os.path.join(place, f"slot-{number:02}"))
                    if fd is not None:
                        return fd
            left = end - clock()
            if left <= 0:
                raise errors.ThrottleTimeout(
                    f"no throttle slot became free within {wait:.0f} seconds; holding one: "
                    + (", ".join(f"{holder.label} since {holder.since}" for holder in holders(place)) or "nobody"),
                    code="throttled",
                )
            sleep(min(POLL, left))
            make_directory(place)  # a cleaner may have taken the whole directory
    finally:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(place, ticket))
        os.close(ticket_fd)


def _leave(held: list[int]) -> bool:
    """Free the slot unless that is done already; a pop is atomic, so a timer and the end of the work don't collide."""
    try:
        fd = held.pop()
    except IndexError:
        return False
    _write(fd, "")
    fcntl.flock(fd, fcntl.LOCK_UN)  # closing alone would leave it locked by a child forked meanwhile
    os.close(fd)
    return True


def _write(fd: int, text: str) -> None:
    with suppress(OSError):  # on a full disk the name of a holder is missing, no more
        os.ftruncate(fd, 0)
        os.pwrite(fd, text.encode(), 0)


def _draw_ticket(place: str) -> tuple[str, int]:
    while True:
        # The monotonic clock is one for the whole machine and never set back; names are never used twice.
        ticket = f"ticket-{time.monotonic_ns():020}-{os.getpid()}"
        fd = lock(os.path.join(place, ticket))
        if fd is not None:
            return ticket, fd


def _is_first(place: str, ticket: str) -> bool:
    for name in sorted(os.listdir(place)):
        if not name.startswith("ticket-"):
            continue
        if name >= ticket:
            break
        if _is_locked(os.path.join(place, name), remove_if_not=True):
            return False
    return True  # even if a cleaner took our ticket: the turn stays ours, though those behind no longer see it


def _is_locked(path: str, *, remove_if_not: bool = False) -> bool:
    """Whether a living process has locked the file. It is removed under the lock: nobody can lock it and lose it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if remove_if_not:
            with suppress(FileNotFoundError):
                os.unlink(path)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def lock(path: str) -> int | None:
    """The descriptor of the file, locked, or None if somebody else has it.

    A file that was unlinked between open and flock is nobody's lock any more and counts as busy; the next look makes a
    new one. So does a hard link, lest root write into what another user wants written. What remains: if a cleaner
    removes the file of a slot that is held, its holder and the one who makes the new file are both inside. Cleaners
    go by age, and the holder's line renews a slot's age at every use.
    """
    fd = _open(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_nlink == 1:
            return fd
    except BlockingIOError:
        pass
    os.close(fd)
    return None


def _open(path: str) -> int:
    """The file for reading and writing, made if missing: 0666 whatever the umask, so that root's cron job and vcap's
    workers can share it; the directory, 0770, keeps others out.

    First without O_CREAT, which fs.protected_regular forbids for other users' files in a sticky directory.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        with suppress(FileNotFoundError):
            return os.open(path, flags)
        with suppress(FileExistsError):
            fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
            os.fchmod(fd, 0o666)
            return fd


def make_directory(place: str) -> None:
    """Make the directory and its parents, 0770; root gives each to the owner of the one above, who may come next."""
    if os.path.isdir(place):
        return
    above = os.path.dirname(os.path.abspath(place))
    make_directory(above)
    with suppress(FileExistsError):
        os.mkdir(place, 0o770)
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        os.fchmod(fd, 0o770)
        if os.geteuid() == 0:
            owner = os.stat(above)
            os.fchown(fd, owner.st_uid, owner.st_gid)
        os.close(fd)
