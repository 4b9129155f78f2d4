"""Find the config drive by its label and mount it, as the BOSH agent does."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import subprocess
import time
from typing import Any

DISK_PATHS = ["/dev/disk/by-label/CONFIG-2", "/dev/disk/by-label/config-2"]
USER_DATA = "ec2/latest/user-data"
META_DATA = "ec2/latest/meta-data.json"
MOUNT_POINT = "/run/config-drive"


def find(paths: list[str], *, seconds: float) -> str:
    """Return the first of `paths` that exists within `seconds`. Raises LookupError."""
    deadline = time.monotonic() + seconds
    while True:
        for path in paths:
            if pathlib.Path(path).exists():
                return path
        if time.monotonic() > deadline:
            raise LookupError(f"no config drive: none of {paths} exists")
        time.sleep(0.1)


def read(path: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Mount the drive. Return its properties (device, label, fstype) and the contents of its files by relative name.

    Raises OSError if it cannot be mounted.
    """
    pathlib.Path(MOUNT_POINT).mkdir(exist_ok=True, parents=True)
    process = subprocess.run(["mount", path, MOUNT_POINT], capture_output=True, text=True, check=False)
    if process.returncode:
        raise OSError(f"mounting {path}: {process.stderr.strip()}")
    try:
        return describe(path), contents(MOUNT_POINT)
    finally:
        subprocess.run(["umount", MOUNT_POINT], check=True)


def describe(path: str) -> dict[str, Any]:
    with pathlib.Path("/proc/mounts").open(encoding="utf-8") as mounts:
        fstype = next(fields[2] for fields in map(str.split, mounts) if fields[1] == MOUNT_POINT)
    return {"device": os.path.realpath(path), "label": os.path.basename(path), "fstype": fstype}


def contents(top: str) -> dict[str, bytes]:
    """Return the contents of all files in the directory `top` by relative name."""
    files = {}
    for directory, _, names in os.walk(top):
        for name in names:
            full = os.path.join(directory, name)
            with pathlib.Path(full).open("rb") as file:
                files[os.path.relpath(full, top)] = file.read()
    return files


def listing(files: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    """Return size in bytes and SHA-256 of each file."""
    return {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}


def document(files: dict[str, bytes], name: str) -> dict[str, Any]:
    """Return the JSON object in a file. Raises ValueError with the reason."""
    if name not in files:
        raise ValueError(f"the config drive has no {name}")
    try:
        value = json.loads(files[name])
    except ValueError as error:
        raise ValueError(f"{name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not a JSON object")
    return value
