"""The fixtures are what servers said, unchanged, and tell nobody's secrets."""

from __future__ import annotations

import copy
import json

import pytest

from tests.replay import fixtures, honesty

ALL = [f"{path.parent.name}/{path.stem}" for path in fixtures.paths()]
MOST_BYTES = 5 << 20


@pytest.mark.parametrize("name", ALL)
def test_a_fixture_is_consistent_and_keeps_secrets(name):
    assert list(honesty.faults(fixtures.load(*name.split("/")))) == []


def test_the_manifest_lists_every_fixture_with_its_hash():
    assert fixtures.MANIFEST.read_text(encoding="utf-8") == fixtures.manifest()


@pytest.mark.parametrize("path", fixtures.shared_paths(), ids=lambda path: path.parent.name)
def test_shared_values_are_used_and_stand_under_their_hash(path):
    values = json.loads(path.read_text(encoding="utf-8"))
    assert [fixtures.digest(value)[:16] for value in values.values()] == list(values)
    assert fixtures.used_references(path.parent) == values.keys()


def test_all_fixtures_together_are_small():
    assert sum(path.stat().st_size for path in fixtures.paths()) < MOST_BYTES


@pytest.mark.parametrize("name", [name for name in ALL if name.split("/")[0] in ("incus", "incus7", "lxd")])
def test_a_recording_says_where_and_when_it_was_made(name):
    fixture, kind = fixtures.load(*name.split("/")), name.split("/")[0]
    server = fixture["recorded"]["server"]
    assert fixture["synthetic"] is None
    begins = {"incus": "incus 6.0", "incus7": "incus 7.", "lxd": "lxd 5.0"}[kind]
    assert f"{server['kind']} {server['version']}".startswith(begins)
    assert server["api_extensions"] > 300 and len(server["api_extensions_sha256"]) == 64
    assert (server["storage_driver"], server["clustered"]) == ("btrfs", False)
    assert fixture["recorded"]["at"] == fixture["calls"][0]["at"]


def exchange(fixture, method, part):
    return next(
        one
        for call in fixture["calls"]
        for one in call["interactions"]
        if one["request"]["method"] == method and part in one["request"]["path"]
    )


def other_operation(fixture):
    exchange(fixture, "POST", "/instances")["response"]["headers"]["Location"] = "/1.0/operations/1"


def other_etag(fixture):
    exchange(fixture, "PATCH", "/instances/")["request"]["headers"]["If-Match"] = '"00"'


def earlier(fixture):
    exchange(fixture, "GET", "/wait")["response"]["body"]["metadata"]["created_at"] = "2001-01-01T00:00:00Z"


def foreign_address(fixture):
    fixture["calls"][0]["stdout"]["note"] = "see 192.168.1.7"


def foreign_address_6(fixture):
    fixture["calls"][0]["stdout"]["note"] = "see [2001:db8::1]:8443"


def key(fixture):
    fixture["calls"][0]["stdin"]["arguments"].append("-----BEGIN PRIVATE KEY-----")


def password(fixture):
    fixture["calls"][0]["config"]["agent"]["mbus"] = "nats://nats:hidden@10.245.0.1"


def host_name(fixture):
    exchange(fixture, "GET", "/1.0")["response"]["body"]["metadata"]["environment"]["server_name"] = "anvil"


def base64(fixture):
    fixture["calls"][0]["stdout"]["note"] = "MIIB" * 20


@pytest.mark.parametrize(
    "change",
    [other_operation, other_etag, earlier, foreign_address, foreign_address_6, key, password, host_name, base64],
)
def test_a_change_by_hand_is_noticed(change):
    whole = fixtures.load("incus", "vm")
    whole["calls"] += fixtures.load("incus", "disk_attached")["calls"]
    changed = copy.deepcopy(whole)
    change(changed)
    assert list(honesty.faults(whole)) == []
    assert len(list(honesty.faults(changed))) > 0
