"""The result of a check."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

OK, WARN, FAIL = "ok", "warn", "fail"
COLORS = {OK: "\033[32m", WARN: "\033[33m", FAIL: "\033[31m"}
RESET_COLOR = "\033[0m"
CHECK_WIDTH = 18


class CheckResult(NamedTuple):
    """The result of one check. `check` names its subject; `hint` says how to solve a problem, and is empty for OK."""

    check: str
    status: str
    message: str
    hint: str = ""

    def text(self, *, is_colored: bool) -> str:
        """Return one line, followed by a second line with the hint if there is one."""
        status = f"{self.status:4}"
        if is_colored:
            status = f"{COLORS[self.status]}{status}{RESET_COLOR}"
        hint = f"\n      -> {self.hint}" if self.hint else ""
        return f"{status}  {self.check:{CHECK_WIDTH}}  {self.message}{hint}"


def summary(results: Iterable[CheckResult]) -> str:
    """Return one line with the number of results of each status."""
    statuses = [result.status for result in results]
    return f"{statuses.count(OK)} ok, {statuses.count(WARN)} warnings, {statuses.count(FAIL)} failed"
