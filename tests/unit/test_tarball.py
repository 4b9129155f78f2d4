from __future__ import annotations

import gzip
import io
import os
import random
import struct
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from bosh_lxd_cpi.errors import CloudError
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
    """Writes a gzipped tar and answers its path."""

    def stemcell(raw: bytes) -> str:
        (tmp_path / "image").write_bytes(gzip.compress(raw, 1, mtime=0))
        return str(tmp_path / "image")

    return stemcell


def read(path: str) -> tuple[int, int, bytes]:
    with tarball.open_image(path) as image:
        return image.size, image.created, b"".join(image.chunks())


@pytest.mark.parametrize("name", ["root.img", "./root.img", ".//root.img"])
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_disk_comes_with_size_and_date(stemcell, name, format):
    assert read(stemcell(tar(member(name), format=format))) == (len(CONTENT), 1769853600, CONTENT)


def test_other_members_are_passed_over(stemcell):
    others = [
        member("stemcell.MF", b"x" * 5000),
        member("dir", b"", type=tarfile.DIRTYPE),
        member("a/root.img", b"not me"),
        member("root.img.sha1", b"nor me"),
        member("l" * 300, b"a long name"),
    ]
    assert read(stemcell(tar(*others, member())))[2] == CONTENT


def test_the_first_of_two_disks_counts(stemcell):
    assert read(stemcell(tar(member(), member(content=b"second"))))[2] == CONTENT


def test_chunks_are_of_one_mebibyte_and_the_rest(stemcell):
    with tarball.open_image(stemcell(tar(member(content=bytes(3 * MIB + 5))))) as image:
        assert [len(chunk) for chunk in image.chunks()] == [MIB, MIB, MIB, 5]


def test_reading_it_takes_little_memory_however_large_it_is(tmp_path):
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


def test_a_sparse_disk_is_read_as_it_was(tmp_path):
    """GNU tar -S: some builders use it."""
    import shutil
    import subprocess

    if not shutil.which("tar"):
        pytest.skip("tar is missing")
    with Path(tmp_path / "root.img").open("wb") as file:
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
def test_what_is_not_a_file_called_root_img_is_no_disk(stemcell, members):
    with pytest.raises(CloudError, match="image holds no root.img$") as raised:
        read(stemcell(tar(*members)))
    assert "OpenStack stemcell" in raised.value.hint


@pytest.mark.parametrize(
    "what, content",
    [
        ("no gzip", b"x" * 1000),
        ("empty", b""),
        ("a bare tar", tar(member())),
        ("gzip of no tar", gzip.compress(b"no tar" * 1000)),
        ("a broken gzip header", b"\x1f\x8b\x08\xff" + b"x" * 100),
    ],
)
def test_what_is_no_gzip_tar_is_refused(tmp_path, what, content):
    (tmp_path / "image").write_bytes(content)
    with pytest.raises(CloudError, match="image is not a whole gzip tar: "):
        read(str(tmp_path / "image"))


@pytest.mark.parametrize("left", [20, 600, 3000, -1, -9])
def test_a_file_that_was_cut_off_is_refused(tmp_path, left):
    rng = random.Random(1)
    (tmp_path / "image").write_bytes(gzip.compress(tar(member(content=rng.randbytes(5000))))[:left])
    with pytest.raises(CloudError, match="is not a whole gzip tar: |holds no root.img"):
        size, _, content = read(str(tmp_path / "image"))
        if (size, len(content)) == (5000, 5000):  # the end of a tar or a gzip is not needed to have the disk
            raise CloudError("is not a whole gzip tar: all is there")


def test_a_tar_that_was_cut_off_inside_its_gzip_is_refused(stemcell):
    with pytest.raises(CloudError, match="not a whole gzip tar: unexpected end of data"):
        read(stemcell(tar(member())[:100_000]))


def test_a_damaged_checksum_is_seen(tmp_path):
    packed = bytearray(gzip.compress(tar(member("a", CONTENT), member(content=b"x" * 100_000))))
    packed[len(packed) // 2] ^= 0xFF
    (tmp_path / "image").write_bytes(packed)
    with pytest.raises(CloudError, match="not a whole gzip tar|holds no root.img"):
        read(str(tmp_path / "image"))


@pytest.mark.parametrize(
    "path, message", [("missing", "cannot be read: No such file"), (".", "cannot be read: Is a directory")]
)
def test_a_file_that_cannot_be_read_is_an_error(tmp_path, path, message):
    with pytest.raises(CloudError, match=message):
        read(os.path.join(tmp_path, path))


def bomb(tmp_path: Path, head: bytes, mebibytes: int) -> str:
    """A tar that begins with `head` and goes on in zeros for as long as anybody reads."""
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


def test_zeros_without_end_are_an_empty_tar(tmp_path):
    with pytest.raises(CloudError, match="holds no root.img"):
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
    ids=["PAX header", "global PAX header", "long name", "gigabytes of another member", "exabytes of another member"],
)
def test_a_header_that_claims_gigabytes_is_not_read_into_memory(tmp_path, head):
    path = bomb(tmp_path, head, 64)
    tracemalloc.start()
    try:
        with pytest.raises(CloudError, match="no root.img in the first 16 MiB of the stemcell's tarball"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 64 * MIB
    finally:
        tracemalloc.stop()


def test_the_limit_does_not_hold_for_the_disk_itself(tmp_path):
    path = bomb(tmp_path, header(tarfile.REGTYPE, 20 * MIB, "root.img"), 21)
    assert len(read(path)[2]) == 20 * MIB


@pytest.mark.parametrize("mtime", ["nan", "inf", "-inf", "1e300", "-5", "junk"])
def test_a_date_that_is_none_counts_as_unknown(stemcell, mtime):
    info, content = member()
    info.pax_headers = {"mtime": mtime}
    info.mtime = 0
    assert read(stemcell(tar((info, content), format=tarfile.PAX_FORMAT)))[1] == 0


def test_500_damaged_tarballs_are_refused_or_read_but_nothing_else(stemcell):
    sound = tar(member("stemcell.MF", b"x" * 100), member(content=CONTENT[:2000]), format=tarfile.PAX_FORMAT)
    sound = tar(member("l" * 150, b"x"))[:2048] + sound
    refused = 0
    for seed in range(500):
        rng = random.Random(seed)
        raw = bytearray(sound)
        for _ in range(rng.randrange(1, 20)):
            raw[rng.randrange(len(raw))] = rng.choice([0, 0x30, 0x37, 0x80, 0xFF, 0x53, 0x78, rng.randrange(256)])
        if rng.random() < 0.7:  # make the checksums right again, so that the damage gets further
            for at in range(0, len(raw) - 511, 512):
                if raw[at + 257 : at + 262] == b"ustar":
                    raw[at + 148 : at + 156] = b" " * 8
                    raw[at + 148 : at + 156] = b"%06o\0 " % sum(raw[at : at + 512])
        try:
            read(stemcell(bytes(raw)))
        except CloudError:
            refused += 1
    assert 100 < refused < 500


def test_numbers_that_no_tar_has_are_refused(stemcell):
    raw = bytearray(tar(member()))
    raw[124:136] = b"\xff" + struct.pack(">Q", (1 << 64) - 5).rjust(
        11, b"\xff"
    )  # a size of -5, as GNU tar would write it
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    with pytest.raises(CloudError, match="holds no root.img|not a whole gzip tar"):
        read(stemcell(bytes(raw)))
