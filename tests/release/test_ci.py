""".ci/run with a stub for bin/test."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.release import bosh_release

STUB = """#!/bin/sh
trap 'sleep 0.5; echo stopped >> calls; exit' TERM
echo "$*" >> calls
case "$*" in *"$slow"*) for _ in $(seq 300); do sleep 0.1; done ;; esac
case "$*" in *"$broken"*) exit 3 ;; esac
echo "done: $*"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for folder in (".ci", "bin"):
        (tmp_path / folder).mkdir()
    shutil.copy(bosh_release.ROOT / ".ci/run", tmp_path / ".ci")
    (tmp_path / "bin/test").write_text(STUB)
    (tmp_path / "bin/test").chmod(0o755)
    (tmp_path / "bin/lint").write_text("#!/bin/sh\n")
    (tmp_path / "bin/lint").chmod(0o755)
    return tmp_path


def run(checkout: Path, broken: str) -> tuple[int, list[str], str]:
    """Return the exit status, the arguments of each call of bin/test, and stdout."""
    environ = os.environ | {"slow": "no call", "broken": broken}
    result = subprocess.run(
        [checkout / ".ci/run"], env=environ, capture_output=True, text=True, timeout=30, check=False
    )
    return result.returncode, recorded_calls(checkout), result.stdout


def recorded_calls(checkout: Path) -> list[str]:
    calls = checkout / "calls"
    return calls.read_text().splitlines() if calls.exists() else []


def test_fails_if_half_of_the_tests_fails(checkout: Path) -> None:
    status, calls, output = run(checkout, broken="no call")
    assert status == 0 and len(calls) == 3
    assert all(f"done: {call}" in output for call in calls)
    assert run(checkout, broken="--hosts first")[0] == run(checkout, broken="--hosts second")[0] == 3


def test_starts_no_server_when_the_other_tests_fail(checkout: Path) -> None:
    status, calls, _ = run(checkout, broken="--ignore=tests/host")
    assert status == 3 and len(calls) == 1


def test_termination_waits_for_both_halves(checkout: Path) -> None:
    environ = os.environ | {"slow": "--hosts", "broken": "no call"}
    process = subprocess.Popen([checkout / ".ci/run"], env=environ, stdout=subprocess.DEVNULL)
    while process.poll() is None and len(recorded_calls(checkout)) < 3:
        time.sleep(0.05)
    process.terminate()
    assert process.wait(10) == 1
    assert recorded_calls(checkout)[3:] == ["stopped", "stopped"]
