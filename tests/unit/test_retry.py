from __future__ import annotations

import pytest

from bosh_lxd_cpi.errors import DeadlineExceeded
from bosh_lxd_cpi.runtime.clock import Deadline
from bosh_lxd_cpi.runtime.retry import RetryPolicy


@pytest.fixture
def deadline(clock):
    return Deadline(clock, 300)


def test_pauses_grow_to_the_longest(clock, deadline):
    policy = RetryPolicy(total_seconds=100, first_pause=1, longest_pause=4, max_attempts=5)
    assert [attempt.number for attempt in policy.attempts(deadline)] == [1, 2, 3, 4, 5]
    assert clock.slept == [1, 2, 4, 4]


def test_ends_before_the_total_time_is_exceeded(clock, deadline):
    policy = RetryPolicy(total_seconds=10, first_pause=1, longest_pause=4)
    assert len(list(policy.attempts(deadline))) == 4
    assert clock.slept == [1, 2, 4]


def test_the_time_of_an_attempt_counts(clock, deadline):
    attempts = 0
    for _ in RetryPolicy(total_seconds=10, first_pause=1).attempts(deadline):
        attempts += 1
        clock.sleep(9)
    assert attempts == 2


def test_the_last_attempt_is_known(deadline):
    policy = RetryPolicy(max_attempts=3)
    assert [attempt.is_last for attempt in policy.attempts(deadline)] == [False, False, True]


def test_the_deadline_ends_it(clock):
    with pytest.raises(DeadlineExceeded):
        for _ in RetryPolicy(total_seconds=1000).attempts(Deadline(clock, 5)):
            pass
    assert sum(clock.slept) == pytest.approx(5)


def test_is_immutable():
    with pytest.raises(AttributeError):
        RetryPolicy().first_pause = 1
