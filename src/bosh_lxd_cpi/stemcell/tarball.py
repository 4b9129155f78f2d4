"""The disk image in a stemcell's `image`, a gzipped tar with one file root.img, as a stream.

tarfile parses single headers only. It is unsafe for whole archives: it keeps extended headers of any size in
memory, calls itself for each of them, and extends sparse files to any size.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator

from bosh_lxd_cpi.errors import InvalidStemcell
from bosh_lxd_cpi.stemcell.gunzip import GzipReader
from bosh_lxd_cpi.stemcell.input_file import InputFile

MEMBER = "root.img"
CHUNK = 128 << 10
"""Bytes. With larger chunks, the allocator maps the memory of every chunk anew."""
MAX_OTHER_BYTES = 16 << 20
"""Bytes of headers and other members. They are read and dropped."""
MAX_EXTENDED_HEADER = 64 << 10
"""Bytes. An extended header is read into memory."""
MAX_TIME = 1 << 33
"""Unix seconds. A later modification time is ignored."""
PAX_SIZE = re.compile(rb"^\d+ size=(.*)$", re.MULTILINE)
DECIMAL = re.compile(rb"\d{1,19}")
WITHOUT_CONTENT = (
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
)
"""Types of members without content, whatever their size."""
EXTENDED_HEADERS = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)


class DiskImage:
    """The root.img of a tarball.

    `size` is in bytes, `created` in Unix seconds, or 0 if it is unknown. `start` is the first chunk of the content.
    """

    def __init__(self, archive: _Archive, *, size: int, created: int) -> None:
        self.size, self.created = size, created
        self._archive = archive
        self.start = archive.read(min(CHUNK, size))

    def chunks(self) -> Iterator[bytes]:
        """Yield the content, then read the rest of the tarball, whose end has the checksum of the content.

        It can be iterated once. Raises InvalidStemcell if the tarball is damaged, and DeadlineExceeded.
        """
        yield self.start
        for position in range(CHUNK, self.size, CHUNK):
            yield self._archive.read(min(CHUNK, self.size - position))
        self._archive.skip_rest()


def find_image(file: InputFile) -> DiskImage:
    """Return the root.img in a stemcell's tarball. Raises InvalidStemcell if there is none, and DeadlineExceeded.

    If several members have this name, the first one counts.
    """
    archive = _Archive(GzipReader(file))
    for member in archive.members():
        if os.path.normpath(member.name) == MEMBER:
            if not member.isreg() or not member.size:
                break
            created = int(member.mtime) if 0 < member.mtime < MAX_TIME else 0
            return DiskImage(archive, size=member.size, created=created)
        if member.type not in WITHOUT_CONTENT:
            archive.skip_other(_padded(member.size))
    raise InvalidStemcell(f"{file.path} does not contain {MEMBER}", code="damaged_stemcell")


class _Archive:
    """A tar archive that allows a limited number of bytes besides the content of root.img."""

    def __init__(self, reader: GzipReader) -> None:
        self._reader, self._remaining = reader, MAX_OTHER_BYTES
        self.path = reader.path

    def read(self, size: int) -> bytes:
        """Return `size` bytes. Raises InvalidStemcell if the archive is shorter."""
        content = self._reader.read(size)
        if len(content) < size:
            raise self._reader.content_error("the tar archive ends too early")
        return content

    def read_other(self, size: int) -> bytes:
        """Return `size` bytes that are not content of root.img."""
        self._count(size)
        return self.read(size)

    def skip_other(self, size: int) -> None:
        self._count(size)
        while size:
            size -= len(self.read(min(CHUNK, size)))

    def skip_rest(self) -> None:
        while content := self._reader.read(CHUNK):
            self._count(len(content))

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Yield the header of each member. The caller reads the content or skips it."""
        extended = b""
        while any(header := self.read_other(tarfile.BLOCKSIZE)):
            member = self._parse(header, extended)
            if member.type not in EXTENDED_HEADERS:
                yield member
                extended = b""
            elif member.size <= MAX_EXTENDED_HEADER:
                extended = self.read_other(_padded(member.size))[: member.size]
            else:
                raise self._reader.content_error(f"a header has {member.size} bytes")

    def _parse(self, header: bytes, extended: bytes) -> tarfile.TarInfo:
        try:
            member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError as failure:
            raise self._reader.content_error(str(failure)) from failure
        if member.type == tarfile.GNUTYPE_SPARSE or b" GNU.sparse." in extended:
            raise InvalidStemcell(f"{self.path} contains a sparse file", code="sparse_stemcell")
        if size := PAX_SIZE.search(extended):  # the header has no space for the size of a large file
            member.size = int(size[1]) if DECIMAL.fullmatch(size[1]) else -1
        if member.size < 0:
            raise self._reader.content_error(f"the size of {member.name} is invalid")
        return member

    def _count(self, size: int) -> None:
        self._remaining -= size
        if self._remaining < 0:
            raise InvalidStemcell(
                f"{self.path} has more than {MAX_OTHER_BYTES >> 20} MiB besides {MEMBER}", code="damaged_stemcell"
            )


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
