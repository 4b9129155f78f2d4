from __future__ import annotations

import hashlib
import os

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.runtime.clock import Deadline
from bosh_lxd_cpi.stemcell import digest, input_file


@pytest.fixture
def deadline(clock) -> Deadline:
    return Deadline(clock, 60, what="create_stemcell")


@pytest.mark.parametrize("size", [0, 1, input_file.BLOCK, input_file.BLOCK * 3 + 1])
def test_returns_the_sha256_of_a_file(tmp_path, deadline, size):
    content = os.urandom(size)
    (tmp_path / "image").write_bytes(content)
    assert digest.sha256(str(tmp_path / "image"), deadline) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("name", ["missing", "", "fifo", "x" * 300, "\udc80\ud800"])
def test_rejects_what_is_not_a_readable_file(tmp_path, deadline, name):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(errors.InvalidStemcell, match="cannot be read: "):
        digest.sha256(str(tmp_path / name), deadline)


def test_stops_at_the_deadline(tmp_path, deadline, clock):
    (tmp_path / "image").write_bytes(b"x")
    clock.sleep(61)
    with pytest.raises(errors.DeadlineExceeded, match="create_stemcell"):
        digest.sha256(str(tmp_path / "image"), deadline)
