"""What a check found, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

OK, WARN, FAIL = "ok", "warn", "fail"
COLOURS = {OK: "\033[32m", WARN: "\033[33m", FAIL: "\033[31m"}
PLAIN = "\033[0m"
WIDTH = 18


class CheckResult(NamedTuple):
    """`check` is what was looked at; `hint` what to do about it, empty when all is well."""

    check: str
    status: str
    found: str
    hint: str = ""

    def text(self, *, colour: bool) -> str:
        """One line, and the hint on a second."""
        status = f"{COLOURS[self.status]}{self.status:4}{PLAIN}" if colour else f"{self.status:4}"
        return f"{status}  {self.check:{WIDTH}}  {self.found}" + (f"\n      -> {self.hint}" if self.hint else "")


def as_json(findings: Iterable[CheckResult]) -> str:
    """An array of objects."""
    return json.dumps([finding._asdict() for finding in findings], indent=1)


def summary(findings: list[CheckResult]) -> str:
    """How many of each."""
    count = {status: sum(finding.status == status for finding in findings) for status in (OK, WARN, FAIL)}
    return f"{count[OK]} ok, {count[WARN]} to look at, {count[FAIL]} failed"
