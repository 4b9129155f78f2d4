"""What counts as drift and what does not."""

from __future__ import annotations

import copy
import json
import re

import pytest

from tests.replay import fixtures
from tests.replay.drift import HICCUP, drift, shape


@pytest.fixture
def recorded():
    return fixtures.load("incus", "vm")


def first(fixture, method, part):
    return next(
        one["response"]
        for call in fixture["calls"]
        for one in call["interactions"]
        if one["request"]["method"] == method and part in one["request"]["path"]
    )


def test_other_ids_times_and_numbers_are_no_drift(recorded):
    text = re.sub(r"2026-\d\d-\d\dT", "2031-01-01T", json.dumps(recorded))
    later = json.loads(re.sub(r"[0-9a-f]{8}-([0-9a-f]{4})-", r"00000000-\1-", text))
    assert later != recorded
    assert drift(recorded, later) == ""


def test_looking_at_an_operation_more_often_is_no_drift(recorded):
    slower = copy.deepcopy(recorded)
    interactions = slower["calls"][0]["interactions"]
    interactions.insert(6, interactions[5])
    assert interactions[5]["request"]["path"].endswith("/wait")
    assert drift(recorded, slower) == ""


def test_a_creation_that_failed_in_passing_and_was_asked_again_is_no_drift():
    recorded = fixtures.load("lxd", "vm")
    again = copy.deepcopy(recorded)
    interactions = again["calls"][0]["interactions"]
    posted = next(at for at, one in enumerate(interactions) if one["request"]["path"] == "/1.0/instances")
    failed = copy.deepcopy(interactions[posted + 1])
    failed["response"]["body"]["metadata"] |= {
        "status": "Failure",
        "err": f"Failed creating instance from image: {HICCUP}",
    }
    again["calls"][0]["interactions"] = [*interactions[: posted + 1], failed, *interactions[posted:]]
    assert drift(recorded, again) == ""


def another_key(fixture):
    first(fixture, "GET", "/instances/")["body"]["metadata"]["new"] = ""


def another_type(fixture):
    first(fixture, "GET", "/instances/")["body"]["metadata"]["devices"] = []


def another_status(fixture):
    first(fixture, "DELETE", "/volumes/")["status"] = 202


def another_text(fixture):
    fixture["calls"][8]["interactions"][0]["response"]["body"]["error"] = "No such instance"


def another_outcome(fixture):
    fixture["calls"][1]["stdout"]["result"] = None


def one_exchange_less(fixture):
    del fixture["calls"][0]["interactions"][2]


@pytest.mark.parametrize(
    "change", [another_key, another_type, another_status, another_text, another_outcome, one_exchange_less]
)
def test_a_change_of_shape_is_drift(recorded, change):
    changed = copy.deepcopy(recorded)
    change(changed)
    assert drift(recorded, changed)


def test_servers_of_several_lines_differ_in_shape(recorded):
    assert shape(recorded) != shape(fixtures.load("lxd", "vm"))
