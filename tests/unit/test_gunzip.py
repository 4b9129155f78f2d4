from __future__ import annotations

import contextlib
import gzip
import random
from pathlib import Path

import pytest

from bosh_lxd_cpi.errors import DeadlineExceeded, InvalidStemcell
from bosh_lxd_cpi.runtime.clock import Deadline
from bosh_lxd_cpi.stemcell.gunzip import GzipReader
from bosh_lxd_cpi.stemcell.input_file import BLOCK, InputFile
from tests.support.clock import ManualClock

CONTENT = random.Random(1).randbytes(3 * BLOCK) + bytes(3 * BLOCK)


def read(path: Path, size: int = BLOCK) -> bytes:
    with contextlib.closing(InputFile(str(path), Deadline(ManualClock(), 60))) as file:
        reader, pieces = GzipReader(file), []
        while piece := reader.read(size):
            pieces.append(piece)
    assert all(len(piece) == size for piece in pieces[:-1])
    return b"".join(pieces)


@pytest.mark.parametrize("size", [1000, BLOCK - 1, BLOCK, 10 * BLOCK])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_returns_pieces_of_requested_size(tmp_path, size, level):
    (tmp_path / "file").write_bytes(gzip.compress(CONTENT, level))
    assert read(tmp_path / "file", size) == CONTENT


@pytest.mark.parametrize("padding", [0, 1, 511, 2 * BLOCK])
def test_reads_members_and_zeros_between_them(tmp_path, padding):
    first, second = gzip.compress(CONTENT[:1000]) + bytes(padding), gzip.compress(b"") + gzip.compress(CONTENT[1000:])
    (tmp_path / "file").write_bytes(first + second + bytes(padding))
    assert read(tmp_path / "file") == CONTENT


def test_reads_empty_content(tmp_path):
    (tmp_path / "file").write_bytes(gzip.compress(b""))
    assert read(tmp_path / "file") == b""


@pytest.mark.parametrize("content", [CONTENT, b"x" * 100, b""])
@pytest.mark.parametrize("cut", [1, 4, 8, 9])
def test_rejects_file_without_end(tmp_path, content, cut):
    (tmp_path / "file").write_bytes(gzip.compress(content)[:-cut])
    with pytest.raises(InvalidStemcell, match="not a complete gzipped tar: the gzip data ends too early"):
        read(tmp_path / "file")


@pytest.mark.parametrize(
    "offset, message", [(-8, "incorrect data check"), (-1, "incorrect length check"), (BLOCK, "incorrect data check")]
)
def test_rejects_flipped_bit(tmp_path, offset, message):
    packed = bytearray(gzip.compress(CONTENT, 0))
    packed[offset] ^= 1
    (tmp_path / "file").write_bytes(packed)
    with pytest.raises(InvalidStemcell, match=message) as raised:
        read(tmp_path / "file")
    assert raised.value.code == "damaged_stemcell"


@pytest.mark.parametrize("content", [b"", b"x", b"no gzip" * 100, b"\0" * 100, gzip.compress(b"x") + b"garbage"])
def test_rejects_files_of_other_formats(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InvalidStemcell, match="is not a complete gzipped tar"):
        read(tmp_path / "file")


def test_respects_deadline_without_content(tmp_path):
    """Empty members let the reader read on without returning anything."""

    class SlowClock(ManualClock):
        def monotonic(self) -> float:
            self.now_is += 1
            return self.now_is

    (tmp_path / "file").write_bytes(gzip.compress(b"") * (BLOCK // 4))
    with (
        contextlib.closing(InputFile(str(tmp_path / "file"), Deadline(SlowClock(), 4))) as file,
        pytest.raises(DeadlineExceeded),
    ):
        GzipReader(file).read(1)
