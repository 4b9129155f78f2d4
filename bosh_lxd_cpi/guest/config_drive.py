"""The drive that carries the agent settings into the VM; written once, attached for the VM's life."""
from __future__ import annotations

import json
from typing import Any


def image(settings: dict[str, Any], *, kind: str, label: str, metadata_path: str, userdata_path: str) -> bytes:
    """The drive's bytes, the same for the same settings: ISO9660 for kind CDROM, FAT for FAT32.

    The metadata file only has to exist: without it the agent looks for an SSH key over HTTP, for minutes.
    """
    files = {metadata_path: b"{}", userdata_path: json.dumps(settings, sort_keys=True).encode()}
    if kind == "FAT32":
        from bosh_lxd_cpi.guest import fat

        return fat.image(files, label=label)
    from bosh_lxd_cpi.guest import iso9660

    return iso9660.image(files, label=label)
