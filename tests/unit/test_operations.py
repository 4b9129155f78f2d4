"""Operations that are lost, fail or time out (docs/development/lxd-api.md §2). No real server does this on demand."""

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


def pending(responses, status="running", name="vm-1", kind="instances", id="op-7"):
    resources = {kind: [f"/1.0/{kind}/{name}?project=prod"]}
    codes = {"success": 200, "failure": 400, "cancelled": 401}
    over = {
        status: [{"id": f"op-{status}", "status_code": code, "resources": resources}] for status, code in codes.items()
    }
    return responses.sync({status: [{"id": id, "resources": resources}], **over})


def test_does_not_wait_without_operation(client):
    assert wait(client, SYNC, what="x") == {}


def test_returns_the_metadata_of_the_operation(client, wire, responses):
    wire.script((WAIT, responses.done(fingerprint="abc")))
    assert wait(client, ASYNC, what="x") == {"fingerprint": "abc"}


def test_returns_an_empty_dict_without_metadata(client, wire, responses):
    wire.script((WAIT, responses.done()))
    assert wait(client, ASYNC, what="x") == {}


def test_waits_in_slices_of_thirty_seconds(client, wire, responses):
    wire.script((WAIT, responses.done()))
    wait(client, ASYNC, what="x")
    assert (wire.request_to(WAIT).query, wire.request_to(WAIT).timeout) == ({"project": "prod", "timeout": "30"}, 40)


def test_limits_a_wait_to_the_deadline(client, wire, clock, responses):
    client = client.with_deadline(Deadline(clock, 7.5))
    wire.script((WAIT, responses.done()))
    wait(client, ASYNC, what="x")
    assert (wire.request_to(WAIT).query["timeout"], wire.request_to(WAIT).timeout) == ("7", 7.5)


def test_waits_for_at_least_one_second(client, wire, clock, responses):
    client = client.with_deadline(Deadline(clock, 0.5))
    wire.script((WAIT, responses.done()))
    wait(client, ASYNC, what="x")
    assert wire.request_to(WAIT).query["timeout"] == "1"


def test_waits_again_for_a_running_operation(client, wire, clock, responses):
    wire.script((WAIT, responses.running()), (WAIT, responses.running()), (WAIT, responses.done(a=1)))
    assert wait(client, ASYNC, what="x") == {"a": 1}


def test_pauses_between_waits_until_the_deadline(client, wire, clock, responses):
    client = client.with_deadline(Deadline(clock, 2, what="has_vm"))
    wire.script(*[(WAIT, responses.running())] * 100)
    with pytest.raises(errors.DeadlineExceeded) as raised:
        wait(client, ASYNC, what="deleting vm-1")
    assert raised.value.brief == (
        "has_vm did not finish within 2 seconds: deleting vm-1: the server's operation may still run"
    )
    assert 10 < len(wire.recorded) < 25
    wire.remaining.clear()


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
def test_maps_the_error_of_a_failed_operation(client, wire, responses, text, error):
    wire.script((WAIT, responses.failed(text)))
    with pytest.raises(error, match=f"making x: {text}") as raised:
        wait(client, ASYNC, what="making x")
    assert type(raised.value) is error


def test_uses_the_error_code_of_an_operation(client, wire, responses):
    wire.script((WAIT, responses.failed("gone", err_code=404)))
    with pytest.raises(errors.NotFound):
        wait(client, ASYNC, what="x")


def test_describes_a_cancelled_operation(client, wire, responses):
    wire.script((WAIT, responses.sync({"status": "Cancelled", "status_code": 401, "err": "", "metadata": None})))
    with pytest.raises(errors.ServerError, match="x: the operation ended with status Cancelled"):
        wait(client, ASYNC, what="x")


def test_reads_the_operation_after_a_failed_wait(client, wire, responses):
    wire.script(
        (WAIT, responses.error_with_http_200()),
        (LOOK, responses.running()),
        (WAIT, responses.error_with_http_200()),
        (LOOK, responses.done(a=1)),
    )
    assert wait(client, ASYNC, what="x") == {"a": 1}


def test_checks_a_failure_that_a_wait_reports(client, wire, responses):
    wire.script((WAIT, responses.error_with_http_200("In use")), (LOOK, responses.failed("In use")))
    with pytest.raises(errors.InUse, match="x: In use"):
        wait(client, ASYNC, what="x")


def test_uses_the_failure_of_the_wait_of_a_missing_operation(client, wire, responses):
    wire.script((WAIT, responses.error_with_http_200("In use")), (LOOK, responses.error("Operation not found", 404)))
    with pytest.raises(errors.InUse):
        wait(client, ASYNC, what="x")


def test_raises_operation_not_found_after_a_wait_timeout(client, wire, responses):
    wire.script((WAIT, responses.error_with_http_200()), (LOOK, responses.error("Operation not found", 404)))
    with pytest.raises(errors.OperationNotFound, match="x: the server no longer knows the operation"):
        wait(client, ASYNC, what="x")


def test_operation_not_found_is_transient(client, wire, responses):
    wire.script((WAIT, responses.error("Operation not found", 404)))
    with pytest.raises(errors.OperationNotFound) as raised:
        wait(client, ASYNC, what="x")
    assert raised.value.transient


def test_raises_a_500_of_the_wait(client, wire, responses):
    wire.script((WAIT, responses.error("odd", 500)))
    with pytest.raises(errors.ServerError, match="the operation: odd"):
        wait(client, ASYNC, what="x")


# run_operation


def test_runs_a_change_to_its_end(client, wire, responses, make):
    wire.script((MAKE, responses.asynchronous()), (WAIT, responses.done(a=1)))
    assert run_operation(client, make, what="x") == {"a": 1}


@pytest.mark.parametrize("answer", ["sync", "asynchronous"])
def test_accepts_volume_changes_with_and_without_operation(client, wire, responses, answer):
    wire.script(("DELETE /1.0/storage-pools/default/volumes/custom/v", getattr(responses, answer)()))
    if answer == "asynchronous":
        wire.script((WAIT, responses.done()))
    assert run_operation(client, lambda: client.delete_volume("default", "v"), what="x") == {}


def test_repeats_a_change_of_a_busy_object(client, wire, clock, responses, make):
    busy = (MAKE, responses.asynchronous()), (WAIT, responses.failed('Instance is busy running a "stop" operation'))
    wire.script(*busy * 7, (MAKE, responses.asynchronous()), (WAIT, responses.done()))
    run_operation(client, make, what="x")
    assert clock.slept == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2, 2])


def test_gives_up_on_a_busy_object(client, wire, clock, responses, make):
    busy = (MAKE, responses.asynchronous()), (WAIT, responses.failed('Instance is busy running a "stop" operation'))
    wire.script(*busy * 19)
    with pytest.raises(errors.Busy):
        run_operation(client, make, what="x")
    assert 26 < sum(clock.slept) <= client.retry.total_seconds


def test_gives_up_at_the_deadline(client, wire, clock, responses, make):
    client = client.with_deadline(Deadline(clock, 1))
    busy = (MAKE, responses.asynchronous()), (WAIT, responses.failed('Instance is busy running a "stop" operation'))
    wire.script(*busy * 4)
    with pytest.raises(errors.DeadlineExceeded):
        run_operation(client, lambda: client.create_instance({"name": "vm-1"}), what="x")
    assert sum(clock.slept) == pytest.approx(1)


def test_accepts_a_change_without_response_that_is_done(client, wire, responses, make):
    wire.script((MAKE, errors.NoResponse("gone")), (LIST, responses.sync({})))
    assert run_operation(client, make, what="x", name="vm-1", is_done=lambda: True) == {}


def test_repeats_a_change_without_response_that_is_not_done(client, wire, responses, make):
    wire.script(
        (MAKE, errors.NoResponse("gone")),
        (LIST, responses.sync(None)),
        (MAKE, responses.asynchronous()),
        (WAIT, responses.done(a=1)),
    )
    assert run_operation(client, make, what="x", name="vm-1", is_done=lambda: False) == {"a": 1}


def test_raises_a_lost_response_without_is_done(client, wire, make):
    wire.script((MAKE, errors.NoResponse("gone")))
    with pytest.raises(errors.NoResponse):
        run_operation(client, make, what="x", name="vm-1")


@pytest.mark.parametrize("status", ["running", "pending", "starting"])
def test_waits_for_the_operation_of_a_lost_response(client, wire, responses, make, status):
    made = []
    wire.script(
        (MAKE, errors.NoResponse("gone")),
        (LIST, pending(responses, status)),
        ("GET /1.0/operations/op-7/wait", lambda: made.append(True) or responses.done()),
    )
    assert run_operation(client, make, what="x", name="vm-1", is_done=lambda: made == [True]) == {}


def test_finds_the_operation_by_its_entity_url(client, wire, responses, make):
    operation = {"id": "op-7", "resources": {}, "metadata": {"entity_url": "/1.0/instances/vm-1?project=prod"}}
    wire.script(
        (MAKE, errors.NoResponse("gone")),
        (LIST, responses.sync({"running": [operation]})),
        ("GET /1.0/operations/op-7/wait", responses.done()),
    )
    assert run_operation(client, make, what="x", name="vm-1", is_done=lambda: True) == {}


def test_checks_the_object_after_a_failed_operation(client, wire, responses, make):
    wire.script(
        (MAKE, errors.NoResponse("gone")),
        (LIST, pending(responses)),
        ("GET /1.0/operations/op-7/wait", responses.failed("odd")),
        (MAKE, responses.sync()),
    )
    assert run_operation(client, make, what="x", name="vm-1", is_done=lambda: False) == {}


@pytest.mark.parametrize("other", ["vm-11", "m-1", "xvm-1", ""])
def test_ignores_operations_on_other_objects(client, wire, responses, make, other):
    wire.script((MAKE, errors.NoResponse("gone")), (LIST, pending(responses, name=other)))
    run_operation(client, make, what="x", name="vm-1", is_done=lambda: True)


def test_waits_for_no_operation_without_a_name(client, wire, responses, make):
    wire.script((MAKE, errors.NoResponse("gone")), (LIST, pending(responses, name="")))
    run_operation(client, make, what="x", is_done=lambda: True)


def test_ignores_the_query_of_an_object_url(client, wire, responses, make):
    resources = {"instances": ["/1.0/instances/other?project=/vm-1"]}
    wire.script(
        (MAKE, errors.NoResponse("gone")),
        (
            LIST,
            responses.sync({"running": [{"id": "op-7", "resources": resources}, {"id": "op-8", "resources": None}]}),
        ),
    )
    run_operation(client, make, what="x", name="vm-1", is_done=lambda: True)


def test_starts_over_after_a_daemon_restart(client, wire, responses, make):
    wire.script(
        (MAKE, responses.asynchronous()),
        (WAIT, errors.NoResponse("reset")),
        (WAIT, errors.Unreachable("refused")),
        (WAIT, responses.error("Daemon is starting up", 503)),
        (WAIT, responses.error("Operation not found", 404)),
        (LIST, responses.sync({})),
        (MAKE, responses.asynchronous("/1.0/operations/op-2")),
        ("GET /1.0/operations/op-2/wait", responses.done()),
    )
    assert run_operation(client, make, what="x", name="vm-1", is_done=lambda: False) == {}


def test_accepts_a_missing_operation_whose_change_is_done(client, wire, responses, make):
    wire.script(
        (MAKE, responses.asynchronous()),
        (WAIT, responses.error("Operation not found", 404)),
        (LIST, responses.sync({})),
    )
    assert run_operation(client, make, what="x", name="vm-1", is_done=lambda: True) == {}


def test_checks_the_object_after_an_unclean_end(client, wire, responses, make):
    """LXD with durable operations reports this after a crash of the server."""
    text = "Operation exited uncleanly or was unable to report its status"
    wire.script(
        (MAKE, responses.asynchronous(OPERATION)),
        (WAIT, responses.failed(text)),
        (LIST, responses.sync({})),
        (MAKE, responses.asynchronous(OPERATION)),
        (WAIT, responses.done()),
    )
    assert run_operation(client, make, what="x", name="vm-1", is_done=lambda: False) == {}


def test_raises_a_taken_name(client, wire, responses, make):
    wire.script((MAKE, responses.error("already exists", 409)))
    with pytest.raises(errors.AlreadyExists):
        run_operation(client, make, what="x", name="vm-1", is_done=lambda: True)


@pytest.mark.parametrize("made, raises", [(True, False), (False, True)])
def test_accepts_a_taken_name_after_a_lost_response(client, wire, responses, make, made, raises):
    seen = iter([False, made])
    wire.script(
        (MAKE, errors.NoResponse("gone")),
        (LIST, responses.sync({})),
        (MAKE, responses.error("already exists", 409)),
        (LIST, responses.sync({})),
    )
    if raises:
        with pytest.raises(errors.AlreadyExists):
            run_operation(client, make, what="x", name="vm-1", is_done=lambda: next(seen))
    else:
        assert run_operation(client, make, what="x", name="vm-1", is_done=lambda: next(seen)) == {}


def test_raises_responses_that_are_always_lost(client, wire, clock, responses, make):
    wire.script(*[(MAKE, errors.NoResponse("gone")), (LIST, responses.sync({}))] * 20)
    with pytest.raises(errors.NoResponse):
        run_operation(client, make, what="x", name="vm-1", is_done=lambda: False)
    assert sum(clock.slept) <= client.retry.total_seconds


@pytest.mark.parametrize("is_done", [lambda: False, None], ids=["not done", "without is_done"])
def test_raises_a_changed_object(client, wire, clock, responses, make, is_done):
    wire.script((MAKE, responses.error("ETag doesn't match", 412)))
    with pytest.raises(errors.PreconditionFailed):
        run_operation(client, make, what="x", name="vm-1", is_done=is_done)
    assert clock.slept == []


def test_accepts_a_changed_object_that_is_done(client, wire, responses, make):
    wire.script((MAKE, responses.error("ETag doesn't match", 412)))
    assert run_operation(client, make, what="x", name="vm-1", is_done=lambda: True) == {}


# Creations


def test_starts_over_when_a_creation_is_lost(client, wire, responses, make):
    deleted = []
    wire.script(
        (MAKE, errors.NoResponse("gone")),
        (LIST, responses.sync({})),
        (MAKE, responses.asynchronous()),
        (WAIT, responses.done(a=1)),
    )
    assert run_operation(client, make, what="x", name="vm-1", start_over=lambda: deleted.append(True)) == {"a": 1}
    assert deleted == [True]


def test_repeats_a_creation_that_is_lost_after_a_long_time(client, wire, clock, responses, make):
    """The server crashed minutes after the request."""
    wire.script(
        (MAKE, responses.asynchronous()),
        (WAIT, lambda: clock.sleep(200) or responses.error("Operation not found", 404)),
        (LIST, responses.sync({})),
        (MAKE, responses.sync()),
    )
    assert run_operation(client, make, what="x", name="vm-1", start_over=lambda: None) == {}


def test_starts_over_when_one_of_several_operations_failed(client, wire, responses, make):
    deleted = []
    resources = {"instances": ["/1.0/instances/vm-1"]}
    operations = [{"id": id, "resources": resources} for id in ("op-7", "op-8")]
    wire.script(
        (MAKE, errors.NoResponse("gone")),
        (LIST, responses.sync({"running": operations})),
        ("GET /1.0/operations/op-7/wait", responses.done()),
        ("GET /1.0/operations/op-8/wait", responses.failed("odd")),
        (MAKE, responses.sync()),
    )
    run_operation(client, make, what="x", name="vm-1", start_over=lambda: deleted.append(True))
    assert deleted == [True]


def test_accepts_a_creation_whose_operation_succeeds(client, wire, responses, make):
    wire.script(
        (MAKE, errors.NoResponse("gone")),
        (LIST, pending(responses)),
        ("GET /1.0/operations/op-7/wait", responses.done()),
    )
    assert run_operation(client, make, what="x", name="vm-1", start_over=pytest.fail) == {}


def fails_to_delete(error):
    def start_over():
        raise error

    return start_over


def test_names_an_incomplete_object_that_stays(client, wire, responses, make):
    wire.script((MAKE, errors.NoResponse("gone")), (LIST, responses.sync({})))
    with pytest.raises(errors.ServerError, match="x: the server may have created vm-1 in part and cannot") as raised:
        run_operation(
            client, make, what="x", name="vm-1", start_over=fails_to_delete(errors.ServerError("directory not empty"))
        )
    assert (raised.value.code, raised.value.transient) == ("incomplete", False)


def test_raises_a_transient_failure_of_the_deletion(client, wire, responses, make):
    wire.script((MAKE, errors.NoResponse("gone")), (LIST, responses.sync({})))
    with pytest.raises(errors.Unreachable):
        run_operation(client, make, what="x", name="vm-1", start_over=fails_to_delete(errors.Unreachable("refused")))


@pytest.mark.parametrize(
    "text, code, error",
    [
        ("odd", 500, errors.ServerError),
        ("no", 400, errors.ServerError),
        ("gone", 404, errors.NotFound),
    ],
)
def test_raises_other_refusals_at_once(client, wire, clock, responses, make, text, code, error):
    wire.script((MAKE, responses.error(text, code)))
    with pytest.raises(error):
        run_operation(client, make, what="x", name="vm-1", is_done=lambda: True)
    assert clock.slept == []


@pytest.mark.parametrize("error, there", [(errors.NotFound("x"), False), (None, True)])
def test_exists_unless_not_found(error, there):
    def read():
        if error:
            raise error

    assert exists(read) is there


@pytest.mark.parametrize("error", [errors.CloudError, errors.Forbidden, errors.Unreachable, errors.ServerError])
def test_exists_raises_any_other_error(error):
    def read():
        raise error("x")

    with pytest.raises(error):
        exists(read)
