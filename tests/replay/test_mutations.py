"""Every method with damaged responses of the server: each call ends with a result or with an error of its own.

The seeds are fixed, so every run has the same cases. A case is reproduced by its number: `play(number)`.
"""

from __future__ import annotations

import functools
import random
import re
from typing import Any

import pytest

from bosh_lxd_cpi.admin import replay
from bosh_lxd_cpi.recording.player import ReplayClock
from tests.replay import fixtures
from tests.support.mutations import MutatedServer

CASES = 1500
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
    call = rng.choice(calls[sorted(calls)[number % len(calls)]])
    clock = ReplayClock(call["clock"]["times"], call["clock"]["random"])
    response, log = replay.run(call, clock, MutatedServer(rng, call["interactions"], clock))
    return call, response, log


def check(number: int) -> None:
    call, response, log = play(number)
    case = f"case {number}: {call['stdin']['method']} {response}"
    assert "Traceback" not in log, case
    if error := response["error"]:
        assert error["type"].startswith("Bosh::Clouds::"), case
        assert not error["message"].startswith("internal error"), case
        assert "of the response is" not in error["message"] or re.search("[A-Z] /1.0", error["message"]), case


def test_damaged_responses_cause_no_internal_error(offline):
    for number in range(CASES):
        check(number)


@pytest.mark.long
def test_many_damaged_responses_cause_no_internal_error(offline):
    for number in range(CASES, LONG_CASES):
        check(number)


def test_every_method_is_tested():
    from bosh_lxd_cpi.protocol.methods import METHODS

    assert recorded_calls().keys() == METHODS.keys()
