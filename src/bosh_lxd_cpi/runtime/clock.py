"""Time and randomness. Tests and replays use another clock."""

from __future__ import annotations

import os
import time

from bosh_lxd_cpi import errors


class Clock:
    """The time and randomness of this machine."""

    def time(self) -> float:
        """Return Unix seconds."""
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def random_hex(self, digits: int) -> str:
        return os.urandom(digits).hex()[:digits]

    def now(self) -> str:
        """Return the time in UTC, such as 2026-01-31T23:59:59Z."""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.time()))


class Deadline:
    """The time at which a whole call has to end. Functions receive it instead of timeouts."""

    def __init__(self, clock: Clock, seconds: float, *, what: str = "the call") -> None:
        self.clock, self.seconds, self.what = clock, seconds, what
        self._end = clock.monotonic() + seconds

    def remaining(self) -> float:
        """Return the remaining seconds. Raises DeadlineExceeded."""
        remaining = self._end - self.clock.monotonic()
        if remaining <= 0:
            raise self.exceeded()
        return remaining

    def exceeded(self, detail: str = "") -> errors.DeadlineExceeded:
        """Return the error for the end of the time. `detail` describes what the server may still do."""
        what = f"{self.what} did not finish within {self.seconds:g} seconds"
        return errors.DeadlineExceeded(f"{what}: {detail}" if detail else what)

    @property
    def has_passed(self) -> bool:
        return self._end <= self.clock.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep, at most until the deadline. Raises DeadlineExceeded."""
        self.clock.sleep(min(seconds, self.remaining()))
