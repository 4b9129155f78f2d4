"""A gzip file as a stream in constant memory. zlib compares the CRC and the length at the end of the content.

The module gzip reads the file in pieces of 8 KiB and computes the CRC of each in Python, which takes half as much CPU
time again.
"""

from __future__ import annotations

import zlib

from bosh_lxd_cpi.errors import InvalidStemcell
from bosh_lxd_cpi.stemcell.input_file import InputFile

GZIP_FORMAT = 31
"""zlib's `wbits` for data with a gzip header and trailer."""


class GzipReader:
    """The content of a gzip file. All methods raise InvalidStemcell if the file is damaged, and what `file` raises."""

    def __init__(self, file: InputFile) -> None:
        self.path, self._file = file.path, file
        self._member = zlib.decompressobj(GZIP_FORMAT)
        self._compressed = b""

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer at the end of the content. If it returns fewer, CRC and length are correct."""
        pieces = []
        while size and (piece := self._decompress(size)):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def content_error(self, reason: str) -> InvalidStemcell:
        """Return the error for a file with invalid content."""
        return InvalidStemcell(f"{self.path} is not a complete gzipped tar: {reason}", code="damaged_stemcell")

    def _decompress(self, size: int) -> bytes:
        """Return at least one byte and at most `size`, nothing at the end of the content."""
        piece = b""
        while not piece:
            if self._member.eof and not self._start_next_member():
                break
            block = self._compressed or self._file.read()
            if not block:
                raise self.content_error("the gzip data ends too early")
            try:
                piece = self._member.decompress(block, size)
            except zlib.error as failure:
                raise self.content_error(str(failure)) from failure
            self._compressed = self._member.unused_data or self._member.unconsumed_tail
        return piece

    def _start_next_member(self) -> bool:
        """Return whether the file continues. gzip concatenates the contents of members and ignores zeros after them."""
        while block := (self._compressed or self._file.read()):
            self._compressed = block.lstrip(b"\0")
            if self._compressed:
                self._member = zlib.decompressobj(GZIP_FORMAT)
                return True
        return False
