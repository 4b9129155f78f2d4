"""The fixtures, played back and looked at: no server, no root, no network, no Linux."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any connection fails the test; the stemcell is where it was recorded."""

    def refuse(self: socket.socket, address: object) -> None:
        pytest.fail(f"a replay connects to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(ROOT)
