"""Detect whether the content of the release has changed since the tarball was built."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

CONTENT = ("config/blobs.yml", "config/final.yml", "jobs", "packages", "src", "blobs", "LICENSE", "NOTICE")
"""The files and directories of the repository that `bosh create-release` reads."""


def fingerprint(checkout: Path) -> str:
    """Return a SHA-256 digest of the path, type, executable bit and content of every file of the release."""
    digest = hashlib.sha256()
    for file in _files(checkout):
        content = os.fsencode(file.readlink()) if file.is_symlink() else file.read_bytes()
        kind = "link" if file.is_symlink() else "program" if os.access(file, os.X_OK) else "file"
        row = f"{file.relative_to(checkout)}\0{kind}\0{hashlib.sha256(content).hexdigest()}\n"
        digest.update(row.encode())
    return digest.hexdigest()


def is_current(tarball: Path, stamp: Path, content: str) -> bool:
    """Return whether the stamp says that this tarball was built from content with this fingerprint."""
    return tarball.is_file() and stamp.is_file() and stamp.read_text("utf-8") == stamp_content(tarball, content)


def stamp_content(tarball: Path, content: str) -> str:
    """Return the text of the stamp file for a tarball built from content with this fingerprint."""
    return f"{content} {hashlib.sha256(tarball.read_bytes()).hexdigest()}\n"


def _files(checkout: Path) -> Iterator[Path]:
    for name in CONTENT:
        path = checkout / name
        if path.is_file():
            yield path
        for file in sorted(path.rglob("*")):
            parts = file.relative_to(path).parts
            generated = any(part == "__pycache__" or part.endswith((".pyc", ".egg-info", ".part")) for part in parts)
            if not generated and (file.is_symlink() or file.is_file()):
                yield file
