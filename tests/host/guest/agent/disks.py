"""Disk hints, resolved by the "virtio" rules of the BOSH agent, and texts at the start of disks."""

from __future__ import annotations

import glob
import os
import pathlib
import subprocess
import time
from typing import Any

MARK_BYTES = 512


def resolve(hint: str | dict[str, str], *, cid: str = "", seconds: float) -> dict[str, Any]:
    """Return the device of a hint: {"path", "device", "size"}. Raises LookupError where the agent returns an error.

    A CID with at least 20 characters that is the end of exactly one name in /dev/disk/by-id takes precedence over the
    path of the hint. The path /dev/sdX stands for /dev/xvdX, /dev/vdX and /dev/sdX in this order (bosh-agent,
    infrastructure/devicepathresolver).
    """
    path = hint if isinstance(hint, str) else hint.get("path", "")
    if not path:
        raise LookupError(f"the hint {hint!r} has no path")
    deadline = time.monotonic() + seconds
    while True:
        for candidate in candidates(path, cid):
            if pathlib.Path(candidate).exists():
                device = os.path.realpath(candidate)
                return {"path": candidate, "device": device, "size": size(device)}
        if time.monotonic() > deadline:
            raise LookupError(f"no device exists for the hint {hint!r}")
        time.sleep(0.1)


def candidates(path: str, cid: str) -> list[str]:
    """Return the paths to try in order."""
    by_id = glob.glob(f"/dev/disk/by-id/*{glob.escape(cid)}") if len(cid) >= 20 else []
    if path.startswith("/dev/sd"):
        letters = path[len("/dev/sd") :]
        paths = [f"/dev/xvd{letters}", f"/dev/vd{letters}", path]
    else:
        paths = [path]
    return (by_id if len(by_id) == 1 else []) + paths


def size(device: str) -> int:
    """Return the current size of a block device in bytes."""
    with pathlib.Path(device).open("rb") as disk:
        return disk.seek(0, os.SEEK_END)


def mark(device: str, text: str) -> None:
    """Write a text to the start of the disk and flush it."""
    with pathlib.Path(device).open("r+b", buffering=0) as disk:
        disk.write(text.encode()[:MARK_BYTES].ljust(MARK_BYTES, b"\0"))
        os.fsync(disk.fileno())


def read(device: str) -> str:
    """Return the text at the start of the disk, which is empty on a new disk. The page cache is not used."""
    with pathlib.Path(device).open("rb", buffering=0) as disk:
        os.posix_fadvise(disk.fileno(), 0, MARK_BYTES, os.POSIX_FADV_DONTNEED)
        return disk.read(MARK_BYTES).split(b"\0")[0].decode(errors="replace")


def settle() -> None:
    """Wait until udev has processed all events."""
    subprocess.run(["udevadm", "settle", "--timeout=5"], check=False)
