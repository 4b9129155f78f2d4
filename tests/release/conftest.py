"""The blobs, and a release compiled once for all who only look at it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import bosh_release
from util_bench import Bench


@pytest.fixture(scope="session")
def blobs() -> None:
    """The pinned source distributions; only where they are missing does this ask the Python index."""
    vendor = str(bosh_release.ROOT / "bin/vendor")
    if subprocess.run([vendor, "--check"], capture_output=True, check=False).returncode:
        subprocess.run([vendor], check=True)


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A directory that every user can look into, as /var/vcap is; pytest's own is for its user only."""
    path = Path(tempfile.mkdtemp(prefix="release-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(scope="session")
def packages(blobs: None) -> Iterator[Path]:
    """The release compiled with the system's Python, in a directory that every user may read; not to be changed."""
    path = Path(tempfile.mkdtemp(prefix="packages-"))
    path.chmod(0o755)
    tools = bosh_release.tools(path / "tools", Path("/usr/bin/python3"))
    for package in ("python3", "bosh_lxd_cpi"):
        source = bosh_release.pack(package, path / "compile" / package)
        run = bosh_release.compile_package(package, source=source, packages=path / "packages", path=tools)
        assert run.status == 0, run.stderr
    yield path / "packages"
    shutil.rmtree(path)
