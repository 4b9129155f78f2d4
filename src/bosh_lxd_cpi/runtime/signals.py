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
"""Time until `Interrupted` is raised again if it is lost."""

_uninterruptible: set[CodeType] = set()
"""Functions during which a signal is ignored: a rollback has to run to its end."""


@contextlib.contextmanager
def interruptible(*, keep_ignored: bool = False) -> Iterator[None]:
    """Raise Interrupted in this context at the first signal. Ignore later ones, and all of them after the context.

    With `keep_ignored`, signals that are ignored already stay so, such as SIGHUP under nohup.
    """
    hook, sys.unraisablehook = sys.unraisablehook, _report
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
    if sys.unraisablehook is _report:
        _ignore()


def uninterruptible(function: CodeType) -> None:
    """Ignore signals while this function, or a function that it calls, runs.

    The signal handler looks for the function in the stack. A flag that the function sets would leave a gap between the
    call of the function and its first statement.
    """
    _uninterruptible.add(function)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if not _is_uninterruptible(frame):
        _ignore()
        failure = Interrupted(signal.Signals(number).name)
        signal.signal(signal.SIGALRM, lambda _, frame: _raise_if_lost(failure, frame))
        signal.setitimer(signal.ITIMER_REAL, PAUSE_SECONDS, PAUSE_SECONDS)
        raise failure


def _raise_if_lost(failure: Interrupted, frame: FrameType | None) -> None:
    """Raise Interrupted again if Python dropped it.

    Python drops the exceptions of weakref callbacks and finalizers, and a signal can arrive in one: every import runs
    such a callback, and every request the finalizer of the last response, which closes it. If a block such as `finally`
    handles the exception, it is not lost.
    """
    handled = sys.exc_info()[1]
    while handled is not None and handled is not failure:
        handled = handled.__context__
    if handled is None and not _is_uninterruptible(frame):
        raise failure


def _is_uninterruptible(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code not in _uninterruptible:
        frame = frame.f_back
    return frame is not None


def _report(unraisable: sys.UnraisableHookArgs) -> None:
    """Print an exception that Python drops, unless it is Interrupted, which is raised again."""
    if not isinstance(unraisable.exc_value, Interrupted):
        sys.__unraisablehook__(unraisable)


def _ignore() -> None:
    for number in (signal.SIGALRM, *SIGNALS):
        signal.signal(number, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)
