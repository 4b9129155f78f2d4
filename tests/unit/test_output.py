from __future__ import annotations

import pytest

from bosh_lxd_cpi.admin import output
from bosh_lxd_cpi.admin.output import FAIL, OK, Terminal

COLUMNS = ("NAME", "NOTE", "CID")
ROWS = [("a", "long note", "vm-1"), ("bcd", "-", "vm-2")]


@pytest.fixture
def terminal(monkeypatch):
    """Return a function that makes stdout a terminal of this width."""

    def make(width, *, cut=True, **environ):
        monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
        monkeypatch.delenv("NO_COLOR", raising=False)
        for name, value in {"TERM": "xterm", "COLUMNS": str(width), **environ}.items():
            monkeypatch.setenv(name, value)
        return Terminal(cut=cut)

    return make


def test_aligns_columns():
    assert Terminal().table(COLUMNS, ROWS) == ["NAME  NOTE       CID", "a     long note  vm-1", "bcd   -          vm-2"]


def test_drops_optional_columns_of_a_wide_table(terminal):
    assert terminal(21).table(COLUMNS, ROWS, optional=["NOTE"])[0] == "NAME  NOTE       CID"
    assert terminal(20).table(COLUMNS, ROWS, optional=["NOTE"]) == ["NAME  CID", "a     vm-1", "bcd   vm-2"]
    assert Terminal(cut=False).table(COLUMNS, ROWS, optional=["NOTE"])[0] == "NAME  NOTE       CID"


def test_cuts_lines_that_do_not_fit(terminal):
    assert terminal(8).table(COLUMNS, ROWS, optional=["NOTE"]) == ["NAME  C\u2026", "a     v\u2026", "bcd   v\u2026"]


def test_cuts_only_lines_without_problem(terminal):
    narrow = terminal(8, NO_COLOR="1")
    assert narrow.status_line(OK, "everything") == "ok    e\u2026"
    assert narrow.status_line(FAIL, "everything") == "fail  everything"


def test_colors_the_status(terminal):
    assert terminal(80).status_line(FAIL, "text") == "\033[31mfail\033[0m  text"


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_has_no_colors_if_the_environment_forbids_them(terminal, environ):
    assert terminal(80, **environ).color("text", FAIL) == "text"


def test_has_no_colors_and_no_width_in_a_pipe(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    plain = Terminal()
    assert (plain.is_colored, plain.width) == (False, None)


@pytest.mark.parametrize(("number", "text"), [(0, "0 VMs"), (1, "1 VM"), (2, "2 VMs")])
def test_counts(number, text):
    assert output.count(number, "VM") == text
