"""VMs, disks and snapshots that go-lxd-cpi made: its names and devices, made here as it makes them."""
from __future__ import annotations

import json
import uuid

import pytest
import server
from director import environment, manual_network

IP = "10.245.0.61"


def query(host, method, path, body=None):
    """One request with the server's own client."""
    separator = "&" if "?" in path else "?"
    arguments = ["query", "--wait", "-X", method, f"{path}{separator}project={host.project}"]
    return server.client(host.name, *arguments, *(["-d", json.dumps(body)] if body else [])).stdout


@pytest.fixture
def old_disk(host):
    name = f"vol-p-{uuid.UUID(int=7)}"
    query(host, "POST", "/1.0/storage-pools/default/volumes/custom",
          {"name": name, "type": "custom", "content_type": "block", "config": {"size": "64MiB"}})
    return name


@pytest.fixture
def old_vm(host, cpi, stemcell_cids, old_disk):
    """A running VM as go-lxd-cpi leaves it after attach_disk: devices by its names, a config drive by a uuid of its own."""
    cid, _ = cpi.call("create_vm", "a", stemcell_cids["jammy"], {"instance_type": "c1-m0.375", "ephemeral_disk": 64},
                      {"n": manual_network(IP)}, [], environment())
    server.client(host.name, "stop", "--force", "--project", host.project, cid)
    instance = json.loads(query(host, "GET", f"/1.0/instances/{cid}"))
    old = f"vm-{uuid.UUID(int=8)}"
    devices, volumes = instance["devices"], {}
    for device in ("config", "ephemeral"):
        volumes[device] = f"vol-{device[0]}-{uuid.UUID(int=9)}"
        source = devices[device]["source"]
        devices.pop(device)
        query(host, "PUT", f"/1.0/instances/{cid}", {**instance, "devices": devices})
        content = json.loads(query(host, "GET", f"/1.0/storage-pools/default/volumes/custom/{source}"))["content_type"]
        query(host, "POST", "/1.0/storage-pools/default/volumes/custom", {
            "name": volumes[device], "type": "custom", "content_type": content,
            "source": {"type": "copy", "name": source, "pool": "default", "project": host.project}})
        query(host, "DELETE", f"/1.0/storage-pools/default/volumes/custom/{source}")
    query(host, "POST", f"/1.0/instances/{cid}", {"name": old})
    instance = json.loads(query(host, "GET", f"/1.0/instances/{old}"))
    for device, volume in {**volumes, "persistent-1": old_disk}.items():
        instance["devices"][device] = {"type": "disk", "pool": "default", "source": volume}
    instance["config"] = {key: value for key, value in instance["config"].items() if not key.startswith("user.")}
    query(host, "PUT", f"/1.0/instances/{old}", instance)
    server.client(host.name, "start", "--project", host.project, old)
    return old


@pytest.mark.every_server
@pytest.mark.only("incus", "lxd")
def test_an_old_vm_lives_on(host, cpi, guests, old_vm, old_disk):
    boot = guests.wait(IP)["boot_id"]
    assert cpi.call("has_vm", old_vm) is True
    assert cpi.call("get_disks", old_vm) == [old_disk]
    hint = cpi.call("attach_disk", old_vm, old_disk)["path"]
    assert hint.rsplit("/", 1)[1] in guests.now(IP)["by_id"], "attached as persistent-1 already, and found there"
    snapshot = cpi.call("snapshot_disk", old_disk, {})
    cpi.call("delete_snapshot", snapshot)
    cpi.call("set_vm_metadata", old_vm, {"job": "db", "index": 0})
    cpi.call("detach_disk", old_vm, old_disk)
    assert cpi.call("get_disks", old_vm) == []
    assert cpi.call("attach_disk", old_vm, old_disk)["path"].rsplit("/", 1)[1] in guests.now(IP)["by_id"]
    cpi.call("reboot_vm", old_vm)
    guests.wait(IP, not_boot=boot)
    cpi.call("delete_vm", old_vm)
    assert cpi.call("has_disk", old_disk) is True
    cpi.call("resize_disk", old_disk, 96)
    cpi.call("delete_disk", old_disk)


def test_an_old_snapshot_is_deleted_by_its_cid(host, cpi, old_disk):
    name = f"snap-{uuid.UUID(int=10)}"
    query(host, "POST", f"/1.0/storage-pools/default/volumes/custom/{old_disk}/snapshots", {"name": name})
    cpi.call("delete_snapshot", f"{old_disk}_{name}")
    assert json.loads(query(host, "GET", f"/1.0/storage-pools/default/volumes/custom/{old_disk}/snapshots")) == []
    cpi.call("delete_disk", old_disk)


def test_an_old_stemcell_is_found_by_its_description_and_deleted_with_its_last_alias(host, cpi, stemcell_cids, guests):
    """go-lxd-cpi gives aliases the same description as images; an alias without any still boots the right way."""
    target = json.loads(query(host, "GET", f"/1.0/images/aliases/{stemcell_cids['jammy']}"))["target"]
    old = f"img-{uuid.UUID(int=11)}"
    query(host, "POST", "/1.0/images/aliases", {"name": old, "target": target})
    vm, _ = cpi.call("create_vm", "a", old, {"instance_type": "c1-m0.375"}, {"n": manual_network(IP)}, [], environment())
    assert guests.wait(IP)["firmware"] == "bios"
    cpi.call("delete_vm", vm)
    cpi.call("delete_stemcell", old)


