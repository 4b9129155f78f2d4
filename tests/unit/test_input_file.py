from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from bosh_lxd_cpi.errors import DeadlineExceeded, InvalidStemcell
from bosh_lxd_cpi.runtime.clock import Deadline
from bosh_lxd_cpi.stemcell.input_file import BLOCK, InputFile
from tests.support.clock import ManualClock


def read(path: Path) -> list[bytes]:
    """Return the blocks of a file."""
    with contextlib.closing(InputFile(str(path), Deadline(ManualClock(), 60))) as file:
        return list(iter(file.read, b""))


@pytest.mark.parametrize("size", [0, 1, BLOCK, 3 * BLOCK + 1])
def test_reads_blocks(tmp_path, size):
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    blocks = read(tmp_path / "file")
    assert b"".join(blocks) == content
    assert all(len(block) == BLOCK for block in blocks[:-1])


def test_rejects_directories_and_fifos(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path, message in (
        (tmp_path / "missing", "missing cannot be read: No such file or directory"),
        (tmp_path, "cannot be read: Is a directory"),
        (tmp_path / "fifo", "fifo cannot be read: it is not a regular file"),
        (Path("/dev/zero"), "/dev/zero cannot be read: it is not a regular file"),
        (tmp_path / ("x" * 300), "path is too long for a message, cannot be read: File name too long"),
        (tmp_path / "\0", "cannot be read: embedded null byte"),
        (tmp_path / "\ud800", "cannot be read: .*surrogates not allowed"),
    ):
        with pytest.raises(InvalidStemcell, match=message):
            read(path)


def test_rejects_file_without_permission(tmp_path):
    (tmp_path / "file").touch(mode=0)
    user = os.geteuid()
    os.seteuid(user or 65534)  # root may read every file
    try:
        with pytest.raises(InvalidStemcell, match="file cannot be read: Permission denied"):
            read(tmp_path / "file")
    finally:
        os.seteuid(user)


def test_long_path_is_shortened_in_errors(tmp_path):
    with pytest.raises(InvalidStemcell) as raised:
        read(Path("/" + "x/" * 5000))
    assert len(raised.value.brief) < 300 and "File name too long" in raised.value.brief


def test_respects_deadline(tmp_path):
    (tmp_path / "file").write_bytes(bytes(2 * BLOCK))
    clock = ManualClock()
    with contextlib.closing(InputFile(str(tmp_path / "file"), Deadline(clock, 60, what="create_stemcell"))) as file:
        file.read()
        clock.sleep(61)
        with pytest.raises(DeadlineExceeded, match="create_stemcell"):
            file.read()
