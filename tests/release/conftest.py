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

import bosh_release  # noqa: E402


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
