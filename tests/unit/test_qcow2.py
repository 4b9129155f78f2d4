"""The files are judged by qemu-img: nothing else decides what qcow2 is."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from bosh_lxd_cpi.errors import CloudError
from bosh_lxd_cpi.stemcell import qcow2

CLUSTER = qcow2.CLUSTER
MIB = 1 << 20


def qemu_img(*arguments: str | Path) -> str:
    if not shutil.which("qemu-img"):
        pytest.skip("qemu-img is missing: install qemu-utils")
    done = subprocess.run(["qemu-img", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pieces(raw: bytes, length: int) -> list[bytes]:
    return [raw[at : at + length] for at in range(0, len(raw), length)]


def converted(raw: bytes, length: int = MIB) -> bytes:
    used = qcow2.used_clusters(pieces(raw, length))
    whole = b"".join(qcow2.stream(pieces(raw, length), used, len(raw)))
    assert len(whole) == qcow2.size(used, len(raw))
    return whole


def check(path: Path) -> dict[str, int]:
    found = json.loads(qemu_img("check", "--output=json", "-f", "qcow2", path))
    assert found.get("leaks", 0) == found.get("corruptions", 0) == found["check-errors"] == 0, found
    return found


def test_random_disks_become_files_that_qemu_finds_sound_and_equal(tmp_path):
    for seed in range(12):
        rng = random.Random(seed)
        parts = [
            rng.choice([bytes, rng.randbytes])(rng.choice([512, 4096, CLUSTER, 3 * CLUSTER]))
            for _ in range(rng.randrange(1, 40))
        ]
        raw = b"".join(parts)
        (tmp_path / "raw").write_bytes(raw)
        (tmp_path / "qcow2").write_bytes(converted(raw, rng.choice([512, 4096, CLUSTER - 512, MIB])))
        check(tmp_path / "qcow2")
        qemu_img("compare", "-f", "raw", "-F", "qcow2", tmp_path / "raw", tmp_path / "qcow2")


def test_an_empty_disk_takes_tables_only(tmp_path):
    (tmp_path / "qcow2").write_bytes(converted(bytes(10 * MIB)))
    assert check(tmp_path / "qcow2").get("allocated-clusters", 0) == 0
    assert json.loads(qemu_img("info", "--output=json", tmp_path / "qcow2"))["virtual-size"] == 10 * MIB
    assert (tmp_path / "qcow2").stat().st_size == 4 * CLUSTER


def test_only_clusters_that_hold_anything_are_stored(tmp_path):
    raw = bytearray(100 * CLUSTER)
    raw[0] = raw[5 * CLUSTER - 1] = raw[99 * CLUSTER] = 1
    (tmp_path / "qcow2").write_bytes(converted(bytes(raw)))
    assert check(tmp_path / "qcow2")["allocated-clusters"] == 3


@pytest.mark.parametrize(
    "clusters, last",
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
def test_tables_grow_where_they_must(tmp_path, clusters, last):
    """Every cluster used, or only the last: around the ends of L2 tables and refcount blocks. The data is left a hole."""
    used = [True] * clusters if last else [False] * (clusters - 1) + [True]
    tables = qcow2._tables(used, clusters * CLUSTER)
    with Path(tmp_path / "qcow2").open("wb") as file:
        file.write(tables)
        file.truncate(qcow2.size(used, clusters * CLUSTER))
    assert check(tmp_path / "qcow2")["allocated-clusters"] == sum(used)


def test_every_length_of_the_refcount_tables_is_sound(tmp_path):
    for clusters in range(qcow2.REFCOUNTS - 12, qcow2.REFCOUNTS + 3):
        tables = qcow2._tables([True] * clusters, clusters * CLUSTER)
        with Path(tmp_path / "qcow2").open("wb") as file:
            file.write(tables)
            file.truncate(len(tables) + clusters * CLUSTER)
        check(tmp_path / "qcow2")


def test_a_size_that_ends_inside_a_cluster_is_kept(tmp_path):
    raw = b"x" * (CLUSTER + 512)
    (tmp_path / "qcow2").write_bytes(converted(raw))
    assert json.loads(qemu_img("info", "--output=json", tmp_path / "qcow2"))["virtual-size"] == CLUSTER + 512


def test_the_first_cluster_is_a_qcow2_header():
    whole = converted(b"x" * CLUSTER)
    qcow2.check(whole)
    assert qcow2.HEADER.unpack(whole[: qcow2.HEADER_SIZE])[:2] == (b"QFI\xfb", 2)


@pytest.mark.parametrize("length", [1, 511, 512, CLUSTER - 1, CLUSTER, CLUSTER + 1, 10 * CLUSTER])
def test_how_the_disk_is_cut_into_chunks_changes_nothing(length):
    raw = random.Random(length).randbytes(3 * CLUSTER) + bytes(CLUSTER) + b"end"
    assert converted(raw, max(length, 512)) == converted(raw, MIB)
    assert qcow2.used_clusters(pieces(raw[:2000], length if length < 2000 else 2000)) == [True]


@pytest.mark.parametrize("second", [b"x" * CLUSTER, b"x" * 3 * CLUSTER, b""])
def test_a_disk_that_changed_between_the_two_readings_is_refused(second):
    used = qcow2.used_clusters([b"x" * 2 * CLUSTER])
    with pytest.raises(CloudError, match="changed while it was read"):
        list(qcow2.stream([second] if second else [], used, 2 * CLUSTER))


def test_data_where_there_was_none_before_is_not_lost_unseen():
    used = qcow2.used_clusters([b"x" * CLUSTER + bytes(CLUSTER)])
    with pytest.raises(CloudError, match="changed while it was read"):
        list(qcow2.stream([b"x" * CLUSTER + bytes(CLUSTER - 1) + b"x"], used, 2 * CLUSTER))


def test_a_qcow2_file_of_qemus_own_is_accepted(tmp_path):
    for compat in "0.10", "1.1":
        qemu_img("create", "-q", "-f", "qcow2", "-o", f"compat={compat}", tmp_path / compat, "1M")
        qcow2.check((tmp_path / compat).read_bytes()[:1000])


@pytest.mark.parametrize(
    "header", [b"", b"QFI", b"QFI\xfa", b"\x00" * 100, b"KDMV" + bytes(100), b"conectix", b"\x53\x46\x51"]
)
def test_what_is_not_qcow2_is_refused_with_its_first_bytes(header):
    with pytest.raises(CloudError, match="root.img is not qcow2: it starts with b'") as raised:
        qcow2.check(header)
    assert repr(header[:4]) in raised.value.message and "disk_format: raw" in raised.value.hint


def test_a_file_that_needs_another_is_refused(tmp_path):
    qemu_img("create", "-q", "-f", "raw", tmp_path / "base", "1M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", tmp_path / "base", "-F", "raw", tmp_path / "top")
    with pytest.raises(CloudError, match="needs a backing file"):
        qcow2.check((tmp_path / "top").read_bytes()[:1000])


@pytest.mark.parametrize(
    "at, value, told",
    [
        (8, (1).to_bytes(8, "big"), "needs a backing file"),
        (32, (2).to_bytes(4, "big"), "is encrypted"),
        (72, (4).to_bytes(8, "big"), "has its data in another file"),
    ],
)
def test_what_a_server_could_not_read_whole_is_refused(at, value, told):
    header = bytearray(b"QFI\xfb\x00\x00\x00\x03" + bytes(96))
    qcow2.check(bytes(header))
    header[at : at + len(value)] = value
    with pytest.raises(CloudError, match=told):
        qcow2.check(bytes(header))
