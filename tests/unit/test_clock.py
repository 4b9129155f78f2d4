from __future__ import annotations

import re
import time

import pytest

from bosh_lxd_cpi.errors import DeadlineExceeded
from bosh_lxd_cpi.runtime.clock import Clock, Deadline


def test_uses_the_time_of_the_machine(real_time):
    clock = Clock()
    assert abs(clock.time() - time.time()) < 60 and abs(clock.monotonic() - time.monotonic()) < 60
    before = clock.monotonic()
    clock.sleep(0.001)
    assert clock.monotonic() > before
    assert re.fullmatch(r"20\d\d-[01]\d-[0-3]\dT[012]\d:[0-5]\d:[0-6]\dZ", clock.now())


@pytest.mark.parametrize("digits", [1, 7, 12, 32])
def test_random_hex_has_the_requested_length(digits):
    drawn = {Clock().random_hex(digits) for _ in range(100)}
    assert all(re.fullmatch(f"[0-9a-f]{{{digits}}}", number) for number in drawn)
    assert len(drawn) > 90 or digits == 1


def test_now_is_utc(clock, monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert clock.now() == "2026-01-31T10:00:00Z"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_deadline_returns_the_remaining_time(clock):
    deadline = Deadline(clock, 10, what="create_vm")
    assert deadline.remaining() == 10
    clock.sleep(9.5)
    assert deadline.remaining() == 0.5
    clock.sleep(0.5)
    with pytest.raises(DeadlineExceeded, match=r"^create_vm did not finish within 10 seconds$"):
        deadline.remaining()


def test_sleep_ends_at_the_deadline(clock):
    deadline = Deadline(clock, 10)
    deadline.sleep(4)
    deadline.sleep(30)
    assert clock.slept == [4, 6]
    with pytest.raises(DeadlineExceeded):
        deadline.sleep(1)
    assert clock.slept == [4, 6]
