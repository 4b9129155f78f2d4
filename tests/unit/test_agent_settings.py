from __future__ import annotations

import json
from typing import Any

import pytest

from bosh_lxd_cpi.guest.agent_settings import agent_settings


def settings(**changed: Any) -> dict[str, Any]:
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
            **changed,
        }
    )


def test_all_that_the_agent_learns():
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


def test_without_ephemeral_disk_none_is_named():
    assert settings(ephemeral=False)["disks"]["ephemeral"] is None


@pytest.mark.parametrize("kind", ["lxd", "incus"])
def test_paths_are_those_of_this_kind_of_server(kind):
    found = settings(kind=kind)["disks"]
    assert found["system"].endswith(f"_{kind}_root") and found["ephemeral"].endswith(f"_{kind}_ephemeral")


def test_the_environment_goes_through_untouched():
    env = {
        "bosh": {"mbus": {"cert": {"ca": "x\n"}}, "blobstores": [{"provider": "dav"}], "password": "*"},
        "odd": [None, 5],
    }
    assert settings(env=env)["env"] == env == json.loads(json.dumps(settings(env=env)))["env"]
