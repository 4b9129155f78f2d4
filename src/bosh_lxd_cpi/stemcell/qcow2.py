"""qcow2, as far as a stemcell needs it: recognise it, and write it around a raw disk without a temporary file.

The tables of a qcow2 file come before the data and say which clusters are there, so a raw image is read twice: once to
see which clusters hold only zeros, once to send the others.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import zip_longest

from bosh_lxd_cpi.errors import CloudError

MAGIC = b"QFI\xfb"
HEADER = struct.Struct(">4sIQIIQIIQQIIQ")
HEADER_SIZE = HEADER.size
CLUSTER_BITS = 16
CLUSTER = 1 << CLUSTER_BITS
ZEROS = bytes(CLUSTER)
ENTRIES = CLUSTER // 8
"""Entries in an L1, L2 or refcount table cluster."""
REFCOUNTS = CLUSTER // 2
"""Entries in a refcount block: 16 bits each."""
COPIED = 1 << 63
EXTERNAL_DATA = 1 << 2


def check(header: bytes) -> None:
    """Refuse what the server could not convert. Raises CloudError."""
    if header[:4] != MAGIC:
        raise CloudError(
            f"the stemcell's root.img is not qcow2: it starts with {header[:4]!r}",
            hint="Upload an openstack-qcow2 stemcell; a raw one must say disk_format: raw",
        )
    if len(header) >= 16 and int.from_bytes(header[8:16], "big"):
        raise CloudError("the stemcell's root.img needs a backing file, which no server has")
    if len(header) >= 36 and int.from_bytes(header[32:36], "big"):
        raise CloudError("the stemcell's root.img is encrypted")
    version = int.from_bytes(header[4:8], "big")
    if version >= 3 and len(header) >= 80 and int.from_bytes(header[72:80], "big") & EXTERNAL_DATA:
        raise CloudError("the stemcell's root.img has its data in another file, which no server has")


def used_clusters(chunks: Iterable[bytes]) -> list[bool]:
    """For every cluster of a raw image, whether it holds anything but zeros."""
    return [_holds_data(cluster) for cluster in _clusters(chunks)]


def size(used: list[bool], virtual_size: int) -> int:
    """Bytes that `stream` will give."""
    return len(_tables(used, virtual_size)) + sum(used) * CLUSTER


def stream(chunks: Iterable[bytes], used: list[bool], virtual_size: int) -> Iterator[bytes]:
    """A qcow2 (compat 0.10) file of a raw image whose used clusters are known. Raises CloudError if it changed."""
    yield _tables(used, virtual_size)
    for cluster, wanted in zip_longest(_clusters(chunks), used):
        if cluster is None or wanted is None or _holds_data(cluster) > wanted:
            raise CloudError("the stemcell's tarball changed while it was read")
        if wanted:
            yield cluster.ljust(CLUSTER, b"\0")


def _tables(used: list[bool], virtual_size: int) -> bytes:
    """Header, refcount table, refcount blocks, L1 table and L2 tables; the data clusters follow in order."""
    groups = [used[at : at + ENTRIES] for at in range(0, len(used), ENTRIES)]
    l1_clusters = -(-len(groups) // ENTRIES) or 1
    fixed = 1 + l1_clusters + sum(any(group) for group in groups) + sum(used)
    blocks = table_clusters = 1
    while blocks * REFCOUNTS < fixed + blocks + table_clusters:
        blocks += 1
        table_clusters = -(-blocks // ENTRIES)
    l1_at = 1 + table_clusters + blocks
    l2_at = l1_at + l1_clusters
    data_at = l2_at + sum(any(group) for group in groups)
    total = data_at + sum(used)

    header = HEADER.pack(
        MAGIC, 2, 0, 0, CLUSTER_BITS, virtual_size, 0, len(groups), l1_at * CLUSTER, CLUSTER, table_clusters, 0, 0
    )
    refcount_table = _table(((1 + table_clusters + block) * CLUSTER for block in range(blocks)), table_clusters)
    refcounts = struct.pack(f">{total}H", *[1] * total).ljust(blocks * CLUSTER, b"\0")
    l1, l2 = [], []
    for group in groups:
        l1.append((l2_at + len(l2)) * CLUSTER | COPIED if any(group) else 0)
        if any(group):
            entries = []
            for wanted in group:
                entries.append(data_at * CLUSTER | COPIED if wanted else 0)
                data_at += wanted
            l2.append(_table(entries, 1))
    return header.ljust(CLUSTER, b"\0") + refcount_table + refcounts + _table(l1, l1_clusters) + b"".join(l2)


def _table(entries: Iterable[int], clusters: int) -> bytes:
    packed = b"".join(entry.to_bytes(8, "big") for entry in entries)
    return packed.ljust(clusters * CLUSTER, b"\0")


def _holds_data(cluster: bytes) -> bool:
    return cluster != ZEROS[: len(cluster)]


def _clusters(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        rest += chunk
        whole = len(rest) - len(rest) % CLUSTER
        for at in range(0, whole, CLUSTER):
            yield rest[at : at + CLUSTER]
        rest = rest[whole:]
    if rest:
        yield rest
