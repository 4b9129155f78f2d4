"""A FAT12 image with long file names, without a partition table (Microsoft's FAT specification 1.03, "fatgen103").

Layout in sectors: boot sector, two allocation tables, root directory, then clusters with directories and files. FAT12
allows an image of 1 MiB; Linux mounts it as vfat. Short names are a tilde and a number. Long names must not contain a
tilde, because both kinds of names share one name space.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Collection, Mapping

from bosh_lxd_cpi.guest.config_drive import tree

SECTOR = 512
MIB = 1024 * 1024
MAX_CLUSTERS = 4084 - 16
"""FAT16 begins above 4084 clusters, but readers miscount: blkid by 2, and the specification warns of 16."""
TABLE_SECTORS = 12
"""Sectors of an allocation table with MAX_CLUSTERS entries of 12 bits."""
LABEL, DIRECTORY, FILE = 0x08, 0x10, 0x20
"""File attributes."""
DATE = 1 << 5 | 1
"""1980-01-01, constant so that equal content gives equal bytes."""


def image(files: Mapping[str, bytes], *, label: str) -> bytes:
    """Return a file system with `files`, contents by relative path. Its size is a multiple of 1 MiB.

    Equal arguments give equal bytes. The label is converted to upper case, as FAT requires. Raises ValueError for a
    label or path that FAT does not support, for more than 4068 files and directories, and for more than about 127 MiB.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,11}", label):
        raise ValueError(f"FAT label {label!r} must be 1 to 11 of the characters A-Z a-z 0-9 _ -")
    volume_label = label.upper().encode().ljust(11)
    directories = tree.directories(files)
    paths = [*directories, *sorted(files)]
    _validate(paths)
    first_cluster = dict.fromkeys(paths, 0)  # 0 for empty files, and for the root directory outside of the clusters

    def content(path: str) -> bytes:
        if path in files:
            return files[path]
        if path:
            head = _entry(b".", DIRECTORY, first_cluster[path])
            head += _entry(b"..", DIRECTORY, first_cluster[tree.parent(path)])
        else:
            head = _entry(volume_label, LABEL)
        return head + _entries(directories[path], files, first_cluster)

    sizes = {path: len(content(path)) for path in paths}  # sizes do not depend on first clusters
    root_sectors = -(-sizes.pop("") // SECTOR)
    cluster_size, lengths = _clusters(sizes)
    table = [0xFF8, 0xFFF]
    for path, length in lengths.items():
        first = len(table)
        first_cluster[path] = first if length else 0
        table += [*range(first + 1, first + length), 0xFFF][:length]

    parts = 2 * [_pack12(table).ljust(TABLE_SECTORS * SECTOR, b"\0")]
    parts += [content("").ljust(root_sectors * SECTOR, b"\0")]
    parts += [content(path).ljust(length * cluster_size, b"\0") for path, length in lengths.items()]
    body = b"".join(parts)
    size = -(-(SECTOR + len(body)) // MIB) * MIB
    return (_boot_sector(volume_label, size, cluster_size, root_sectors, zlib.crc32(body)) + body).ljust(size, b"\0")


def _validate(paths: Collection[str]) -> None:
    if len(paths) > MAX_CLUSTERS:
        raise ValueError(f"{len(paths)} files and directories are too many for FAT12")
    spellings: dict[str, str] = {}
    for path in paths:
        if re.search(r'["*:<>?\\|~]|(^|/) |[ .](/|$)', path):
            raise ValueError(f"path {path!r} has a character or ending that FAT does not allow")
        if spellings.setdefault(path.lower(), path) != path:
            raise ValueError(f"{spellings[path.lower()]!r} and {path!r} are the same name on FAT")


def _clusters(sizes: Mapping[str, int]) -> tuple[int, dict[str, int]]:
    """Return the smallest sufficient cluster size in bytes, and the number of clusters of each path."""
    for cluster_size in (SECTOR << shift for shift in range(7)):
        lengths = {path: -(-size // cluster_size) for path, size in sizes.items()}
        if sum(lengths.values()) <= MAX_CLUSTERS:
            return cluster_size, lengths
    raise ValueError(f"{sum(sizes.values())} bytes in files and directories are too many for FAT12")


def _pack12(table: list[int]) -> bytes:
    pairs = zip(table[::2], [*table[1::2], 0], strict=False)
    return b"".join((low | high << 12).to_bytes(3, "little") for low, high in pairs)


def _boot_sector(volume_label: bytes, size: int, cluster_size: int, root_sectors: int, serial: int) -> bytes:
    start = 1 + 2 * TABLE_SECTORS + root_sectors
    sectors_per_cluster = cluster_size // SECTOR
    clusters = min(MAX_CLUSTERS, (size // SECTOR - start) // sectors_per_cluster)
    sectors = start + clusters * sectors_per_cluster
    return struct.pack(
        "<3s8sHBHBHHBHHHIIBBBI11s8s448s2s",
        b"\xeb\x3c\x90",
        b"BOSH CPI",
        SECTOR,
        sectors_per_cluster,
        1,
        2,
        root_sectors * SECTOR // 32,
        sectors if sectors < 65536 else 0,
        0xF8,
        TABLE_SECTORS,
        1,
        1,
        0,
        sectors if sectors >= 65536 else 0,
        0x80,
        0,
        0x29,
        serial,
        volume_label,
        b"FAT12   ",
        b"",
        b"\x55\xaa",
    )


def _entries(children: list[str], files: Mapping[str, bytes], first_cluster: Mapping[str, int]) -> bytes:
    data = b""
    for number, path in enumerate(children):
        short_name = b"~%07d   " % number
        data += _long_name(path.rpartition("/")[2], short_name)
        data += _entry(short_name, FILE if path in files else DIRECTORY, first_cluster[path], len(files.get(path, b"")))
    return data


def _entry(short_name: bytes, attribute: int, cluster: int = 0, size: int = 0) -> bytes:
    return struct.pack("<11sB4xHHHHHHI", short_name.ljust(11), attribute, DATE, DATE, 0, 0, DATE, cluster, size)


def _long_name(name: str, short_name: bytes) -> bytes:
    """Return the entries before the entry of a short name: 13 characters of the long name each, in reverse order."""
    checksum = 0
    for byte in short_name:
        checksum = ((checksum & 1) << 7) + (checksum >> 1) + byte & 0xFF
    count = -(-len(name) // 13)
    characters = (name.encode("utf-16-le") + b"\0\0" + 22 * b"\xff")[: count * 26]
    entries = []
    for number in range(count, 0, -1):
        part = characters[26 * number - 26 : 26 * number]
        last = 0x40 if number == count else 0
        entries.append(
            struct.pack("<B10sBBB12sH4s", number | last, part[:10], 0x0F, 0, checksum, part[10:22], 0, part[22:])
        )
    return b"".join(entries)
