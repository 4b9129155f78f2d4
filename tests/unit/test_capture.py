from __future__ import annotations

import hashlib
import json
import os
import stat

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin import replay
from bosh_lxd_cpi.config.schema import Agent, Capture, Config, Server
from bosh_lxd_cpi.lxd.transport import HttpResponse
from bosh_lxd_cpi.protocol import capture, rpc

SETTINGS = Config(
    server=Server(
        url="https://lxd:8443",
        tls_client_cert="-----BEGIN CERTIFICATE-----\nMIIB\n",
        tls_client_key="the-client-key",
        project_name="prod",
    ),
    agent=Agent(mbus="nats://nats:sesame@10.0.0.6"),
)
REQUEST = rpc.Request("has_vm", ["vm-1"], {"director_uuid": "d1r", "request_id": "cpi/7", "token": "open-it"})


@pytest.fixture
def captured(tmp_path, wire, clock, log):
    """Captures a call that does `act`; answers what was written."""

    def run(act, request=REQUEST, directory=tmp_path / "captures"):
        try:
            capture.call(
                act, request, settings=SETTINGS, directory=str(directory), clock=clock, transport=wire, log=log
            )
        finally:
            written = list(directory.iterdir()) if directory.is_dir() else []
        [path] = written
        return path

    return run


def ask(clock, transport):
    return json.loads(transport.request("GET", "/1.0/instances/vm-1").body)["metadata"]


SERVER = {
    "api_extensions": ["b", "a"],
    "environment": {
        "server": "incus",
        "server_version": "6.0.4",
        "server_clustered": True,
        "storage": "zfs",
        "driver": "qemu",
        "driver_version": "10.0",
    },
}


def test_a_capture_holds_the_whole_call_and_none_of_its_secrets(captured, wire, replies):
    wire.script(("GET /1.0/instances/vm-1", replies.sync("sesame")), ("GET /1.0", replies.sync(SERVER)))
    path = captured(ask)
    text = path.read_text(encoding="utf-8")
    document = json.loads(text)
    [call] = document["calls"]
    assert [secret for secret in ("sesame", "open-it", "the-client-key", "MIIB") if secret in text] == []
    assert call["stdin"] == {
        "method": "has_vm",
        "arguments": ["vm-1"],
        "context": {**REQUEST.context, "token": "*******"},
    }
    assert call["stdout"] == {"result": "******", "error": None, "log": ""}
    assert call["config"]["server"]["project_name"] == "prod"
    assert len(call["interactions"]) == 1, "the look at the server is none of the call's"
    assert document["recorded"]["at"] == call["at"] == "2026-01-31T10:00:00Z"
    assert document["recorded"]["server"] == {
        "kind": "incus",
        "version": "6.0.4",
        "api_extensions": 2,
        "clustered": True,
        "storage_driver": "zfs",
        "instance_driver": "qemu 10.0",
        "api_extensions_sha256": hashlib.sha256(b"a\nb").hexdigest(),
    }


def test_a_capture_is_one_file_for_its_owner_only(captured, wire, replies):
    wire.script(("GET /1.0/instances/vm-1", replies.sync()), ("GET /1.0", replies.sync(SERVER)))
    path = captured(ask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.name.startswith("20260131T100000Z-has_vm-cpi-7-") and path.suffix == ".json"


def test_a_server_that_was_asked_what_it_is_is_not_asked_again(captured, wire, replies):
    wire.script(("GET /1.0", replies.sync(SERVER)))
    path = captured(lambda clock, transport: transport.request("GET", "/1.0") and None)
    assert json.loads(path.read_text(encoding="utf-8"))["recorded"]["server"]["kind"] == "incus"


def test_a_server_that_gave_no_answer_is_not_asked_what_it_is(captured, wire):
    wire.script(("GET /1.0/instances/vm-1", errors.Unreachable("no connection")))
    with pytest.raises(errors.Unreachable):
        captured(ask)
    assert wire.lines == ["GET /1.0/instances/vm-1"]


def test_a_failed_call_is_captured_with_its_error(tmp_path, wire, clock, log):
    def fail(clock, transport):
        raise errors.VMNotFound("there is no VM vm-1")

    with pytest.raises(errors.VMNotFound):
        capture.call(fail, REQUEST, settings=SETTINGS, directory=str(tmp_path), clock=clock, transport=wire, log=log)
    [path] = tmp_path.iterdir()
    [call] = json.loads(path.read_text(encoding="utf-8"))["calls"]
    assert call["stdout"]["error"]["type"] == "Bosh::Clouds::VMNotFound"


@pytest.mark.parametrize("directory", ["/dev/null/captures", "\0"])
def test_a_capture_that_cannot_be_written_is_only_warned_about(directory, wire, clock, log, replies):
    wire.script(("GET /1.0/instances/vm-1", replies.sync("here")), ("GET /1.0", replies.sync(SERVER)))
    assert (
        capture.call(ask, REQUEST, settings=SETTINGS, directory=directory, clock=clock, transport=wire, log=log)
        == "here"
    )
    assert "no capture of this call" in log.stream.getvalue()


def test_a_capture_that_fails_half_way_leaves_no_file(tmp_path, wire, clock, log, replies, monkeypatch):
    wire.script(("GET /1.0/instances/vm-1", replies.sync("here")), ("GET /1.0", replies.sync(SERVER)))

    def full(source, target):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert (
        capture.call(ask, REQUEST, settings=SETTINGS, directory=str(tmp_path), clock=clock, transport=wire, log=log)
        == "here"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_gone_by_then_is_captured_without_its_name(tmp_path, wire, clock, log, replies):
    wire.script(("GET /1.0/instances/vm-1", replies.sync("here")), ("GET /1.0", errors.NoResponse("gone")))
    assert (
        capture.call(ask, REQUEST, settings=SETTINGS, directory=str(tmp_path), clock=clock, transport=wire, log=log)
        == "here"
    )
    [file] = tmp_path.iterdir()
    assert json.loads(file.read_text("utf-8"))["recorded"]["server"] == {}


def test_a_configuration_is_captured_as_far_as_it_says_something_and_without_certificates():
    settings = SETTINGS._replace(keep_failed_vms=True, capture=Capture("/tmp"))
    server = {"url": "https://lxd:8443", "tls_client_cert": "***", "tls_client_key": "***", "project_name": "prod"}
    assert capture.tree(settings) == {"server": server, "agent": {"mbus": SETTINGS.agent.mbus}, "keep_failed_vms": True}


def test_a_list_of_texts_takes_one_line():
    document = {"a": ["x", 'y "z"', "[]"], "b": [{"c": ["d"]}], "e": [1, 2], "f": ['",\n  "']}
    written = capture.text(document)
    assert json.loads(written) == document
    assert '"c": ["d"]' in written


def test_a_captured_call_can_be_played_back(captured, wire, replies):
    from bosh_lxd_cpi.actions import vms
    from bosh_lxd_cpi.actions.context import Context
    from bosh_lxd_cpi.lxd.client import Client
    from bosh_lxd_cpi.runtime.clock import Deadline
    from bosh_lxd_cpi.runtime.log import Log

    def act(clock, transport):
        log = Log("test", level="error")
        client = Client(transport, project="prod", deadline=Deadline(clock, 60), log=log)
        return vms.has_vm(Context(config=SETTINGS, client=client, clock=clock, log=log, director="d1r"), "vm-1")

    wire.script(("GET /1.0/instances/vm-1", replies.sync({"name": "vm-1"})), ("GET /1.0", replies.sync(SERVER)))
    path = captured(act, rpc.Request("has_vm", ["vm-1"], {}))
    assert replay.play(replay.load(path)["calls"][0]).faults == []


def test_what_cannot_be_made_sense_of_costs_only_the_capture(tmp_path, wire, clock, log):
    deep = request = []
    for _ in range(5000):
        deep.append([])
        deep = deep[0]
    wire.script(("GET /1.0/instances/vm-1", HttpResponse(200, {}, b'{"metadata": "here", "x": ' + b"[" * 99999 + b"}")))

    def act(clock, transport):
        return transport.request("GET", "/1.0/instances/vm-1") and "here"

    assert (
        capture.call(
            act,
            rpc.Request("has_vm", request, {}),
            settings=SETTINGS,
            directory=str(tmp_path),
            clock=clock,
            transport=wire,
            log=log,
        )
        == "here"
    )
    assert "no capture of this call: RecursionError" in log.stream.getvalue()
    assert list(tmp_path.iterdir()) == []
