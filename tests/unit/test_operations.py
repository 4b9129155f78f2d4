"""What servers were seen or read to do (facts: lxd-api 2), scripted: no real server can be made to do it on demand."""

from __future__ import annotations

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.lxd.envelope import Response
from bosh_lxd_cpi.lxd.operations import exists, run_operation, wait
from bosh_lxd_cpi.runtime.clock import Deadline

OPERATION = "/1.0/operations/op-1"
WAIT, LOOK = f"GET {OPERATION}/wait", f"GET {OPERATION}"
MAKE, LIST = "POST /1.0/instances", "GET /1.0/operations"
ASYNC, SYNC = Response(None, OPERATION, ""), Response(None, "", "")


@pytest.fixture
def make(client):
    """Sends the mutation that these tests see through."""
    return lambda: client.create_instance({"name": "vm-1"})


def pending(replies, status="running", name="vm-1", kind="instances", id="op-7"):
    resources = {kind: [f"/1.0/{kind}/{name}?project=prod"]}
    codes = {"success": 200, "failure": 400, "cancelled": 401}
    over = {
        status: [{"id": f"op-{status}", "status_code": code, "resources": resources}] for status, code in codes.items()
    }
    return replies.sync({status: [{"id": id, "resources": resources}], **over})


def test_a_synchronous_answer_needs_no_waiting(client):
    assert wait(client, SYNC, what="x") == {}


def test_the_operations_metadata_is_what_comes_back(client, wire, replies):
    wire.script((WAIT, replies.done(fingerprint="abc")))
    assert wait(client, ASYNC, what="x") == {"fingerprint": "abc"}


def test_an_operation_without_metadata_gives_an_empty_mapping(client, wire, replies):
    wire.script((WAIT, replies.done()))
    assert wait(client, ASYNC, what="x") == {}


def test_one_wait_asks_for_at_most_thirty_seconds_and_lets_the_server_be_late(client, wire, replies):
    wire.script((WAIT, replies.done()))
    wait(client, ASYNC, what="x")
    assert (wire.asked[0].query, wire.asked[0].timeout) == ({"project": "prod", "timeout": "30"}, 40)


def test_a_wait_never_reaches_past_the_deadline(client, wire, clock, replies):
    client = client.with_deadline(Deadline(clock, 7.5))
    wire.script((WAIT, replies.done()))
    wait(client, ASYNC, what="x")
    assert (wire.asked[0].query["timeout"], wire.asked[0].timeout) == ("7", 7.5)


def test_the_last_wait_asks_for_a_second_since_zero_means_differently_by_server(client, wire, clock, replies):
    client = client.with_deadline(Deadline(clock, 0.5))
    wire.script((WAIT, replies.done()))
    wait(client, ASYNC, what="x")
    assert wire.asked[0].query["timeout"] == "1"


def test_an_operation_that_still_runs_is_waited_for_again(client, wire, clock, replies):
    wire.script((WAIT, replies.running()), (WAIT, replies.running()), (WAIT, replies.done(a=1)))
    assert wait(client, ASYNC, what="x") == {"a": 1}


def test_a_wait_that_answers_at_once_is_no_flood_and_ends_at_the_deadline(client, wire, clock, replies):
    client = client.with_deadline(Deadline(clock, 2, what="has_vm"))
    wire.script(*[(WAIT, replies.running())] * 100)
    with pytest.raises(errors.DeadlineExceeded, match="has_vm did not finish within 2 seconds"):
        wait(client, ASYNC, what="x")
    assert 10 < len(wire.asked) < 25
    wire.rest.clear()


@pytest.mark.parametrize(
    "text, error",
    [
        ("The instance is already stopped", errors.AlreadyInState),
        ("In use", errors.InUse),
        ("odd", errors.ServerError),
        ('Instance is busy running a "stop" operation', errors.Busy),
        ("no space left on device", errors.NoDiskSpace),
    ],
)
def test_a_failed_operation_raises_what_its_text_means(client, wire, replies, text, error):
    wire.script((WAIT, replies.failed(text)))
    with pytest.raises(error, match=f"making x: {text}") as raised:
        wait(client, ASYNC, what="making x")
    assert type(raised.value) is error


def test_a_server_that_gives_a_code_with_the_failure_is_believed(client, wire, replies):
    wire.script((WAIT, replies.failed("gone", err_code=404)))
    with pytest.raises(errors.NotFound):
        wait(client, ASYNC, what="x")


def test_a_cancelled_operation_has_no_text_but_gets_one(client, wire, replies):
    wire.script((WAIT, replies.sync({"status": "Cancelled", "status_code": 401, "err": "", "metadata": None})))
    with pytest.raises(errors.ServerError, match="x: the operation ended with status Cancelled"):
        wait(client, ASYNC, what="x")


def test_after_a_wait_that_lies_the_operation_itself_is_looked_at(client, wire, replies):
    wire.script((WAIT, replies.lie()), (LOOK, replies.running()), (WAIT, replies.lie()), (LOOK, replies.done(a=1)))
    assert wait(client, ASYNC, what="x") == {"a": 1}


def test_a_wait_that_tells_a_failure_under_200_is_checked_too(client, wire, replies):
    wire.script((WAIT, replies.lie("In use")), (LOOK, replies.failed("In use")))
    with pytest.raises(errors.InUse, match="x: In use"):
        wait(client, ASYNC, what="x")


def test_a_failure_told_by_the_wait_counts_when_the_operation_is_forgotten_meanwhile(client, wire, replies):
    wire.script((WAIT, replies.lie("In use")), (LOOK, replies.error("Operation not found", 404)))
    with pytest.raises(errors.InUse):
        wait(client, ASYNC, what="x")


def test_a_time_out_says_nothing_when_the_operation_is_forgotten_meanwhile(client, wire, replies):
    wire.script((WAIT, replies.lie()), (LOOK, replies.error("Operation not found", 404)))
    with pytest.raises(errors.OperationNotFound, match="x: the server no longer knows the operation"):
        wait(client, ASYNC, what="x")


def test_a_forgotten_operation_says_nothing_and_may_be_tried_again(client, wire, replies):
    wire.script((WAIT, replies.error("Operation not found", 404)))
    with pytest.raises(errors.OperationNotFound) as raised:
        wait(client, ASYNC, what="x")
    assert raised.value.transient


def test_a_real_500_from_the_wait_is_an_error(client, wire, replies):
    wire.script((WAIT, replies.error("odd", 500)))
    with pytest.raises(errors.ServerError, match="the operation: odd"):
        wait(client, ASYNC, what="x")


# -- finish --------------------------------------------------------------------------------------------------------------


def test_a_mutation_is_seen_through(client, wire, replies, make):
    wire.script((MAKE, replies.asynchronous()), (WAIT, replies.done(a=1)))
    assert run_operation(client, make, what="x") == {"a": 1}


@pytest.mark.parametrize("answer", ["sync", "asynchronous"])
def test_lxd_6_6_answers_volume_calls_with_an_operation_and_others_do_not(client, wire, replies, answer):
    wire.script(("DELETE /1.0/storage-pools/default/volumes/custom/v", getattr(replies, answer)()))
    if answer == "asynchronous":
        wire.script((WAIT, replies.done()))
    assert run_operation(client, lambda: client.delete_volume("default", "v"), what="x") == {}


def test_while_another_operation_is_in_the_way_it_is_sent_again_ever_more_slowly(client, wire, clock, replies, make):
    busy = (MAKE, replies.asynchronous()), (WAIT, replies.failed('Instance is busy running a "stop" operation'))
    wire.script(*busy * 7, (MAKE, replies.asynchronous()), (WAIT, replies.done()))
    run_operation(client, make, what="x")
    assert clock.slept == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2, 2])


def test_patience_with_a_busy_object_ends(client, wire, clock, replies, make):
    busy = (MAKE, replies.asynchronous()), (WAIT, replies.failed('Instance is busy running a "stop" operation'))
    wire.script(*busy * 19)
    with pytest.raises(errors.Busy):
        run_operation(client, make, what="x")
    assert 26 < sum(clock.slept) <= client.retry.total_seconds


def test_patience_never_outlasts_the_deadline(client, wire, clock, replies, make):
    client = client.with_deadline(Deadline(clock, 1))
    busy = (MAKE, replies.asynchronous()), (WAIT, replies.failed('Instance is busy running a "stop" operation'))
    wire.script(*busy * 4)
    with pytest.raises(errors.DeadlineExceeded):
        run_operation(client, lambda: client.create_instance({"name": "vm-1"}), what="x")
    assert sum(clock.slept) == pytest.approx(1)


def test_a_lost_answer_is_not_repeated_when_the_thing_was_made(client, wire, replies, make):
    wire.script((MAKE, errors.NoResponse("gone")), (LIST, replies.sync({})))
    assert run_operation(client, make, what="x", name="vm-1", is_done=lambda: True) == {}


def test_a_lost_answer_is_repeated_when_nothing_was_made(client, wire, replies, make):
    wire.script(
        (MAKE, errors.NoResponse("gone")),
        (LIST, replies.sync(None)),
        (MAKE, replies.asynchronous()),
        (WAIT, replies.done(a=1)),
    )
    assert run_operation(client, make, what="x", name="vm-1", is_done=lambda: False) == {"a": 1}


def test_a_lost_answer_is_raised_when_nobody_can_tell(client, wire, make):
    wire.script((MAKE, errors.NoResponse("gone")))
    with pytest.raises(errors.NoResponse):
        run_operation(client, make, what="x", name="vm-1")


@pytest.mark.parametrize("status", ["running", "pending", "starting"])
def test_an_operation_begun_by_the_lost_request_is_waited_for_before_looking(client, wire, replies, make, status):
    made = []
    wire.script(
        (MAKE, errors.NoResponse("gone")),
        (LIST, pending(replies, status)),
        ("GET /1.0/operations/op-7/wait", lambda: made.append(True) or replies.done()),
    )
    assert run_operation(client, make, what="x", name="vm-1", is_done=lambda: made == [True]) == {}


def test_lxd_6_8_names_what_an_operation_works_on_in_its_metadata(client, wire, replies, make):
    operation = {"id": "op-7", "resources": {}, "metadata": {"entity_url": "/1.0/instances/vm-1?project=prod"}}
    wire.script(
        (MAKE, errors.NoResponse("gone")),
        (LIST, replies.sync({"running": [operation]})),
        ("GET /1.0/operations/op-7/wait", replies.done()),
    )
    assert run_operation(client, make, what="x", name="vm-1", is_done=lambda: True) == {}


def test_however_that_operation_ends_the_thing_itself_is_looked_at(client, wire, replies, make):
    wire.script(
        (MAKE, errors.NoResponse("gone")),
        (LIST, pending(replies)),
        ("GET /1.0/operations/op-7/wait", replies.failed("odd")),
        (MAKE, replies.sync()),
    )
    assert run_operation(client, make, what="x", name="vm-1", is_done=lambda: False) == {}


@pytest.mark.parametrize("other", ["vm-11", "m-1", "xvm-1", ""])
def test_operations_on_other_things_are_not_waited_for(client, wire, replies, make, other):
    wire.script((MAKE, errors.NoResponse("gone")), (LIST, pending(replies, name=other)))
    run_operation(client, make, what="x", name="vm-1", is_done=lambda: True)


def test_without_a_name_no_operation_is_waited_for(client, wire, replies, make):
    wire.script((MAKE, errors.NoResponse("gone")), (LIST, pending(replies, name="")))
    run_operation(client, make, what="x", is_done=lambda: True)


def test_a_name_in_the_project_of_the_url_is_no_match(client, wire, replies, make):
    resources = {"instances": ["/1.0/instances/other?project=/vm-1"]}
    wire.script(
        (MAKE, errors.NoResponse("gone")),
        (LIST, replies.sync({"running": [{"id": "op-7", "resources": resources}, {"id": "op-8", "resources": None}]})),
    )
    run_operation(client, make, what="x", name="vm-1", is_done=lambda: True)


def test_after_a_daemon_restart_the_operation_is_unknown_and_the_work_begins_anew(client, wire, replies, make):
    wire.script(
        (MAKE, replies.asynchronous()),
        (WAIT, errors.NoResponse("reset")),
        (WAIT, errors.Unreachable("refused")),
        (WAIT, replies.error("Daemon is starting up", 503)),
        (WAIT, replies.error("Operation not found", 404)),
        (LIST, replies.sync({})),
        (MAKE, replies.asynchronous("/1.0/operations/op-2")),
        ("GET /1.0/operations/op-2/wait", replies.done()),
    )
    assert run_operation(client, make, what="x", name="vm-1", is_done=lambda: False) == {}


def test_a_forgotten_operation_that_did_its_work_is_enough(client, wire, replies, make):
    wire.script(
        (MAKE, replies.asynchronous()), (WAIT, replies.error("Operation not found", 404)), (LIST, replies.sync({}))
    )
    assert run_operation(client, make, what="x", name="vm-1", is_done=lambda: True) == {}


def test_a_name_that_is_taken_is_an_error_when_nothing_was_lost(client, wire, replies, make):
    wire.script((MAKE, replies.error("already exists", 409)))
    with pytest.raises(errors.AlreadyExists):
        run_operation(client, make, what="x", name="vm-1", is_done=lambda: True)


@pytest.mark.parametrize("made, raises", [(True, False), (False, True)])
def test_a_name_that_is_taken_after_a_loss_is_our_own_if_it_is_as_wanted(client, wire, replies, make, made, raises):
    seen = iter([False, made])
    wire.script(
        (MAKE, errors.NoResponse("gone")),
        (LIST, replies.sync({})),
        (MAKE, replies.error("already exists", 409)),
        (LIST, replies.sync({})),
    )
    if raises:
        with pytest.raises(errors.AlreadyExists):
            run_operation(client, make, what="x", name="vm-1", is_done=lambda: next(seen))
    else:
        assert run_operation(client, make, what="x", name="vm-1", is_done=lambda: next(seen)) == {}


def test_answers_that_keep_getting_lost_are_raised_in_the_end(client, wire, clock, replies, make):
    wire.script(*[(MAKE, errors.NoResponse("gone")), (LIST, replies.sync({}))] * 19)
    with pytest.raises(errors.NoResponse):
        run_operation(client, make, what="x", name="vm-1", is_done=lambda: False)
    assert sum(clock.slept) <= client.retry.total_seconds


@pytest.mark.parametrize(
    "text, code, error",
    [
        ("Changed", 412, errors.PreconditionFailed),
        ("odd", 500, errors.ServerError),
        ("no", 400, errors.ServerError),
        ("gone", 404, errors.NotFound),
    ],
)
def test_other_refusals_are_raised_at_once(client, wire, clock, replies, make, text, code, error):
    wire.script((MAKE, replies.error(text, code)))
    with pytest.raises(error):
        run_operation(client, make, what="x", name="vm-1", is_done=lambda: True)
    assert clock.slept == []


@pytest.mark.parametrize("error, there", [(errors.NotFound("x"), False), (None, True)])
def test_something_exists_unless_it_is_not_found(error, there):
    def read():
        if error:
            raise error

    assert exists(read) is there


@pytest.mark.parametrize("error", [errors.CloudError, errors.Forbidden, errors.Unreachable, errors.ServerError])
def test_any_other_failure_says_nothing_about_existence(error):
    def read():
        raise error("x")

    with pytest.raises(error):
        exists(read)
