from __future__ import annotations

import contextlib
import gzip
import random
import struct
import subprocess
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from bosh_lxd_cpi.errors import InvalidStemcell
from bosh_lxd_cpi.runtime.clock import Deadline
from bosh_lxd_cpi.stemcell import tarball
from bosh_lxd_cpi.stemcell.input_file import InputFile
from tests.support.clock import ManualClock
from tests.support.tarballs import CONTENT, CREATED, MIB, header, member, pax, tar, write_gzip


@pytest.fixture
def stemcell(tmp_path: Path) -> Callable[..., str]:
    """Write a gzipped tar and return its path."""

    def stemcell(raw: bytes) -> str:
        (tmp_path / "image").write_bytes(gzip.compress(raw, 1, mtime=0))
        return str(tmp_path / "image")

    return stemcell


def read(path: str) -> tuple[int, int, bytes]:
    with contextlib.closing(InputFile(path, Deadline(ManualClock(), 60))) as file:
        image = tarball.find_image(file)
        return image.size, image.created, b"".join(image.chunks())


@pytest.mark.parametrize("name", ["root.img", "./root.img", ".//root.img"])
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_returns_content_size_and_time_of_disk(stemcell, name, format):
    assert read(stemcell(tar(member(name), format=format))) == (len(CONTENT), CREATED, CONTENT)


def test_skips_other_members(stemcell):
    others = [
        member("stemcell.MF", b"x" * 5000),
        member("dir", b"", type=tarfile.DIRTYPE),
        member("a/root.img", b"not me"),
        member("root.img.sha1", b"nor me"),
        member("l" * 300, b"a long name"),
    ]
    assert read(stemcell(tar(*others, member())))[2] == CONTENT


def test_returns_first_of_two_disks(stemcell):
    assert read(stemcell(tar(member(), member(content=b"second"))))[2] == CONTENT


def test_start_is_the_first_chunk(stemcell):
    size = 2 * tarball.CHUNK + 5
    with contextlib.closing(InputFile(stemcell(tar(member(content=bytes(size)))), Deadline(ManualClock(), 60))) as file:
        image = tarball.find_image(file)
        assert image.start == bytes(tarball.CHUNK)
        assert [len(chunk) for chunk in image.chunks()] == [tarball.CHUNK, tarball.CHUNK, 5]


def test_memory_does_not_depend_on_disk_size(tmp_path):
    path = write_gzip(tmp_path / "image", header(tarfile.REGTYPE, 200 * MIB, "root.img"), 200 * MIB + 10240)
    tracemalloc.start()
    try:
        with contextlib.closing(InputFile(path, Deadline(ManualClock(), 60))) as file:
            assert sum(len(chunk) for chunk in tarball.find_image(file).chunks()) == 200 * MIB
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("format", ["gnu", "posix"])
def test_rejects_sparse_disk(tmp_path, format):
    """82 bytes of a sparse file can have the size of a terabyte."""
    with (tmp_path / "root.img").open("wb") as file:
        file.truncate(8 * MIB)
        file.seek(3 * MIB)
        file.write(b"data")
    subprocess.run(["tar", "--sparse", f"--format={format}", "-czf", "image", "root.img"], check=True, cwd=tmp_path)
    with pytest.raises(InvalidStemcell, match="image contains a sparse file") as raised:
        read(str(tmp_path / "image"))
    assert raised.value.code == "sparse_stemcell"


def test_reads_size_from_extended_header(stemcell):
    content = pax(b"13 size=%d\n" % len(CONTENT)) + header(tarfile.REGTYPE, 0, "root.img") + CONTENT
    assert read(stemcell(content.ljust(2 * MIB, b"\0")))[2] == CONTENT


@pytest.mark.parametrize("size", [b"-5", b"nan", b"", b"1" * 5000])
def test_rejects_invalid_size_in_extended_header(stemcell, size):
    raw = pax(b"10 size=%s\n" % size) + tar(member())
    with pytest.raises(InvalidStemcell, match=r"not a complete gzipped tar: the size of root.img is invalid"):
        read(stemcell(raw))


def test_extended_header_is_for_the_next_member_only(stemcell):
    raw = pax(b"10 size=1\n") + header(tarfile.REGTYPE, 0, "other") + b"x".ljust(512, b"\0") + tar(member())
    assert read(stemcell(raw))[2] == CONTENT


@pytest.mark.parametrize(
    "members",
    [
        [],
        [member("../root.img")],
        [member("/root.img")],
        [member("root.imgx")],
        [member("sub/root.img")],
        [member("ROOT.IMG")],
        [member(type=tarfile.SYMTYPE, linkname="/etc/passwd", content=b"")],
        [member(type=tarfile.LNKTYPE, linkname="x", content=b"")],
        [member(type=tarfile.DIRTYPE, content=b"")],
        [member(type=tarfile.FIFOTYPE, content=b"")],
        [member(type=tarfile.BLKTYPE, content=b"")],
        [member(content=b"")],
    ],
    ids=[
        "nothing",
        "above",
        "absolute",
        "longer",
        "below",
        "upper case",
        "symbolic link",
        "hard link",
        "directory",
        "pipe",
        "device",
        "empty",
    ],
)
def test_rejects_tarball_without_root_img(stemcell, members):
    with pytest.raises(InvalidStemcell, match=r"image does not contain root.img$") as raised:
        read(stemcell(tar(*members)))
    assert raised.value.code == "damaged_stemcell"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"x" * 1000, id="no gzip"),
        pytest.param(b"", id="empty"),
        pytest.param(tar(member()), id="plain tar"),
        pytest.param(gzip.compress(b"no tar" * 1000), id="gzip without tar"),
        pytest.param(b"\x1f\x8b\x08\xff" + b"x" * 100, id="damaged gzip header"),
    ],
)
def test_rejects_files_of_other_formats(tmp_path, content):
    (tmp_path / "image").write_bytes(content)
    with pytest.raises(InvalidStemcell, match="image is not a complete gzipped tar: "):
        read(str(tmp_path / "image"))


@pytest.mark.parametrize("length", [20, 600, 3000, -1, -9])
def test_rejects_truncated_file(tmp_path, length):
    content = random.Random(1).randbytes(5000)
    (tmp_path / "image").write_bytes(gzip.compress(tar(member(content=content)))[:length])
    with pytest.raises(InvalidStemcell, match=r"is not a complete gzipped tar: the gzip data ends too early"):
        read(str(tmp_path / "image"))


@pytest.mark.parametrize("size", [2096128, 2093056, 3145216, 2097152, 1, 511, 512, 513])
def test_verifies_checksum_for_every_size(tmp_path, size):
    """The end of the disk can be the end of a block. Then the checksum has not been read with it."""
    intact = gzip.compress(tar(member(content=random.Random(1).randbytes(size))), 0)
    flipped = bytearray(intact)
    flipped[len(intact) // 2 if size > 5000 else 1024] ^= 1
    for packed in bytes(flipped), intact[:-8], intact[:-1]:
        (tmp_path / "image").write_bytes(packed)
        with pytest.raises(InvalidStemcell, match="is not a complete gzipped tar: "):
            read(str(tmp_path / "image"))
    (tmp_path / "image").write_bytes(intact)
    assert read(str(tmp_path / "image"))[0] == size


def test_rejects_truncated_tar_in_complete_gzip(stemcell):
    with pytest.raises(InvalidStemcell, match="not a complete gzipped tar: the tar archive ends too early"):
        read(stemcell(tar(member())[:100_000]))


def test_many_zeros_are_an_empty_tar(tmp_path):
    with pytest.raises(InvalidStemcell, match=r"does not contain root.img"):
        read(write_gzip(tmp_path / "image", b"", 100 * MIB))


@pytest.mark.parametrize(
    "head, message",
    [
        (header(tarfile.XHDTYPE, 8 << 30), "a header has 8589934592 bytes"),
        (header(tarfile.XHDTYPE, 15 * MIB), "a header has 15728640 bytes"),
        (header(tarfile.XGLTYPE, 8 << 30), "more than 16 MiB besides root.img"),
        (header(tarfile.GNUTYPE_LONGNAME, 8 << 30), "more than 16 MiB besides root.img"),
        (header(tarfile.REGTYPE, 8 << 30, "other"), "more than 16 MiB besides root.img"),
        (header(tarfile.REGTYPE, 1 << 62, "other"), "more than 16 MiB besides root.img"),
        (tar(member())[:-10240], "more than 16 MiB besides root.img"),
    ],
    ids=["pax", "15 MiB pax", "global pax", "long name", "gigabytes", "exabytes", "after the disk"],
)
def test_rejects_large_headers_and_members(tmp_path, head, message):
    path = write_gzip(tmp_path / "image", head, 64 * MIB)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidStemcell, match=message):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_limit_does_not_count_the_disk(tmp_path):
    path = write_gzip(tmp_path / "image", header(tarfile.REGTYPE, 20 * MIB, "root.img"), 21 * MIB)
    assert len(read(path)[2]) == 20 * MIB


@pytest.mark.parametrize("mtime", ["nan", "inf", "-inf", "1e300", "-5", "junk"])
def test_invalid_time_becomes_zero(stemcell, mtime):
    info, content = member()
    info.pax_headers = {"mtime": mtime}
    info.mtime = 0
    assert read(stemcell(tar((info, content), format=tarfile.PAX_FORMAT)))[1] == 0


def test_damaged_tarballs_raise_no_other_error(stemcell):
    intact = tar(member("stemcell.MF", b"x" * 100), member(content=CONTENT[:2000]), format=tarfile.PAX_FORMAT)
    intact = tar(member("l" * 150, b"x"))[:2048] + intact
    rejected = 0
    for seed in range(500):
        rng = random.Random(seed)
        raw = bytearray(intact)
        for _ in range(rng.randrange(1, 20)):
            raw[rng.randrange(len(raw))] = rng.choice([0, 0x30, 0x37, 0x80, 0xFF, 0x53, 0x78, rng.randrange(256)])
        if rng.random() < 0.7:  # correct the checksums, so that tarfile reads on
            for at in range(0, len(raw) - 511, 512):
                if raw[at + 257 : at + 262] == b"ustar":
                    raw[at + 148 : at + 156] = b" " * 8
                    raw[at + 148 : at + 156] = b"%06o\0 " % sum(raw[at : at + 512])
        try:
            read(stemcell(bytes(raw)))
        except InvalidStemcell:
            rejected += 1
    assert 100 < rejected < 500


def test_rejects_negative_size(stemcell):
    raw = bytearray(tar(member()))
    raw[124:136] = b"\xff" + struct.pack(">Q", (1 << 64) - 5).rjust(11, b"\xff")  # -5 in GNU tar's binary format
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    with pytest.raises(InvalidStemcell, match=r"the size of root.img is invalid"):
        read(stemcell(bytes(raw)))
