"""Time and new names, in one place that a test or a replay can take over."""

from __future__ import annotations

import os
import time

from bosh_lxd_cpi import errors


class Clock:
    """The machine's own time and randomness."""

    def time(self) -> float:
        """Unix seconds."""
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def random_hex(self, digits: int) -> str:
        return os.urandom(digits).hex()[:digits]

    def now(self) -> str:
        """UTC, as 2026-01-31T23:59:59Z."""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.time()))


class Deadline:
    """The moment at which a whole call must be over; passed down instead of timeouts."""

    def __init__(self, clock: Clock, seconds: float, *, what: str = "the call") -> None:
        self.clock, self.seconds, self.what = clock, seconds, what
        self._end = clock.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds left. Raises DeadlineExceeded when there are none."""
        left = self._end - self.clock.monotonic()
        if left <= 0:
            raise errors.DeadlineExceeded(f"{self.what} did not finish within {self.seconds:g} seconds")
        return left

    def sleep(self, seconds: float) -> None:
        """Sleep, but never past the deadline."""
        self.clock.sleep(min(seconds, self.remaining()))
