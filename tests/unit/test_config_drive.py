"""Which files are on the drive; how they lie there is proven in test_iso9660 and test_fat, and what a guest reads on a server."""

from __future__ import annotations

import json

import pytest

from bosh_lxd_cpi.errors import ConfigError
from bosh_lxd_cpi.guest.config_drive import drive, fat, iso9660

PATHS = {"metadata_path": "ec2/latest/meta-data.json", "userdata_path": "ec2/latest/user-data"}
SETTINGS = {"b": "\u00e9", "a": [1]}


@pytest.mark.parametrize("kind, build", [("CDROM", iso9660.image), ("FAT32", fat.image)])
def test_the_drive_holds_the_settings_and_an_empty_metadata_file(kind, build):
    files = {"ec2/latest/meta-data.json": b"{}", "ec2/latest/user-data": json.dumps(SETTINGS, sort_keys=True).encode()}
    assert drive.image(SETTINGS, kind=kind, label="config-2", **PATHS) == build(files, label="config-2")


@pytest.mark.parametrize("kind", ["CDROM", "FAT32"])
def test_equal_settings_in_any_order_give_equal_bytes(kind):
    other = dict(reversed(SETTINGS.items()))
    assert drive.image(other, kind=kind, label="x", **PATHS) == drive.image(SETTINGS, kind=kind, label="x", **PATHS)


@pytest.mark.parametrize(
    "kind, label, paths, message",
    [
        ("CDROM", "config 2", {}, "label 'config 2' must be"),
        ("FAT32", "twelve-chars", {}, "label 'twelve-chars' must be"),
        ("CDROM", "x", {"userdata_path": "/etc/passwd"}, "must be relative"),
        ("CDROM", "x", {"userdata_path": "a/../b"}, "must not contain '..'"),
        ("FAT32", "x", {"userdata_path": "a:b"}, "FAT does not allow"),
        ("CDROM", "x", {"userdata_path": "ec2/latest/meta-data.json/x"}, "both a file and a directory"),
    ],
)
def test_what_the_file_system_does_not_allow_is_a_fault_of_the_configuration(kind, label, paths, message):
    with pytest.raises(ConfigError, match=f"^agent_config makes no config drive: .*{message}"):
        drive.image(SETTINGS, kind=kind, label=label, **{**PATHS, **paths})
