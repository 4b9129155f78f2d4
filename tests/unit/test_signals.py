from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import time
import weakref

import pytest

from bosh_lxd_cpi.errors import Interrupted
from bosh_lxd_cpi.runtime import signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_raises_interrupted_with_the_name_of_the_signal(number):
    with pytest.raises(Interrupted, match=f"^the call was stopped by {number.name}$"), signals.interruptible():
        os.kill(os.getpid(), number)


def test_no_exception_handler_swallows_it():
    assert not issubclass(Interrupted, Exception)


def test_raises_once_only():
    with pytest.raises(Interrupted), signals.interruptible():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)


def test_ignores_signals_afterwards():
    with signals.interruptible():
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def test_ignores_signals_after_the_result():
    with signals.interruptible():
        signals.ignore()
        os.kill(os.getpid(), signal.SIGTERM)


def test_leaves_the_handlers_of_others():
    before = signal.signal(signal.SIGTERM, handler := lambda *_: None)
    signals.ignore()
    assert signal.signal(signal.SIGTERM, before) is handler


def uninterruptible() -> str:
    os.kill(os.getpid(), signal.SIGTERM)
    return "done"


def test_ignores_signals_in_an_uninterruptible_function():
    signals.uninterruptible(uninterruptible.__code__)
    with signals.interruptible():
        assert uninterruptible() == "done"


class Referent:
    """An object that can have weak references."""


def signal_in_a_callback() -> None:
    """Receive a signal where Python drops the exception of its handler."""
    referent = Referent()
    _reference = weakref.ref(referent, lambda _: signal.raise_signal(signal.SIGTERM))
    del referent


class Response(io.BufferedIOBase):
    """Like http.client.HTTPResponse, it is closed when it is no longer used."""

    def close(self) -> None:
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("receive", [signal_in_a_callback, Response], ids=["weakref callback", "finalizer of a file"])
def test_raises_again_what_python_drops(real_time, receive):
    hook = sys.unraisablehook
    with pytest.raises(Interrupted, match="SIGTERM"), signals.interruptible():
        receive()
        time.sleep(60)
    assert sys.unraisablehook is hook


def test_raises_nothing_again_while_it_is_handled(real_time):
    steps = []
    with pytest.raises(Interrupted), signals.interruptible():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            try:
                raise ValueError
            except ValueError:
                time.sleep(5 * signals.PAUSE_SECONDS)
            with contextlib.suppress(ValueError):
                time.sleep(5 * signals.PAUSE_SECONDS)
            steps.append("done")
    assert steps == ["done"]


def test_raises_nothing_again_in_a_conversion(real_time):
    """create_vm converts it."""
    with pytest.raises(ValueError, match="converted"), signals.interruptible():
        try:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except Interrupted as failure:
                raise ValueError("converted") from failure
        finally:
            time.sleep(5 * signals.PAUSE_SECONDS)


def test_raises_nothing_again_after_the_result(real_time):
    with signals.interruptible():
        signal_in_a_callback()
        signals.ignore()
        time.sleep(5 * signals.PAUSE_SECONDS)


def test_reports_other_dropped_exceptions(capsys):
    with signals.interruptible():
        referent = Referent()
        _reference = weakref.ref(referent, lambda _: 1 / 0)
        del referent
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_leaves_the_timers_of_others():
    signal.setitimer(signal.ITIMER_REAL, 60)
    try:
        signals.ignore()
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
