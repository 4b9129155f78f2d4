from __future__ import annotations

import os
import signal

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.runtime import signals
from bosh_lxd_cpi.runtime.rollback import Rollback


def prepare() -> str:
    return "context"


def test_runs_no_step_after_success(log):
    contexts = []
    with Rollback(log, prepare=prepare) as rollback:
        rollback.add("a", contexts.append)
    assert contexts == []


@pytest.mark.parametrize("problem", [errors.CloudError("x"), KeyError("x"), KeyboardInterrupt(), SystemExit()])
def test_runs_the_last_step_first_and_keeps_the_exception(log, problem):
    done = []
    with pytest.raises(type(problem)) as raised, Rollback(log, prepare=prepare) as rollback:
        for name in "abc":
            rollback.add(name, lambda context, name=name: done.append((context, name)))
        raise problem
    assert raised.value is problem
    assert done == [("context", "c"), ("context", "b"), ("context", "a")]
    lines = [line.partition("test: ")[2] for line in log.stream.getvalue().splitlines()]
    assert lines == ["rolling back: c", "rolling back: b", "rolling back: a"]


def test_prepares_once(log):
    prepared = []
    with pytest.raises(KeyError), Rollback(log, prepare=lambda: prepared.append(1)) as rollback:
        rollback.add("a", lambda context: None)
        rollback.add("b", lambda context: None)
        raise KeyError("x")
    assert prepared == [1]


@pytest.mark.parametrize("problem", [errors.CloudError("no"), OSError("no"), KeyError("no"), TypeError("no")])
def test_continues_after_a_step_that_fails(log, problem):
    done = []

    def fail(context: str) -> None:
        raise problem

    with pytest.raises(errors.CloudError, match=r"^the cause$"), Rollback(log, prepare=prepare) as rollback:
        rollback.add("a", done.append)
        rollback.add("b", fail)
        raise errors.CloudError("the cause")
    assert done == ["context"]
    assert f"warn  test: could not roll back b: {problem}; bin/cleanup --list shows it" in log.stream.getvalue()


@pytest.mark.parametrize("problem", [errors.NotFound("gone"), errors.CloudError("no project", code="no_project")])
def test_does_not_warn_when_there_is_nothing_to_remove(log, problem):
    def fail(context: str) -> None:
        raise problem

    with pytest.raises(errors.CloudError, match=r"^the cause$"), Rollback(log, prepare=prepare) as rollback:
        rollback.add("a", fail)
        raise errors.CloudError("the cause")
    assert f"info  test: a does not exist: {problem}" in log.stream.getvalue()
    assert "warn" not in log.stream.getvalue()


@pytest.mark.parametrize("where", ["prepare", "step"])
def test_a_signal_does_not_interrupt_it(log, where):
    done = []

    def interrupt(context: object = None) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        return "context"

    with pytest.raises(errors.CloudError, match=r"^the cause$"), signals.interruptible():  # noqa: SIM117  too long
        with Rollback(log, prepare=interrupt if where == "prepare" else prepare) as rollback:
            rollback.add("a", done.append)
            rollback.add("b", interrupt if where == "step" else done.append)
            rollback.add("c", done.append)
            raise errors.CloudError("the cause")
    assert len(done) == (3 if where == "prepare" else 2)


def test_does_not_prepare_without_steps(log):
    prepared = []
    with pytest.raises(KeyError), Rollback(log, prepare=lambda: prepared.append(1)):
        raise KeyError("x")
    assert prepared == []
