"""Fixtures: the blobs, a release that is compiled once, and bin/util with stubs."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.release import bosh_release
from tests.release.util_runner import UtilRunner


@pytest.fixture(scope="session")
def blobs() -> None:
    """Put the pinned source distributions into blobs/. Missing ones are downloaded from the Python index."""
    vendor = str(bosh_release.ROOT / "bin/vendor")
    if subprocess.run([vendor, "--check"], capture_output=True, check=False).returncode:
        subprocess.run([vendor], check=True)


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A directory that all users can read, like /var/vcap. Only its owner can read tmp_path."""
    path = Path(tempfile.mkdtemp(prefix="release-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def runner(tmp_path: Path) -> UtilRunner:
    """bin/util in an empty directory, with stubs for bosh, lxc and incus."""
    return UtilRunner(tmp_path)


@pytest.fixture(scope="session")
def packages(blobs: None) -> Iterator[Path]:
    """The release compiled with the system's Python, in a directory that all users can read. Do not change it."""
    path = Path(tempfile.mkdtemp(prefix="packages-"))
    path.chmod(0o755)
    tools = bosh_release.tools(path / "tools", Path("/usr/bin/python3"))
    for package in ("python3", "bosh_lxd_cpi"):
        source = bosh_release.pack(package, path / "compile" / package)
        run = bosh_release.compile_package(package, source=source, packages=path / "packages", path=tools)
        assert run.status == 0, run.stderr
    yield path / "packages"
    shutil.rmtree(path)
