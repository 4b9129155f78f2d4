"""The disk image inside a stemcell's `image`, a gzip tar with one file root.img, as a stream."""

from __future__ import annotations

import contextlib
import gzip
import os
import tarfile
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

from bosh_lxd_cpi.errors import CloudError

MEMBER = "root.img"
CHUNK = 1 << 20
MOST_BEFORE_MEMBER = 16 << 20
"""Bytes of other tar members, or of one header, that are read before giving up: a tar header may claim to be gigabytes."""
LATEST = 1 << 33
HINT = "Is it the `image` of an OpenStack stemcell (openstack-qcow2 or openstack-raw)?"


class DiskImage(NamedTuple):
    """The open root.img: its size in bytes, and what is left to read of it."""

    size: int
    created: int
    """When it was made, in Unix seconds."""
    file: IO[bytes]

    def chunks(self) -> Iterator[bytes]:
        """All the bytes from here on. Raises CloudError when the tarball is damaged."""
        with readable():
            while chunk := self.file.read(CHUNK):
                yield chunk


class _Leash:
    """Lets a limited number of bytes through until it is let go."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file, self._left = file, limit

    def read(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            raise CloudError(
                f"no {MEMBER} in the first {MOST_BEFORE_MEMBER >> 20} MiB of the stemcell's tarball", hint=HINT
            )
        return self._file.read(size)

    def let_go(self) -> None:
        self._left = 1 << 62


@contextlib.contextmanager
def open_image(path: str) -> Iterator[DiskImage]:
    """Open the root.img in a stemcell's tarball. Raises CloudError when there is none or the file is damaged."""
    with readable(path), gzip.open(path) as unzipped:
        leash = _Leash(unzipped, MOST_BEFORE_MEMBER)
        with tarfile.open(fileobj=leash, mode="r|", bufsize=CHUNK) as tar:  # type: ignore[call-overload]
            for member in tar:
                if os.path.normpath(member.name) == MEMBER and member.isreg() and member.size > 0:
                    leash.let_go()
                    file = tar.extractfile(member)
                    assert file
                    created = int(member.mtime) if 0 < member.mtime < LATEST else 0  # a PAX header may say nan
                    yield DiskImage(member.size, created, file)
                    return
    raise CloudError(f"{path} holds no {MEMBER}", hint=HINT)


@contextlib.contextmanager
def readable(path: str = "the stemcell's tarball") -> Iterator[None]:
    """Turn what damaged input raises into one CloudError."""
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as failure:
        raise CloudError(f"{path} is not a whole gzip tar: {failure}", hint=HINT) from failure
    except (FileNotFoundError, PermissionError, IsADirectoryError) as failure:
        raise CloudError(f"{path} cannot be read: {failure.strerror}") from failure
