"""Atomic file writes."""

from __future__ import annotations

import contextlib
import os
import tempfile


def write_file(path: str | os.PathLike[str], data: str | bytes, *, mode: int) -> None:
    """Replace the content of a file in one step, so that a reader sees either the old or the new content.

    A string is encoded as UTF-8. The data is on disk before the file gets its name. `mode` sets the permissions,
    whatever the umask is. Raises OSError; then the old file stays as it is.
    """
    path = os.fspath(path)
    content = data.encode("utf-8") if isinstance(data, str) else data
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path) or ".", prefix=".", suffix=".part")
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
