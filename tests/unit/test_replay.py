from __future__ import annotations

import json

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin import replay

VM = "vm-01a2030b-da83-881f-9150-000000000000"
CONFIG = {
    "server": {"type": "incus", "url": "https://lxd:8443", "tls_client_cert": "***", "tls_client_key": "***"},
    "agent": {"mbus": "***"},
}


def call(**changes):
    """A has_vm of a VM that is there."""
    response = {"status": 200, "headers": {}, "body": {"type": "sync", "metadata": {"name": VM}}}
    request = {"method": "GET", "path": f"/1.0/instances/{VM}", "query": {"project": "default"}, "headers": {}}
    return {
        "config": CONFIG,
        "stdin": {"method": "has_vm", "arguments": [VM], "context": {}},
        "stdout": {"result": True, "error": None, "log": ""},
        "clock": {"times": [], "random": []},
        "interactions": [{"n": 1, "t_ms": 0, "ms": 1, "request": request, "response": response}],
        **changes,
    }


def refused(text, error="Bosh::Clouds::VMNotFound"):
    return {"result": None, "log": "", "error": {"type": error, "message": text, "ok_to_retry": False}}


def test_a_call_that_does_what_was_recorded_has_no_faults():
    outcome = replay.play(call())
    assert (outcome.answer["result"], outcome.faults, outcome.notes) == (True, [], [])
    assert "1 requests" in outcome.log


def test_another_answer_is_a_fault_with_a_diff():
    [fault] = replay.play(call(stdout={"result": False, "error": None, "log": ""})).faults
    assert '- "result": false' in fault and '+ "result": true' in fault


def test_other_words_in_an_error_are_only_noted_another_type_is_a_fault():
    gone = call(stdin={"method": "get_disks", "arguments": [VM], "context": {}})
    body = {"type": "error", "error": "Instance not found", "error_code": 404}
    gone["interactions"][0]["response"] = {"status": 404, "headers": {}, "body": body}
    outcome = replay.play({**gone, "stdout": refused("other words")})
    assert (outcome.faults, len(outcome.notes)) == ([], 1)
    assert len(replay.play({**gone, "stdout": refused("other words", "Bosh::Clouds::CloudError")}).faults) == 1


def test_a_request_that_was_not_recorded_is_a_fault():
    [fault] = replay.play(call(interactions=[])).faults
    assert "after the end of the recording" in fault and VM in fault


def test_what_is_left_of_the_recording_is_a_fault():
    again = call()["interactions"] * 2
    [fault] = replay.play(call(interactions=again)).faults
    assert fault == f"recorded as 1, and not asked for: GET /1.0/instances/{VM}"


def test_the_throttle_of_the_recording_is_left_out():
    config = {**CONFIG, "throttle_config": {"enabled": True, "path": "/dev/null/nowhere"}}
    assert replay.play(call(config=config)).faults == []


def test_a_file_that_is_no_capture_is_refused(tmp_path):
    for content in ("{", "[]", '{"format": 2, "calls": []}'):
        (tmp_path / "x").write_text(content, encoding="utf-8")
        with pytest.raises(errors.ConfigError):
            replay.load(tmp_path / "x")


@pytest.mark.parametrize(("result", "status"), [(True, 0), (False, 1)])
def test_the_program_shows_every_call_and_tells_by_its_status(tmp_path, capsys, result, status):
    document = {
        "format": 1,
        "recorded": {"at": "2026-01-31T10:00:00Z", "server": {"kind": "incus", "version": "6.0"}},
        "calls": [call(stdout={"result": result, "error": None, "log": ""})],
    }
    (tmp_path / "x.json").write_text(json.dumps(document), encoding="utf-8")
    assert replay.main([str(tmp_path / "x.json"), "--log"]) == status
    shown = capsys.readouterr().out
    assert "incus 6.0" in shown and "requests in" in shown
    assert ("FAIL" if status else "ok  ") + "  has_vm, 1 exchanges" in shown


def test_the_program_says_what_it_cannot_read(tmp_path, capsys):
    assert replay.main([str(tmp_path / "nothing")]) == 2
    assert "cannot be read" in capsys.readouterr().out
