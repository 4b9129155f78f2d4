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


def test_reboot_forces_a_restart(context, wire, replies):
    wire.script(is_in_state("Running", replies), *waited(STATE, replies))
    vms.reboot_vm(context(), "vm-1")
    assert wire.asked[1].body == {"action": "restart", "force": True, "timeout": -1}


def test_reboot_starts_a_stopped_vm(context, wire, replies):
    wire.script(is_in_state("Stopped", replies), *waited(STATE, replies))
    vms.reboot_vm(context(), "vm-1")
    assert wire.asked[1].body["action"] == "start"


def test_a_vm_that_somebody_else_starts_or_stops_meanwhile_runs_in_the_end(context, wire, replies):
    wire.script(
        is_in_state("Stopped", replies), *waited(STATE, replies, replies.failed("The instance is already running"))
    )
    vms.reboot_vm(context(), "vm-1")
    wire.script(
        is_in_state("Running", replies),
        *waited(STATE, replies, replies.failed("The instance is already stopped")),
        *waited(STATE, replies),
    )
    vms.reboot_vm(context(), "vm-1")
    assert wire.asked[-2].body["action"] == "start"


def test_reboot_waits_for_another_operation(context, wire, replies, clock):
    wire.script(
        is_in_state("Running", replies),
        *waited(STATE, replies, replies.failed('Instance is busy running a "stop" operation')),
        *waited(STATE, replies),
    )
    vms.reboot_vm(context(), "vm-1")
    assert clock.slept == [0.1]


def test_reboot_succeeds_without_operation_when_the_vm_runs(context, wire, replies):
    wire.script(
        is_in_state("Running", replies),
        (STATE, replies.asynchronous()),
        (WAIT, replies.error("Operation not found", 404)),
        ("GET /1.0/operations", replies.sync({})),
        is_in_state("Running", replies),
    )
    vms.reboot_vm(context(), "vm-1")


@pytest.mark.parametrize(
    "call", [lambda context: vms.reboot_vm(context, "vm-1"), lambda context: vms.set_vm_metadata(context, "vm-1", {})]
)
def test_a_vm_that_is_gone_is_told_by_its_type(context, wire, replies, call):
    wire.script((f"GET {VM}" if "reboot_vm" in call.__code__.co_names else f"PATCH {VM}", replies.error(GONE, 404)))
    with pytest.raises(errors.VMNotFound, match="there is no VM vm-1"):
        call(context())


# -- delete --------------------------------------------------------------------------------------------------------------


def test_delete_vm_stops_it_and_deletes_its_own_volumes(context, wire, replies):
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
    vms.delete_vm(context(), "vm-1")
    assert wire.asked[1].body == {"action": "stop", "force": True, "timeout": -1}
    assert not any("vol-p" in line for line in wire.lines)


@pytest.mark.parametrize("vanishes", ["before", "before it is stopped", "before it is deleted"])
def test_delete_vm_cleans_every_pool_when_the_vm_is_missing(context, wire, replies, vanishes):
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
    vms.delete_vm(context(), "vm-1")


def test_delete_vm_is_repeated_when_the_response_is_lost(context, wire, replies):
    wire.script(
        (f"GET {VM}", replies.sync({"status": "Stopped", "devices": {}})),
        (f"DELETE {VM}", errors.NoResponse("reset")),
        (f"DELETE {VM}", replies.error(GONE, 404)),
        ("GET /1.0/storage-pools", replies.sync([{"name": "default"}])),
        *own_volumes(replies),
    )
    vms.delete_vm(context(), "vm-1")


def test_a_deletion_whose_operation_is_forgotten_is_looked_at(context, wire, replies):
    wire.script(
        (f"GET {VM}", replies.sync({"status": "Stopped", "devices": {}})),
        (f"DELETE {VM}", replies.asynchronous()),
        (WAIT, replies.error("Operation not found", 404)),
        ("GET /1.0/operations", replies.sync({})),
        (f"GET {VM}", replies.error(GONE, 404)),
        *own_volumes(replies),
    )
    vms.delete_vm(context(), "vm-1")


def test_delete_vm_keeps_the_volumes_when_it_fails(context, wire, replies):
    wire.script(
        (f"GET {VM}", replies.sync({"status": "Stopped", "devices": {}})),
        *waited(f"DELETE {VM}", replies, replies.failed("Instance is protected")),
    )
    with pytest.raises(errors.CloudError, match="Instance is protected"):
        vms.delete_vm(context(), "vm-1")


def test_delete_vm_does_not_stop_a_protected_vm(context, wire, replies):
    wire.script(
        (f"GET {VM}", replies.sync({"status": "Running", "expanded_config": {"security.protection.delete": "true"}}))
    )
    with pytest.raises(errors.CloudError, match="vm-1 is protected from being deleted") as raised:
        vms.delete_vm(context(), "vm-1")
    assert "config set vm-1 security.protection.delete=false --project prod" in raised.value.hint


# -- metadata ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["sync", "asynchronous"])
def test_set_vm_metadata_takes_one_request(context, wire, replies, answer):
    wire.script(
        (f"PATCH {VM}", getattr(replies, answer)()), *([(WAIT, replies.done())] if answer == "asynchronous" else [])
    )
    vms.set_vm_metadata(context(), "vm-1", {"instance_group": "db", "index": 0, "deployment": "cf"})
    assert wire.asked[0].body == {
        "description": "db/0",
        "config": {"user.bosh.instance_group": "db", "user.bosh.index": "0", "user.bosh.deployment": "cf"},
    }


@pytest.mark.parametrize("config, raises", [({"user.bosh.a": "b"}, False), ({"user.bosh.a": "old"}, True), ({}, True)])
def test_set_vm_metadata_checks_the_change_without_agent(context, wire, replies, config, raises):
    wire.script(
        (f"PATCH {VM}", replies.error("LXD VM agent isn't currently running")),
        (f"GET {VM}", replies.sync({"config": config})),
    )
    if raises:
        with pytest.raises(errors.AgentNotRunning):
            vms.set_vm_metadata(context(), "vm-1", {"a": "b"})
    else:
        vms.set_vm_metadata(context(), "vm-1", {"a": "b"})


@pytest.mark.parametrize("metadata", [None, [], "x", 5])
def test_rejects_metadata_that_is_not_an_object(context, metadata):
    with pytest.raises(errors.BadRequest, match="metadata must be a mapping"):
        vms.set_vm_metadata(context(), "vm-1", metadata)


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
def test_description_of_vm_is_its_instance(context, wire, replies, metadata, description):
    wire.script((f"PATCH {VM}", replies.sync()))
    vms.set_vm_metadata(context(), "vm-1", metadata)
    assert wire.asked[0].body["description"] == description


# -- has_vm --------------------------------------------------------------------------------------------------------------


def test_has_vm_takes_one_request_when_it_exists(context, wire, replies):
    wire.script((f"GET {VM}", replies.sync({})))
    assert vms.has_vm(context(), "vm-1") is True


def test_has_vm_takes_one_request_on_incus(context, wire, replies):
    wire.script((f"GET {VM}", replies.error(GONE, 404)))
    assert vms.has_vm(context(type="incus"), "vm-1") is False


@pytest.mark.parametrize("answer", [("not authorized", 403), ("<html>", 404), ("Project not found", 404)])
def test_has_vm_raises_when_the_request_fails(context, wire, replies, answer):
    text, status = answer
    from bosh_lxd_cpi.lxd.transport import HttpResponse

    wire.script(
        (f"GET {VM}", HttpResponse(status, {}, text.encode()) if text.startswith("<") else replies.error(text, status))
    )
    with pytest.raises(errors.CloudError):
        vms.has_vm(context(type="incus"), "vm-1")
