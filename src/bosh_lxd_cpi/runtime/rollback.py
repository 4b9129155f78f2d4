"""The steps that remove what a call created, for the case that the call fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.runtime import signals
from bosh_lxd_cpi.runtime.log import Log

Context = TypeVar("Context")


class Rollback(Generic[Context]):
    """Runs its steps, the last one first, when the context is left by an exception.

        with Rollback(log, prepare=context_with_new_deadline) as rollback:
            rollback.add("volume x", lambda context: delete(context, "x"))
            create("x")

    Add a step *before* the request that makes it necessary: a lost response must not leave anything behind. `prepare`
    runs once before the first step and returns the argument of all steps, for example a context whose deadline begins
    now, because the time of the call may be used up. A step that fails is logged; the other steps still run, and the
    exception that caused the rollback stays. Signals do not interrupt a rollback.
    """

    def __init__(self, log: Log, *, prepare: Callable[[], Context]) -> None:
        self._log, self._prepare = log, prepare
        self._steps: list[tuple[str, Callable[[Context], object]]] = []

    def add(self, what: str, step: Callable[[Context], object]) -> None:
        """Add a step that removes `what`. If there is nothing to remove, the step succeeds or raises NotFound."""
        self._steps.append((what, step))

    def __enter__(self) -> Rollback[Context]:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or not self._steps:
            return
        context = self._prepare()
        while self._steps:
            what, step = self._steps.pop()
            try:
                self._log.info(f"rolling back: {what}")
                step(context)
            except Exception as failure:  # noqa: BLE001  the remaining steps have to run
                if _is_missing(failure):
                    self._log.info(f"{what} does not exist: {failure}")
                else:
                    self._log.warn(f"could not roll back {what}: {failure}; bin/cleanup --list shows it")


def _is_missing(failure: Exception) -> bool:
    """Return whether a step failed because there is nothing to remove: a missing project has no resources."""
    return isinstance(failure, errors.NotFound) or (
        isinstance(failure, errors.CpiError) and failure.code == "no_project"
    )


signals.uninterruptible(Rollback.__exit__.__code__)
