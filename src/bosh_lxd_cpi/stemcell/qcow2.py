"""The qcow2 format: validate an image, and convert a raw disk without a temporary file.

The tables of a qcow2 file precede the data and say which clusters exist. So a raw image is read twice: first to find
the clusters that are not empty, then to send them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import zip_longest

from bosh_lxd_cpi.errors import InvalidStemcell

MAGIC = b"QFI\xfb"
HEADER = struct.Struct(">4sIQIIQIIQQIIQ")
CLUSTER_BITS = 16
CLUSTER = 1 << CLUSTER_BITS
ZEROS = bytes(CLUSTER)
ENTRIES = CLUSTER // 8
"""Entries in a cluster of an L1, L2 or refcount table."""
REFCOUNTS = CLUSTER // 2
"""Entries in a refcount block, 16 bits each."""
COPIED = 1 << 63
"""Flag of a cluster that has one reference."""
EXTERNAL_DATA = 1 << 2
"""Incompatible feature bit of an image with its data in another file."""
MAX_L1_ENTRIES = 4 << 20
MAX_TABLES = 64 << 20
"""Bytes that the tables of an image take at most, apart from an eighth of its virtual size."""


def validate(start: bytes, size: int) -> None:
    """Check the header of an image of `size` bytes. Raises InvalidStemcell if the server cannot convert the image.

    The limits are those of QEMU, block/qcow2.c.
    """
    if start[:4] != MAGIC:
        raise InvalidStemcell(f"the stemcell's root.img is not qcow2: it starts with {start[:4]!r}", code="not_qcow2")
    if len(start) < HEADER.size:
        raise _invalid("ends within its header")
    _, version, backing_file, _, cluster_bits, virtual_size, encryption, l1_entries, *_ = HEADER.unpack_from(start)
    if version not in (2, 3):
        raise _invalid(f"has version {version} of qcow2, not 2 or 3")
    if backing_file:
        raise _invalid("needs a backing file, which the server does not have")
    if encryption:
        raise _invalid("is encrypted")
    if version == 3 and int.from_bytes(start[72:80], "big") & EXTERNAL_DATA:
        raise _invalid("has its data in another file, which the server does not have")
    if not 9 <= cluster_bits <= 21:
        raise _invalid(f"has clusters of 2^{cluster_bits} bytes, not 2^9 to 2^21")
    bytes_per_l1_entry = 1 << (2 * cluster_bits - 3)
    if not 0 < virtual_size <= min(l1_entries, MAX_L1_ENTRIES) * bytes_per_l1_entry:
        raise _invalid(f"has an invalid virtual size of {virtual_size} bytes")
    if size > virtual_size + virtual_size // 8 + MAX_TABLES:
        raise _invalid(f"is a file of {size} bytes for a virtual size of {virtual_size} bytes")


def _invalid(reason: str) -> InvalidStemcell:
    return InvalidStemcell(f"the stemcell's root.img {reason}", code="damaged_stemcell")


def used_clusters(chunks: Iterable[bytes]) -> list[bool]:
    """Return for every cluster of a raw image whether it contains anything but zeros."""
    return [_has_data(cluster) for cluster in _clusters(chunks)]


def converted_size(used: list[bool], virtual_size: int) -> int:
    """Return the size in bytes of the file that `convert` yields."""
    return len(_tables(used, virtual_size)) + sum(used) * CLUSTER


def convert(chunks: Iterable[bytes], used: list[bool], virtual_size: int) -> Iterator[bytes]:
    """Yield a qcow2 file (compat 0.10) for a raw image.

    `used` is the result of `used_clusters`, and `virtual_size` the size of the image in bytes. Raises InvalidStemcell
    if the image changed since `used_clusters` read it.
    """
    yield _tables(used, virtual_size)
    for cluster, is_used in zip_longest(_clusters(chunks), used):
        if cluster is None or is_used is None or (_has_data(cluster) and not is_used):
            raise InvalidStemcell("the stemcell's tarball changed while it was read")
        if is_used:
            yield cluster.ljust(CLUSTER, b"\0")


def _tables(used: list[bool], virtual_size: int) -> bytes:
    """Return header, refcount table, refcount blocks, L1 table and L2 tables. The used clusters follow in order."""
    groups = [used[start : start + ENTRIES] for start in range(0, len(used), ENTRIES)]
    l2_tables = sum(any(group) for group in groups)
    l1_clusters = -(-len(groups) // ENTRIES) or 1
    fixed = 1 + l1_clusters + l2_tables + sum(used)
    blocks = table_clusters = 1
    while blocks * REFCOUNTS < fixed + blocks + table_clusters:
        blocks += 1
        table_clusters = -(-blocks // ENTRIES)
    l1_start = 1 + table_clusters + blocks
    l2_start = l1_start + l1_clusters
    data_start = l2_start + l2_tables
    total = data_start + sum(used)

    header = HEADER.pack(
        MAGIC, 2, 0, 0, CLUSTER_BITS, virtual_size, 0, len(groups), l1_start * CLUSTER, CLUSTER, table_clusters, 0, 0
    )
    refcount_table = _table(((1 + table_clusters + block) * CLUSTER for block in range(blocks)), table_clusters)
    refcounts = struct.pack(f">{total}H", *[1] * total).ljust(blocks * CLUSTER, b"\0")
    l1: list[int] = []
    l2: list[bytes] = []
    for group in groups:
        l1.append((l2_start + len(l2)) * CLUSTER | COPIED if any(group) else 0)
        if any(group):
            entries = []
            for is_used in group:
                entries.append(data_start * CLUSTER | COPIED if is_used else 0)
                data_start += is_used
            l2.append(_table(entries, 1))
    return header.ljust(CLUSTER, b"\0") + refcount_table + refcounts + _table(l1, l1_clusters) + b"".join(l2)


def _table(entries: Iterable[int], clusters: int) -> bytes:
    packed = b"".join(entry.to_bytes(8, "big") for entry in entries)
    return packed.ljust(clusters * CLUSTER, b"\0")


def _has_data(cluster: bytes) -> bool:
    return cluster != ZEROS[: len(cluster)]


def _clusters(chunks: Iterable[bytes]) -> Iterator[bytes]:
    buffer = b""
    for chunk in chunks:
        buffer += chunk
        complete = len(buffer) - len(buffer) % CLUSTER
        for start in range(0, complete, CLUSTER):
            yield buffer[start : start + CLUSTER]
        buffer = buffer[complete:]
    if buffer:
        yield buffer
