from __future__ import annotations

import pytest

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
    (lambda c: c.replace_volume("fast", "v", {"a": 1}, etag="e"), f"PUT {V}/v", {}, {"a": 1}),
    (lambda c: c.replace_volume("fast", "v", {"a": 1}, target="m1"), f"PUT {V}/v", {"target": "m1"}, {"a": 1}),
    (lambda c: c.delete_volume("fast", "v"), f"DELETE {V}/v", {}, None),
    (lambda c: c.delete_volume("fast", "v", target="m1"), f"DELETE {V}/v", {"target": "m1"}, None),
    (lambda c: c.create_snapshot("fast", "v", "s"), f"POST {V}/v/snapshots", {}, {"name": "s"}),
    (lambda c: c.snapshot("fast", "v", "s"), f"GET {V}/v/snapshots/s", {}, None),
    (lambda c: c.snapshots("fast", "v"), f"GET {V}/v/snapshots", {"recursion": "1"}, None),
    (
        lambda c: c.describe_snapshot("fast", "v", "s", description="d"),
        f"PUT {V}/v/snapshots/s",
        {},
        {"description": "d"},
    ),
    (lambda c: c.delete_snapshot("fast", "v", "s"), f"DELETE {V}/v/snapshots/s", {}, None),
    (lambda c: c.images(), "GET /1.0/images", {"recursion": "1"}, None),
    (
        lambda c: c.images(description='bosh noble-1.2+"é'),
        "GET /1.0/images",
        {"recursion": "1", "filter": "properties.description eq bosh.noble-1.2..."},
        None,
    ),
    (lambda c: c.image("abc"), "GET /1.0/images/abc", {}, None),
    (lambda c: c.delete_image("abc"), "DELETE /1.0/images/abc", {}, None),
    (lambda c: c.alias("img-1"), "GET /1.0/images/aliases/img-1", {}, None),
    (
        lambda c: c.create_alias("img-1", "abc", description="d"),
        "POST /1.0/images/aliases",
        {},
        {"name": "img-1", "target": "abc", "description": "d"},
    ),
    (lambda c: c.delete_alias("img-1"), "DELETE /1.0/images/aliases/img-1", {}, None),
    (lambda c: c.networks(), "GET /1.0/networks", {"recursion": "1"}, None),
    (lambda c: c.networks(project="default"), "GET /1.0/networks", {"recursion": "1", "project": "default"}, None),
    (lambda c: c.network("lxdbr0"), "GET /1.0/networks/lxdbr0", {}, None),
    (lambda c: c.network("a/b", project="default"), "GET /1.0/networks/a%2Fb", {"project": "default"}, None),
    (lambda c: c.own_project(), "GET /1.0/projects/prod", {}, None),
    (lambda c: c.project_state(), "GET /1.0/projects/prod/state", {}, None),
    (lambda c: c.projects(), "GET /1.0/projects", {"recursion": "1"}, None),
    (lambda c: c.profiles(), "GET /1.0/profiles", {"recursion": "1"}, None),
    (lambda c: c.pool("fast"), "GET /1.0/storage-pools/fast", {}, None),
    (lambda c: c.pool_space("fast"), "GET /1.0/storage-pools/fast/resources", {}, None),
    (lambda c: c.leases("lxdbr0", project="default"), "GET /1.0/networks/lxdbr0/leases", {"project": "default"}, None),
    (lambda c: c.certificate("abc"), "GET /1.0/certificates/abc", {}, None),
    (lambda c: c.identity(), "GET /1.0/auth/identities/current", {}, None),
    (lambda c: c.warnings(), "GET /1.0/warnings", {"recursion": "1", "project": ""}, None),
    (lambda c: c.server_resources(), "GET /1.0/resources", {}, None),
    (lambda c: c.cluster_members(), "GET /1.0/cluster/members", {"recursion": "1"}, None),
]


@pytest.mark.parametrize("call, line, query, body", ENDPOINTS, ids=[line for _, line, _, _ in ENDPOINTS])
def test_sends_one_request_per_method(client, wire, responses, call, line, query, body):
    is_list = line.startswith("GET") and (query.get("recursion") or line.endswith("leases"))
    is_list = is_list and line != "GET /1.0/operations"
    wire.script((line, responses.sync([] if is_list else {}, etag="e")))
    call(client)
    request = wire.request_to(line)
    assert (request.query, request.body) == ({"project": "prod", **query}, body)
    assert request.headers.get("Content-Type") == (None if body is None else "application/json")


def test_table_has_every_public_method():
    names = {name for name in vars(Client) if not name.startswith("_")}
    used = {name for call, *_ in ENDPOINTS for name in call.__code__.co_names}
    assert names - used == {"import_volume", "upload_image", "with_deadline"}


def test_returns_the_document_with_its_etag(client, wire, responses):
    wire.script(("GET /1.0/instances/vm-1", responses.sync({"name": "vm-1", "new_field": 1}, etag="e")))
    instance = client.instance("vm-1")
    assert (instance.document, instance.etag) == ({"name": "vm-1", "new_field": 1}, "e")


def test_lists_operations_of_every_status(client, wire, responses):
    wire.script(("GET /1.0/operations", responses.sync({"running": [{"id": "a"}], "success": [{"id": "b"}]})))
    assert [operation.id for operation in client.operations()] == ["a", "b"]


def test_with_deadline_changes_the_deadline_only(client, clock):
    other = client.with_deadline(Deadline(clock, 5))
    assert (other.deadline.seconds, client.deadline.seconds) == (5, 300)
    assert (other.transport, other.project, other.retry) == (client.transport, client.project, client.retry)


@pytest.mark.parametrize(
    "line, call",
    [
        ("PUT /1.0/instances/vm-1", lambda c: c.replace_instance("vm-1", {}, '"e1"')),
        ("PATCH /1.0/instances/vm-1", lambda c: c.patch_instance("vm-1", {}, '"e1"')),
        (f"PUT {V}/v", lambda c: c.replace_volume("fast", "v", {}, etag='"e1"')),
    ],
)
def test_sends_if_match_with_a_change(client, wire, responses, line, call):
    wire.script((line, responses.sync()))
    call(client)
    assert wire.request_to(line).headers == {**JSON, "If-Match": '"e1"'}


def test_quotes_names_in_paths(client, wire, responses):
    wire.script(("GET /1.0/storage-pools/a%2Fb/volumes/custom/c%3Fd%23%C3%A9", responses.sync({})))
    client.volume("a/b", "c?d#\u00e9")


@pytest.mark.parametrize("iso, kind", [(True, {"X-LXD-type": "iso", "X-Incus-type": "iso"}), (False, {})])
def test_names_an_uploaded_volume_in_headers_of_both_servers(client, wire, responses, iso, kind):
    wire.script((f"POST {V}", responses.asynchronous()))
    assert client.import_volume("fast", "vol-c-1", b"bytes", iso=iso, target="m1").operation == "/1.0/operations/op-1"
    request = wire.request_to(f"POST {V}")
    assert request.headers == {
        "Content-Type": "application/octet-stream",
        "X-LXD-name": "vol-c-1",
        "X-Incus-name": "vol-c-1",
        **kind,
    }
    assert (request.body, request.query) == (b"bytes", {"project": "prod", "target": "m1"})


def test_uploads_an_image_as_a_stream(client, wire, responses):
    wire.script(("POST /1.0/images", responses.asynchronous()))
    client.upload_image(iter([b"ab", b"c"]), length=3, content_type="multipart/form-data; boundary=x")
    request = wire.request_to("POST /1.0/images")
    assert request.headers == {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": "3"}
    assert (request.body, request.timeout) == (b"abc", 300)


def test_waits_longer_than_the_server_is_asked_to(client, wire, responses):
    wire.script(("GET /1.0/operations/a/wait", responses.sync({})))
    client.wait_operation("/1.0/operations/a", 30)
    assert wire.request_to("GET /1.0/operations/a/wait").timeout == 40


@pytest.mark.parametrize(
    "line, call",
    [
        (f"POST {V}", lambda c: c.create_volume("fast", {"name": "v"})),
        (f"POST {V}", lambda c: c.import_volume("fast", "v", b"x", iso=True)),
        (f"PUT {V}/v", lambda c: c.replace_volume("fast", "v", {})),
        (f"DELETE {V}/v", lambda c: c.delete_volume("fast", "v")),
        (f"POST {V}/v/snapshots", lambda c: c.create_snapshot("fast", "v", "s")),
        (f"DELETE {V}/v/snapshots/s", lambda c: c.delete_snapshot("fast", "v", "s")),
        (f"PUT {V}/v/snapshots/s", lambda c: c.describe_snapshot("fast", "v", "s", description="d")),
        ("PATCH /1.0/instances/vm-1", lambda c: c.patch_instance("vm-1", {"devices": {}})),
    ],
)
def test_waits_for_a_change_of_a_volume_until_the_deadline(client, wire, responses, line, call):
    wire.script((line, responses.sync()))
    call(client)
    assert wire.request_to(line).timeout == 300
