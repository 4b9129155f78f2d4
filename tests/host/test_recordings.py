"""The servers still answer as they did when the fixtures were recorded: a slice of bin/record --check."""
from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/replay"))

import fixtures  # noqa: E402
import recording  # noqa: E402
from drift import drift  # noqa: E402

SLICE = ("stemcells", "vm", "vm_refused", "disk")


@pytest.mark.every_server
def test_the_server_answers_as_recorded(host, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with recording.worlds(host, tmp_path) as make:
        drifted = {name: found for name in SLICE
                   if (found := drift(fixtures.load(host.kind, name), recording.record(name, make(name))))}
    assert drifted == {}, "\n".join(drifted.values())
