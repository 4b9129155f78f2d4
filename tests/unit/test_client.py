from __future__ import annotations

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.lxd import client as module
from bosh_lxd_cpi.lxd.client import Client
from bosh_lxd_cpi.runtime.clock import Deadline

V = "/1.0/storage-pools/fast/volumes/custom"
JSON = {"Content-Type": "application/json"}

ENDPOINTS = [
    (lambda c: c.server(), "GET /1.0", {}, None),
    (lambda c: c.operation("/1.0/operations/a"), "GET /1.0/operations/a", {}, None),
    (lambda c: c.operations(), "GET /1.0/operations", {"recursion": "1"}, None),
    (lambda c: c.wait_operation("/1.0/operations/a", 5), "GET /1.0/operations/a/wait", {"timeout": "5"}, None),
    (lambda c: c.instance("vm-1"), "GET /1.0/instances/vm-1", {}, None),
    (lambda c: c.instances(), "GET /1.0/instances", {"recursion": "1"}, None),
    (lambda c: c.create_instance({"name": "vm-1"}), "POST /1.0/instances", {}, {"name": "vm-1"}),
    (
        lambda c: c.create_instance({"name": "vm-1"}, target="m1"),
        "POST /1.0/instances",
        {"target": "m1"},
        {"name": "vm-1"},
    ),
    (lambda c: c.replace_instance("vm-1", {"a": 1}, "e"), "PUT /1.0/instances/vm-1", {}, {"a": 1}),
    (lambda c: c.patch_instance("vm-1", {"a": 1}), "PATCH /1.0/instances/vm-1", {}, {"a": 1}),
    (
        lambda c: c.set_instance_state("vm-1", "start"),
        "PUT /1.0/instances/vm-1/state",
        {},
        {"action": "start", "force": False, "timeout": -1},
    ),
    (
        lambda c: c.set_instance_state("vm-1", "stop", force=True, timeout=9),
        "PUT /1.0/instances/vm-1/state",
        {},
        {"action": "stop", "force": True, "timeout": 9},
    ),
    (lambda c: c.delete_instance("vm-1"), "DELETE /1.0/instances/vm-1", {}, None),
    (lambda c: c.pools(), "GET /1.0/storage-pools", {"recursion": "1"}, None),
    (lambda c: c.volume("fast", "v"), f"GET {V}/v", {}, None),
    (lambda c: c.volume("fast", "v", target="m1"), f"GET {V}/v", {"target": "m1"}, None),
    (lambda c: c.volumes("fast"), f"GET {V}", {"recursion": "1"}, None),
    (lambda c: c.create_volume("fast", {"name": "v"}, target="m1"), f"POST {V}", {"target": "m1"}, {"name": "v"}),
    (
        lambda c: c.offer_volume("fast", "v", target="m1"),
        f"POST {V}/v",
        {"target": "m1"},
        {"name": "v", "pool": "fast", "migration": True},
    ),
    (lambda c: c.replace_volume("fast", "v", {"a": 1}, "e"), f"PUT {V}/v", {}, {"a": 1}),
    (lambda c: c.replace_volume("fast", "v", {"a": 1}, target="m1"), f"PUT {V}/v", {"target": "m1"}, {"a": 1}),
    (lambda c: c.delete_volume("fast", "v"), f"DELETE {V}/v", {}, None),
    (lambda c: c.delete_volume("fast", "v", target="m1"), f"DELETE {V}/v", {"target": "m1"}, None),
    (lambda c: c.create_snapshot("fast", "v", "s"), f"POST {V}/v/snapshots", {}, {"name": "s"}),
    (lambda c: c.snapshot("fast", "v", "s"), f"GET {V}/v/snapshots/s", {}, None),
    (lambda c: c.snapshots("fast", "v"), f"GET {V}/v/snapshots", {"recursion": "1"}, None),
    (lambda c: c.describe_snapshot("fast", "v", "s", "d"), f"PUT {V}/v/snapshots/s", {}, {"description": "d"}),
    (lambda c: c.delete_snapshot("fast", "v", "s"), f"DELETE {V}/v/snapshots/s", {}, None),
    (lambda c: c.images(), "GET /1.0/images", {"recursion": "1"}, None),
    (lambda c: c.image("abc"), "GET /1.0/images/abc", {}, None),
    (lambda c: c.delete_image("abc"), "DELETE /1.0/images/abc", {}, None),
    (lambda c: c.alias("img-1"), "GET /1.0/images/aliases/img-1", {}, None),
    (
        lambda c: c.create_alias("img-1", "abc", "d"),
        "POST /1.0/images/aliases",
        {},
        {"name": "img-1", "target": "abc", "description": "d"},
    ),
    (lambda c: c.delete_alias("img-1"), "DELETE /1.0/images/aliases/img-1", {}, None),
    (lambda c: c.networks(), "GET /1.0/networks", {"recursion": "1"}, None),
    (lambda c: c.networks(project="default"), "GET /1.0/networks", {"recursion": "1", "project": "default"}, None),
    (lambda c: c.own_project(), "GET /1.0/projects/prod", {}, None),
    (lambda c: c.project_state(), "GET /1.0/projects/prod/state", {}, None),
    (lambda c: c.projects(), "GET /1.0/projects", {"recursion": "1"}, None),
    (lambda c: c.profiles(), "GET /1.0/profiles", {"recursion": "1"}, None),
    (lambda c: c.pool("fast"), "GET /1.0/storage-pools/fast", {}, None),
    (lambda c: c.pool_space("fast"), "GET /1.0/storage-pools/fast/resources", {}, None),
    (lambda c: c.leases("lxdbr0", project="default"), "GET /1.0/networks/lxdbr0/leases", {"project": "default"}, None),
    (lambda c: c.certificate("abc"), "GET /1.0/certificates/abc", {}, None),
    (lambda c: c.warnings(), "GET /1.0/warnings", {"recursion": "1", "project": ""}, None),
    (lambda c: c.cluster_members(), "GET /1.0/cluster/members", {"recursion": "1"}, None),
]


@pytest.mark.parametrize("call, line, query, body", ENDPOINTS, ids=[line for _, line, _, _ in ENDPOINTS])
def test_every_endpoint_is_one_request(client, wire, replies, call, line, query, body):
    wire.script((line, replies.sync({"some": "resource"}, etag="e")))
    reply = call(client)
    [asked] = wire.asked
    assert (reply.metadata, reply.etag) == ({"some": "resource"}, "e")
    assert (asked.query, asked.body) == ({"project": "prod", **query}, body)
    assert asked.headers.get("Content-Type") == (None if body is None else "application/json")


def test_every_public_method_is_in_the_table_above(client, wire, replies):
    names = {name for name in vars(Client) if not name.startswith("_")}
    used = {name for call, *_ in ENDPOINTS for name in call.__code__.co_names}
    assert names - used == {"import_volume", "upload_image"}


@pytest.mark.parametrize(
    "line, call",
    [
        ("PUT /1.0/instances/vm-1", lambda c: c.replace_instance("vm-1", {}, '"e1"')),
        ("PATCH /1.0/instances/vm-1", lambda c: c.patch_instance("vm-1", {}, '"e1"')),
        (f"PUT {V}/v", lambda c: c.replace_volume("fast", "v", {}, '"e1"')),
    ],
)
def test_a_change_names_the_state_that_it_changes(client, wire, replies, line, call):
    wire.script((line, replies.sync()))
    call(client)
    assert wire.asked[0].headers == {**JSON, "If-Match": '"e1"'}


def test_names_are_quoted_whatever_is_in_them(client, wire, replies):
    wire.script(("GET /1.0/storage-pools/a%2Fb/volumes/custom/c%3Fd%23%C3%A9", replies.sync()))
    client.volume("a/b", "c?d#\u00e9")


@pytest.mark.parametrize("iso, kind", [(True, {"X-LXD-type": "iso", "X-Incus-type": "iso"}), (False, {})])
def test_a_volume_is_uploaded_with_its_name_in_both_servers_headers(client, wire, replies, iso, kind):
    wire.script((f"POST {V}", replies.asynchronous()))
    assert client.import_volume("fast", "vol-c-1", b"bytes", iso=iso, target="m1").operation == "/1.0/operations/op-1"
    [asked] = wire.asked
    assert asked.headers == {
        "Content-Type": "application/octet-stream",
        "X-LXD-name": "vol-c-1",
        "X-Incus-name": "vol-c-1",
        **kind,
    }
    assert (asked.body, asked.query) == (b"bytes", {"project": "prod", "target": "m1"})


def test_an_image_is_uploaded_in_pieces_of_known_length_for_as_long_as_the_call_may_take(client, wire, replies):
    wire.script(("POST /1.0/images", replies.asynchronous()))
    client.upload_image(iter([b"ab", b"c"]), length=3, content_type="multipart/form-data; boundary=x")
    [asked] = wire.asked
    assert asked.headers == {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": "3"}
    assert (asked.body, asked.timeout) == (b"abc", 300)


def test_a_wait_may_take_longer_than_it_asks_for(client, wire, replies):
    wire.script(("GET /1.0/operations/a/wait", replies.sync()))
    client.wait_operation("/1.0/operations/a", 30)
    assert wire.asked[0].timeout == 40


def test_no_request_may_take_longer_than_the_call(client, wire, clock, replies):
    client.deadline = Deadline(clock, 5)
    wire.script(("GET /1.0", replies.sync()), ("GET /1.0/operations/a/wait", replies.sync()))
    client.server()
    client.wait_operation("/1.0/operations/a", 30)
    assert [asked.timeout for asked in wire.asked] == [5, 5]


def test_after_the_deadline_nothing_is_sent(client, clock):
    client.deadline = Deadline(clock, 5, what="has_vm")
    clock.sleep(5)
    with pytest.raises(errors.DeadlineExceeded, match="has_vm did not finish within 5 seconds"):
        client.server()


@pytest.mark.parametrize(
    "failure", [errors.Unreachable("refused"), errors.NoResponse("reset"), "Daemon is starting up"]
)
def test_reading_is_repeated_with_growing_pauses(client, wire, clock, replies, failure):
    answer = replies.error(failure, 503) if isinstance(failure, str) else failure
    wire.script(*[("GET /1.0", answer)] * 6, ("GET /1.0", replies.sync({"a": 1})))
    assert client.server().metadata == {"a": 1}
    assert clock.slept == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2])


@pytest.mark.parametrize(
    "line, call",
    [
        ("PUT /1.0/instances/vm-1", lambda c: c.replace_instance("vm-1", {}, "e")),
        ("PATCH /1.0/instances/vm-1", lambda c: c.patch_instance("vm-1", {})),
        ("DELETE /1.0/instances/vm-1", lambda c: c.delete_instance("vm-1")),
    ],
)
def test_what_can_be_said_twice_is_repeated_after_a_lost_answer(client, wire, replies, line, call):
    wire.script((line, errors.NoResponse("reset")), (line, replies.sync()))
    call(client)


def test_a_post_is_never_repeated_after_a_lost_answer(client, wire, clock):
    wire.script(("POST /1.0/instances", errors.NoResponse("reset")))
    with pytest.raises(errors.NoResponse):
        client.create_instance({"name": "vm-1"})
    assert clock.slept == []


@pytest.mark.parametrize("failure", [errors.Unreachable("refused"), "database is locked"])
def test_a_post_that_was_not_taken_is_repeated(client, wire, replies, failure):
    answer = replies.error(failure) if isinstance(failure, str) else failure
    wire.script(("POST /1.0/instances", answer), ("POST /1.0/instances", replies.sync()))
    client.create_instance({"name": "vm-1"})


@pytest.mark.parametrize("failure", [errors.Unreachable("refused"), "database is locked"])
def test_a_stream_is_never_repeated_because_it_is_used_up(client, wire, replies, failure):
    wire.script(("POST /1.0/images", replies.error(failure) if isinstance(failure, str) else failure))
    with pytest.raises(errors.ServerError):
        client.upload_image(iter([b"a"]), length=1, content_type="x")


@pytest.mark.parametrize("status", [400, 403, 404, 409, 412, 500, 501])
def test_a_refusal_is_raised_at_once(client, wire, clock, replies, status):
    wire.script(("DELETE /1.0/instances/vm-1", replies.error("odd", status)))
    with pytest.raises(errors.ServerError, match="deleting instance vm-1: odd"):
        client.delete_instance("vm-1")
    assert clock.slept == []


def test_knocking_at_a_dead_server_ends_after_half_a_minute(client, wire, clock):
    wire.script(*[("GET /1.0", errors.Unreachable("refused"))] * 19)
    with pytest.raises(errors.Unreachable):
        client.server()
    assert 26 < sum(clock.slept) <= module.PATIENCE


def test_knocking_ends_at_the_deadline(client, wire, clock):
    client.deadline = Deadline(clock, 1)
    wire.script(*[("GET /1.0", errors.Unreachable("refused"))] * 4)
    with pytest.raises(errors.DeadlineExceeded):
        client.server()
    assert sum(clock.slept) == pytest.approx(1)


def test_every_repetition_is_logged(client, wire, log, replies):
    wire.script(("GET /1.0", errors.Unreachable("no connection to x")), ("GET /1.0", replies.sync()))
    client.server()
    assert "warn  test: no connection to x; trying again" in log.stream.getvalue()
