"""Replays every recorded call with the real code, and compares its requests and its response."""

from __future__ import annotations

import pytest

from bosh_lxd_cpi.admin import replay
from bosh_lxd_cpi.protocol import methods
from tests.replay import fixtures

SERVERS = ("incus", "incus7", "lxd")
ALL = [
    f"{path.parent.name}/{path.stem}" for path in fixtures.paths() if path.parent.name != "demo"
]  # test_demo plays the recording of the demo, whose stemcell is not stored


@pytest.mark.parametrize("name", ALL)
def test_requests_and_responses_are_as_recorded(name, offline):
    differences = {
        number: outcome.differences
        for number, call in enumerate(fixtures.load(*name.split("/"))["calls"])
        if (outcome := replay.play(call)).differences
    }
    assert differences == {}, "\n".join(text for texts in differences.values() for text in texts)


@pytest.mark.parametrize("server", SERVERS)
def test_every_method_is_recorded_with_success_and_failure(server):
    calls = [call for name in ALL if name.startswith(f"{server}/") for call in fixtures.load(*name.split("/"))["calls"]]
    succeeded = {call["stdin"]["method"] for call in calls if not call["stdout"]["error"]}
    failed = {call["stdin"]["method"] for call in calls if call["stdout"]["error"]}
    assert succeeded == set(methods.METHODS)
    assert set(methods.METHODS) - failed <= {"delete_stemcell", "delete_vm", "has_disk", "delete_snapshot"}


@pytest.mark.parametrize("server", SERVERS)
def test_every_type_of_error_is_recorded(server):
    calls = [call for name in ALL if name.startswith(f"{server}/") for call in fixtures.load(*name.split("/"))["calls"]]
    errors = {call["stdout"]["error"]["type"] for call in calls if call["stdout"]["error"]}
    assert errors >= {
        f"Bosh::Clouds::{name}"
        for name in ("CloudError", "VMNotFound", "DiskNotFound", "VMCreationFailed", "NotSupported")
    }


@pytest.mark.parametrize("server", SERVERS)
def test_every_scenario_is_recorded_on_every_server(server):
    assert {name.partition("/")[2] for name in ALL if name.startswith(f"{server}/")} == {
        name.partition("/")[2] for name in ALL if name.partition("/")[0] in SERVERS
    }


def test_reports_another_request(offline):
    call = fixtures.load("incus", "vm")["calls"][0]
    call["stdin"]["arguments"][0] = "agent-2"
    [difference] = replay.play(call).differences
    assert '+  "sha256"' in difference and "recorded request 6" in difference, "the config drive contains the agent id"


def test_reports_another_request_of_a_rollback(offline):
    call = fixtures.load("incus", "vm_address_taken")["calls"][0]
    *_, deletion = (each for each in call["interactions"] if each["request"]["method"] == "DELETE")
    deletion["request"]["path"] += "-2"
    [difference] = replay.play(call).differences
    assert f"recorded request {deletion['n']}" in difference


def test_reports_a_missing_request(offline):
    call = fixtures.load("incus", "vm")["calls"][0]
    call["interactions"].append(call["interactions"][-1])
    assert replay.play(call).differences == [
        f"recorded request 10 was not sent: PATCH /1.0/instances/{call['stdout']['result'][0]}"
    ]
