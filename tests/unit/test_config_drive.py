"""The files on the drive. test_iso9660 and test_fat test the file systems, tests/host reads them in a guest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bosh_lxd_cpi.config.schema import AgentConfig
from bosh_lxd_cpi.errors import ConfigError
from bosh_lxd_cpi.guest.config_drive import drive, fat, iso9660

SETTINGS: dict[str, Any] = {"b": "\u00e9", "a": [1]}


@pytest.mark.parametrize("kind, image", [("CDROM", iso9660.image), ("FAT32", fat.image)])
def test_drive_contains_settings_and_empty_metadata(kind, image):
    files = {"ec2/latest/meta-data.json": b"{}", "ec2/latest/user-data": json.dumps(SETTINGS, sort_keys=True).encode()}
    assert drive.build(SETTINGS, AgentConfig(type=kind)) == image(files, label="config-2")


@pytest.mark.parametrize("kind", ["CDROM", "FAT32"])
def test_bytes_do_not_depend_on_order_of_settings(kind):
    agent_config = AgentConfig(type=kind)
    assert drive.build(dict(reversed(SETTINGS.items())), agent_config) == drive.build(SETTINGS, agent_config)


@pytest.mark.parametrize(
    "agent_config, message",
    [
        (AgentConfig(label="config 2"), "label 'config 2' must be"),
        (AgentConfig(type="FAT32", label="twelve-chars"), "label 'twelve-chars' must be"),
        (AgentConfig(userdata_path="/etc/passwd"), "must be relative"),
        (AgentConfig(userdata_path="a/../b"), "must not contain '..'"),
        (AgentConfig(type="FAT32", userdata_path="a:b"), "FAT does not allow"),
        (AgentConfig(userdata_path="ec2/latest/meta-data.json/x"), "both a file and a directory"),
    ],
    ids=["label", "long label", "absolute path", "dots", "character", "file as directory"],
)
def test_unsupported_label_or_path_is_a_config_error(agent_config, message):
    with pytest.raises(ConfigError, match=f"^the config drive cannot be built from agent_config: .*{message}"):
        drive.build(SETTINGS, agent_config)
