"""bin/cpi, bin/cleanup and bin/doctor find a Python that has what they need, or say what is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture(params=["cleanup", "doctor"])
def program(request, tmp_path) -> Path:
    """One of them in a checkout that has no virtual environment."""
    (tmp_path / "bosh_lxd_cpi").symlink_to(SOURCES / "bosh_lxd_cpi")
    (tmp_path / "bin").mkdir()
    copy = tmp_path / "bin" / request.param
    copy.write_bytes((SOURCES / "bin" / request.param).read_bytes())
    copy.chmod(0o755)
    return copy


def run(program: Path, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, "--help"],
        env={"PATH": str(path), "BOSH_PACKAGES_DIR": "/nonexistent"},
        capture_output=True,
        text=True,
    )


def test_a_python_without_the_libraries_will_not_do(program, tmp_path):
    venv.create(tmp_path / "bare", symlinks=True)
    done = run(program, tmp_path / "bare" / "bin")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"{program.name}: no Python 3.10 or newer with urllib3 2 and PyYAML on this machine;"
        " in a checkout bin/environment makes one in .venv\n"
    )


def test_one_that_has_them_further_down_the_list_is_found(program, tmp_path):
    venv.create(tmp_path / "bare", symlinks=True)
    newer = tmp_path / "bare" / "bin" / "python3.13"
    newer.unlink(missing_ok=True)
    newer.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    newer.chmod(0o755)
    done = run(program, newer.parent)
    assert (done.returncode, done.stderr) == (0, "") and f"usage: {program.name}" in done.stdout


@pytest.mark.parametrize("name", ["cpi", "cleanup", "doctor"])
def test_the_directory_of_the_package_python3_is_not_taken_for_a_python(name, tmp_path):
    (tmp_path / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    (tmp_path / "python3").chmod(0o755)
    done = subprocess.run(
        [f"./{name}", "--help"],
        cwd=SOURCES / "bin",
        capture_output=True,
        text=True,
        env={"PATH": str(tmp_path), "BOSH_PACKAGES_DIR": "/nonexistent"},
    )
    assert (done.returncode, done.stderr) == (0, "") and f"usage: {name}" in done.stdout


def test_what_makes_the_missing_libraries_can_be_run_by_itself_and_says_when_they_cannot_be_had(tmp_path):
    (tmp_path / "bin").mkdir()
    environment = shutil.copy(SOURCES.parent / "bin" / "environment", tmp_path / "bin")
    (tmp_path / "setup.cfg").write_text(
        "[options]\ninstall_requires = /nonexistent/library\n[options.extras_require]\ntest =\n", encoding="utf-8"
    )
    done = subprocess.run([environment], cwd="/", capture_output=True, text=True)
    assert done.returncode == 1 and "/nonexistent/library" in done.stderr
    assert (tmp_path / ".venv/bin/python3").exists() and not (tmp_path / ".venv/made-for").exists()
