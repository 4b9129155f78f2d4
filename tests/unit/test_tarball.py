from __future__ import annotations

import gzip
import io
import random
import struct
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from bosh_lxd_cpi.errors import InvalidStemcell
from bosh_lxd_cpi.stemcell import tarball

CONTENT = b"QFI\xfb" + bytes(range(256)) * 5000
MIB = 1 << 20


def member(name: str = "root.img", content: bytes = CONTENT, **attributes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(content), 1769853600
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, content


def tar(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.GNU_FORMAT) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=format) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture
def stemcell(tmp_path: Path) -> Callable[..., str]:
    """Write a gzipped tar and return its path."""

    def stemcell(raw: bytes) -> str:
        (tmp_path / "image").write_bytes(gzip.compress(raw, 1, mtime=0))
        return str(tmp_path / "image")

    return stemcell


def read(path: str) -> tuple[int, int, bytes]:
    with tarball.open_image(path) as image:
        return image.size, image.created, b"".join(image.chunks())


@pytest.mark.parametrize("name", ["root.img", "./root.img", ".//root.img"])
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_returns_content_size_and_time_of_disk(stemcell, name, format):
    assert read(stemcell(tar(member(name), format=format))) == (len(CONTENT), 1769853600, CONTENT)


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


def test_chunks_have_one_mebibyte(stemcell):
    with tarball.open_image(stemcell(tar(member(content=bytes(3 * MIB + 5))))) as image:
        assert [len(chunk) for chunk in image.chunks()] == [MIB, MIB, MIB, 5]


def test_memory_does_not_depend_on_disk_size(tmp_path):
    path = tmp_path / "image"
    info, _ = member()
    info.size = 200 * MIB
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(info.tobuf())
        for _ in range(200):
            file.write(bytes(MIB))
        file.write(bytes(10240))
    tracemalloc.start()
    try:
        with tarball.open_image(str(path)) as image:
            assert sum(len(chunk) for chunk in image.chunks()) == 200 * MIB
        assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    finally:
        tracemalloc.stop()


def test_reads_sparse_disk(tmp_path):
    """Some stemcell builders use GNU tar -S."""
    import shutil
    import subprocess

    if not shutil.which("tar"):
        pytest.skip("tar is missing")
    with (tmp_path / "root.img").open("wb") as file:
        file.truncate(8 * MIB)
        file.seek(3 * MIB)
        file.write(b"data")
    subprocess.run(
        ["tar", "-C", tmp_path, "--sparse", "--format=gnu", "-czf", tmp_path / "image", "root.img"], check=True
    )
    assert read(str(tmp_path / "image"))[2] == bytes(3 * MIB) + b"data" + bytes(5 * MIB - 4)


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
    rng = random.Random(1)
    (tmp_path / "image").write_bytes(gzip.compress(tar(member(content=rng.randbytes(5000))))[:length])
    with pytest.raises(InvalidStemcell, match=r"is not a complete gzipped tar: |does not contain root.img"):
        size, _, content = read(str(tmp_path / "image"))
        if (size, len(content)) == (5000, 5000):  # the disk does not need the end of tar and gzip
            raise InvalidStemcell("is not a complete gzipped tar: the disk is complete")


def test_rejects_truncated_tar_in_complete_gzip(stemcell):
    with pytest.raises(InvalidStemcell, match="not a complete gzipped tar: unexpected end of data"):
        read(stemcell(tar(member())[:100_000]))


def test_rejects_wrong_checksum(tmp_path):
    packed = bytearray(gzip.compress(tar(member("a", CONTENT), member(content=b"x" * 100_000))))
    packed[len(packed) // 2] ^= 0xFF
    (tmp_path / "image").write_bytes(packed)
    with pytest.raises(InvalidStemcell, match=r"not a complete gzipped tar|does not contain root.img"):
        read(str(tmp_path / "image"))


@pytest.mark.parametrize(
    "path, message", [("missing", "cannot be read: No such file"), (".", "cannot be read: Is a directory")]
)
def test_rejects_unreadable_file(tmp_path, path, message):
    with pytest.raises(InvalidStemcell, match=message):
        read(str(tmp_path / path))


def bomb(tmp_path: Path, head: bytes, mebibytes: int) -> str:
    """Return the path of a tar that begins with `head` and continues with zeros."""
    path = tmp_path / "image"
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(head)
        for _ in range(mebibytes):
            file.write(bytes(MIB))
    return str(path)


def header(kind: bytes, size: int, name: str = "x") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def test_many_zeros_are_an_empty_tar(tmp_path):
    with pytest.raises(InvalidStemcell, match=r"does not contain root.img"):
        read(bomb(tmp_path, b"", 100))


@pytest.mark.parametrize(
    "head",
    [
        header(tarfile.XHDTYPE, 8 << 30),
        header(tarfile.XGLTYPE, 8 << 30),
        header(tarfile.GNUTYPE_LONGNAME, 8 << 30),
        header(tarfile.REGTYPE, 8 << 30, "other"),
        header(tarfile.REGTYPE, 1 << 62, "other"),
    ],
    ids=["PAX header", "global PAX header", "long name", "gigabytes of other member", "exabytes of other member"],
)
def test_rejects_huge_header_without_reading_it(tmp_path, head):
    path = bomb(tmp_path, head, 64)
    tracemalloc.start()
    try:
        with pytest.raises(
            InvalidStemcell, match=r"the first 16 MiB of the stemcell's tarball do not contain root.img"
        ):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 64 * MIB
    finally:
        tracemalloc.stop()


def test_disk_may_be_larger_than_limit(tmp_path):
    path = bomb(tmp_path, header(tarfile.REGTYPE, 20 * MIB, "root.img"), 21)
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
    with pytest.raises(InvalidStemcell, match=r"does not contain root.img|not a complete gzipped tar"):
        read(stemcell(bytes(raw)))
