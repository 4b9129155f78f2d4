"""VMs after their creation: responses that no test server gives on demand."""

from __future__ import annotations

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import vms
from bosh_lxd_cpi.lxd.transport import HttpResponse
from bosh_lxd_cpi.runtime.retry import RetryPolicy

VM = "/1.0/instances/vm-1"
STATE = f"PUT {VM}/state"
WAIT = "GET /1.0/operations/op-1/wait"
NOT_FOUND = "Instance not found"


def with_operation(line, responses, outcome=None):
    """A request and the wait for its operation."""
    return [(line, responses.asynchronous()), (WAIT, outcome or responses.done())]


def own_volumes(responses, pool="default"):
    """The deletion of the config drive and of an ephemeral disk that does not exist."""
    volumes = f"/1.0/storage-pools/{pool}/volumes/custom"
    return [
        (f"DELETE {volumes}/vol-c-1", responses.asynchronous()),
        (WAIT, responses.done()),
        (f"DELETE {volumes}/vol-e-1", responses.error("no", 404)),
    ]


# -- reboot -----------------------------------------------------------------------------------------------------------


def is_in_state(status, responses):
    return (f"GET {VM}", responses.sync({"status": status}))


def test_reboot_forces_a_restart(context, wire, responses):
    wire.script(is_in_state("Running", responses), *with_operation(STATE, responses))
    vms.reboot_vm(context(), "vm-1")
    assert wire.request_to(STATE).body == {"action": "restart", "force": True, "timeout": -1}


def test_reboot_starts_a_stopped_vm(context, wire, responses):
    wire.script(is_in_state("Stopped", responses), *with_operation(STATE, responses))
    vms.reboot_vm(context(), "vm-1")
    assert wire.request_to(STATE).body["action"] == "start"


def test_reboot_succeeds_when_another_client_starts_the_vm(context, wire, responses):
    wire.script(
        is_in_state("Stopped", responses),
        *with_operation(STATE, responses, responses.failed("The instance is already running")),
    )
    vms.reboot_vm(context(), "vm-1")


def test_reboot_starts_the_vm_when_another_client_stops_it(context, wire, responses):
    wire.script(
        is_in_state("Running", responses),
        *with_operation(STATE, responses, responses.failed("The instance is already stopped")),
        *with_operation(STATE, responses),
    )
    vms.reboot_vm(context(), "vm-1")
    assert wire.last_request_to(STATE).body["action"] == "start"


def restart_that_does_not_end(responses, *statuses):
    """A restart whose operation runs on, and the statuses of the VM after each wait."""
    steps = [(f"GET {VM}", responses.sync({"status": "Running"})), (f"PUT {VM}/state", responses.asynchronous())]
    for status in statuses:
        steps += [(WAIT, responses.running()), (f"GET {VM}", responses.sync({"status": status}))]
    return steps


START = "/1.0/operations/start"


def test_reboot_starts_a_vm_whose_restart_does_not_end(context, wire, responses):
    wire.script(
        *restart_that_does_not_end(responses, "Stopped", "Stopped"),
        (f"PUT {VM}/state", responses.asynchronous(START)),
        (f"GET {START}/wait", responses.done()),
    )
    vms.reboot_vm(context(), "vm-1")
    assert [request.body["action"] for request in wire.requests_to(f"PUT {VM}/state")] == ["restart", "start"]
    assert {request.query["timeout"] for request in wire.requests_to(WAIT)} == {"10"}


@pytest.mark.parametrize("statuses", [["Running"] * 3, ["Stopped", "Running", "Stopped"]], ids=["slow", "in between"])
def test_reboot_waits_for_a_vm_that_is_not_stopped_for_long(context, wire, responses, statuses):
    wire.script(*restart_that_does_not_end(responses, *statuses), (WAIT, responses.done()))
    vms.reboot_vm(context(), "vm-1")


def test_reboot_waits_on_when_the_restart_blocks_the_start(context, wire, responses):
    busy = 'Instance is busy running a "restart" operation'
    wire.script(
        *restart_that_does_not_end(responses, "Stopped", "Stopped"),
        (f"PUT {VM}/state", responses.asynchronous(START)),
        (f"GET {START}/wait", responses.failed(busy)),
        (WAIT, responses.done()),
    )
    vms.reboot_vm(context(retry=RetryPolicy(max_attempts=1)), "vm-1")


def test_reboot_waits_for_another_operation(context, wire, responses, clock):
    wire.script(
        is_in_state("Running", responses),
        *with_operation(STATE, responses, responses.failed('Instance is busy running a "stop" operation')),
        *with_operation(STATE, responses),
    )
    vms.reboot_vm(context(), "vm-1")
    assert clock.slept == [0.1]


def test_reboot_succeeds_without_operation_when_the_vm_runs(context, wire, responses):
    wire.script(
        is_in_state("Running", responses),
        (STATE, responses.asynchronous()),
        (WAIT, responses.error("Operation not found", 404)),
        ("GET /1.0/operations", responses.sync({})),
        is_in_state("Running", responses),
    )
    vms.reboot_vm(context(), "vm-1")


@pytest.mark.parametrize(
    "action, arguments, method",
    [
        (vms.reboot_vm, (), "GET"),
        (vms.set_vm_metadata, ({},), "PATCH"),
        (vms.read_vm, (), "GET"),
    ],
    ids=["reboot_vm", "set_vm_metadata", "read_vm"],
)
def test_raises_vm_not_found(context, wire, responses, action, arguments, method):
    wire.script((f"{method} {VM}", responses.error(NOT_FOUND, 404)))
    with pytest.raises(errors.VMNotFound, match="there is no VM vm-1"):
        action(context(), "vm-1", *arguments)


@pytest.mark.parametrize(
    "document, problem",
    [
        ({"name": "vm-1"}, "the field status of the response is missing, not a string"),
        ({"status": 103}, "the field status of the response is a number, not a string"),
        ([], "the response is an array, not an object"),
    ],
    ids=["missing", "number", "array"],
)
def test_reboot_names_the_unexpected_field(context, wire, responses, document, problem):
    wire.script((f"GET {VM}", responses.sync(document)))
    with pytest.raises(errors.UnexpectedResponse, match=f"^GET {VM}: {problem}$"):
        vms.reboot_vm(context(), "vm-1")


# -- delete -----------------------------------------------------------------------------------------------------------


def test_delete_vm_stops_it_and_deletes_its_own_volumes(context, wire, responses):
    devices = {
        "config": {"type": "disk", "pool": "fast", "source": "vol-c-1"},
        "ephemeral": {"type": "disk", "pool": "slow", "source": "vol-e-9"},
        "p1": {"type": "disk", "pool": "fast", "source": "vol-p-1"},
    }
    wire.script(
        (f"GET {VM}", responses.sync({"status": "Running", "devices": devices})),
        *with_operation(STATE, responses),
        *with_operation(f"DELETE {VM}", responses),
        ("DELETE /1.0/storage-pools/default/volumes/custom/vol-e-1", responses.error("no", 404)),
        ("DELETE /1.0/storage-pools/fast/volumes/custom/vol-c-1", responses.sync()),
        ("DELETE /1.0/storage-pools/slow/volumes/custom/vol-e-9", responses.sync()),
    )
    vms.delete_vm(context(), "vm-1")
    assert wire.request_to(STATE).body == {"action": "stop", "force": True, "timeout": -1}
    assert not any("vol-p" in line for line in wire.lines)


@pytest.mark.parametrize("missing", ["from the start", "when it is stopped", "when it is deleted"])
def test_delete_vm_cleans_every_pool_when_the_vm_is_missing(context, wire, responses, missing):
    not_found = responses.error(NOT_FOUND, 404)
    running = (f"GET {VM}", responses.sync({"status": "Running", "devices": {}}))
    wire.script(
        *{
            "from the start": [(f"GET {VM}", not_found)],
            "when it is stopped": [running, (STATE, not_found)],
            "when it is deleted": [running, *with_operation(STATE, responses), (f"DELETE {VM}", not_found)],
        }[missing],
        ("GET /1.0/storage-pools", responses.sync([{"name": "default"}, {"name": "fast"}])),
        *own_volumes(responses),
        *own_volumes(responses, "fast"),
    )
    vms.delete_vm(context(), "vm-1")


def test_destroy_looks_in_extra_pools_that_are_not_listed(context, wire, responses):
    pools = "/1.0/storage-pools"
    volume_paths = [
        f"{pools}/{pool}/volumes/custom/{name}" for pool in ("default", "fast") for name in ("vol-c-1", "vol-e-1")
    ]
    wire.script(
        ("GET /1.0/instances/vm-1", responses.error("Instance not found", 404)),
        (f"GET {pools}", responses.error("Certificate is restricted", 403)),
        *((f"DELETE {path}", responses.sync()) for path in volume_paths),
    )
    vms.destroy(context(), "vm-1", extra_pools=("fast",))


def test_delete_vm_is_repeated_when_the_response_is_lost(context, wire, responses):
    wire.script(
        (f"GET {VM}", responses.sync({"status": "Stopped", "devices": {}})),
        (f"DELETE {VM}", errors.NoResponse("reset")),
        (f"DELETE {VM}", responses.error(NOT_FOUND, 404)),
        ("GET /1.0/storage-pools", responses.sync([{"name": "default"}])),
        *own_volumes(responses),
    )
    vms.delete_vm(context(), "vm-1")


def test_delete_vm_looks_when_the_operation_is_unknown(context, wire, responses):
    wire.script(
        (f"GET {VM}", responses.sync({"status": "Stopped", "devices": {}})),
        (f"DELETE {VM}", responses.asynchronous()),
        (WAIT, responses.error("Operation not found", 404)),
        ("GET /1.0/operations", responses.sync({})),
        (f"GET {VM}", responses.error(NOT_FOUND, 404)),
        *own_volumes(responses),
    )
    vms.delete_vm(context(), "vm-1")


def test_delete_vm_keeps_the_volumes_when_it_fails(context, wire, responses):
    wire.script(
        (f"GET {VM}", responses.sync({"status": "Stopped", "devices": {}})),
        *with_operation(f"DELETE {VM}", responses, responses.failed("Instance is protected")),
    )
    with pytest.raises(errors.CloudError, match="Instance is protected"):
        vms.delete_vm(context(), "vm-1")


def test_delete_vm_does_not_stop_a_protected_vm(context, wire, responses):
    wire.script(
        (f"GET {VM}", responses.sync({"status": "Running", "expanded_config": {"security.protection.delete": "true"}}))
    )
    with pytest.raises(errors.CloudError, match="instance vm-1 is protected against deletion") as raised:
        vms.delete_vm(context(), "vm-1")
    assert (raised.value.code, raised.value.fields) == ("protected", {"vm": "vm-1"})


# -- metadata ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("response", ["sync", "asynchronous"])
def test_set_vm_metadata_takes_one_request(context, wire, responses, response):
    wire.script(
        (f"PATCH {VM}", getattr(responses, response)()),
        *([(WAIT, responses.done())] if response == "asynchronous" else []),
    )
    vms.set_vm_metadata(context(), "vm-1", {"instance_group": "db", "index": 0, "deployment": "cf"})
    assert wire.request_to(f"PATCH {VM}").body == {
        "description": "db/0",
        "config": {"user.bosh.instance_group": "db", "user.bosh.index": "0", "user.bosh.deployment": "cf"},
    }


@pytest.mark.parametrize(
    "config, raises",
    [({"user.bosh.a": "b"}, False), ({"user.bosh.a": "old"}, True), ({}, True)],
    ids=["changed", "old value", "no value"],
)
def test_set_vm_metadata_checks_the_change_without_agent(context, wire, responses, config, raises):
    wire.script(
        (f"PATCH {VM}", responses.error("LXD VM agent isn't currently running")),
        (f"GET {VM}", responses.sync({"config": config})),
    )
    if raises:
        with pytest.raises(errors.AgentNotRunning):
            vms.set_vm_metadata(context(), "vm-1", {"a": "b"})
    else:
        vms.set_vm_metadata(context(), "vm-1", {"a": "b"})


@pytest.mark.parametrize("metadata", [None, [], "x", 5])
def test_rejects_metadata_that_is_not_an_object(context, metadata):
    with pytest.raises(errors.BadRequest, match="metadata must be an object"):
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
def test_description_of_vm_is_its_instance(context, wire, responses, metadata, description):
    wire.script((f"PATCH {VM}", responses.sync()))
    vms.set_vm_metadata(context(), "vm-1", metadata)
    assert wire.request_to(f"PATCH {VM}").body["description"] == description


# -- has_vm -----------------------------------------------------------------------------------------------------------


def test_has_vm_takes_one_request_when_it_exists(context, wire, responses):
    wire.script((f"GET {VM}", responses.sync({})))
    assert vms.has_vm(context(), "vm-1") is True


def test_vms_of_other_clouds_do_not_exist(context, wire):
    assert vms.has_vm(context(), "agent_id:1;resource_group_name:bosh") is False
    vms.delete_vm(context(), "agent_id:1;resource_group_name:bosh")
    assert wire.lines == []


def test_has_vm_returns_false_when_it_is_missing(context, wire, responses):
    wire.script((f"GET {VM}", responses.error(NOT_FOUND, 404)))
    assert vms.has_vm(context(), "vm-1") is False


@pytest.mark.parametrize("text, status", [("not authorized", 403), ("Project not found", 404)])
def test_has_vm_raises_when_the_request_fails(context, wire, responses, text, status):
    wire.script((f"GET {VM}", responses.error(text, status)))
    with pytest.raises(errors.CloudError):
        vms.has_vm(context(), "vm-1")


def test_has_vm_returns_true_when_its_member_is_offline(context, wire, responses):
    wire.script(
        ("GET /1.0/instances/vm-1", responses.error("Target cluster member is unavailable")),
        ("GET /1.0/cluster/members", responses.sync([{"server_name": "node2", "status": "Offline"}])),
    )
    assert vms.has_vm(context(), "vm-1") is True


def test_has_vm_raises_when_a_proxy_responds(context, wire):
    wire.script((f"GET {VM}", HttpResponse(404, {}, b"<html>")))
    with pytest.raises(errors.UnexpectedResponse, match="is not from LXD or Incus"):
        vms.has_vm(context(), "vm-1")
