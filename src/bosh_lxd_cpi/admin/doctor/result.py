"""The result of a check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bosh_lxd_cpi.admin.output import FAIL, OK, SKIP, STATUS_WIDTH, WARN, Terminal, count

CHECK_WIDTH = 18


class CheckResult(NamedTuple):
    """The result of one check. `check` names its subject; `hint` says how to solve a problem, and is empty for OK."""

    check: str
    status: str
    message: str
    hint: str = ""

    def text(self, terminal: Terminal) -> str:
        """Return one line, followed by a second line with the hint if there is one."""
        hint = f"\n{' ' * STATUS_WIDTH}  -> {self.hint}" if self.hint else ""
        return terminal.status_line(self.status, f"{self.check:{CHECK_WIDTH}}  {self.message}") + hint


def summary(results: Sequence[CheckResult]) -> str:
    """Return one line with the number of results of each status, and a second line with what to do first."""
    statuses = [result.status for result in results]
    skipped = f", {statuses.count(SKIP)} skipped" if SKIP in statuses else ""
    counts = (
        f"{statuses.count(OK)} ok, {count(statuses.count(WARN), 'warning')}, {statuses.count(FAIL)} failed{skipped}"
    )
    first = min((result for result in results if result.status in (FAIL, WARN)), key=_urgency, default=None)
    return f"{counts}\nDo this first ({first.check}): {first.hint}" if first else counts


def _urgency(result: CheckResult) -> bool:
    """Failures come before warnings. The checks are in the order of their dependencies, so the first one counts."""
    return result.status != FAIL
