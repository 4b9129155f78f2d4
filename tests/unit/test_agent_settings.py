from __future__ import annotations

import json
from typing import Any

import pytest

from bosh_lxd_cpi.guest.agent_settings import agent_settings


def settings(**overrides: Any) -> dict[str, Any]:
    return agent_settings(
        **{
            "agent_id": "a-1",
            "vm_cid": "vm-1",
            "networks": {"n": {"ip": "10.0.0.5"}},
            "env": {"bosh": {"group": "g"}},
            "mbus": "nats://a",
            "ntp": ["t1"],
            "ephemeral": True,
            "kind": "incus",
            **overrides,
        }
    )


def test_settings_are_complete():
    assert settings() == {
        "agent_id": "a-1",
        "vm": {"name": "vm-1", "id": "vm-1"},
        "mbus": "nats://a",
        "ntp": ["t1"],
        "networks": {"n": {"ip": "10.0.0.5"}},
        "disks": {
            "system": "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_incus_root",
            "ephemeral": "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_incus_ephemeral",
            "persistent": {},
        },
        "env": {"bosh": {"group": "g"}},
    }


def test_ephemeral_disk_is_optional():
    assert settings(ephemeral=False)["disks"]["ephemeral"] is None


@pytest.mark.parametrize("kind", ["lxd", "incus"])
def test_paths_depend_on_kind_of_server(kind):
    disks = settings(kind=kind)["disks"]
    assert disks["system"].endswith(f"_{kind}_root")
    assert disks["ephemeral"].endswith(f"_{kind}_ephemeral")


def test_env_is_passed_on_unchanged():
    env = {
        "bosh": {"mbus": {"cert": {"ca": "x\n"}}, "blobstores": [{"provider": "dav"}], "password": "*"},
        "odd": [None, 5],
    }
    assert settings(env=env)["env"] == env == json.loads(json.dumps(settings(env=env)))["env"]
