from __future__ import annotations

import json

import pytest

from bosh_lxd_cpi.admin import replay
from tests.support import schema

VM = "vm-01a2030b-da83-881f-9150-000000000000"
CONFIG = {
    "server": {"type": "incus", "url": "https://lxd:8443", "tls_client_cert": "***", "tls_client_key": "***"},
    "agent": {"mbus": "***"},
}


def recorded_call(**changes):
    """Return a recorded has_vm of an existing VM, with changes."""
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


def error_response(message, error_type="Bosh::Clouds::VMNotFound"):
    return {"result": None, "log": "", "error": {"type": error_type, "message": message, "ok_to_retry": False}}


def test_finds_no_difference_in_an_unchanged_call():
    outcome = replay.play(recorded_call())
    assert (outcome.response["result"], outcome.differences, outcome.notes) == (True, [], [])
    assert "1 requests" in outcome.log


def test_reports_another_result_with_a_diff():
    [difference] = replay.play(recorded_call(stdout={"result": False, "error": None, "log": ""})).differences
    assert '- "result": false' in difference and '+ "result": true' in difference


@pytest.fixture
def failed_call():
    call = recorded_call(stdin={"method": "get_disks", "arguments": [VM], "context": {}})
    body = {"type": "error", "error": "Instance not found", "error_code": 404}
    [instance] = call["interactions"]
    project = {**instance, "n": 2, "request": {**instance["request"], "path": "/1.0/projects/default"}}
    missing = {**instance, "response": {"status": 404, "headers": {}, "body": body}}
    return {**call, "interactions": [missing, project]}


def test_notes_another_wording_of_an_error(failed_call):
    outcome = replay.play({**failed_call, "stdout": error_response("another wording")})
    assert (outcome.differences, len(outcome.notes)) == ([], 1)


def test_reports_another_type_of_error(failed_call):
    stdout = error_response("another wording", "Bosh::Clouds::CloudError")
    assert len(replay.play({**failed_call, "stdout": stdout}).differences) == 1


def test_reports_a_request_that_was_not_recorded():
    [difference] = replay.play(recorded_call(interactions=[])).differences
    assert "after the end of the recording" in difference and VM in difference


def test_reports_a_recorded_request_that_was_not_sent():
    interactions = recorded_call()["interactions"] * 2
    [difference] = replay.play(recorded_call(interactions=interactions)).differences
    assert difference == f"recorded request 1 was not sent: GET /1.0/instances/{VM}"


def test_ignores_the_recorded_throttle_configuration():
    config = {**CONFIG, "throttle_config": {"enabled": True, "path": "/dev/null/nowhere"}}
    assert replay.play(recorded_call(config=config)).differences == []


@pytest.mark.parametrize(("result", "status"), [(True, 0), (False, 1)], ids=["same", "different"])
def test_program_prints_every_call_and_returns_a_status(tmp_path, capsys, result, status):
    document = {
        "format": 1,
        "recorded": {"at": "2026-01-31T10:00:00Z", "server": {"kind": "incus", "version": "6.0"}},
        "calls": [recorded_call(stdout={"result": result, "error": None, "log": ""})],
    }
    (tmp_path / "x.json").write_text(json.dumps(document), encoding="utf-8")
    assert replay.main([str(tmp_path / "x.json"), "--verbose"]) == status
    output = capsys.readouterr().out
    assert "incus 6.0" in output and "requests in" in output
    assert ("fail" if status else "ok  ") + "  has_vm, 1 request\n" in output


def test_prints_json(tmp_path, capsys):
    document = {"format": 1, "recorded": {"at": "2026-01-31T10:00:00Z", "server": {}}, "calls": [recorded_call()] * 2}
    document["calls"][1] = recorded_call(stdout={"result": False, "error": None, "log": ""})
    (tmp_path / "x.json").write_text(json.dumps(document), encoding="utf-8")
    assert replay.main([str(tmp_path / "x.json"), "--json"]) == 1
    calls = json.loads(capsys.readouterr().out)
    schema.check(calls, "replay")
    assert [(call["method"], call["status"]) for call in calls] == [("has_vm", "ok"), ("has_vm", "fail")]
    assert replay.main([str(tmp_path / "x.json"), "--quiet"]) == 1
    assert capsys.readouterr().out.startswith("fail  has_vm, 1 request\n")


def test_program_returns_2_for_a_missing_file(tmp_path, capsys):
    assert replay.main([str(tmp_path / "missing")]) == 2
    assert "cannot be read" in capsys.readouterr().err
