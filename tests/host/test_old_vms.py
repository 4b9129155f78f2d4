"""VMs, disks, snapshots and stemcells that go-lxd-cpi created."""

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
def legacy_disk(host):
    name = f"vol-p-{uuid.UUID(int=7)}"
    query(
        host,
        "POST",
        "/1.0/storage-pools/default/volumes/custom",
        {"name": name, "type": "custom", "content_type": "block", "config": {"size": "64MiB"}},
    )
    return name


@pytest.fixture
def legacy_vm(host, cpi, stemcell_cids, legacy_disk, tmp_path):
    """A running VM as after attach_disk of go-lxd-cpi: it has other device names, and each volume has its own UUID."""
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
    settings["disks"] = {
        "system": "/dev/sda",
        "ephemeral": "/dev/sdb",
        "persistent": {legacy_disk: {"path": "/dev/sdc"}},
    }
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
        log=Log("legacy"),
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
        for device, volume in (("config", config), ("ephemeral", ephemeral), ("persistent-1", legacy_disk))
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
def test_manages_vm_of_go_cpi(host, cpi, guests, legacy_vm, legacy_disk, tmp_path):
    boot = guests.wait(IP)["boot_id"]
    assert cpi.call("has_vm", legacy_vm) is True
    assert cpi.call("get_disks", legacy_vm) == [legacy_disk]
    hint = cpi.call("attach_disk", legacy_vm, legacy_disk)["path"]
    assert hint.rsplit("/", 1)[1] in guests.report(IP)["by_id"], "the disk is attached as persistent-1"
    snapshot = cpi.call("snapshot_disk", legacy_disk, {})
    cpi.call("delete_snapshot", snapshot)
    cpi.call("set_vm_metadata", legacy_vm, {"job": "db", "index": 0})
    cpi.call("detach_disk", legacy_vm, legacy_disk)
    assert cpi.call("get_disks", legacy_vm) == []
    assert cpi.call("attach_disk", legacy_vm, legacy_disk)["path"].rsplit("/", 1)[1] in guests.report(IP)["by_id"]
    cpi.call("reboot_vm", legacy_vm)
    disks_in_settings = guests.wait(IP, not_boot=boot)["user_data"]["disks"]
    assert disks_in_settings["persistent"] == {}, "the config drive does not contain the detached disk"
    assert disks_in_settings["ephemeral"].rsplit("/", 1)[1] in guests.report(IP)["by_id"]
    cpi.call("delete_vm", legacy_vm)
    assert not list(tmp_path.glob("vm-*")), "delete_vm deletes the settings file of go-lxd-cpi"
    assert cpi.call("has_disk", legacy_disk) is True
    cpi.call("resize_disk", legacy_disk, 96)
    cpi.call("delete_disk", legacy_disk)


def test_deletes_snapshot_of_go_cpi(host, cpi, legacy_disk):
    name = f"snap-{uuid.UUID(int=10)}"
    query(host, "POST", f"/1.0/storage-pools/default/volumes/custom/{legacy_disk}/snapshots", {"name": name})
    cpi.call("delete_snapshot", f"{legacy_disk}_{name}")
    assert json.loads(query(host, "GET", f"/1.0/storage-pools/default/volumes/custom/{legacy_disk}/snapshots")) == []
    cpi.call("delete_disk", legacy_disk)


def test_deletes_stemcell_of_go_cpi_with_last_alias(host, cpi, stemcell_cids, guests):
    """Aliases of go-lxd-cpi have the description of the image. A VM boots by BIOS if the alias has no description."""
    target = json.loads(query(host, "GET", f"/1.0/images/aliases/{stemcell_cids['jammy']}"))["target"]
    legacy_cid = f"img-{uuid.UUID(int=11)}"
    query(host, "POST", "/1.0/images/aliases", {"name": legacy_cid, "target": target})
    vm, _ = cpi.call(
        "create_vm", "a", legacy_cid, {"instance_type": "c1-m0.375"}, {"n": manual_network(IP)}, [], environment()
    )
    assert guests.wait(IP)["firmware"] == "bios"
    cpi.call("delete_vm", vm)
    cpi.call("delete_stemcell", legacy_cid)
