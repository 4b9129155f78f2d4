from __future__ import annotations

import contextlib
import gzip
import random
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from bosh_lxd_cpi.errors import DeadlineExceeded, InvalidStemcell
from bosh_lxd_cpi.runtime.clock import Deadline
from bosh_lxd_cpi.stemcell import qcow2, rootfs, tarball
from bosh_lxd_cpi.stemcell.input_file import InputFile
from tests.support.clock import ManualClock
from tests.support.tarballs import CREATED, MIB, header, image_header, member, pax, tar, write_gzip

IMAGE = image_header().ljust(4 << 16, b"\0") + random.Random(1).randbytes(300_000)
RAW = bytes(1 << 16) + random.Random(1).randbytes(200_000)
MAX_MEMORY = 8 * MIB


class SlowClock(ManualClock):
    """A clock that advances by a second at each call."""

    def monotonic(self) -> float:
        self.now_is += 1
        return self.now_is


def read(
    path: str | Path, *, disk_mib: int = 64, is_raw: bool = False, clock: ManualClock | None = None, seconds: float = 60
) -> tuple[int, int, bytes]:
    """Return size, time and content of the image that is uploaded."""
    deadline = Deadline(clock or ManualClock(), seconds)
    used = rootfs.used_clusters(str(path), disk_mib=disk_mib, deadline=deadline) if is_raw else None
    with rootfs.open_rootfs(str(path), used, disk_mib=disk_mib, deadline=deadline) as image:
        return image.size, image.created, b"".join(image.chunks)


@pytest.mark.parametrize("is_raw", [False, True])
def test_qcow2_image_is_unchanged(tmp_path, is_raw):
    write_gzip(tmp_path / "image", tar(member(content=IMAGE)))
    assert read(tmp_path / "image", is_raw=is_raw) == (len(IMAGE), CREATED, IMAGE)


@pytest.mark.parametrize("is_raw, reads", [(False, 1), (True, 2)])
def test_reads_a_qcow2_image_once_and_a_raw_image_twice(tmp_path, is_raw, reads):
    path = write_gzip(tmp_path / "image", tar(member(content=RAW if is_raw else IMAGE + RAW)))
    clock = SlowClock()
    with contextlib.closing(InputFile(path, Deadline(clock, 60))) as file:
        list(tarball.find_image(file).chunks())
    seconds_of_one_read, clock.now_is = clock.now_is - ManualClock().now_is, ManualClock().now_is
    read(path, is_raw=is_raw, clock=clock, seconds=1000)
    assert clock.now_is - ManualClock().now_is <= reads * seconds_of_one_read


def test_converts_raw_image(tmp_path):
    write_gzip(tmp_path / "image", tar(member(content=RAW)))
    size, created, content = read(tmp_path / "image", is_raw=True)
    assert content == b"".join(qcow2.convert([RAW], qcow2.used_clusters([RAW]), len(RAW)))
    assert (size, created) == (len(content), CREATED)


@pytest.mark.parametrize("content", [IMAGE, RAW])
def test_used_clusters_are_those_of_a_raw_image(tmp_path, content):
    path = write_gzip(tmp_path / "image", tar(member(content=content)))
    used = rootfs.used_clusters(path, disk_mib=64, deadline=Deadline(ManualClock(), 60))
    assert used == (None if content is IMAGE else qcow2.used_clusters([RAW]))


def test_rejects_raw_image_that_is_declared_as_qcow2(tmp_path):
    write_gzip(tmp_path / "image", tar(member(content=RAW)))
    with pytest.raises(InvalidStemcell, match="not qcow2"):
        read(tmp_path / "image")


def test_rejects_raw_image_that_changes_between_reads(tmp_path):
    deadline = Deadline(ManualClock(), 60)
    path = write_gzip(tmp_path / "image", tar(member(content=RAW)))
    used = rootfs.used_clusters(path, disk_mib=64, deadline=deadline)
    write_gzip(tmp_path / "image", tar(member(content=RAW[::-1])))
    with (
        pytest.raises(InvalidStemcell, match="changed while it was read"),
        rootfs.open_rootfs(path, used, disk_mib=64, deadline=deadline) as image,
    ):
        list(image.chunks)


@pytest.mark.parametrize(
    "disk_mib, size_mib, is_valid",
    [(1, 1025, True), (1, 1026, False), (0, 65536, True), (0, 65537, False), (10240, 11264, True)],
)
def test_size_is_limited_by_the_disk_of_the_stemcell(tmp_path, disk_mib, size_mib, is_valid):
    start = image_header(virtual_size=100 << 30, l1_entries=200).ljust(1 << 20, b"\0")
    path = write_gzip(tmp_path / "image", header(tarfile.REGTYPE, size_mib * MIB, "root.img") + start)
    limit = disk_mib + 1024 if disk_mib else 65536
    expected = (
        "the tar archive ends too early" if is_valid else f"has {size_mib} MiB, more than the limit of {limit} MiB"
    )
    with pytest.raises(InvalidStemcell, match=expected) as raised:
        read(path, disk_mib=disk_mib)
    assert raised.value.code == ("damaged_stemcell" if is_valid else "large_stemcell")


def sparse(size: int) -> bytes:
    """Return the header of a GNU sparse file without data."""
    block = bytearray(header(tarfile.GNUTYPE_SPARSE, 0, "root.img"))
    block[483:495] = b"%011o\0" % size
    block[148:156] = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 8 * 32)
    return bytes(block)


def disk(start: bytes, size: int = 1 << 40) -> bytes:
    """Return a tar whose header contains this size."""
    return header(tarfile.REGTYPE, size, "root.img") + start.ljust(MIB, b"\0")


MALICIOUS: dict[str, Callable[[], bytes]] = {
    "15 MiB pax": lambda: pax(b"15728640 comment=" + bytes(15 * MIB)),
    "900,000 pax keys": lambda: pax(b"".join(b"13 k%06d=\n" % number for number in range(900_000))),
    "2000 pax headers": lambda: pax(b"9 a=bcd\n") * 2000,
    "30,000 pax headers": lambda: pax(b"9 a=bcd\n") * 30_000,
    "2000 long names": lambda: (header(tarfile.GNUTYPE_LONGNAME, 300) + b"x" * 512) * 2000,
    "2000 long links": lambda: (header(tarfile.GNUTYPE_LONGLINK, 300) + b"x" * 512) * 2000,
    "2000 global headers": lambda: (header(tarfile.XGLTYPE, 9) + b"9 a=bcd\n".ljust(512, b"\0")) * 2000,
    "long name of 15 MiB": lambda: header(tarfile.GNUTYPE_LONGNAME, 15 * MIB) + b"x" * (15 * MIB),
    "sparse terabyte": lambda: sparse(1 << 40),
    "pax sparse terabyte": lambda: pax(b"30 GNU.sparse.size=1099511627776\n") + tar(member(content=IMAGE)),
    "pax sparse map": lambda: pax(b"22 GNU.sparse.major=1\n") + tar(member("GNUSparseFile.1/root.img", content=IMAGE)),
    "terabyte": lambda: disk(image_header(virtual_size=1 << 40, l1_entries=1 << 11)),
    "exabyte in pax": lambda: pax(b"28 size=1152921504606846976\n") + disk(image_header(), 0),
    "size of 5000 digits": lambda: pax(b"5010 size=" + b"9" * 5000 + b"\n") + disk(image_header(), 0),
    "zeros beyond the virtual size": lambda: disk(image_header(virtual_size=MIB), 200 * MIB),
    "virtual size of 8 EiB": lambda: disk(image_header(virtual_size=1 << 63), MIB),
    "no disk": lambda: tar(member("other")),
    "no tar": lambda: b"\xff" * MIB,
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("name", MALICIOUS)
@pytest.mark.parametrize("is_raw", [False, True], ids=["qcow2", "raw"])
def test_limits_memory_for_malicious_tarballs(tmp_path, name, is_raw):
    path = write_gzip(tmp_path / "image", MALICIOUS[name](), 20 * MIB)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidStemcell):
            read(path, is_raw=is_raw)
        assert tracemalloc.get_traced_memory()[1] < MAX_MEMORY
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("is_raw", [False, True])
def test_respects_deadline_while_reading(tmp_path, is_raw):
    content = random.Random(1).randbytes(8 * MIB)
    write_gzip(tmp_path / "image", tar(member(content=content if is_raw else IMAGE + content)))
    with pytest.raises(DeadlineExceeded):
        read(tmp_path / "image", is_raw=is_raw, clock=SlowClock(), seconds=20)


@pytest.mark.parametrize("is_raw", [False, True])
def test_verifies_checksum_before_the_end(tmp_path, is_raw):
    packed = bytearray(gzip.compress(tar(member(content=RAW if is_raw else IMAGE)), 0))
    packed[150_000] ^= 1
    (tmp_path / "image").write_bytes(packed)
    with pytest.raises(InvalidStemcell, match="incorrect data check"):
        read(tmp_path / "image", is_raw=is_raw)
