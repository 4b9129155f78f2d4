"""What the programs for operators print: statuses, colors, and tables that fit the terminal."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence

OK, SKIP, WARN, FAIL = "ok", "skip", "warn", "fail"
"""The status of a check, of a call that is replayed, of a resource. SKIP is for what could not be checked."""
COLORS = {OK: "\033[32m", SKIP: "\033[36m", WARN: "\033[33m", FAIL: "\033[31m"}
RESET_COLOR = "\033[0m"
STATUS_WIDTH = max(map(len, COLORS))
SEPARATOR = "  "
ELLIPSIS = "\u2026"


class Terminal:
    """How to print to stdout. A file or a pipe gets plain, complete lines.

    `width` is the number of characters of a line, or None if lines are not cut.
    """

    def __init__(self, *, cut: bool = True) -> None:
        is_terminal = sys.stdout.isatty()
        self.is_colored = is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.width = shutil.get_terminal_size().columns if is_terminal and cut else None

    def color(self, text: str, status: str) -> str:
        """Return the text in the color of a status, or in none if the status has none."""
        return f"{COLORS[status]}{text}{RESET_COLOR}" if self.is_colored and status in COLORS else text

    def cut(self, line: str) -> str:
        """Return the line, with an ellipsis at its end if it does not fit."""
        return line if self.width is None or len(line) <= self.width else line[: self.width - 1] + ELLIPSIS

    def status_line(self, status: str, text: str) -> str:
        """Return a line that begins with a status. Only a line without problem is cut."""
        line = f"{status:{STATUS_WIDTH}}{SEPARATOR}{text}"
        if status == OK:
            line = self.cut(line)
        return self.color(line[:STATUS_WIDTH], status) + line[STATUS_WIDTH:]

    def table(
        self, columns: Sequence[str], rows: Iterable[Sequence[str]], *, optional: Iterable[str] = ()
    ) -> list[str]:
        """Return lines of aligned columns, the first one with their names.

        If the table is too wide, it loses the `optional` columns, the first of them first, until it fits. A line that
        still does not fit is cut.
        """
        lines = [list(columns), *map(list, rows)]
        for name in optional:
            if self.width is None or _line_width(lines) <= self.width:
                break
            index = lines[0].index(name)
            for line in lines:
                del line[index]
        widths = _widths(lines)
        return [self.cut(SEPARATOR.join(map(str.ljust, line, widths)).rstrip()) for line in lines]


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*lines, strict=True)]


def _line_width(lines: Sequence[Sequence[str]]) -> int:
    widths = _widths(lines)
    return sum(widths) + len(SEPARATOR) * (len(widths) - 1)


def printable(text: str) -> str:
    """Return the text without characters that a terminal could interpret."""
    return "".join(character if character.isprintable() else "?" for character in text)


def names(items: Sequence[str], noun: str) -> str:
    """Return a single name, or the number of names: vm-1, 12 VMs."""
    return items[0] if len(items) == 1 else count(len(items), noun)


def count(number: int, noun: str) -> str:
    """Return a number with its noun: 1 VM, 2 VMs."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
