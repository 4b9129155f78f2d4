"""The drive that carries the agent settings into the VM; written once, attached for the VM's life."""

from __future__ import annotations

import json
from typing import Any

from bosh_lxd_cpi.config.schema import AgentConfig
from bosh_lxd_cpi.errors import ConfigError


def configured(settings: dict[str, Any], look: AgentConfig) -> bytes:
    """The drive as the job's properties want it to look. Raises ConfigError."""
    return image(
        settings, kind=look.type, label=look.label, metadata_path=look.metadata_path, userdata_path=look.userdata_path
    )


def image(settings: dict[str, Any], *, kind: str, label: str, metadata_path: str, userdata_path: str) -> bytes:
    """The drive's bytes, the same for the same settings: ISO9660 for kind CDROM, FAT for FAT32.

    The metadata file only has to exist: without it the agent looks for an SSH key over HTTP, for minutes.
    Raises ConfigError for a label or path that the file system does not allow.
    """
    files = {metadata_path: b"{}", userdata_path: json.dumps(settings, sort_keys=True).encode()}
    if kind == "FAT32":
        from bosh_lxd_cpi.guest.config_drive.fat import image as build
    else:
        from bosh_lxd_cpi.guest.config_drive.iso9660 import image as build
    try:
        return build(files, label=label)
    except ValueError as failure:
        raise ConfigError(f"agent_config makes no config drive: {failure}") from None
