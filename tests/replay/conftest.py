"""Tests of the fixtures. They need no server, root, network or Linux."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test on any connection. The working directory is the one of the recordings."""

    def refuse(self: socket.socket, address: object) -> None:
        pytest.fail(f"the replay connects to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(ROOT)
