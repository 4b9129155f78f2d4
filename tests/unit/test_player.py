from __future__ import annotations

import json

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.lxd.transport import HttpResponse
from bosh_lxd_cpi.recording.player import Mismatch, Player, ReplayClock, requests_match
from bosh_lxd_cpi.recording.recorder import Recorder, RecordingClock, request_record
from bosh_lxd_cpi.recording.redaction import Redactor

JSON = {"Content-Type": "application/json"}
OPERATION = "/1.0/operations/op-1"


@pytest.fixture
def recorder(wire, clock):
    return Recorder(wire, clock)


def interactions(recorder):
    return recorder.interactions(Redactor(secrets=["sesame"]))


def player(recorded) -> Player:
    return Player(recorded, ReplayClock([], []))


def interaction(method: str, path: str, metadata=None, **request) -> dict:
    body = {"type": "sync", "metadata": metadata}
    return {
        "n": 1,
        "t_ms": 0,
        "ms": 0,
        "request": {"method": method, "path": path, "query": {}, "headers": {}, **request},
        "response": {"status": 200, "headers": {}, "body": body},
    }


def metadata(response: HttpResponse):
    return json.loads(response.body)["metadata"]


def test_returns_the_recorded_responses(recorder, wire, responses):
    wire.script(("GET /1.0/a", responses.sync({"a": 1}, etag='"x"')), ("GET /1.0/b", responses.error("Not there", 404)))
    recorded = [recorder.request("GET", path, query={"project": "p"}) for path in ("/1.0/a", "/1.0/b")]
    replay = player(interactions(recorder))
    played = [replay.request("GET", path, query={"project": "p"}) for path in ("/1.0/a", "/1.0/b")]
    assert [response.status for response in played] == [response.status for response in recorded] == [200, 404]
    assert [json.loads(response.body) for response in played] == [json.loads(response.body) for response in recorded]
    assert played[0].headers["ETag"] == '"x"'
    assert (replay.requests, replay.remaining()) == (2, [])


def test_raises_the_recorded_error(recorder, wire):
    wire.script(("GET /1.0", errors.Unreachable("no route, sesame", detail="d", code="unreachable", url="u")))
    with pytest.raises(errors.Unreachable):
        recorder.request("GET", "/1.0")
    with pytest.raises(errors.Unreachable, match=r"no route, \*{6}") as raised:
        player(interactions(recorder)).request("GET", "/1.0")
    assert (raised.value.detail, raised.value.code, raised.value.fields) == ("d", "unreachable", {"url": "u"})


def test_raises_no_response_for_an_unknown_error():
    recorded = interaction("GET", "/1.0")
    del recorded["response"]
    with pytest.raises(errors.NoResponse, match="gone"):
        player([{**recorded, "error": {"type": "KeyboardInterrupt", "brief": "gone"}}]).request("GET", "/1.0")


def test_replays_an_upload_that_failed_while_reading(recorder, wire):
    def content_error():
        yield b"abc"
        raise errors.InvalidStemcell("unexpected end of the tarball")

    with pytest.raises(errors.InvalidStemcell):
        recorder.request("POST", "/1.0/images", body=content_error())
    replay = player(interactions(recorder))
    with pytest.raises(errors.InvalidStemcell):
        replay.request("POST", "/1.0/images", body=content_error())
    assert replay.remaining() == []


def test_mismatch_shows_the_nearest_and_the_next_request():
    replay = player([interaction("GET", "/1.0/a"), {**interaction("PUT", "/1.0/b", body={"size": "1MiB"}), "n": 2}])
    with pytest.raises(Mismatch) as mismatch:
        replay.request("PUT", "/1.0/b", headers=JSON, body=b'{"size": "2MiB"}')
    message = str(mismatch.value)
    assert "recorded request 2" in message
    assert '-  "size": "1MiB"' in message and '+  "size": "2MiB"' in message
    assert "The next recorded request is 1: GET /1.0/a" in message


def test_every_request_after_a_mismatch_fails():
    replay = player([interaction("GET", "/1.0/a")])
    with pytest.raises(Mismatch) as first:
        replay.request("GET", "/1.0/b")
    with pytest.raises(Mismatch) as second:
        replay.request("GET", "/1.0/a")
    assert first.value is second.value


def test_rejects_a_request_after_the_end():
    with pytest.raises(Mismatch, match="after the end"):
        player([]).request("GET", "/1.0")


def test_rejects_a_repeated_request_other_than_a_poll():
    replay = player([interaction("GET", "/1.0/a")])
    replay.request("GET", "/1.0/a")
    with pytest.raises(Mismatch):
        replay.request("GET", "/1.0/a")


def test_remaining_returns_the_requests_that_were_not_sent():
    replay = player([interaction("GET", "/1.0/a"), interaction("GET", "/1.0/b")])
    replay.request("GET", "/1.0/a")
    assert [interaction["request"]["path"] for interaction in replay.remaining()] == ["/1.0/b"]


def polls(*states: str) -> Player:
    recorded = [interaction("GET", f"{OPERATION}/wait", state, query={"timeout": "30"}) for state in states]
    return player([*recorded, interaction("GET", "/1.0/z")])


def poll(replay: Player, seconds: int = 29) -> str:
    return metadata(replay.request("GET", f"{OPERATION}/wait", query={"timeout": str(seconds)}))


def test_accepts_fewer_polls_than_recorded():
    replay = polls("Running", "Success")
    assert poll(replay) == "Running"
    replay.request("GET", "/1.0/z")
    assert replay.remaining() == []


def test_accepts_more_polls_than_recorded():
    replay = polls("Running", "Success")
    assert [poll(replay, seconds) for seconds in (30, 20, 10)] == ["Running", "Success", "Success"]
    replay.request("GET", "/1.0/z")


@pytest.mark.parametrize(
    "difference",
    [
        {"method": "PATCH"},
        {"path": "/1.0/y"},
        {"query": {"project": "q"}},
        {"headers": {**JSON, "If-Match": '"2"'}},
        {"body": b'{"a": 2}'},
    ],
    ids=["method", "path", "query", "header", "body"],
)
def test_requests_match_only_if_all_parts_are_equal(difference):
    request = {
        "method": "PUT",
        "path": "/1.0/x",
        "query": {"project": "p"},
        "headers": {**JSON, "If-Match": '"1"'},
        "body": b'{"a": 1}',
    }
    record = request_record(**request, redactor=Redactor())
    assert requests_match(record, request_record(**request, redactor=Redactor()))
    assert not requests_match(request_record(**{**request, **difference}, redactor=Redactor()), record)


def test_advances_the_clock_by_the_recorded_duration():
    clock = ReplayClock([], [])
    clock.sleep(1)
    Player([{**interaction("GET", "/1.0/a"), "t_ms": 1500, "ms": 250}], clock).request("GET", "/1.0/a")
    assert clock.monotonic() == 1.75
    clock.advance(1)
    assert clock.monotonic() == 1.75


def test_clock_returns_recorded_values_then_the_last_time(clock):
    recording = RecordingClock(clock)
    values = [recording.time(), recording.now(), recording.random_hex(7)]
    replay = ReplayClock(recording.times, recording.random)
    assert [replay.time(), replay.now(), replay.random_hex(7)] == values
    assert (replay.time(), replay.random_hex(3)) == (recording.times[-1], "000")
