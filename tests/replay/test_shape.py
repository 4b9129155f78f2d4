"""The comparison of the shapes of recordings."""

from __future__ import annotations

import copy
import json
import re

import pytest

from tests.replay import fixtures
from tests.replay.shape import TRANSIENT_ERROR, shape, shape_diff


@pytest.fixture
def recording():
    return fixtures.load("incus", "vm")


def first_response(fixture, method, part):
    return next(
        interaction["response"]
        for call in fixture["calls"]
        for interaction in call["interactions"]
        if interaction["request"]["method"] == method and part in interaction["request"]["path"]
    )


def test_ignores_ids_times_and_numbers(recording):
    text = re.sub(r"2026-\d\d-\d\dT", "2031-01-01T", json.dumps(recording))
    other = json.loads(re.sub(r"[0-9a-f]{8}-([0-9a-f]{4})-", r"00000000-\1-", text))
    assert other != recording
    assert shape_diff(recording, other) == ""


def test_ignores_further_polls(recording):
    with_poll = copy.deepcopy(recording)
    interactions = with_poll["calls"][0]["interactions"]
    interactions.insert(7, interactions[6])
    assert interactions[6]["request"]["path"].endswith("/wait")
    assert shape_diff(recording, with_poll) == ""


def test_ignores_a_retry_after_a_transient_error():
    recording = fixtures.load("lxd", "vm")
    with_retry = copy.deepcopy(recording)
    interactions = with_retry["calls"][0]["interactions"]
    post = next(
        index for index, interaction in enumerate(interactions) if interaction["request"]["path"] == "/1.0/instances"
    )
    failed = copy.deepcopy(interactions[post + 1])
    failed["response"]["body"]["metadata"] |= {
        "status": "Failure",
        "err": f"Failed creating instance from image: {TRANSIENT_ERROR}",
    }
    with_retry["calls"][0]["interactions"] = [*interactions[: post + 1], failed, *interactions[post:]]
    assert shape_diff(recording, with_retry) == ""


def new_key(fixture):
    first_response(fixture, "GET", "/instances/")["body"]["metadata"]["new"] = ""


def new_type(fixture):
    first_response(fixture, "GET", "/instances/")["body"]["metadata"]["devices"] = []


def new_status(fixture):
    first_response(fixture, "DELETE", "/volumes/")["status"] = 202


def new_error(fixture):
    fixture["calls"][8]["interactions"][0]["response"]["body"]["error"] = "No such instance"


def new_result(fixture):
    fixture["calls"][1]["stdout"]["result"] = None


def fewer_exchanges(fixture):
    del fixture["calls"][0]["interactions"][2]


@pytest.mark.parametrize("change", [new_key, new_type, new_status, new_error, new_result, fewer_exchanges])
def test_reports_a_change_of_shape(recording, change):
    changed = copy.deepcopy(recording)
    change(changed)
    assert shape_diff(recording, changed)


def test_shapes_of_incus_and_lxd_differ(recording):
    assert shape(recording) != shape(fixtures.load("lxd", "vm"))
