"""Clocks for tests."""

from __future__ import annotations

from bosh_lxd_cpi.runtime.clock import Clock


class ManualClock(Clock):
    """A clock that starts at 2026-01-31T10:00:00Z and advances only by `sleep`.

    `slept` lists the durations in seconds. `random_hex` returns a counter.
    """

    def __init__(self) -> None:
        self.now_is = 1769853600.0
        self.slept: list[float] = []
        self._counter = 0

    def time(self) -> float:
        return self.now_is

    def monotonic(self) -> float:
        return self.now_is

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_is += seconds

    def random_hex(self, digits: int) -> str:
        self._counter += 1
        return f"{self._counter:0{digits}x}"


class PastClock(Clock):
    """The clock of the system, slow by a number of seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def time(self) -> float:
        return super().time() - self.seconds
