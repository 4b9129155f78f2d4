"""What to take back when a call fails half-way, last resource first."""

from __future__ import annotations

from collections.abc import Callable

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.runtime.log import Log


class Rollback:
    """Register a step *before* the request that makes it needed: a lost answer must not leave anything behind.

        with Rollback(log) as rollback:
            rollback.add("volume x", lambda: delete("x"))
            create("x")

    Leaving normally forgets the steps. Leaving by an exception runs them; one that fails is logged and hides neither
    the cause nor the steps before it.
    """

    def __init__(self, log: Log, *, before: Callable[[], object] = lambda: None) -> None:
        """`before` runs ahead of the first step taken back: the call's own time may be used up by then."""
        self._log, self._before = log, before
        self._steps: list[tuple[str, Callable[[], object]]] = []

    def add(self, what: str, step: Callable[[], object]) -> None:
        """Remember how to take back `what`; `step` must not mind that there is nothing to take back."""
        self._steps.append((what, step))

    def __enter__(self) -> Rollback:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind and self._steps:
            self._before()
        while kind and self._steps:
            self._take_back(*self._steps.pop())

    def _take_back(self, what: str, step: Callable[[], object]) -> None:
        try:
            self._log.info(f"undoing {what}")
            step()
        except errors.Interrupted:  # comes once, and is what the call does already
            self._take_back(what, step)
        except Exception as failure:  # noqa: BLE001  the steps before it have to be taken back all the same
            self._log.warn(f"could not undo {what}: {failure}; bin/cleanup --list shows it")
