"""The config drive, which carries the agent settings into the VM. It is written once and stays attached."""

from __future__ import annotations

import json
from typing import Any

from bosh_lxd_cpi.config.schema import AgentConfig
from bosh_lxd_cpi.errors import ConfigError


def build(settings: dict[str, Any], agent_config: AgentConfig) -> bytes:
    """Return the image of a config drive as the configuration describes it. Raises ConfigError."""
    return image(
        settings,
        kind=agent_config.type,
        label=agent_config.label,
        metadata_path=agent_config.metadata_path,
        userdata_path=agent_config.userdata_path,
    )


def image(settings: dict[str, Any], *, kind: str, label: str, metadata_path: str, userdata_path: str) -> bytes:
    """Return the image of a config drive with these agent settings. Equal arguments give equal bytes.

    It is an ISO9660 file system for the kind CDROM and a FAT file system for FAT32. The metadata file must exist,
    because without it the agent looks for an SSH key over HTTP for minutes. Raises ConfigError for a label or path that
    the file system does not support.
    """
    files = {metadata_path: b"{}", userdata_path: json.dumps(settings, sort_keys=True).encode()}
    if kind == "FAT32":
        from bosh_lxd_cpi.guest.config_drive.fat import image as build_image
    else:
        from bosh_lxd_cpi.guest.config_drive.iso9660 import image as build_image
    try:
        return build_image(files, label=label)
    except ValueError as failure:
        raise ConfigError(f"the config drive cannot be built from agent_config: {failure}") from None
