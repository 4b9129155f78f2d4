from __future__ import annotations

import threading

import pytest

from bosh_lxd_cpi.admin import cli


class Screen:
    """A stderr that is a terminal or not. `written` is set at the first output."""

    def __init__(self, *, is_terminal: bool) -> None:
        self.isatty, self.text, self.written = lambda: is_terminal, "", threading.Event()

    def write(self, text: str) -> None:
        self.text += text
        self.written.set()

    def flush(self) -> None:
        pass


@pytest.fixture
def screen(monkeypatch):
    """Return a function that replaces stderr."""

    def make(*, is_terminal):
        screen = Screen(is_terminal=is_terminal)
        monkeypatch.setattr("sys.stderr", screen)
        return screen

    return make


def test_shows_a_slow_activity_and_removes_the_line(screen):
    shown = screen(is_terminal=True)
    with cli.Program("doctor", slow_seconds=0).progress("checking"):
        assert shown.written.wait(60)
    line = "doctor: checking ..."
    assert shown.text == f"{line}\r{' ' * len(line)}\r"


def test_shows_nothing_for_a_fast_activity(screen):
    shown = screen(is_terminal=True)
    with cli.Program("doctor", slow_seconds=3600).progress("checking"):
        pass
    assert shown.text == ""


def test_shows_no_progress_in_a_file(screen):
    shown = screen(is_terminal=False)
    with cli.Program("doctor", slow_seconds=0).progress("checking"):
        shown.written.wait(0.1)
    assert shown.text == ""
