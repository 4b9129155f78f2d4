"""Disk hints, resolved by the BOSH agent's "virtio" rules, and marks that show a disk kept its content."""

from __future__ import annotations

import glob
import os
import pathlib
import subprocess
import time
from typing import Any

MARK_BYTES = 512


def resolve(hint: str | dict[str, str], *, cid: str = "", seconds: float) -> dict[str, Any]:
    """The kernel device behind a hint: {"path", "device", "size"}; raises LookupError as the agent would.

    First by the disk's CID, which must end exactly one name in /dev/disk/by-id and be 20 characters or
    more, then by the hint's path, where /dev/sdX also means /dev/xvdX and /dev/vdX, in that order
    (bosh-agent, infrastructure/devicepathresolver).
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
            raise LookupError(f"the hint {hint!r} leads to no device")
        time.sleep(0.1)


def candidates(path: str, cid: str) -> list[str]:
    by_id = glob.glob(f"/dev/disk/by-id/*{glob.escape(cid)}") if len(cid) >= 20 else []
    if path.startswith("/dev/sd"):
        rest = path[len("/dev/sd") :]
        paths = [f"/dev/xvd{rest}", f"/dev/vd{rest}", path]
    else:
        paths = [path]
    return (by_id if len(by_id) == 1 else []) + paths


def size(device: str) -> int:
    """The size in bytes of a block device, as the kernel sees it now."""
    with pathlib.Path(device).open("rb") as disk:
        return disk.seek(0, os.SEEK_END)


def mark(device: str, text: str) -> None:
    """Write `text` over the start of the disk and wait until the disk has it."""
    with pathlib.Path(device).open("r+b", buffering=0) as disk:
        disk.write(text.encode()[:MARK_BYTES].ljust(MARK_BYTES, b"\0"))
        os.fsync(disk.fileno())


def read(device: str) -> str:
    """The mark at the start of the disk, read from the disk and not from the cache; "" when there is none."""
    with pathlib.Path(device).open("rb", buffering=0) as disk:
        os.posix_fadvise(disk.fileno(), 0, MARK_BYTES, os.POSIX_FADV_DONTNEED)
        return disk.read(MARK_BYTES).split(b"\0")[0].decode(errors="replace")


def settle() -> None:
    """Wait until udev has dealt with every event it knows of."""
    subprocess.run(["udevadm", "settle", "--timeout=5"], check=False)
