"""Tarballs of stemcells, valid and invalid."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
from pathlib import Path

from bosh_lxd_cpi.stemcell import qcow2

CONTENT = b"QFI\xfb" + bytes(range(256)) * 5000
CREATED = 1769853600
MIB = 1 << 20


def member(name: str = "root.img", content: bytes = CONTENT, **attributes: object) -> tuple[tarfile.TarInfo, bytes]:
    """Return a member for `tar`. `attributes` are those of its TarInfo."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(content), CREATED
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, content


def tar(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.GNU_FORMAT) -> bytes:
    """Return a tar archive."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=format) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def header(kind: bytes, size: int, name: str = "x") -> bytes:
    """Return the header of a member without its content."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def pax(records: bytes) -> bytes:
    """Return an extended header for the next member."""
    return header(tarfile.XHDTYPE, len(records)) + records.ljust(-(-len(records) // 512) * 512, b"\0")


def write_gzip(path: Path, start: bytes, zeros: int = 0) -> str:
    """Write a gzip file whose content is `start`, followed by this number of zeros. Return its path."""
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(start)
        for size in [MIB] * (zeros // MIB) + [zeros % MIB]:
            file.write(bytes(size))
    return str(path)


def image_header(
    *,
    version: int = 3,
    backing_file: int = 0,
    cluster_bits: int = 16,
    virtual_size: int = 64 * MIB,
    encryption: int = 0,
    l1_entries: int = 1,
    features: int = 0,
) -> bytes:
    """Return the header of a qcow2 image with one field for each argument."""
    fields = version, backing_file, 0, cluster_bits, virtual_size, encryption, l1_entries, 3 << 16, 1 << 16, 1, 0, 0
    return qcow2.HEADER.pack(qcow2.MAGIC, *fields) + struct.pack(">QQQII", features, 0, 0, 4, 104)
