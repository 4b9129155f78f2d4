from __future__ import annotations

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.runtime.rollback import Rollback


def test_when_all_goes_well_nothing_is_taken_back(log):
    done = []
    with Rollback(log, before=lambda: done.append("before")) as rollback:
        rollback.add("a", lambda: done.append("a"))
    assert done == []


@pytest.mark.parametrize("problem", [errors.CloudError("x"), KeyError("x"), KeyboardInterrupt(), SystemExit()])
def test_when_it_fails_the_last_thing_goes_first_and_the_cause_stays(log, problem):
    done = []
    with pytest.raises(type(problem)) as raised, Rollback(log, before=lambda: done.append("before")) as rollback:
        for name in "abc":
            rollback.add(name, lambda name=name: done.append(name))
        raise problem
    assert raised.value is problem
    assert done == ["before", "c", "b", "a"]
    assert [line.partition("test: ")[2] for line in log.stream.getvalue().splitlines()] == [
        "undoing c",
        "undoing b",
        "undoing a",
    ]


@pytest.mark.parametrize("problem", [errors.CloudError("no"), OSError("no"), KeyError("no"), TypeError("no")])
def test_a_step_that_fails_hides_neither_the_cause_nor_the_steps_before_it(log, problem):
    done = []

    def fail() -> None:
        raise problem

    with pytest.raises(errors.CloudError, match="^the cause$"), Rollback(log) as rollback:
        rollback.add("a", lambda: done.append("a"))
        rollback.add("b", fail)
        raise errors.CloudError("the cause")
    assert done == ["a"]
    assert f"warn  test: could not undo b: {problem}; bin/cleanup --list shows it" in log.stream.getvalue()


def test_a_step_that_a_signal_cut_short_is_done_again(log):
    done = []

    def step() -> None:
        done.append("a")
        if len(done) == 1:
            raise errors.Interrupted("stopped by SIGTERM")

    with pytest.raises(errors.CloudError, match="^the cause$"), Rollback(log) as rollback:
        rollback.add("a", step)
        raise errors.CloudError("the cause")
    assert done == ["a", "a"]


def test_without_steps_no_time_is_asked_for(log):
    asked = []
    with pytest.raises(KeyError), Rollback(log, before=lambda: asked.append(1)):
        raise KeyError("x")
    assert asked == []
