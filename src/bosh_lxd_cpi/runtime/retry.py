"""When to try again, and how long to wait before: one immutable value that callers pass in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from bosh_lxd_cpi.runtime.clock import Clock, Deadline


class RetryPolicy(NamedTuple):
    """How often and for how long to try again. All times are seconds.

    The pause doubles after each attempt, from `first_pause` to `longest_pause`. No attempt starts later than
    `total_seconds` after the first one, nor after `max_attempts` attempts (0: no limit).

        for attempt in policy.attempts(deadline):
            try:
                return send()
            except errors.Busy:
                if attempt.is_last:
                    raise

    The iterator sleeps between two attempts, so a loop cannot forget to.
    """

    total_seconds: float = 30.0
    """The default covers a restart of the server's daemon."""
    first_pause: float = 0.1
    longest_pause: float = 2.0
    max_attempts: int = 0

    def attempts(self, deadline: Deadline) -> Iterator[Attempt]:
        """Yield attempts until the policy ends them. Raises DeadlineExceeded."""
        end = deadline.clock.monotonic() + self.total_seconds
        number, pause = 1, self.first_pause
        while True:
            attempt = Attempt(number, max_attempts=self.max_attempts, latest=end - pause, clock=deadline.clock)
            yield attempt
            if attempt.is_last:
                return
            deadline.sleep(pause)
            number, pause = number + 1, min(2 * pause, self.longest_pause)


class Attempt:
    """One attempt under a policy."""

    def __init__(self, number: int, *, max_attempts: int, latest: float, clock: Clock) -> None:
        self.number = number
        self._max_attempts, self._latest, self._clock = max_attempts, latest, clock

    @property
    def is_last(self) -> bool:
        """Return whether no further attempt follows if this one fails now."""
        return self.number == self._max_attempts or self._clock.monotonic() > self._latest
