"""The directories in a set of file paths. Both file systems of the config drive use them."""

from __future__ import annotations

from collections.abc import Iterable

NAME_MAX = 128
"""A name of this length fits into one ISO9660 directory record together with its Rock Ridge attributes."""


def join(directory: str, name: str) -> str:
    """Return the path of `name` in `directory`. The root directory is the empty string."""
    return f"{directory}/{name}" if directory else name


def parent(path: str) -> str:
    """Return the directory of `path`. The parent of the root directory is the root directory."""
    return path.rpartition("/")[0]


def directories(files: Iterable[str]) -> dict[str, list[str]]:
    """Return the sorted paths in every directory of a tree, the directories level by level.

    `files` are relative paths. Raises ValueError for a path that is absolute, is both a file and a directory, or has a
    component that is empty, `.`, `..`, too long or not ASCII.
    """
    files = set(files)
    children: dict[str, set[str]] = {"": set()}
    for file in sorted(files):
        directory = ""
        for name in file.split("/"):
            _validate(name, file)
            path = join(directory, name)
            children.setdefault(directory, set()).add(path)
            directory = path
    clashes = sorted(files & children.keys())
    if clashes:
        raise ValueError(f"{clashes[0]!r} is both a file and a directory")
    levels = [""]
    for directory in levels:
        levels += sorted(children[directory] & children.keys())
    return {directory: sorted(children[directory]) for directory in levels}


def _validate(name: str, path: str) -> None:
    if not name:
        raise ValueError(f"path {path!r} must be relative and without empty components")
    if name in (".", ".."):
        raise ValueError(f"path {path!r} must not contain {name!r}")
    if not (name.isascii() and name.isprintable()):
        raise ValueError(f"path {path!r} must be printable ASCII")
    if len(name) > NAME_MAX:
        raise ValueError(f"name {name!r} is longer than {NAME_MAX} characters")
