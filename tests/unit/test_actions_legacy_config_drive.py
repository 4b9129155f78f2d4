"""VMs of the Go CPI: their settings files, and the config drives that replace theirs."""

from __future__ import annotations

import json

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import disks, legacy_config_drive
from bosh_lxd_cpi.guest.config_drive import drive
from bosh_lxd_cpi.model import naming
from bosh_lxd_cpi.runtime import locks

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
REMAINING = {
    "system": f"{BY_ID}root",
    "ephemeral": f"{BY_ID}ephemeral",
    "persistent": {"vol-p-2": {"path": "/dev/sdd"}},
}


@pytest.fixture
def settings_file(tmp_path):
    """Return the settings file of vm-1."""
    file = tmp_path / "vm-1.json"
    file.write_text(json.dumps({"agent_id": "a", "mbus": "nats://secret", "disks": DISKS}))
    return file


@pytest.fixture
def new_drive(clock):
    """Return the name of the volume that the call creates."""
    return f"vol-c-{naming.new_id(type(clock)(), 'd1r')}"


def instance(drive):
    return {
        "description": "db/0",
        "location": "none",
        "devices": {"config": {"type": "disk", "pool": "fast", "source": drive}},
    }


def import_requests(responses, server=INCUS, vm=None):
    """The requests until the new drive exists."""
    return [
        ("GET /1.0", responses.sync(server)),
        (f"GET {VM}", responses.sync(vm or instance("vol-c-old"))),
        (f"POST {VOLUMES}", responses.asynchronous()),
        (WAIT, responses.done()),
    ]


def test_new_drive_names_disks_by_id_without_the_detached_one(context, wire, responses, settings_file, new_drive):
    wire.script(
        *import_requests(responses),
        (f"PATCH {VM}", responses.sync()),
        (f"DELETE {VOLUMES}/vol-c-old", responses.sync()),
    )
    legacy_config_drive.remove_disk(context(), "vm-1", "vol-p-1")
    settings = {"agent_id": "a", "mbus": "nats://secret", "disks": REMAINING}
    upload = wire.request_to(f"POST {VOLUMES}")
    assert upload.body == drive.image(
        settings,
        kind="CDROM",
        label="config-2",
        metadata_path="ec2/latest/meta-data.json",
        userdata_path="ec2/latest/user-data",
    )
    assert upload.headers["X-Incus-name"] == new_drive
    assert wire.request_to(f"PATCH {VM}").body == {
        "description": "db/0",
        "devices": {"config": {"type": "disk", "pool": "fast", "source": new_drive}},
    }
    assert json.loads(settings_file.read_text()) == settings
    assert settings_file.stat().st_mode & 0o777 == 0o600


def test_sends_no_request_when_the_drive_lacks_the_disk(context, settings_file):
    settings_file.write_text(json.dumps({"disks": REMAINING}))
    legacy_config_drive.remove_disk(context(), "vm-1", "vol-p-1")


def test_ignores_a_vm_whose_drive_was_removed(context, wire, responses, settings_file):
    vm = {**instance("vol-c-old"), "devices": {}}
    wire.script(("GET /1.0", responses.sync(INCUS)), (f"GET {VM}", responses.sync(vm)))
    legacy_config_drive.remove_disk(context(), "vm-1", "vol-p-1")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "null", '{"disks": null}', '{"disks": {"persistent": null}}', "\xff"]
)
def test_ignores_invalid_settings_file(context, settings_file, content):
    settings_file.write_text(content, "latin-1")
    legacy_config_drive.remove_disk(context(), "vm-1", "vol-p-1")
    assert settings_file.read_text("latin-1") == content


def test_keeps_other_paths_of_disks(context, wire, responses, settings_file):
    settings_file.write_text(json.dumps({"disks": {**DISKS, "ephemeral": None, "system": "/dev/vda"}}))
    wire.script(
        *import_requests(responses),
        (f"PATCH {VM}", responses.sync()),
        (f"DELETE {VOLUMES}/vol-c-old", responses.sync()),
    )
    legacy_config_drive.remove_disk(context(), "vm-1", "vol-p-1")
    assert json.loads(settings_file.read_text())["disks"] == {**REMAINING, "ephemeral": None, "system": "/dev/vda"}


def test_rolls_back_the_drive_when_the_change_fails(context, wire, responses, settings_file, new_drive):
    wire.script(
        *import_requests(responses),
        (f"PATCH {VM}", responses.error("Failed to add device", 500)),
        (f"DELETE {VOLUMES}/{new_drive}", responses.sync()),
    )
    with pytest.raises(errors.CloudError, match="Failed to add device"):
        legacy_config_drive.remove_disk(context(), "vm-1", "vol-p-1")
    assert json.loads(settings_file.read_text())["disks"] == DISKS


def test_reads_the_vm_again_when_another_client_changed_it(context, wire, responses, settings_file, new_drive):
    described = {**instance("vol-c-old"), "description": "db/1"}
    wire.script(
        *import_requests(responses)[:1],
        (f"GET {VM}", responses.sync(instance("vol-c-old"), etag="e-1")),
        *import_requests(responses)[2:],
        (f"PATCH {VM}", responses.error("Precondition failed", 412)),
        (f"GET {VM}", responses.sync(described, etag="e-2")),
        (f"GET {VM}", responses.sync(described, etag="e-2")),
        (f"PATCH {VM}", responses.sync()),
        (f"DELETE {VOLUMES}/vol-c-old", responses.sync()),
    )
    legacy_config_drive.remove_disk(context(), "vm-1", "vol-p-1")
    patches = wire.requests_to(f"PATCH {VM}")
    assert [(patch.headers["If-Match"], patch.body["description"]) for patch in patches] == [
        ("e-1", "db/0"),
        ("e-2", "db/1"),
    ]


def test_detach_disk_holds_the_lock_until_the_drive_is_replaced(context, wire, responses, settings_file, tmp_path):
    states = []

    def delete_volume():
        states.append(locks.is_held(str(tmp_path / "locks"), naming.change_lock("vm-1")))
        return responses.sync()

    wire.script(
        (f"GET {VM}", responses.sync(instance("vol-c-old"))),
        *import_requests(responses),
        (f"PATCH {VM}", responses.sync()),
        (f"DELETE {VOLUMES}/vol-c-old", delete_volume),
    )
    disks.detach_disk(context(), "vm-1", "vol-p-1")
    assert states == [True]


@pytest.mark.parametrize("changed", [True, False], ids=["changed", "unchanged"])
def test_checks_the_change_without_agent(context, wire, responses, settings_file, new_drive, changed):
    deleted = "vol-c-old" if changed else new_drive
    wire.script(
        *import_requests(responses),
        (f"PATCH {VM}", responses.error("LXD VM agent isn't currently running", 500)),
        (f"GET {VM}", responses.sync(instance(new_drive if changed else "vol-c-old"))),
        (f"DELETE {VOLUMES}/{deleted}", responses.sync()),
    )
    if changed:
        legacy_config_drive.remove_disk(context(), "vm-1", "vol-p-1")
    else:
        with pytest.raises(errors.CloudError):
            legacy_config_drive.remove_disk(context(), "vm-1", "vol-p-1")


def test_creates_the_drive_on_the_member_of_the_vm(context, wire, responses, settings_file):
    cluster = {**INCUS, "environment": {"server": "incus", "server_clustered": True}}
    wire.script(
        *import_requests(responses, cluster, {**instance("vol-c-old"), "location": "m2"}),
        (f"PATCH {VM}", responses.sync()),
        (f"DELETE {VOLUMES}/vol-c-old", responses.sync()),
    )
    legacy_config_drive.remove_disk(context(), "vm-1", "vol-p-1")
    assert wire.request_to(f"POST {VOLUMES}").query["target"] == "m2"


def test_forget_vm_deletes_the_settings_file(context, settings_file):
    legacy_config_drive.delete_settings(context(), "vm-1")
    assert not settings_file.exists()
    legacy_config_drive.delete_settings(context(), "vm-1")


def test_forget_vm_warns_when_the_file_cannot_be_deleted(context, tmp_path, log):
    (tmp_path / "vm-1.json").mkdir()
    legacy_config_drive.delete_settings(context(), "vm-1")
    assert "the settings file of vm-1 was not deleted: " in log.stream.getvalue()
