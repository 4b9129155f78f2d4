"""What no test server does on demand; that instances end is proven on real ones."""

from __future__ import annotations

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.lxd import instances

VM = "/1.0/instances/vm-1"
STATE, DELETE = f"PUT {VM}/state", f"DELETE {VM}"


def found(responses, status):
    return (f"GET {VM}", responses.sync({"status": status}))


def waited(line, responses, outcome=None):
    return [(line, responses.asynchronous()), ("GET /1.0/operations/op-1/wait", outcome or responses.done())]


def test_deletes_a_stopped_instance(client, wire, responses):
    wire.script(found(responses, "Stopped"), *waited(DELETE, responses))
    assert instances.remove(client, "vm-1").document == {"status": "Stopped"}


def test_accepts_an_instance_that_stops_itself(client, wire, responses):
    wire.script(
        found(responses, "Running"),
        *waited(STATE, responses, responses.failed("The instance is already stopped")),
        *waited(DELETE, responses),
    )
    assert instances.remove(client, "vm-1")


def test_stops_an_instance_again_that_restarts(client, wire, responses):
    wire.script(
        found(responses, "Running"),
        *waited(STATE, responses),
        (DELETE, responses.error("Instance is running", 400)),
        found(responses, "Running"),
        *waited(STATE, responses),
        *waited(DELETE, responses),
    )
    assert instances.remove(client, "vm-1")


@pytest.mark.parametrize(
    "words", ["Failed starting VM: Monitor is disconnected", 'Failed stopping instance, status is "Error"']
)
def test_repeats_a_stop_during_a_restart(client, wire, clock, responses, words):
    wire.script(
        found(responses, "Running"),
        *waited(STATE, responses, responses.failed(words)) * 4,
        *waited(STATE, responses),
        *waited(DELETE, responses),
    )
    began = clock.monotonic()
    instances.remove(client, "vm-1")
    assert 4 <= clock.monotonic() - began < 10


def test_raises_the_error_of_the_last_stop(client, wire, responses):
    wire.script(found(responses, "Running"), *waited(STATE, responses, responses.failed("odd")) * 5)
    with pytest.raises(errors.ServerError, match="stopping vm-1: odd"):
        instances.remove(client, "vm-1")


def test_does_not_repeat_a_forbidden_stop(client, wire, responses):
    wire.script(found(responses, "Running"), (STATE, responses.error("Forbidden", 403)))
    with pytest.raises(errors.Forbidden):
        instances.remove(client, "vm-1")


def test_accepts_a_lost_deletion_that_is_done(client, wire, responses):
    wire.script(
        found(responses, "Stopped"),
        (DELETE, responses.asynchronous()),
        ("GET /1.0/operations/op-1/wait", responses.error("not found", 404)),
        ("GET /1.0/operations", responses.sync({})),
        (f"GET {VM}", responses.error("Instance not found", 404)),
    )
    assert instances.remove(client, "vm-1")


def test_returns_none_without_instance(client, wire, responses):
    wire.script((f"GET {VM}", responses.error("Instance not found", 404)))
    assert instances.remove(client, "vm-1") is None


def test_waits_for_the_creation_before_the_deletion(client, wire, clock, responses):
    """Its image may take minutes to unpack, longer than anything else that stands in the way for a while."""
    busy = waited(DELETE, responses, responses.failed('Instance is busy running a "create" operation'))
    pending = {"running": [{"id": "op-7", "class": "task", "status": "Running", "resources": {"instances": [VM]}}]}
    wire.script(
        found(responses, "Stopped"),
        *busy * 19,
        ("GET /1.0/operations", responses.sync(pending)),
        ("GET /1.0/operations/op-7/wait", responses.done()),
        found(responses, "Stopped"),
        *waited(DELETE, responses),
    )
    assert instances.remove(client, "vm-1")
