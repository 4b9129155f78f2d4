"""SIGTERM, SIGINT and SIGHUP as an exception, so that a call rolls back what it began and BOSH receives a response."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from types import CodeType, FrameType

from bosh_lxd_cpi.errors import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PAUSE_SECONDS = 0.01
"""Time until `Interrupted` is raised again if Python dropped it."""

_uninterruptible: set[CodeType] = set()
"""Functions during which a signal is ignored: a rollback has to run to its end."""


@contextlib.contextmanager
def interruptible(*, keep_ignored: bool = False) -> Iterator[None]:
    """Raise Interrupted in this context at the first signal. Ignore later ones, and all of them after the context.

    With `keep_ignored`, signals that are ignored already stay so, such as SIGHUP under nohup.
    """
    hook, sys.unraisablehook = sys.unraisablehook, _raise_again
    try:
        for number in SIGNALS:
            if not keep_ignored or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _interrupt)
        yield
    finally:
        _ignore()
        sys.unraisablehook = hook


def ignore() -> None:
    """Ignore signals for the rest of the context `interruptible`: the result exists and has to reach BOSH."""
    if sys.unraisablehook is _raise_again:
        _ignore()


def uninterruptible(function: CodeType) -> None:
    """Ignore signals while this function, or a function that it calls, runs.

    The signal handler looks for the function in the stack. A flag that the function sets would leave a gap between the
    call of the function and its first statement.
    """
    _uninterruptible.add(function)


def _interrupt(number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code in _uninterruptible:
            return
        frame = frame.f_back
    _ignore()
    raise Interrupted(signal.Signals(number).name)


def _raise_again(unraisable: sys.UnraisableHookArgs) -> None:
    """Raise Interrupted again if Python dropped it.

    Python drops the exceptions of weakref callbacks and of `__del__`, and a signal can arrive in one: every import runs
    such a callback.
    """
    failure = unraisable.exc_value
    if not isinstance(failure, Interrupted):
        sys.__unraisablehook__(unraisable)
        return
    number = signal.Signals[failure.signal]
    signal.signal(signal.SIGALRM, lambda _, frame: _interrupt(number, frame))
    signal.setitimer(signal.ITIMER_REAL, PAUSE_SECONDS)


def _ignore() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
