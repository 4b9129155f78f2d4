"""VMs, disks, snapshots and stemcells with the names and devices of go-lxd-cpi."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from bosh_lxd_cpi.guest import firmware
from bosh_lxd_cpi.guest.agent_settings import agent_settings
from bosh_lxd_cpi.guest.config_drive.drive import image
from bosh_lxd_cpi.lxd import operations
from bosh_lxd_cpi.lxd.client import Client
from bosh_lxd_cpi.lxd.features import features as read_features
from bosh_lxd_cpi.lxd.transport import ConnectionSettings, HttpTransport
from bosh_lxd_cpi.lxd.volume_backup import volume_backup
from bosh_lxd_cpi.runtime.clock import Clock, Deadline
from bosh_lxd_cpi.runtime.log import Log
from tests.host import server
from tests.host.director import environment, manual_network

IP = "10.245.0.61"


def query(host, method, path, body=None):
    """Send a request with the client of the server."""
    separator = "&" if "?" in path else "?"
    arguments = ["query", "--wait", "-X", method, f"{path}{separator}project={host.project}"]
    return server.client(host.name, *arguments, *(["-d", json.dumps(body)] if body else [])).stdout


@pytest.fixture
def old_disk(host):
    name = f"vol-p-{uuid.UUID(int=7)}"
    query(
        host,
        "POST",
        "/1.0/storage-pools/default/volumes/custom",
        {"name": name, "type": "custom", "content_type": "block", "config": {"size": "64MiB"}},
    )
    return name


@pytest.fixture
def old_vm(host, cpi, stemcell_cids, old_disk, tmp_path):
    """A running VM as go-lxd-cpi leaves it after attach_disk: devices by its names, volumes by uuids of their own."""
    vm, ephemeral, config = f"vm-{uuid.UUID(int=8)}", f"vol-e-{uuid.UUID(int=9)}", f"vol-c-{uuid.UUID(int=12)}"
    mac = "00:16:3e:00:00:61"
    settings = agent_settings(
        agent_id="a",
        vm_cid=vm,
        networks={"n": {**manual_network(IP), "mac": mac}},
        env=environment(),
        mbus="nats://x",
        ntp=[],
        ephemeral=True,
        kind=host.type,
    )
    settings["disks"] = {"system": "/dev/sda", "ephemeral": "/dev/sdb", "persistent": {old_disk: {"path": "/dev/sdc"}}}
    cpi.config["agent_config"] = {"filestore_path": str(tmp_path)}
    (tmp_path / f"{vm}.json").write_text(json.dumps(settings))
    drive = image(
        settings,
        kind="CDROM",
        label="config-2",
        metadata_path="ec2/latest/meta-data.json",
        userdata_path="ec2/latest/user-data",
    )
    socket = Path(host.server_cert).parent / "unix.socket"
    client = Client(
        HttpTransport(ConnectionSettings(url=f"unix://{socket}")),
        project=host.project,
        deadline=Deadline(Clock(), 60),
        log=Log("old"),
    )
    features = read_features(client.server())
    content = drive if features.has_iso_volumes else volume_backup(config, "default", drive)
    operations.wait(
        client, client.import_volume("default", config, content, iso=features.has_iso_volumes), what="drive"
    )
    query(
        host,
        "POST",
        "/1.0/storage-pools/default/volumes/custom",
        {"name": ephemeral, "type": "custom", "content_type": "block", "config": {"size": "64MiB"}},
    )
    devices = {
        device: {"type": "disk", "pool": "default", "source": volume}
        for device, volume in (("config", config), ("ephemeral", ephemeral), ("persistent-1", old_disk))
    }
    devices["root"] = {"type": "disk", "pool": "default", "path": "/"}
    devices["eth0"] = {
        "type": "nic",
        "nictype": "bridged",
        "parent": "boshbr0",
        "name": "eth0",
        "ipv4.address": IP,
        "hwaddr": mac,
    }
    query(
        host,
        "POST",
        "/1.0/instances",
        {
            "name": vm,
            "type": "virtual-machine",
            "profiles": ["default"],
            "devices": devices,
            "instance_type": "c1-m0.375",
            "config": firmware.config("jammy", dialect=features.firmware, overrides={}),
            "source": {"type": "image", "alias": stemcell_cids["jammy"]},
        },
    )
    server.client(host.name, "start", "--project", host.project, vm)
    return vm


@pytest.mark.every_server
@pytest.mark.only("incus", "lxd")
def test_manages_vm_of_go_cpi(host, cpi, guests, old_vm, old_disk, tmp_path):
    boot = guests.wait(IP)["boot_id"]
    assert cpi.call("has_vm", old_vm) is True
    assert cpi.call("get_disks", old_vm) == [old_disk]
    hint = cpi.call("attach_disk", old_vm, old_disk)["path"]
    assert hint.rsplit("/", 1)[1] in guests.report(IP)["by_id"], "attached as persistent-1 already, and found there"
    snapshot = cpi.call("snapshot_disk", old_disk, {})
    cpi.call("delete_snapshot", snapshot)
    cpi.call("set_vm_metadata", old_vm, {"job": "db", "index": 0})
    cpi.call("detach_disk", old_vm, old_disk)
    assert cpi.call("get_disks", old_vm) == []
    assert cpi.call("attach_disk", old_vm, old_disk)["path"].rsplit("/", 1)[1] in guests.report(IP)["by_id"]
    cpi.call("reboot_vm", old_vm)
    seen = guests.wait(IP, not_boot=boot)["user_data"]["disks"]
    assert seen["persistent"] == {}, "its drive no longer names the disk that left"
    assert seen["ephemeral"].rsplit("/", 1)[1] in guests.report(IP)["by_id"]
    cpi.call("delete_vm", old_vm)
    assert not list(tmp_path.glob("vm-*")), "what go-lxd-cpi kept of the VM is gone, too"
    assert cpi.call("has_disk", old_disk) is True
    cpi.call("resize_disk", old_disk, 96)
    cpi.call("delete_disk", old_disk)


def test_deletes_snapshot_of_go_cpi(host, cpi, old_disk):
    name = f"snap-{uuid.UUID(int=10)}"
    query(host, "POST", f"/1.0/storage-pools/default/volumes/custom/{old_disk}/snapshots", {"name": name})
    cpi.call("delete_snapshot", f"{old_disk}_{name}")
    assert json.loads(query(host, "GET", f"/1.0/storage-pools/default/volumes/custom/{old_disk}/snapshots")) == []
    cpi.call("delete_disk", old_disk)


def test_deletes_stemcell_of_go_cpi_with_last_alias(host, cpi, stemcell_cids, guests):
    """go-lxd-cpi gives aliases the same description as images; an alias without any still boots the right way."""
    target = json.loads(query(host, "GET", f"/1.0/images/aliases/{stemcell_cids['jammy']}"))["target"]
    old = f"img-{uuid.UUID(int=11)}"
    query(host, "POST", "/1.0/images/aliases", {"name": old, "target": target})
    vm, _ = cpi.call(
        "create_vm", "a", old, {"instance_type": "c1-m0.375"}, {"n": manual_network(IP)}, [], environment()
    )
    assert guests.wait(IP)["firmware"] == "bios"
    cpi.call("delete_vm", vm)
    cpi.call("delete_stemcell", old)
