"""Find and read the config drive the way the BOSH agent does: by label, with a plain mount."""

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
    """The first of `paths` that exists within `seconds`; raises LookupError."""
    deadline = time.monotonic() + seconds
    while True:
        for path in paths:
            if pathlib.Path(path).exists():
                return path
        if time.monotonic() > deadline:
            raise LookupError(f"no config drive: none of {paths} exists")
        time.sleep(0.1)


def read(path: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Mount the drive and return what it is (device, label, fstype) and its files' contents by relative name.

    Raises OSError when it cannot be mounted.
    """
    pathlib.Path(MOUNT_POINT).mkdir(exist_ok=True, parents=True)
    mounted = subprocess.run(["mount", path, MOUNT_POINT], capture_output=True, text=True, check=False)
    if mounted.returncode:
        raise OSError(f"mounting {path}: {mounted.stderr.strip()}")
    try:
        return describe(path), contents(MOUNT_POINT)
    finally:
        subprocess.run(["umount", MOUNT_POINT], check=True)


def describe(path: str) -> dict[str, Any]:
    with pathlib.Path("/proc/mounts").open(encoding="utf-8") as mounts:
        fstype = next(fields[2] for fields in map(str.split, mounts) if fields[1] == MOUNT_POINT)
    return {"device": os.path.realpath(path), "label": os.path.basename(path), "fstype": fstype}


def contents(top: str) -> dict[str, bytes]:
    """Every file below `top`, by its name relative to it."""
    found = {}
    for directory, _, names in os.walk(top):
        for name in names:
            full = os.path.join(directory, name)
            with pathlib.Path(full).open("rb") as file:
                found[os.path.relpath(full, top)] = file.read()
    return found


def listing(files: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    """Size in bytes and sha256 of each file."""
    return {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}


def document(files: dict[str, bytes], name: str) -> dict[str, Any]:
    """The JSON object in file `name`; raises ValueError that says what is wrong with it."""
    if name not in files:
        raise ValueError(f"the config drive has no {name}")
    try:
        value = json.loads(files[name])
    except ValueError as error:
        raise ValueError(f"{name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not a JSON object")
    return value
