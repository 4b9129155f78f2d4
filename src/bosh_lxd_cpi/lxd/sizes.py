"""Sizes in the notation of the server."""

from __future__ import annotations

import re

UNITS = {
    "": 1,
    "B": 1,
    "kB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "PB": 1000**5,
    "EB": 1000**6,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
    "PiB": 1 << 50,
    "EiB": 1 << 60,
}


def mib(text: str) -> float | None:
    """Return the MiB of a size such as 20GiB, 1500MB or 51200 (bytes), or None if it is not a size."""
    match = re.fullmatch(r"(\d+) ?([A-Za-z]*)", text)
    return int(match[1]) * UNITS[match[2]] / (1 << 20) if match and match[2] in UNITS else None
