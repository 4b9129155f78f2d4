"""The `image` file of a stemcell, in blocks."""

from __future__ import annotations

import os
import stat

from bosh_lxd_cpi.errors import InvalidStemcell
from bosh_lxd_cpi.runtime.clock import Deadline

BLOCK = 128 << 10
"""Bytes that are read from the file at once. The allocator maps larger buffers anew for every block, which costs a page
fault for every 4 KiB."""


class InputFile:
    """A regular file that is open for reading.

    Every method raises InvalidStemcell if the file cannot be read.
    """

    def __init__(self, path: str, deadline: Deadline) -> None:
        self.path, self._deadline = path, deadline
        try:
            self._file = open(path, "rb", buffering=0, opener=_open_without_waiting)  # noqa: SIM115  closed by `close`
        except (OSError, ValueError) as failure:  # ValueError: the path cannot be encoded
            raise self._read_error(getattr(failure, "strerror", "") or str(failure)) from failure
        if not stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
            self.close()
            raise self._read_error("it is not a regular file")

    def close(self) -> None:
        self._file.close()

    def read(self) -> bytes:
        """Return the next block, or nothing at the end of the file. Raises DeadlineExceeded, too."""
        self._deadline.remaining()
        try:
            return self._file.read(BLOCK)
        except OSError as failure:
            raise self._read_error(failure.strerror or str(failure)) from failure

    def _read_error(self, reason: str) -> InvalidStemcell:
        path = self.path if len(self.path) < 200 else "the image, whose path is too long for a message,"
        return InvalidStemcell(f"{path} cannot be read: {reason}")


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file. O_NONBLOCK, because opening a FIFO waits for its writer."""
    return os.open(path, flags | os.O_NONBLOCK)
