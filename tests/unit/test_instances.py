"""What no test server does on demand; that instances end is proven on real ones."""

from __future__ import annotations

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.lxd import instances

VM = "/1.0/instances/vm-1"
STATE, DELETE = f"PUT {VM}/state", f"DELETE {VM}"


def found(replies, status):
    return (f"GET {VM}", replies.sync({"status": status}))


def waited(line, replies, outcome=None):
    return [(line, replies.asynchronous()), ("GET /1.0/operations/op-1/wait", outcome or replies.done())]


def test_one_that_is_stopped_is_deleted_at_once_and_told(client, wire, replies):
    wire.script(found(replies, "Stopped"), *waited(DELETE, replies))
    assert instances.remove(client, "vm-1").document == {"status": "Stopped"}


def test_one_that_stops_by_itself_meanwhile_is_fine(client, wire, replies):
    wire.script(
        found(replies, "Running"),
        *waited(STATE, replies, replies.failed("The instance is already stopped")),
        *waited(DELETE, replies),
    )
    assert instances.remove(client, "vm-1")


def test_one_that_starts_before_it_is_deleted_is_stopped_again(client, wire, replies):
    wire.script(
        found(replies, "Running"),
        *waited(STATE, replies),
        (DELETE, replies.error("Instance is running", 400)),
        found(replies, "Running"),
        *waited(STATE, replies),
        *waited(DELETE, replies),
    )
    assert instances.remove(client, "vm-1")


@pytest.mark.parametrize(
    "words", ["Failed starting VM: Monitor is disconnected", 'Failed stopping instance, status is "Error"']
)
def test_a_stop_that_meets_a_restart_is_tried_again(client, wire, clock, replies, words):
    wire.script(
        found(replies, "Running"),
        *waited(STATE, replies, replies.failed(words)) * 4,
        *waited(STATE, replies),
        *waited(DELETE, replies),
    )
    began = clock.monotonic()
    instances.remove(client, "vm-1")
    assert 4 <= clock.monotonic() - began < 10


def test_one_that_cannot_be_stopped_is_told_with_the_servers_last_words(client, wire, replies):
    wire.script(found(replies, "Running"), *waited(STATE, replies, replies.failed("odd")) * 5)
    with pytest.raises(errors.ServerError, match="stopping vm-1: odd"):
        instances.remove(client, "vm-1")


def test_a_stop_that_is_forbidden_is_not_tried_again(client, wire, replies):
    wire.script(found(replies, "Running"), (STATE, replies.error("Forbidden", 403)))
    with pytest.raises(errors.Forbidden):
        instances.remove(client, "vm-1")


def test_a_deletion_whose_answer_is_lost_is_done_when_it_is_gone(client, wire, replies):
    wire.script(
        found(replies, "Stopped"),
        (DELETE, replies.asynchronous()),
        ("GET /1.0/operations/op-1/wait", replies.error("not found", 404)),
        ("GET /1.0/operations", replies.sync({})),
        (f"GET {VM}", replies.error("Instance not found", 404)),
    )
    assert instances.remove(client, "vm-1")


def test_one_that_is_not_there_is_none(client, wire, replies):
    wire.script((f"GET {VM}", replies.error("Instance not found", 404)))
    assert instances.remove(client, "vm-1") is None


def test_one_that_is_still_being_made_is_deleted_once_it_is(client, wire, clock, replies):
    """Its image may take minutes to unpack, longer than anything else that stands in the way for a while."""
    busy = waited(DELETE, replies, replies.failed('Instance is busy running a "create" operation'))
    pending = {"running": [{"id": "op-7", "class": "task", "status": "Running", "resources": {"instances": [VM]}}]}
    wire.script(
        found(replies, "Stopped"),
        *busy * 19,
        ("GET /1.0/operations", replies.sync(pending)),
        ("GET /1.0/operations/op-7/wait", replies.done()),
        found(replies, "Stopped"),
        *waited(DELETE, replies),
    )
    assert instances.remove(client, "vm-1")
