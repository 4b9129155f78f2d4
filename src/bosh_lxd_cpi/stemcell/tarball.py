"""The disk image in a stemcell's `image`, a gzipped tar with one file root.img, as a stream."""

from __future__ import annotations

import contextlib
import gzip
import os
import tarfile
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

from bosh_lxd_cpi.errors import InvalidStemcell

MEMBER = "root.img"
CHUNK = 1 << 20
MAX_BYTES_BEFORE_MEMBER = 16 << 20
"""Bytes of other members, or of one header, that are read at most. A tar header can claim a size of gigabytes."""
MAX_TIME = 1 << 33
"""Unix seconds. A later modification time is ignored."""


class DiskImage(NamedTuple):
    """The open root.img: size in bytes, modification time in Unix seconds or 0, and the file."""

    size: int
    created: int
    file: IO[bytes]

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes that have not been read yet. Raises InvalidStemcell if the tarball is damaged."""
        with damage_as_error():
            while chunk := self.file.read(CHUNK):
                yield chunk


class _LimitedReader:
    """Reads a limited number of bytes until the limit is removed."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile, limit: int) -> None:
        self._file, self._remaining = file, limit

    def read(self, size: int) -> bytes:
        self._remaining -= size
        if self._remaining < 0:
            raise InvalidStemcell(
                f"the first {MAX_BYTES_BEFORE_MEMBER >> 20} MiB of the stemcell's tarball do not contain {MEMBER}",
                code="damaged_stemcell",
            )
        return self._file.read(size)

    def remove_limit(self) -> None:
        self._remaining = 1 << 62


@contextlib.contextmanager
def open_image(path: str) -> Iterator[DiskImage]:
    """Open the root.img in a stemcell's tarball. Raises InvalidStemcell if there is none or the file is damaged."""
    with damage_as_error(path), gzip.open(path) as unzipped:
        reader = _LimitedReader(unzipped, MAX_BYTES_BEFORE_MEMBER)
        # typeshed requires more of a stream than tarfile uses
        with tarfile.open(fileobj=reader, mode="r|", bufsize=CHUNK) as tar:  # type: ignore[call-overload]  # typeshed wants IO[bytes]
            for member in tar:
                if os.path.normpath(member.name) == MEMBER and member.isreg() and member.size > 0:
                    reader.remove_limit()
                    file = tar.extractfile(member)
                    assert file
                    created = int(member.mtime) if 0 < member.mtime < MAX_TIME else 0  # a PAX header may contain nan
                    yield DiskImage(member.size, created, file)
                    return
    raise InvalidStemcell(f"{path} does not contain {MEMBER}", code="damaged_stemcell")


@contextlib.contextmanager
def damage_as_error(path: str = "the stemcell's tarball") -> Iterator[None]:
    """Raise InvalidStemcell for every error that a damaged or unreadable tarball causes."""
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as failure:
        raise InvalidStemcell(f"{path} is not a complete gzipped tar: {failure}", code="damaged_stemcell") from failure
    except (FileNotFoundError, PermissionError, IsADirectoryError) as failure:
        raise InvalidStemcell(f"{path} cannot be read: {failure.strerror}") from failure
