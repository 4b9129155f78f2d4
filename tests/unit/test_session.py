from __future__ import annotations

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.lxd.client import Client
from bosh_lxd_cpi.lxd.session import is_repeatable
from bosh_lxd_cpi.runtime.clock import Deadline
from bosh_lxd_cpi.runtime.retry import RetryPolicy


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "POST"])
def test_repeats_any_method_that_the_server_did_not_process(method):
    assert is_repeatable(method, errors.Unreachable("x")) and is_repeatable(method, errors.Busy("x"))


@pytest.mark.parametrize("method, expected", [("GET", True), ("PUT", True), ("DELETE", True), ("POST", False)])
def test_repeats_only_idempotent_methods_without_response(method, expected):
    assert is_repeatable(method, errors.NoResponse("x")) is expected


def test_repeats_under_the_policy_that_it_receives(wire, clock, log):
    policy = RetryPolicy(first_pause=3, longest_pause=3, max_attempts=2)
    client = Client(wire, project="prod", deadline=Deadline(clock, 300), log=log, retry=policy)
    wire.script(*[("GET /1.0", errors.Unreachable("refused"))] * 2)
    with pytest.raises(errors.Unreachable):
        client.server()
    assert clock.slept == [3]


def test_limits_timeouts_to_the_deadline(client, wire, clock, responses):
    client = client.with_deadline(Deadline(clock, 5))
    wire.script(("GET /1.0", responses.sync({})), ("GET /1.0/operations/a/wait", responses.sync({})))
    client.server()
    client.wait_operation("/1.0/operations/a", 30)
    assert [request.timeout for request in wire.recorded] == [5, 5]


def test_sends_nothing_after_the_deadline(client, clock):
    client = client.with_deadline(Deadline(clock, 5, what="has_vm"))
    clock.sleep(5)
    with pytest.raises(errors.DeadlineExceeded, match="has_vm did not finish within 5 seconds"):
        client.server()


@pytest.mark.parametrize(
    "failure", [errors.Unreachable("refused"), errors.NoResponse("reset"), "Daemon is starting up"]
)
def test_repeats_reads_with_growing_pauses(client, wire, clock, responses, failure):
    response = responses.error(failure, 503) if isinstance(failure, str) else failure
    wire.script(*[("GET /1.0", response)] * 6, ("GET /1.0", responses.sync({"a": 1})))
    assert client.server().document == {"a": 1}
    assert clock.slept == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2])


@pytest.mark.parametrize(
    "line, call",
    [
        ("PUT /1.0/instances/vm-1", lambda c: c.replace_instance("vm-1", {}, "e")),
        ("PATCH /1.0/instances/vm-1", lambda c: c.patch_instance("vm-1", {})),
        ("DELETE /1.0/instances/vm-1", lambda c: c.delete_instance("vm-1")),
    ],
)
def test_repeats_idempotent_requests_without_response(client, wire, responses, line, call):
    wire.script((line, errors.NoResponse("reset")), (line, responses.sync()))
    call(client)


def test_never_repeats_a_post_without_response(client, wire, clock):
    wire.script(("POST /1.0/instances", errors.NoResponse("reset")))
    with pytest.raises(errors.NoResponse):
        client.create_instance({"name": "vm-1"})
    assert clock.slept == []


@pytest.mark.parametrize("failure", [errors.Unreachable("refused"), "database is locked"])
def test_repeats_a_post_that_was_not_processed(client, wire, responses, failure):
    response = responses.error(failure) if isinstance(failure, str) else failure
    wire.script(("POST /1.0/instances", response), ("POST /1.0/instances", responses.sync()))
    client.create_instance({"name": "vm-1"})


def member(name, status):
    return {"server_name": name, "url": f"https://{name}:8443", "status": status}


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_names_members_that_are_not_online_without_a_pause(client, wire, clock, responses, method):
    members = [member("node1", "Online"), member("node2", "Offline"), member("node3", "Evacuated")]
    wire.script(
        (f"{method} /1.0/instances/vm-1", responses.error("Target cluster member is unavailable")),
        ("GET /1.0/cluster/members", responses.sync(members)),
    )
    with pytest.raises(errors.MemberUnavailable, match="unavailable; not online: node2, node3") as raised:
        client.instance("vm-1") if method == "GET" else client.delete_instance("vm-1")
    assert raised.value.fields["member"] == "node2, node3" and raised.value.code == "member_offline"
    assert clock.slept == []


@pytest.mark.parametrize("may_list_members", [True, False])
def test_waits_for_a_member_that_is_not_offline_yet(client, wire, clock, responses, may_list_members):
    online = responses.sync([member("node1", "Online"), member("node2", "Online")])
    members = online if may_list_members else responses.error("Forbidden", 403)
    text = "Missing event connection with target cluster member"
    wire.script(
        *[("POST /1.0/instances", responses.error(text)), ("GET /1.0/cluster/members", members)] * 2,
        ("POST /1.0/instances", responses.sync()),
    )
    client.create_instance({"name": "vm-1"})
    assert clock.slept == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize("failure", [errors.Unreachable("refused"), "database is locked"])
def test_never_repeats_a_streamed_body(client, wire, responses, failure):
    wire.script(("POST /1.0/images", responses.error(failure) if isinstance(failure, str) else failure))
    with pytest.raises(errors.ServerError):
        client.upload_image(iter([b"a"]), length=1, content_type="x")


@pytest.mark.parametrize("status", [400, 403, 404, 409, 412, 500, 501])
def test_raises_a_refusal_at_once(client, wire, clock, responses, status):
    wire.script(("DELETE /1.0/instances/vm-1", responses.error("odd", status)))
    with pytest.raises(errors.ServerError, match="deleting instance vm-1: odd"):
        client.delete_instance("vm-1")
    assert clock.slept == []


def test_stops_repeating_after_the_policy_time(client, wire, clock):
    wire.script(*[("GET /1.0", errors.Unreachable("refused"))] * 19)
    with pytest.raises(errors.Unreachable):
        client.server()
    assert 26 < sum(clock.slept) <= client.retry.total_seconds


def test_stops_repeating_at_the_deadline(client, wire, clock):
    client = client.with_deadline(Deadline(clock, 1))
    wire.script(*[("GET /1.0", errors.Unreachable("refused"))] * 4)
    with pytest.raises(errors.DeadlineExceeded):
        client.server()
    assert sum(clock.slept) == pytest.approx(1)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_says_what_may_continue_at_the_deadline(client, wire, clock, method):
    client = client.with_deadline(Deadline(clock, 100, what="create_disk"))
    wire.script((f"{method} /1.0/x", lambda: clock.sleep(100) or errors.NoResponse("Read timed out")))
    with pytest.raises(errors.DeadlineExceeded) as raised:
        client.send(method, "/1.0/x", what="creating volume v")
    assert raised.value.brief == (
        "create_disk did not finish within 100 seconds: creating volume v: the server did not respond, and may still be"
        " working on it"
    )


def test_logs_every_repetition(client, wire, log, responses):
    wire.script(("GET /1.0", errors.Unreachable("no connection to x")), ("GET /1.0", responses.sync({})))
    client.server()
    assert "warn  test: no connection to x; trying again" in log.stream.getvalue()


# -- 404 --------------------------------------------------------------------------------------------------------------

ALIAS, PROJECT = "GET /1.0/images/aliases/img-1", "GET /1.0/projects/prod"


@pytest.fixture
def new_client(wire, clock, log) -> Client:
    """A client to which the server has not shown its project."""
    return Client(wire, project="prod", deadline=Deadline(clock, 300), log=log)


def test_reads_the_project_once_before_it_raises_not_found(new_client, wire, responses):
    missing = responses.error("Image alias not found", 404)
    wire.script((ALIAS, missing), (PROJECT, responses.sync({"name": "prod"})), (ALIAS, missing), (ALIAS, missing))
    with pytest.raises(errors.NotFound):
        new_client.alias("img-1")
    for client in (new_client, new_client.with_deadline(new_client.deadline)):
        with pytest.raises(errors.NotFound):
            client.alias("img-1")


@pytest.mark.parametrize(
    "text, status, error, code",
    [
        ("not authorized", 403, errors.Forbidden, "forbidden"),
        ('User does not have permission for project "prod"', 403, errors.Forbidden, "forbidden"),
        ("Project not found", 404, errors.CloudError, "no_project"),
        ("Not Found", 404, errors.CloudError, "no_project"),
    ],
    ids=["untrusted", "restricted", "missing", "hidden"],
)
def test_404_of_a_hidden_project_is_not_raised(new_client, wire, responses, text, status, error, code):
    wire.script((ALIAS, responses.error("Image alias not found", 404)), (PROJECT, responses.error(text, status)))
    with pytest.raises(error) as raised:
        new_client.alias("img-1")
    assert not isinstance(raised.value, errors.NotFound)
    assert raised.value.code == code


@pytest.mark.parametrize(
    "method, path",
    [("GET", "instances/vm-1"), ("GET", "storage-pools/default/volumes/custom/vol-p-1"), ("POST", "images/aliases")],
)
def test_404_counts_after_the_server_showed_an_object(new_client, wire, responses, method, path):
    wire.script((f"{method} /1.0/{path}", responses.sync({})), (ALIAS, responses.error("Image alias not found", 404)))
    new_client.send(method, f"/1.0/{path}", what="using an object")
    with pytest.raises(errors.NotFound):
        new_client.alias("img-1")


@pytest.mark.parametrize("path", ["", "/images", "/images/f1ng", "/storage-pools", "/storage-pools/default"])
def test_404_is_checked_after_what_the_server_shows_to_anybody(new_client, wire, responses, path):
    wire.script(
        (f"GET /1.0{path}", responses.sync([])),
        (ALIAS, responses.error("Image alias not found", 404)),
        (PROJECT, responses.error("not authorized", 403)),
    )
    new_client.send("GET", f"/1.0{path}", what="reading something")
    with pytest.raises(errors.Forbidden):
        new_client.alias("img-1")


def test_404_of_an_operation_is_not_checked(new_client, wire, responses):
    wire.script(("GET /1.0/operations/a", responses.error("Operation not found", 404)))
    with pytest.raises(errors.NotFound):
        new_client.operation("/1.0/operations/a")
