"""Writes files so that a reader sees either the old or the new content."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_file(path: str | Path, data: bytes, *, mode: int) -> None:
    """Replace the content of a file in one step. Raises OSError; then the old file stays as it is.

    The data is on disk before the file gets its name. `mode` sets the permissions, whatever the umask is.
    """
    path = os.fspath(path)
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path) or ".", prefix=".", suffix=".part")
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
