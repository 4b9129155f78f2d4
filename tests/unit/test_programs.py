"""The shell programs in bin/: the choice of a Python, and bin/environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture(params=["cleanup", "doctor"])
def program(request, tmp_path) -> Path:
    """A program in a checkout without a virtual environment."""
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
        check=False,
    )


def test_rejects_python_without_libraries(program, tmp_path):
    venv.create(tmp_path / "bare", symlinks=True)
    done = run(program, tmp_path / "bare" / "bin")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"{program.name}: no Python 3.10 or newer with urllib3 2 and PyYAML on this machine;"
        " in a checkout, bin/environment creates one in .venv\n"
    )


def test_finds_later_python_with_libraries(program, tmp_path):
    venv.create(tmp_path / "bare", symlinks=True)
    newer = tmp_path / "bare" / "bin" / "python3.13"
    newer.unlink(missing_ok=True)
    newer.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    newer.chmod(0o755)
    done = run(program, newer.parent)
    assert (done.returncode, done.stderr) == (0, "") and f"usage: {program.name}" in done.stdout


@pytest.mark.parametrize("name", ["cpi", "cleanup", "doctor"])
def test_ignores_directory_named_python3(name, tmp_path):
    (tmp_path / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    (tmp_path / "python3").chmod(0o755)
    done = subprocess.run(
        [f"./{name}", "--help"],
        cwd=SOURCES / "bin",
        capture_output=True,
        text=True,
        env={"PATH": str(tmp_path), "BOSH_PACKAGES_DIR": "/nonexistent"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "") and f"usage: {name}" in done.stdout


@pytest.fixture
def checkout(tmp_path) -> Path:
    """The files that bin/environment reads, with a library that cannot be installed."""
    (tmp_path / "bin").mkdir()
    shutil.copy(SOURCES.parent / "bin" / "environment", tmp_path / "bin")
    (tmp_path / "setup.cfg").write_text(
        "[options]\ninstall_requires = /nonexistent/library\n[options.extras_require]\ntest =\n", encoding="utf-8"
    )
    (tmp_path / "constraints.txt").touch()
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages/vendor.json").write_text('{"vendored": []}', encoding="utf-8")
    return tmp_path


def test_environment_fails_if_a_library_is_missing(checkout):
    done = subprocess.run([checkout / "bin/environment"], cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "/nonexistent/library" in done.stderr
    assert (checkout / ".venv/bin/python3").exists() and not (checkout / ".venv/inputs").exists()


def test_environment_pins_the_libraries_of_the_release(checkout):
    pins = '{"vendored": [{"name": "a", "version": "1.2"}]}'
    (checkout / "packages/vendor.json").write_text(pins, encoding="utf-8")
    subprocess.run([checkout / "bin/environment"], capture_output=True, check=False)
    assert "a==1.2" in (checkout / ".venv/requirements.txt").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", ["bench", "demo", "lint", "record", "replay", "test"])
def test_help_installs_nothing(name, checkout):
    shutil.copy(SOURCES.parent / "bin" / name, checkout / "bin")
    subprocess.run([checkout / "bin" / name, "--help"], capture_output=True, check=False)
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("is_late", [False, True], ids=["flushed", "buffered"])
def test_prints_no_traceback_if_the_reader_is_gone(is_late):
    """As in `bin/cleanup --list | head`."""
    reader, writer = os.pipe()
    os.close(reader)
    action = f"lambda: print('x', flush={not is_late}) or 0"
    program = f"import sys; from bosh_lxd_cpi.admin import cli; sys.exit(cli.Program('cleanup').run({action}))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=SOURCES, stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (2, b"")
