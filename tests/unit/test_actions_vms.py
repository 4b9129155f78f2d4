"""What no test server does on demand; the rest of vms is proven on real ones."""

from __future__ import annotations

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import vms

VM = "/1.0/instances/vm-1"
STATE = f"PUT {VM}/state"
WAIT = "GET /1.0/operations/op-1/wait"
GONE = "Instance not found"


def waited(line, replies, outcome=None):
    return [(line, replies.asynchronous()), (WAIT, outcome or replies.done())]


def own_volumes(replies, pool="default"):
    volumes = f"/1.0/storage-pools/{pool}/volumes/custom"
    return [
        (f"DELETE {volumes}/vol-c-1", replies.asynchronous()),
        (WAIT, replies.done()),
        (f"DELETE {volumes}/vol-e-1", replies.error("no", 404)),
    ]


# -- reboot --------------------------------------------------------------------------------------------------------------


def is_in_state(status, replies):
    return (f"GET {VM}", replies.sync({"status": status}))


def test_a_reboot_asks_nobody_in_the_guest(cpi, wire, replies):
    wire.script(is_in_state("Running", replies), *waited(STATE, replies))
    vms.reboot_vm(cpi(), "vm-1")
    assert wire.asked[1].body == {"action": "restart", "force": True, "timeout": -1}


def test_a_stopped_vm_is_started(cpi, wire, replies):
    wire.script(is_in_state("Stopped", replies), *waited(STATE, replies))
    vms.reboot_vm(cpi(), "vm-1")
    assert wire.asked[1].body["action"] == "start"


def test_a_vm_that_somebody_else_starts_or_stops_meanwhile_runs_in_the_end(cpi, wire, replies):
    wire.script(
        is_in_state("Stopped", replies), *waited(STATE, replies, replies.failed("The instance is already running"))
    )
    vms.reboot_vm(cpi(), "vm-1")
    wire.script(
        is_in_state("Running", replies),
        *waited(STATE, replies, replies.failed("The instance is already stopped")),
        *waited(STATE, replies),
    )
    vms.reboot_vm(cpi(), "vm-1")
    assert wire.asked[-2].body["action"] == "start"


def test_a_reboot_waits_for_the_operation_in_its_way(cpi, wire, replies, clock):
    wire.script(
        is_in_state("Running", replies),
        *waited(STATE, replies, replies.failed('Instance is busy running a "stop" operation')),
        *waited(STATE, replies),
    )
    vms.reboot_vm(cpi(), "vm-1")
    assert clock.slept == [0.1]


def test_a_reboot_whose_operation_is_forgotten_is_done_when_the_vm_runs(cpi, wire, replies):
    wire.script(
        is_in_state("Running", replies),
        (STATE, replies.asynchronous()),
        (WAIT, replies.error("Operation not found", 404)),
        ("GET /1.0/operations", replies.sync({})),
        is_in_state("Running", replies),
    )
    vms.reboot_vm(cpi(), "vm-1")


@pytest.mark.parametrize(
    "call", [lambda cpi: vms.reboot_vm(cpi, "vm-1"), lambda cpi: vms.set_vm_metadata(cpi, "vm-1", {})]
)
def test_a_vm_that_is_gone_is_told_by_its_type(cpi, wire, replies, call):
    wire.script((f"GET {VM}" if "reboot_vm" in call.__code__.co_names else f"PATCH {VM}", replies.error(GONE, 404)))
    with pytest.raises(errors.VMNotFound, match="there is no VM vm-1"):
        call(cpi())


# -- delete --------------------------------------------------------------------------------------------------------------


def test_a_running_vm_is_stopped_deleted_and_cleaned_up_after(cpi, wire, replies):
    devices = {
        "config": {"type": "disk", "pool": "fast", "source": "vol-c-1"},
        "ephemeral": {"type": "disk", "pool": "slow", "source": "vol-e-9"},
        "p1": {"type": "disk", "pool": "fast", "source": "vol-p-1"},
    }
    wire.script(
        (f"GET {VM}", replies.sync({"status": "Running", "devices": devices})),
        *waited(STATE, replies),
        *waited(f"DELETE {VM}", replies),
        ("DELETE /1.0/storage-pools/default/volumes/custom/vol-e-1", replies.error("no", 404)),
        ("DELETE /1.0/storage-pools/fast/volumes/custom/vol-c-1", replies.sync()),
        ("DELETE /1.0/storage-pools/slow/volumes/custom/vol-e-9", replies.sync()),
    )
    vms.delete_vm(cpi(), "vm-1")
    assert wire.asked[1].body == {"action": "stop", "force": True, "timeout": -1}
    assert not any("vol-p" in line for line in wire.lines)


@pytest.mark.parametrize("vanishes", ["before", "before it is stopped", "before it is deleted"])
def test_after_a_vm_that_is_gone_every_pool_is_cleaned(cpi, wire, replies, vanishes):
    gone = replies.error(GONE, 404)
    there = (f"GET {VM}", replies.sync({"status": "Running", "devices": {}}))
    wire.script(
        *{
            "before": [(f"GET {VM}", gone)],
            "before it is stopped": [there, (STATE, gone)],
            "before it is deleted": [there, *waited(STATE, replies), (f"DELETE {VM}", gone)],
        }[vanishes],
        ("GET /1.0/storage-pools", replies.sync([{"name": "default"}, {"name": "fast"}])),
        *own_volumes(replies),
        *own_volumes(replies, "fast"),
    )
    vms.delete_vm(cpi(), "vm-1")


def test_a_deletion_whose_answer_is_lost_is_repeated_and_then_finds_nothing(cpi, wire, replies):
    wire.script(
        (f"GET {VM}", replies.sync({"status": "Stopped", "devices": {}})),
        (f"DELETE {VM}", errors.NoResponse("reset")),
        (f"DELETE {VM}", replies.error(GONE, 404)),
        ("GET /1.0/storage-pools", replies.sync([{"name": "default"}])),
        *own_volumes(replies),
    )
    vms.delete_vm(cpi(), "vm-1")


def test_a_deletion_whose_operation_is_forgotten_is_looked_at(cpi, wire, replies):
    wire.script(
        (f"GET {VM}", replies.sync({"status": "Stopped", "devices": {}})),
        (f"DELETE {VM}", replies.asynchronous()),
        (WAIT, replies.error("Operation not found", 404)),
        ("GET /1.0/operations", replies.sync({})),
        (f"GET {VM}", replies.error(GONE, 404)),
        *own_volumes(replies),
    )
    vms.delete_vm(cpi(), "vm-1")


def test_a_vm_that_cannot_be_deleted_keeps_its_volumes(cpi, wire, replies):
    wire.script(
        (f"GET {VM}", replies.sync({"status": "Stopped", "devices": {}})),
        *waited(f"DELETE {VM}", replies, replies.failed("Instance is protected")),
    )
    with pytest.raises(errors.CloudError, match="Instance is protected"):
        vms.delete_vm(cpi(), "vm-1")


def test_a_vm_that_is_protected_is_not_even_stopped(cpi, wire, replies):
    wire.script(
        (f"GET {VM}", replies.sync({"status": "Running", "expanded_config": {"security.protection.delete": "true"}}))
    )
    with pytest.raises(errors.CloudError, match="vm-1 is protected from being deleted") as raised:
        vms.delete_vm(cpi(), "vm-1")
    assert "config set vm-1 security.protection.delete=false --project prod" in raised.value.hint


# -- metadata ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["sync", "asynchronous"])
def test_metadata_take_one_request_and_perhaps_a_wait(cpi, wire, replies, answer):
    wire.script(
        (f"PATCH {VM}", getattr(replies, answer)()), *([(WAIT, replies.done())] if answer == "asynchronous" else [])
    )
    vms.set_vm_metadata(cpi(), "vm-1", {"instance_group": "db", "index": 0, "deployment": "cf"})
    assert wire.asked[0].body == {
        "description": "db/0",
        "config": {"user.bosh.instance_group": "db", "user.bosh.index": "0", "user.bosh.deployment": "cf"},
    }


@pytest.mark.parametrize("config, raises", [({"user.bosh.a": "b"}, False), ({"user.bosh.a": "old"}, True), ({}, True)])
def test_when_the_guest_cannot_be_told_what_counts_is_whether_the_change_was_made(cpi, wire, replies, config, raises):
    wire.script(
        (f"PATCH {VM}", replies.error("LXD VM agent isn't currently running")),
        (f"GET {VM}", replies.sync({"config": config})),
    )
    if raises:
        with pytest.raises(errors.AgentNotRunning):
            vms.set_vm_metadata(cpi(), "vm-1", {"a": "b"})
    else:
        vms.set_vm_metadata(cpi(), "vm-1", {"a": "b"})


@pytest.mark.parametrize("metadata", [None, [], "x", 5])
def test_metadata_that_are_no_mapping_are_refused(cpi, metadata):
    with pytest.raises(errors.BadRequest, match="metadata must be a mapping"):
        vms.set_vm_metadata(cpi(), "vm-1", metadata)


@pytest.mark.parametrize(
    "metadata, description",
    [
        ({"instance_group": "db", "index": 0}, "db/0"),
        ({"job": "db", "index": "3"}, "db/3"),
        ({"instance_group": "db", "job": "x", "index": 1}, "db/1"),
        ({"name": "db/uuid", "index": ""}, "db/uuid"),
        ({"name": "db/uuid"}, "db/uuid"),
        ({"instance_group": "db"}, "db"),
        ({"compiling": "golang"}, "compiling golang"),
        ({}, "compiling"),
    ],
)
def test_a_vm_is_described_by_its_instance(cpi, wire, replies, metadata, description):
    wire.script((f"PATCH {VM}", replies.sync()))
    vms.set_vm_metadata(cpi(), "vm-1", metadata)
    assert wire.asked[0].body["description"] == description


# -- has_vm --------------------------------------------------------------------------------------------------------------


def test_a_vm_that_is_there_takes_one_request(cpi, wire, replies):
    wire.script((f"GET {VM}", replies.sync({})))
    assert vms.has_vm(cpi(), "vm-1") is True


def test_incus_is_believed_when_it_says_no(cpi, wire, replies):
    wire.script((f"GET {VM}", replies.error(GONE, 404)))
    assert vms.has_vm(cpi(type="incus"), "vm-1") is False


@pytest.mark.parametrize("answer", [("not authorized", 403), ("<html>", 404), ("Project not found", 404)])
def test_a_failure_is_never_taken_for_a_missing_vm(cpi, wire, replies, answer):
    text, status = answer
    from bosh_lxd_cpi.lxd.transport import HttpResponse

    wire.script(
        (f"GET {VM}", HttpResponse(status, {}, text.encode()) if text.startswith("<") else replies.error(text, status))
    )
    with pytest.raises(errors.CloudError):
        vms.has_vm(cpi(type="incus"), "vm-1")
