"""Limit how many calls put load on the server at the same time, for all processes and users of this machine.

A directory has the files `slot-00`, `slot-01` and so on. A call holds a slot while it has a flock on the file. Files of
free slots stay.

A waiting call first takes a ticket, so that no later call overtakes it: a file `ticket-<monotonic ns>-<pid>`, also with
a flock, which is removed when its call has a slot. Only the call with the oldest ticket in use tries the slots. The
next call removes a ticket whose process has died. A stopped process (SIGSTOP) keeps its ticket and its slot; the calls
behind it run into their own `wait`.
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
from bosh_lxd_cpi.runtime import lock_files
from bosh_lxd_cpi.runtime.lock_files import HELD, lock, make_directory

POLL_SECONDS = 0.1
"""Pause between two attempts. Forty waiting calls use about seven percent of one core."""

UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|h|m|s)")


class Settings(NamedTuple):
    """`hold` and `wait` are seconds; 0 means no limit."""

    enabled: bool
    path: str
    limit: int
    hold: float
    wait: float


class Holder(NamedTuple):
    """A call that holds a slot, as it wrote itself into the slot file. `pid` is valid in its own PID namespace."""

    slot: str
    label: str
    since: str
    pid: str


def duration(text: str | int | float) -> float:
    """Return the seconds of a number or of "2m", "90s", "1h30m", "500ms" (as in the Go CPI). Raises ValueError."""
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
    """Hold a slot in this context.

    `label` is one line that names the holder to others: method and request id. After `hold` seconds the slot is
    released with a line to `log`, while the work in the context continues. Raises ThrottleTimeout with the holders if
    no slot becomes free within `wait` seconds, and ConfigError if the directory cannot be used.
    """
    if not settings.enabled:
        yield
        return
    begin = clock()
    try:
        descriptors = [_acquire(settings, settings.wait or math.inf, clock=clock, sleep=sleep)]
    except OSError as failure:
        raise errors.ConfigError(
            f"the throttle's directory {directory(settings.path)} cannot be used: {failure}", code="no_lock_directory"
        ) from failure
    _write(descriptors[0], f"{os.getpid()}\t{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}\t{label}\n")
    if clock() - begin >= POLL_SECONDS:
        log(f"waited {clock() - begin:.1f} s for a throttle slot")

    def expire() -> None:
        if _release(descriptors):
            log(f"released the throttle slot after {settings.hold:g} s; the call continues")

    timer = threading.Timer(settings.hold, expire)
    timer.daemon = True
    if settings.hold:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        _release(descriptors)


def directory(path: str) -> str:
    """Return the directory of the slots: `path`, or PATH.d where the Go CPI has or had its socket."""
    with suppress(OSError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            return path + ".d"
    return path + ".d" if path.endswith(".sock") else path


def holders(path: str) -> list[Holder]:
    """Return the calls that hold a slot now, none if there is no directory. Raises OSError if it cannot be read.

    Each slot is locked for an instant, shared, to find out. A call that tries a free slot in this instant finds it busy
    and takes it at its next attempt.
    """
    result = []
    path = directory(path)
    with suppress(FileNotFoundError):
        for name in lock_files.names(path, "slot-"):
            file = os.path.join(path, name)
            if lock_files.state(file) == HELD:
                line = lock_files.read(file).partition("\n")[0]
                pid, since, label = [*line.split("\t", 2), "", "", ""][:3]
                result.append(Holder(name, label, since, pid))
    return result


def _acquire(settings: Settings, wait: float, *, clock: Callable[[], float], sleep: Callable[[float], object]) -> int:
    """Return the locked descriptor of a slot."""
    end = clock() + wait
    path = directory(settings.path)
    make_directory(path)
    ticket, ticket_descriptor = _take_ticket(path)
    try:
        while True:
            if _is_next(path, ticket):
                for number in range(settings.limit):
                    descriptor = lock(os.path.join(path, f"slot-{number:02}"))
                    if descriptor is not None:
                        return descriptor
            remaining = end - clock()
            if remaining <= 0:
                names = ", ".join(f"{holder.label} since {holder.since}" for holder in holders(path))
                raise errors.ThrottleTimeout(
                    f"no throttle slot became free within {wait:.0f} seconds; holders: {names or 'none'}",
                    code="throttled",
                )
            sleep(min(POLL_SECONDS, remaining))
            make_directory(path)  # a cleaner of temporary files may have removed it
    finally:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(path, ticket))
        os.close(ticket_descriptor)


def _release(descriptors: list[int]) -> bool:
    """Release the slot unless that is done. `pop` is atomic, so the timer and the end of the work do not collide."""
    try:
        descriptor = descriptors.pop()
    except IndexError:
        return False
    _write(descriptor, "")
    fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child process may have inherited the descriptor
    os.close(descriptor)
    return True


def _write(descriptor: int, text: str) -> None:
    with suppress(OSError):  # on a full disk, only the name of the holder is missing
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)


def _take_ticket(path: str) -> tuple[str, int]:
    while True:
        # All processes share the monotonic clock, and it is never set back.
        ticket = f"ticket-{time.monotonic_ns():020}-{os.getpid()}"
        descriptor = lock(os.path.join(path, ticket))
        if descriptor is not None:
            return ticket, descriptor


def _is_next(path: str, ticket: str) -> bool:
    """Return whether no older ticket is in use. A ticket that a cleaner removed keeps its turn."""
    for name in lock_files.names(path, "ticket-"):
        if name >= ticket:
            break
        if lock_files.state(os.path.join(path, name), remove_if_free=True) == HELD:
            return False
    return True
