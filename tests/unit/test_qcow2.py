"""qemu-img checks the files, as the reference implementation of qcow2."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bosh_lxd_cpi.errors import InvalidStemcell
from bosh_lxd_cpi.stemcell import qcow2
from tests.support.tarballs import MIB, image_header

CLUSTER = qcow2.CLUSTER


def qemu_img(*arguments: str | Path) -> str:
    if not shutil.which("qemu-img"):
        pytest.skip("qemu-img is missing: install qemu-utils")
    result = subprocess.run(["qemu-img", *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def split(raw: bytes, length: int) -> list[bytes]:
    return [raw[start : start + length] for start in range(0, len(raw), length)]


def convert(raw: bytes, length: int = MIB) -> bytes:
    used = qcow2.used_clusters(split(raw, length))
    image = b"".join(qcow2.convert(split(raw, length), used, len(raw)))
    assert len(image) == qcow2.converted_size(used, len(raw))
    return image


def check(path: Path) -> dict[str, int]:
    report = json.loads(qemu_img("check", "--output=json", "-f", "qcow2", path))
    assert report.get("leaks", 0) == report.get("corruptions", 0) == report["check-errors"] == 0, report
    return report


def test_converts_random_disks_correctly(tmp_path):
    for seed in range(12):
        rng = random.Random(seed)
        parts = [
            rng.choice([bytes, rng.randbytes])(rng.choice([512, 4096, CLUSTER, 3 * CLUSTER]))
            for _ in range(rng.randrange(1, 40))
        ]
        raw = b"".join(parts)
        (tmp_path / "raw").write_bytes(raw)
        (tmp_path / "qcow2").write_bytes(convert(raw, rng.choice([512, 4096, CLUSTER - 512, MIB])))
        check(tmp_path / "qcow2")
        qemu_img("compare", "-f", "raw", "-F", "qcow2", tmp_path / "raw", tmp_path / "qcow2")


def test_empty_disk_needs_tables_only(tmp_path):
    (tmp_path / "qcow2").write_bytes(convert(bytes(10 * MIB)))
    assert check(tmp_path / "qcow2").get("allocated-clusters", 0) == 0
    assert json.loads(qemu_img("info", "--output=json", tmp_path / "qcow2"))["virtual-size"] == 10 * MIB
    assert (tmp_path / "qcow2").stat().st_size == 4 * CLUSTER


def test_stores_only_clusters_with_data(tmp_path):
    raw = bytearray(100 * CLUSTER)
    raw[0] = raw[5 * CLUSTER - 1] = raw[99 * CLUSTER] = 1
    (tmp_path / "qcow2").write_bytes(convert(bytes(raw)))
    assert check(tmp_path / "qcow2")["allocated-clusters"] == 3


@pytest.mark.parametrize(
    "clusters, all_used",
    [
        (qcow2.ENTRIES - 1, False),
        (qcow2.ENTRIES, True),
        (qcow2.ENTRIES + 1, True),
        (3 * qcow2.ENTRIES, False),
        (qcow2.REFCOUNTS - 6, True),
        (qcow2.REFCOUNTS - 5, True),
        (qcow2.REFCOUNTS, True),
        (qcow2.REFCOUNTS + 1, True),
        (2 * qcow2.REFCOUNTS, True),
        (qcow2.ENTRIES * 8, False),
    ],
)
def test_tables_grow_with_number_of_clusters(tmp_path, clusters, all_used):
    """Every cluster is used, or only the last one, around the ends of L2 tables and refcount blocks."""
    used = [True] * clusters if all_used else [False] * (clusters - 1) + [True]
    tables = qcow2._tables(used, clusters * CLUSTER)
    with (tmp_path / "qcow2").open("wb") as file:
        file.write(tables)
        file.truncate(qcow2.converted_size(used, clusters * CLUSTER))
    assert check(tmp_path / "qcow2")["allocated-clusters"] == sum(used)


def test_refcount_blocks_are_correct_around_their_end(tmp_path):
    for clusters in range(qcow2.REFCOUNTS - 12, qcow2.REFCOUNTS + 3):
        tables = qcow2._tables([True] * clusters, clusters * CLUSTER)
        with (tmp_path / "qcow2").open("wb") as file:
            file.write(tables)
            file.truncate(len(tables) + clusters * CLUSTER)
        check(tmp_path / "qcow2")


def test_keeps_size_that_ends_inside_a_cluster(tmp_path):
    raw = b"x" * (CLUSTER + 512)
    (tmp_path / "qcow2").write_bytes(convert(raw))
    assert json.loads(qemu_img("info", "--output=json", tmp_path / "qcow2"))["virtual-size"] == CLUSTER + 512


def test_first_cluster_is_a_qcow2_header():
    image = convert(b"x" * CLUSTER)
    qcow2.validate(image, len(image))
    assert qcow2.HEADER.unpack(image[: qcow2.HEADER.size])[:2] == (b"QFI\xfb", 2)


@pytest.mark.parametrize("length", [1, 511, 512, CLUSTER - 1, CLUSTER, CLUSTER + 1, 10 * CLUSTER])
def test_result_does_not_depend_on_chunk_size(length):
    raw = random.Random(length).randbytes(3 * CLUSTER) + bytes(CLUSTER) + b"end"
    assert convert(raw, max(length, 512)) == convert(raw, MIB)
    assert qcow2.used_clusters(split(raw[:2000], length if length < 2000 else 2000)) == [True]


@pytest.mark.parametrize("second", [b"x" * CLUSTER, b"x" * 3 * CLUSTER, b""])
def test_rejects_disk_that_changes_between_reads(second):
    used = qcow2.used_clusters([b"x" * 2 * CLUSTER])
    with pytest.raises(InvalidStemcell, match="changed while it was read"):
        list(qcow2.convert([second] if second else [], used, 2 * CLUSTER))


def test_rejects_new_data_in_empty_cluster():
    used = qcow2.used_clusters([b"x" * CLUSTER + bytes(CLUSTER)])
    with pytest.raises(InvalidStemcell, match="changed while it was read"):
        list(qcow2.convert([b"x" * CLUSTER + bytes(CLUSTER - 1) + b"x"], used, 2 * CLUSTER))


@pytest.mark.parametrize(
    "options", ["compat=0.10", "compat=1.1", "cluster_size=512", "cluster_size=2M", "extended_l2=on"]
)
@pytest.mark.parametrize("size", ["512", "64M", "100G"])
def test_accepts_images_of_qemu(tmp_path, options, size):
    qemu_img("create", "-q", "-f", "qcow2", "-o", options, tmp_path / "image", size)
    with (tmp_path / "image").open("rb") as file:
        qcow2.validate(file.read(1000), (tmp_path / "image").stat().st_size)


@pytest.mark.parametrize(
    "start",
    [b"", b"QFI", b"QFI\xfa", bytes(100), b"KDMV" + bytes(100), b"conectix", b"SFQ"],
    ids=["empty", "short", "other magic", "zeros", "VMDK", "VHD", "reversed"],
)
def test_rejects_other_formats_with_first_bytes(start):
    with pytest.raises(InvalidStemcell, match=r"root.img is not qcow2: it starts with b'") as raised:
        qcow2.validate(start, MIB)
    assert repr(start[:4]) in raised.value.brief
    assert raised.value.code == "not_qcow2"


def test_rejects_image_with_backing_file(tmp_path):
    qemu_img("create", "-q", "-f", "raw", tmp_path / "base", "1M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", tmp_path / "base", "-F", "raw", tmp_path / "top")
    with pytest.raises(InvalidStemcell, match="needs a backing file"):
        qcow2.validate((tmp_path / "top").read_bytes()[:1000], MIB)


INVALID_HEADERS = {
    "has version 0 of qcow2": {"version": 0},
    "has version 1 of qcow2": {"version": 1},
    "has version 99 of qcow2": {"version": 99},
    "is encrypted": {"encryption": 1},
    "has its data in another file": {"features": 4},
    "has clusters of 2^0 bytes": {"cluster_bits": 0},
    "has clusters of 2^8 bytes": {"cluster_bits": 8},
    "has clusters of 2^22 bytes": {"cluster_bits": 22},
    "has clusters of 2^63 bytes": {"cluster_bits": 63},
    "has an invalid virtual size of 9223372036854775808 bytes": {"virtual_size": 1 << 63, "l1_entries": (1 << 32) - 1},
    "has an invalid virtual size of 536870913 bytes": {"virtual_size": (512 << 20) + 1},
    "has an invalid virtual size of 67108864 bytes": {"l1_entries": 0},
}


@pytest.mark.parametrize("message", INVALID_HEADERS)
def test_rejects_headers_that_qemu_rejects(tmp_path, message):
    (tmp_path / "image").write_bytes(image_header(**INVALID_HEADERS[message]).ljust(5 << 16, b"\0"))
    with pytest.raises(InvalidStemcell, match=re.escape(f"the stemcell's root.img {message}")) as raised:
        qcow2.validate((tmp_path / "image").read_bytes(), 5 << 16)
    assert raised.value.code == "damaged_stemcell"
    with pytest.raises(AssertionError, match="Could not open"):
        qemu_img("convert", "-f", "qcow2", "-O", "raw", tmp_path / "image", tmp_path / "raw")


def test_accepts_header_that_is_the_base_of_the_others(tmp_path):
    (tmp_path / "image").write_bytes(image_header().ljust(5 << 16, b"\0"))
    qcow2.validate(image_header(), 5 << 16)
    qemu_img("convert", "-f", "qcow2", "-O", "raw", tmp_path / "image", tmp_path / "raw")


def test_rejects_empty_disks():
    with pytest.raises(InvalidStemcell, match="has an invalid virtual size of 0 bytes"):
        qcow2.validate(image_header(virtual_size=0), MIB)


@pytest.mark.parametrize("length", [4, 8, 71])
def test_rejects_truncated_header(length):
    with pytest.raises(InvalidStemcell, match=r"root.img ends within its header"):
        qcow2.validate(image_header()[:length], length)


def test_file_is_not_much_larger_than_virtual_size():
    qcow2.validate(image_header(virtual_size=80 * MIB), 154 * MIB)
    with pytest.raises(InvalidStemcell, match="is a file of 161480705 bytes for a virtual size of 83886080 bytes"):
        qcow2.validate(image_header(virtual_size=80 * MIB), 154 * MIB + 1)
