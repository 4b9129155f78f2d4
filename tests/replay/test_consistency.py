"""The fixtures: consistency, size, shared values and manifest."""

from __future__ import annotations

import copy
import json

import pytest

from tests.replay import consistency, fixtures

ALL = [f"{path.parent.name}/{path.stem}" for path in fixtures.paths()]
MAX_BYTES = 5 << 20
MAX_LINES = 55_000


@pytest.mark.parametrize("name", ALL)
def test_fixture_is_consistent_and_contains_no_secrets(name):
    assert list(consistency.problems(fixtures.load(*name.split("/")))) == []


def test_manifest_contains_the_hash_of_every_fixture():
    assert fixtures.MANIFEST.read_text(encoding="utf-8") == fixtures.manifest()


@pytest.mark.parametrize("path", fixtures.shared_paths(), ids=lambda path: path.parent.name)
def test_shared_values_are_used_and_keyed_by_hash(path):
    values = json.loads(path.read_text(encoding="utf-8"))
    assert [fixtures.digest(value)[:16] for value in values.values()] == list(values)
    assert fixtures.used_references(path.parent) == values.keys()


def test_fixtures_are_small():
    contents = [path.read_bytes() for path in (*fixtures.paths(), *fixtures.shared_paths())]
    assert sum(len(content) for content in contents) < MAX_BYTES
    assert sum(content.count(b"\n") for content in contents) < MAX_LINES


@pytest.mark.parametrize("name", [name for name in ALL if name.split("/")[0] in {"incus", "incus7", "lxd"}])
def test_recording_describes_its_server(name):
    fixture, kind = fixtures.load(*name.split("/")), name.split("/")[0]
    server = fixture["recorded"]["server"]
    assert fixture["synthetic"] is None
    version = {"incus": "incus 6.0", "incus7": "incus 7.", "lxd": "lxd 5.0"}[kind]
    assert f"{server['kind']} {server['version']}".startswith(version)
    assert server["api_extensions"] > 300 and len(server["api_extensions_sha256"]) == 64
    assert (server["storage_driver"], server["clustered"]) == ("btrfs", False)
    assert fixture["recorded"]["at"] == fixture["calls"][0]["at"]


def first_exchange(fixture, method, part):
    return next(
        interaction
        for call in fixture["calls"]
        for interaction in call["interactions"]
        if interaction["request"]["method"] == method and part in interaction["request"]["path"]
    )


def other_operation(fixture):
    first_exchange(fixture, "POST", "/instances")["response"]["headers"]["Location"] = "/1.0/operations/1"


def other_etag(fixture):
    first_exchange(fixture, "PATCH", "/instances/")["request"]["headers"]["If-Match"] = '"00"'


def earlier_time(fixture):
    first_exchange(fixture, "GET", "/wait")["response"]["body"]["metadata"]["created_at"] = "2001-01-01T00:00:00Z"


def foreign_ipv4_address(fixture):
    fixture["calls"][0]["stdout"]["note"] = "see 192.168.1.7"


def foreign_ipv6_address(fixture):
    fixture["calls"][0]["stdout"]["note"] = "see [2001:db8::1]:8443"


def private_key(fixture):
    fixture["calls"][0]["stdin"]["arguments"].append("-----BEGIN PRIVATE KEY-----")


def password(fixture):
    fixture["calls"][0]["config"]["agent"]["mbus"] = "nats://nats:hidden@10.245.0.1"


def host_name(fixture):
    first_exchange(fixture, "GET", "/1.0")["response"]["body"]["metadata"]["environment"]["server_name"] = "anvil"


def base64(fixture):
    fixture["calls"][0]["stdout"]["note"] = "MIIB" * 20


@pytest.mark.parametrize(
    "change",
    [
        other_operation,
        other_etag,
        earlier_time,
        foreign_ipv4_address,
        foreign_ipv6_address,
        private_key,
        password,
        host_name,
        base64,
    ],
)
def test_reports_a_change_by_hand(change):
    fixture = fixtures.load("incus", "vm")
    fixture["calls"] += fixtures.load("incus", "disk_attached")["calls"]
    fixture["calls"].sort(key=lambda call: call["at"])  # either of them can be the newer recording
    changed = copy.deepcopy(fixture)
    change(changed)
    assert list(consistency.problems(fixture)) == []
    assert len(list(consistency.problems(changed))) > 0
