"""A volume backup, the only way to create a volume with content that works on every server.

LXD 5.0 has no ISO volumes, and no server imports a raw disk. Each of them imports the backup of a custom volume
(docs/development/lxd-api.md §5).
"""

from __future__ import annotations

import io
import json
import tarfile


def volume_backup(name: str, pool: str, content: bytes) -> bytes:
    """Return a backup of the block volume `name`. `content` is a multiple of 512 bytes."""
    config = {"name": name, "type": "custom", "content_type": "block", "config": {"size": str(len(content))}}
    index = {
        "name": name,
        "backend": "dir",
        "pool": pool,
        "type": "custom",
        "optimized": False,
        "optimized_header": False,
        "config": {"volume": config},
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, data in (("backup/index.yaml", json.dumps(index).encode()), ("backup/volume.img", content)):
            member = tarfile.TarInfo(path)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()
