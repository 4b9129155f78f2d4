from __future__ import annotations

import hashlib
import json

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.lxd.transport import HttpResponse
from bosh_lxd_cpi.recording.cassette import (
    Mismatch,
    Player,
    Recorder,
    RecordingClock,
    ReplayClock,
    request_record,
    same,
)
from bosh_lxd_cpi.recording.redaction import Redactor

JSON = {"Content-Type": "application/json"}
OPERATION = "/1.0/operations/op-1"


@pytest.fixture
def recorder(wire, clock):
    return Recorder(wire, clock)


def kept(recorder):
    return recorder.interactions(Redactor(secrets=["sesame"]))


def player(interactions) -> Player:
    return Player(interactions, ReplayClock([], []))


def exchange(method: str, path: str, metadata=None, **request) -> dict:
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


def test_an_exchange_is_kept_whole_with_its_time(recorder, wire, replies, clock):
    answer = HttpResponse(200, {"ETag": '"1"', "Date": "today"}, replies.sync({"a": 1}).body)
    wire.script(("PUT /1.0/x", lambda: clock.sleep(0.25) or answer))
    clock.sleep(1)
    headers = {**JSON, "If-Match": '"0"', "User-Agent": "me"}
    content = b'{"say": "sesame", "n": [1]}'
    assert recorder.request("PUT", "/1.0/x", query={"project": "p"}, headers=headers, body=content) is answer
    [one] = kept(recorder)
    assert (one["n"], one["t_ms"], one["ms"], recorder.requests) == (1, 1000, 250, 1)
    assert one["request"] == {
        "method": "PUT",
        "path": "/1.0/x",
        "query": {"project": "p"},
        "headers": {**JSON, "If-Match": '"0"'},
        "body": {"say": "******", "n": [1]},
    }
    assert (one["response"]["headers"], one["response"]["body"]["metadata"]) == ({"ETag": '"1"'}, {"a": 1})


def test_of_bytes_length_and_hash_are_kept_without_the_secrets(recorder, wire, replies):
    wire.script(("POST /1.0/x", replies.sync()), ("POST /1.0/x", replies.sync()))
    recorder.request("POST", "/1.0/x", body=b"abc sesame")
    recorder.request("POST", "/1.0/x", body=b"FAT12   sesame")
    assert [one["request"]["body"] for one in kept(recorder)] == [
        {"length": 10, "sha256": hashlib.sha256(b"abc ******").hexdigest()},
        {"length": 14},
    ]


def test_a_stream_is_passed_on_piece_by_piece_and_hashed(recorder, wire, replies):
    wire.script(("POST /1.0/images", replies.sync()))
    recorder.request("POST", "/1.0/images", body=iter([b"abc", b"def"]))
    assert wire.asked[0].body == b"abcdef"
    assert kept(recorder)[0]["request"]["body"] == {"length": 6, "sha256": hashlib.sha256(b"abcdef").hexdigest()}


def test_what_is_not_json_is_kept_as_text(recorder, wire):
    wire.script(("GET /1.0", HttpResponse(502, {}, b"<html>sesame")))
    recorder.request("GET", "/1.0")
    assert kept(recorder)[0]["response"] == {"status": 502, "headers": {}, "text": "<html>******"}


def test_a_failure_is_kept_and_raised_again_by_the_player(recorder, wire):
    wire.script(("GET /1.0", errors.NoResponse("no answer, sesame", detail="d")))
    with pytest.raises(errors.NoResponse, match="sesame"):
        recorder.request("GET", "/1.0")
    assert kept(recorder)[0]["error"] == {"type": "NoResponse", "brief": "no answer, ******", "detail": "d"}
    with pytest.raises(errors.NoResponse, match=r"no answer, \*\*\*\*\*\*"):
        player(kept(recorder)).request("GET", "/1.0")


def damaged():
    yield b"abc"
    raise errors.CloudError("not a whole gzip tar")


def test_a_stemcell_that_breaks_off_does_so_again(recorder, wire):
    with pytest.raises(errors.CloudError, match="whole"):
        recorder.request("POST", "/1.0/images", body=damaged())
    assert kept(recorder)[0]["request"]["body"]["complete"] is False
    again = player(kept(recorder))
    with pytest.raises(errors.CloudError, match="whole"):
        again.request("POST", "/1.0/images", body=damaged())
    assert again.rest() == []


def test_what_was_recorded_is_played_back(recorder, wire, replies):
    wire.script(("GET /1.0/a", replies.sync({"a": 1}, etag='"x"')), ("GET /1.0/b", replies.error("Not there", 404)))
    told = [recorder.request("GET", path, query={"project": "p"}) for path in ("/1.0/a", "/1.0/b")]
    again = player(kept(recorder))
    played = [again.request("GET", path, query={"project": "p"}) for path in ("/1.0/a", "/1.0/b")]
    assert [one.status for one in played] == [one.status for one in told] == [200, 404]
    assert [json.loads(one.body) for one in played] == [json.loads(one.body) for one in told]
    assert played[0].headers["ETag"] == '"x"'
    assert (again.requests, again.rest()) == (2, [])


def test_a_request_out_of_order_shows_the_nearest_and_the_next():
    again = player([exchange("GET", "/1.0/a"), {**exchange("PUT", "/1.0/b", body={"size": "1MiB"}), "n": 2}])
    with pytest.raises(Mismatch) as mismatch:
        again.request("PUT", "/1.0/b", headers=JSON, body=b'{"size": "2MiB"}')
    assert "recorded as 2" in str(mismatch.value)
    assert '-  "size": "1MiB"' in str(mismatch.value) and '+  "size": "2MiB"' in str(mismatch.value)
    assert "Next in the recording was 1: GET /1.0/a" in str(mismatch.value)


def test_after_a_mismatch_nothing_is_answered_any_more():
    again = player([exchange("GET", "/1.0/a")])
    with pytest.raises(Mismatch) as first:
        again.request("GET", "/1.0/b")
    with pytest.raises(Mismatch) as second:
        again.request("GET", "/1.0/a")
    assert first.value is second.value


def test_a_request_after_the_end_is_a_mismatch():
    with pytest.raises(Mismatch, match="after the end"):
        player([]).request("GET", "/1.0")


def test_what_was_not_asked_for_is_left():
    again = player([exchange("GET", "/1.0/a"), exchange("GET", "/1.0/b")])
    again.request("GET", "/1.0/a")
    assert [one["request"]["path"] for one in again.rest()] == ["/1.0/b"]


def polls(*states: str) -> Player:
    looks = [exchange("GET", f"{OPERATION}/wait", state, query={"timeout": "30"}) for state in states]
    return player([*looks, exchange("GET", "/1.0/z")])


def look(again: Player, seconds: int = 29) -> str:
    return metadata(again.request("GET", f"{OPERATION}/wait", query={"timeout": str(seconds)}))


def test_an_operation_may_be_looked_at_less_often_than_recorded():
    again = polls("Running", "Success")
    assert look(again) == "Running"
    again.request("GET", "/1.0/z")
    assert again.rest() == []


def test_an_operation_may_be_looked_at_more_often_than_recorded():
    again = polls("Running", "Success")
    assert [look(again, seconds) for seconds in (30, 20, 10)] == ["Running", "Success", "Success"]
    again.request("GET", "/1.0/z")


def test_looking_again_at_anything_else_is_a_mismatch():
    again = player([exchange("GET", "/1.0/a")])
    again.request("GET", "/1.0/a")
    with pytest.raises(Mismatch):
        again.request("GET", "/1.0/a")


@pytest.mark.parametrize(
    "other",
    [
        {"method": "PATCH"},
        {"path": "/1.0/y"},
        {"query": {"project": "q"}},
        {"headers": {**JSON, "If-Match": '"2"'}},
        {"body": b'{"a": 2}'},
    ],
)
def test_everything_in_a_request_counts(other):
    given = {
        "method": "PUT",
        "path": "/1.0/x",
        "query": {"project": "p"},
        "headers": {**JSON, "If-Match": '"1"'},
        "body": b'{"a": 1}',
    }
    record = request_record(**given, redactor=Redactor())
    assert same(record, request_record(**given, redactor=Redactor()))
    assert not same(request_record(**{**given, **other}, redactor=Redactor()), record)


def test_the_time_a_request_took_passes_in_the_replay():
    clock = ReplayClock([], [])
    clock.sleep(1)
    Player([{**exchange("GET", "/1.0/a"), "t_ms": 1500, "ms": 250}], clock).request("GET", "/1.0/a")
    assert clock.monotonic() == 1.75
    clock.advance(1)
    assert clock.monotonic() == 1.75


def test_a_replay_draws_what_was_drawn_and_then_the_last_time_and_zeros(clock):
    recording = RecordingClock(clock)
    drawn = [recording.time(), recording.now(), recording.random_hex(7)]
    recording.sleep(2)
    assert recording.monotonic() == clock.now_is
    again = ReplayClock(recording.times, recording.random)
    assert [again.time(), again.now(), again.random_hex(7)] == drawn
    assert (again.time(), again.random_hex(3)) == (recording.times[-1], "000")
