from __future__ import annotations

import hashlib

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.lxd.transport import HttpResponse
from bosh_lxd_cpi.recording.recorder import Recorder, RecordingClock, request_record
from bosh_lxd_cpi.recording.redaction import Redactor

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def recorder(wire, clock):
    return Recorder(wire, clock)


def interactions(recorder):
    return recorder.interactions(Redactor(secrets=["sesame"]))


def test_records_request_response_and_times(recorder, wire, responses, clock):
    response = HttpResponse(200, {"ETag": '"1"', "Date": "today"}, responses.sync({"a": 1}).body)
    wire.script(("PUT /1.0/x", lambda: clock.sleep(0.25) or response))
    clock.sleep(1)
    headers = {**JSON, "If-Match": '"0"', "User-Agent": "cpi"}
    content = b'{"say": "sesame", "n": [1]}'
    assert recorder.request("PUT", "/1.0/x", query={"project": "p"}, headers=headers, body=content) is response
    [interaction] = interactions(recorder)
    assert (interaction["n"], interaction["t_ms"], interaction["ms"], recorder.requests) == (1, 1000, 250, 1)
    assert interaction["request"] == {
        "method": "PUT",
        "path": "/1.0/x",
        "query": {"project": "p"},
        "headers": {**JSON, "If-Match": '"0"'},
        "body": {"say": "******", "n": [1]},
    }
    assert interaction["response"]["headers"] == {"ETag": '"1"'}
    assert interaction["response"]["body"]["metadata"] == {"a": 1}


def test_records_length_and_redacted_hash_of_bytes(recorder, wire, responses):
    wire.script(("POST /1.0/x", responses.sync()))
    recorder.request("POST", "/1.0/x", body=b"abc sesame")
    [interaction] = interactions(recorder)
    assert interaction["request"]["body"] == {"length": 10, "sha256": hashlib.sha256(b"abc ******").hexdigest()}


def test_records_no_hash_of_a_fat_drive_with_secrets(recorder, wire, responses):
    wire.script(("POST /1.0/x", responses.sync()), ("POST /1.0/x", responses.sync()))
    recorder.request("POST", "/1.0/x", body=b"FAT12   sesame")
    recorder.request("POST", "/1.0/x", body=b"FAT12   public")
    first, second = (interaction["request"]["body"] for interaction in interactions(recorder))
    assert first == {"length": 14}
    assert second == {"length": 14, "sha256": hashlib.sha256(b"FAT12   public").hexdigest()}


def test_forwards_and_hashes_a_stream(recorder, wire, responses):
    wire.script(("POST /1.0/images", responses.sync()))
    recorder.request("POST", "/1.0/images", body=iter([b"abc", b"def"]))
    assert wire.request_to("POST /1.0/images").body == b"abcdef"
    [interaction] = interactions(recorder)
    assert interaction["request"]["body"] == {"length": 6, "sha256": hashlib.sha256(b"abcdef").hexdigest()}


def test_marks_a_stream_that_fails_as_incomplete(recorder, wire):
    def content_error():
        yield b"abc"
        raise errors.InvalidStemcell("unexpected end of the tarball")

    with pytest.raises(errors.InvalidStemcell):
        recorder.request("POST", "/1.0/images", body=content_error())
    [interaction] = interactions(recorder)
    assert interaction["request"]["body"]["complete"] is False


def test_records_other_responses_as_text(recorder, wire):
    wire.script(("GET /1.0", HttpResponse(502, {}, b"<html>sesame")))
    recorder.request("GET", "/1.0")
    assert interactions(recorder)[0]["response"] == {"status": 502, "headers": {}, "text": "<html>******"}


def test_records_errors_with_code_and_fields(recorder, wire):
    error = errors.NoResponse("no response, sesame", detail="d", code="unreachable", url="https://lxd:8443")
    wire.script(("GET /1.0", error))
    with pytest.raises(errors.NoResponse, match="sesame"):
        recorder.request("GET", "/1.0")
    assert interactions(recorder)[0]["error"] == {
        "type": "NoResponse",
        "brief": "no response, ******",
        "detail": "d",
        "code": "unreachable",
        "fields": {"url": "https://lxd:8443"},
    }


def test_hides_private_values_of_the_server_only_in_responses(recorder, wire, responses):
    wire.script(("PUT /1.0/x", responses.sync({"server_name": "anvil"})))
    recorder.request("PUT", "/1.0/x", headers=JSON, body=b'{"server_name": "anvil"}')
    [interaction] = interactions(recorder)
    assert interaction["request"]["body"] == {"server_name": "anvil"}
    assert interaction["response"]["body"]["metadata"] == {"server_name": "*****"}


def test_request_record_keeps_relevant_headers_only():
    headers = {"User-Agent": "cpi", "X-LXD-type": "iso", "x-incus-name": "a", "If-Match": "b", "Accept": "c"}
    record = request_record("POST", "/1.0/x", query=None, headers=headers, body=None, redactor=Redactor())
    relevant = {"X-LXD-type": "iso", "x-incus-name": "a", "If-Match": "b"}
    assert record == {"method": "POST", "path": "/1.0/x", "query": {}, "headers": relevant}


def test_clock_records_times_and_random_numbers(clock):
    recording = RecordingClock(clock)
    values = [recording.time(), recording.random_hex(7), recording.time()]
    recording.sleep(2)
    assert recording.monotonic() == clock.monotonic()
    assert (recording.times, recording.random) == ([values[0], values[2]], [values[1]])
