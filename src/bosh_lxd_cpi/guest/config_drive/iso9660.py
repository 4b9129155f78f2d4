"""An ISO9660 image with Rock Ridge names (ECMA-119, IEEE P1281 "SUSP", IEEE P1282 "RRIP").

Layout in sectors: 16 unused, volume descriptor, terminator, two path tables, directories, files. The ISO9660 names are
numbers, so that they are unique and sorted; the Rock Ridge names are the real ones. Directories may be deeper than the
eight levels of ECMA-119, as with `mkisofs -D`, because Linux supports it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bosh_lxd_cpi.guest.config_drive import tree

SECTOR = 2048
FIRST_TABLE = 18
"""Sector of the first path table."""
FILE_MODE, DIRECTORY_MODE = 0o100400, 0o40500
"""For root only, because the agent settings contain secrets."""
DATE = bytes([80, 1, 1, 0, 0, 0, 0])
"""1980-01-01, constant so that equal content gives equal bytes."""
LONG_DATE = b"1980010100000000\0"
NO_DATE = b"0" * 16 + b"\0"
ROCK_RIDGE = b"SP\x07\x01\xbe\xef\0" + b"ER\x12\x01\x0a\0\0\x01RRIP_1991A"
"""Announces Rock Ridge, in the first record of the root directory."""


class Node(NamedTuple):
    """A file or directory. Sector and size in bytes are 0 until the layout is computed."""

    identifier: bytes
    mode: int
    links: int
    sector: int = 0
    size: int = 0


def image(files: Mapping[str, bytes], *, label: str) -> bytes:
    """Return a file system with `files`, contents by relative path, owned by root. Equal arguments give equal bytes.

    The label is not converted to upper case as ECMA-119 requires, because Linux shows it in /dev/disk/by-label and the
    agent looks for it there. Raises ValueError for a label or path that the file system does not support.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,32}", label):
        raise ValueError(f"ISO9660 label {label!r} must be 1 to 32 of the characters A-Z a-z 0-9 _ . -")
    directories = tree.directories(files)
    nodes = {}
    for number, (path, children) in enumerate(directories.items()):
        links = 2 + sum(child in directories for child in children)
        nodes[path] = Node(b"%08d" % number if path else b"\0", DIRECTORY_MODE, links)
    for number, path in enumerate(sorted(files), len(directories)):
        nodes[path] = Node(b"%08d.;1" % number, FILE_MODE, links=1)

    sector = FIRST_TABLE + 2 * _sectors(_path_table(directories, nodes, "<"))
    for path, node in list(nodes.items()):  # sizes do not depend on the sectors, which are still 0
        data = files[path] if path in files else _directory(path, directories[path], nodes)
        nodes[path] = node._replace(sector=sector, size=len(data))
        sector += _sectors(data)

    tables = [_path_table(directories, nodes, byte_order) for byte_order in "<>"]
    parts = [bytes(16 * SECTOR), _volume_descriptor(label, sector, tables, nodes[""]), b"\xffCD001\x01", *tables]
    parts += [_directory(path, children, nodes) for path, children in directories.items()]
    parts += [files[path] for path in sorted(files)]
    return b"".join(part.ljust(_sectors(part) * SECTOR, b"\0") for part in parts)


def _sectors(data: bytes) -> int:
    return max(1, -(-len(data) // SECTOR))  # at least one, so that the extent of an empty file lies inside the image


def _both16(number: int) -> bytes:
    return struct.pack("<H", number) + struct.pack(">H", number)


def _both32(number: int) -> bytes:
    return struct.pack("<I", number) + struct.pack(">I", number)


def _volume_descriptor(label: str, sectors: int, tables: list[bytes], root: Node) -> bytes:
    return b"".join(
        [
            b"\x01CD001\x01\0",
            b" " * 32,
            label.encode().ljust(32),
            bytes(8),
            _both32(sectors),
            bytes(32),
            _both16(1),
            _both16(1),
            _both16(SECTOR),
            _both32(len(tables[0])),
            struct.pack("<II", FIRST_TABLE, 0),
            struct.pack(">II", FIRST_TABLE + _sectors(tables[0]), 0),
            _record(root.identifier, root),
            b" " * (4 * 128 + 3 * 37),  # identifiers of the set, publisher, preparer, application and of three files
            LONG_DATE,
            LONG_DATE,
            NO_DATE,
            NO_DATE,
            b"\x01",
        ]
    )


def _path_table(directories: Iterable[str], nodes: Mapping[str, Node], byte_order: str) -> bytes:
    """Return a table of all directories, each with the number of its parent."""
    numbers = {path: number for number, path in enumerate(directories, 1)}
    table = b""
    for path in numbers:
        identifier, parent = nodes[path].identifier, numbers[tree.parent(path)]
        table += struct.pack(byte_order + "BBIH", len(identifier), 0, nodes[path].sector, parent) + _even(identifier)
    return table


def _directory(path: str, children: list[str], nodes: Mapping[str, Node]) -> bytes:
    """Return the records of a directory, padded to whole sectors. No record crosses the boundary of a sector."""
    node, parent = nodes[path], nodes[tree.parent(path)]
    records = [
        _record(b"\0", node, (b"" if path else ROCK_RIDGE) + _attributes(node)),
        _record(b"\x01", parent, _attributes(parent)),
    ]
    for child_node, child in sorted((nodes[child], child) for child in children):
        name = child.rpartition("/")[2].encode()
        attributes = _attributes(child_node) + b"NM" + bytes([5 + len(name), 1, 0]) + name
        records.append(_record(child_node.identifier, child_node, attributes))
    data = b""
    for record in records:
        free = -len(data) % SECTOR
        data += record if len(record) <= free else bytes(free) + record
    return data + bytes(-len(data) % SECTOR)


def _attributes(node: Node) -> bytes:
    """Return the Rock Ridge entry PX: mode, links, user, group."""
    return b"PX\x24\x01" + _both32(node.mode) + _both32(node.links) + _both32(0) + _both32(0)


def _record(identifier: bytes, node: Node, rock_ridge: bytes = b"") -> bytes:
    flags = 2 if node.mode == DIRECTORY_MODE else 0
    record = b"\0" + _both32(node.sector) + _both32(node.size) + DATE + bytes([flags, 0, 0]) + _both16(1)
    record += _even(bytes([len(identifier)]) + identifier) + _even(rock_ridge)
    return bytes([1 + len(record)]) + record


def _even(data: bytes) -> bytes:
    return data + bytes(len(data) % 2)
