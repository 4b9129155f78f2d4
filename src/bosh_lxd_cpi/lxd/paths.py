"""Paths, queries and headers of the REST API."""

from __future__ import annotations

import re
from urllib.parse import quote


def segment(name: str) -> str:
    """Return a name, quoted as one segment of a path."""
    return quote(name, safe="", errors="surrogatepass")  # a damaged response can contain a lone surrogate


def instance(name: str) -> str:
    """Return the path of an instance."""
    return f"/1.0/instances/{segment(name)}"


def alias(name: str) -> str:
    """Return the path of an image alias."""
    return f"/1.0/images/aliases/{segment(name)}"


def volumes(pool: str) -> str:
    """Return the path of the custom volumes of a pool."""
    return f"/1.0/storage-pools/{segment(pool)}/volumes/custom"


def volume(pool: str, name: str) -> str:
    """Return the path of a custom volume."""
    return f"{volumes(pool)}/{segment(name)}"


def snapshots(pool: str, volume_name: str) -> str:
    """Return the path of the snapshots of a custom volume."""
    return f"{volume(pool, volume_name)}/snapshots"


def snapshot(pool: str, volume_name: str, name: str) -> str:
    """Return the path of a snapshot of a custom volume."""
    return f"{snapshots(pool, volume_name)}/{segment(name)}"


def pool(name: str) -> str:
    """Return the path of a storage pool."""
    return f"/1.0/storage-pools/{segment(name)}"


def target(member: str) -> dict[str, str]:
    """Return the query that selects a cluster member, empty without one."""
    return {"target": member} if member else {}


def image_filter(description: str) -> dict[str, str]:
    """Return the query that selects images by their property `description`, empty without one.

    The server takes the value for a regular expression and ignores case (docs/development/lxd-api.md §1). It has no
    escape for spaces and quotes, so each special character becomes a dot, and more images may match.
    """
    return {"filter": f"properties.description eq {re.sub('[^A-Za-z0-9_-]', '.', description)}"} if description else {}


def vendor_headers(**values: str) -> dict[str, str]:
    """Return headers in the spelling of LXD and of Incus. Each server ignores the other's."""
    return {f"X-{server}-{key}": value for server in ("LXD", "Incus") for key, value in values.items()}
