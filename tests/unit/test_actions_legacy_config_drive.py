"""What go-lxd-cpi kept of its VMs, and the drives that are made from it."""

from __future__ import annotations

import json

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import legacy_config_drive
from bosh_lxd_cpi.guest.config_drive import drive
from bosh_lxd_cpi.model import naming

INCUS = {
    "auth": "trusted",
    "api_extensions": ["custom_volume_iso"],
    "environment": {"server": "incus", "server_clustered": False},
}
VM, VOLUMES = "/1.0/instances/vm-1", "/1.0/storage-pools/fast/volumes/custom"
WAIT = "GET /1.0/operations/op-1/wait"
DISKS = {
    "system": "/dev/sda",
    "ephemeral": "/dev/sdb",
    "persistent": {"vol-p-1": {"path": "/dev/sdc"}, "vol-p-2": {"path": "/dev/sdd"}},
}
BY_ID = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_incus_"
LEFT = {"system": f"{BY_ID}root", "ephemeral": f"{BY_ID}ephemeral", "persistent": {"vol-p-2": {"path": "/dev/sdd"}}}


@pytest.fixture
def kept(tmp_path):
    """go-lxd-cpi's file about vm-1."""
    file = tmp_path / "vm-1.json"
    file.write_text(json.dumps({"agent_id": "a", "mbus": "nats://secret", "disks": DISKS}))
    return file


@pytest.fixture
def new(clock):
    """The volume that a call makes."""
    return f"vol-c-{naming.new_id(type(clock)(), 'd1r')}"


def instance(drive):
    return {
        "description": "db/0",
        "location": "none",
        "devices": {"config": {"type": "disk", "pool": "fast", "source": drive}},
    }


def importing(replies, server=INCUS, there=None):
    return [
        ("GET /1.0", replies.sync(server)),
        (f"GET {VM}", replies.sync(there or instance("vol-c-old"))),
        (f"POST {VOLUMES}", replies.asynchronous()),
        (WAIT, replies.done()),
    ]


def test_new_drive_names_disks_by_id_without_the_detached_one(context, wire, replies, kept, new):
    wire.script(*importing(replies), (f"PATCH {VM}", replies.sync()), (f"DELETE {VOLUMES}/vol-c-old", replies.sync()))
    legacy_config_drive.forget_disk(context(), "vm-1", "vol-p-1")
    settings = {"agent_id": "a", "mbus": "nats://secret", "disks": LEFT}
    posted, patched = wire.asked[2], wire.asked[4].body
    assert posted.body == drive.image(
        settings,
        kind="CDROM",
        label="config-2",
        metadata_path="ec2/latest/meta-data.json",
        userdata_path="ec2/latest/user-data",
    )
    assert posted.headers["X-Incus-name"] == new
    assert patched == {"description": "db/0", "devices": {"config": {"type": "disk", "pool": "fast", "source": new}}}
    assert json.loads(kept.read_text()) == settings
    assert kept.stat().st_mode & 0o777 == 0o600


def test_sends_no_request_when_the_drive_lacks_the_disk(context, kept):
    kept.write_text(json.dumps({"disks": LEFT}))
    legacy_config_drive.forget_disk(context(), "vm-1", "vol-p-1")


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"disks": null}', '{"disks": {"persistent": null}}', "\xff"])
def test_ignores_invalid_settings_file(context, kept, text):
    kept.write_text(text, "latin-1")
    legacy_config_drive.forget_disk(context(), "vm-1", "vol-p-1")
    assert kept.read_text("latin-1") == text


def test_keeps_other_paths_of_disks(context, wire, replies, kept):
    kept.write_text(json.dumps({"disks": {**DISKS, "ephemeral": None, "system": "/dev/vda"}}))
    wire.script(*importing(replies), (f"PATCH {VM}", replies.sync()), (f"DELETE {VOLUMES}/vol-c-old", replies.sync()))
    legacy_config_drive.forget_disk(context(), "vm-1", "vol-p-1")
    assert json.loads(kept.read_text())["disks"] == {**LEFT, "ephemeral": None, "system": "/dev/vda"}


def test_rolls_back_the_drive_when_the_change_fails(context, wire, replies, kept, new):
    wire.script(
        *importing(replies),
        (f"PATCH {VM}", replies.error("Failed to add device", 500)),
        (f"DELETE {VOLUMES}/{new}", replies.sync()),
    )
    with pytest.raises(errors.CloudError, match="Failed to add device"):
        legacy_config_drive.forget_disk(context(), "vm-1", "vol-p-1")
    assert json.loads(kept.read_text())["disks"] == DISKS


@pytest.mark.parametrize("changed", [True, False])
def test_checks_the_change_without_agent(context, wire, replies, kept, new, changed):
    last = "vol-c-old" if changed else new
    wire.script(
        *importing(replies),
        (f"PATCH {VM}", replies.error("LXD VM agent isn't currently running", 500)),
        (f"GET {VM}", replies.sync(instance(new if changed else "vol-c-old"))),
        (f"DELETE {VOLUMES}/{last}", replies.sync()),
    )
    if changed:
        legacy_config_drive.forget_disk(context(), "vm-1", "vol-p-1")
    else:
        with pytest.raises(errors.CloudError):
            legacy_config_drive.forget_disk(context(), "vm-1", "vol-p-1")


def test_creates_the_drive_on_the_member_of_the_vm(context, wire, replies, kept):
    cluster = {**INCUS, "environment": {"server": "incus", "server_clustered": True}}
    wire.script(
        *importing(replies, cluster, {**instance("vol-c-old"), "location": "m2"}),
        (f"PATCH {VM}", replies.sync()),
        (f"DELETE {VOLUMES}/vol-c-old", replies.sync()),
    )
    legacy_config_drive.forget_disk(context(), "vm-1", "vol-p-1")
    assert wire.asked[2].query["target"] == "m2"


def test_forget_vm_deletes_the_settings_file(context, kept):
    legacy_config_drive.forget_vm(context(), "vm-1")
    assert not kept.exists()
    legacy_config_drive.forget_vm(context(), "vm-1")


def test_forget_vm_warns_when_the_file_cannot_be_deleted(context, tmp_path, log):
    (tmp_path / "vm-1.json").mkdir()
    legacy_config_drive.forget_vm(context(), "vm-1")
    assert "the settings that go-lxd-cpi kept of vm-1 stay: " in log.stream.getvalue()
