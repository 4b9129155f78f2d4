"""Every method with damaged requests, configurations and responses of the server.

Each call ends with a result or with an error that is not an internal error.

The seeds are fixed, so every run has the same cases. A case is reproduced by its number: `play(number)`.
"""

from __future__ import annotations

import copy
import functools
import random
import re
from typing import Any

import pytest

from bosh_lxd_cpi.admin import replay
from bosh_lxd_cpi.recording.player import ReplayClock
from tests.replay import fixtures
from tests.support import mutations
from tests.support.invalid_input import VALID_ARGUMENTS
from tests.support.mutations import MutatedServer

CASES = 1200
LONG_CASES = 30_000


@functools.cache
def recorded_calls() -> dict[str, list[dict[str, Any]]]:
    """Return the recorded calls of every method with a response of the server."""
    calls: dict[str, list[dict[str, Any]]] = {}
    for path in fixtures.paths():
        for call in fixtures.load(path.parent.name, path.stem)["calls"] if path.parent.name != "demo" else ():
            if any("response" in each for each in call["interactions"]):
                calls.setdefault(call["stdin"]["method"], []).append(call)
    return calls


def play(number: int) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Run a case. Return the call, its response and its log."""
    rng = random.Random(number)
    calls = recorded_calls()
    method = sorted(calls)[number % len(calls)]
    call = rng.choice(calls[method])
    stdin, config = copy.deepcopy((call["stdin"], call["config"]))
    part = rng.choice(["responses", "responses", "arguments", "arguments", "context", "config"])
    if part == "arguments" and rng.random() < 0.5:
        stdin["arguments"] = copy.deepcopy(VALID_ARGUMENTS[method])
    if part != "responses":
        mutations.change(rng, config if part == "config" else stdin[part])
    clock = ReplayClock(call["clock"]["times"], call["clock"]["random"])
    changes = rng.randint(1, 2) if part == "responses" else 0
    server = MutatedServer(rng, call["interactions"], clock, changes=changes)
    call = {**call, "stdin": stdin, "config": config}
    response, log = replay.run(call, clock, server)
    return call, response, log


def check(number: int) -> None:
    call, response, log = play(number)
    case = f"case {number}: {call['stdin']['method']} {response}"
    assert "Traceback" not in log, case
    if error := response["error"]:
        assert error["type"].startswith("Bosh::Clouds::"), case
        assert not error["message"].startswith("internal error"), case
        assert "the response" not in error["message"] or re.search("[A-Z] /1.0", error["message"]), case


def test_damaged_input_causes_no_internal_error(offline):
    for number in range(CASES):
        check(number)


@pytest.mark.long
def test_more_damaged_inputs_cause_no_internal_error(offline):
    for number in range(CASES, LONG_CASES):
        check(number)


def test_every_method_is_tested():
    from bosh_lxd_cpi.protocol.methods import METHODS

    assert recorded_calls().keys() == METHODS.keys()
