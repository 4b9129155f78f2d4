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
from bosh_lxd_cpi.recording.document import load

CONFIG = Config(
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
    """Return a function that captures a call and returns the path of the file."""

    def run(act, request=REQUEST, directory=tmp_path / "captures"):
        try:
            capture.call(act, request, config=CONFIG, directory=str(directory), clock=clock, transport=wire, log=log)
        finally:
            written = list(directory.iterdir()) if directory.is_dir() else []
        [path] = written
        return path

    return run


def get_vm(clock, transport):
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


def test_contains_the_whole_call_without_secrets(captured, wire, responses):
    wire.script(("GET /1.0/instances/vm-1", responses.sync("sesame")), ("GET /1.0", responses.sync(SERVER)))
    path = captured(get_vm)
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
    assert len(call["interactions"]) == 1, "the request for the server's version does not belong to the call"
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


def test_writes_one_file_that_only_the_owner_can_read(captured, wire, responses):
    wire.script(("GET /1.0/instances/vm-1", responses.sync()), ("GET /1.0", responses.sync(SERVER)))
    path = captured(get_vm)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.name.startswith("20260131T100000Z-has_vm-cpi-7-") and path.suffix == ".json"


def test_takes_the_server_from_a_recorded_response(captured, wire, responses):
    wire.script(("GET /1.0", responses.sync(SERVER)))
    path = captured(lambda clock, transport: transport.request("GET", "/1.0") and None)
    assert json.loads(path.read_text(encoding="utf-8"))["recorded"]["server"]["kind"] == "incus"


def test_sends_no_request_to_an_unreachable_server(captured, wire):
    wire.script(("GET /1.0/instances/vm-1", errors.Unreachable("no connection")))
    with pytest.raises(errors.Unreachable):
        captured(get_vm)
    assert wire.lines == ["GET /1.0/instances/vm-1"]


def test_contains_the_error_of_a_failed_call(tmp_path, wire, clock, log):
    def fail(clock, transport):
        raise errors.VMNotFound("no VM vm-1")

    with pytest.raises(errors.VMNotFound):
        capture.call(fail, REQUEST, config=CONFIG, directory=str(tmp_path), clock=clock, transport=wire, log=log)
    [path] = tmp_path.iterdir()
    [call] = json.loads(path.read_text(encoding="utf-8"))["calls"]
    assert call["stdout"]["error"]["type"] == "Bosh::Clouds::VMNotFound"


def test_redacts_a_long_error_before_it_is_cut(tmp_path, wire, clock, log):
    def fail(clock, transport):
        raise errors.CloudError("x" * 996 + "sesame" + "y" * 2000)

    arguments = {"config": CONFIG, "directory": str(tmp_path / "captures"), "clock": clock, "transport": wire}
    with pytest.raises(errors.CloudError):
        capture.call(fail, REQUEST, **arguments, log=log)
    [path] = (tmp_path / "captures").iterdir()
    message = load(path)["calls"][0]["stdout"]["error"]["message"]
    assert "x**** ... y" in message


@pytest.mark.parametrize("directory", ["/dev/null/captures", "\0"], ids=["not-a-directory", "invalid"])
def test_warns_when_the_capture_cannot_be_written(directory, wire, clock, log, responses):
    wire.script(("GET /1.0/instances/vm-1", responses.sync("here")), ("GET /1.0", responses.sync(SERVER)))
    assert (
        capture.call(get_vm, REQUEST, config=CONFIG, directory=directory, clock=clock, transport=wire, log=log)
        == "here"
    )
    assert "cannot write a capture of this call" in log.stream.getvalue()


def test_leaves_no_file_when_writing_fails(tmp_path, wire, clock, log, responses, monkeypatch):
    wire.script(("GET /1.0/instances/vm-1", responses.sync("here")), ("GET /1.0", responses.sync(SERVER)))

    def full(source, target):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert (
        capture.call(get_vm, REQUEST, config=CONFIG, directory=str(tmp_path), clock=clock, transport=wire, log=log)
        == "here"
    )
    assert list(tmp_path.iterdir()) == []


def test_omits_the_server_when_it_does_not_respond(tmp_path, wire, clock, log, responses):
    wire.script(("GET /1.0/instances/vm-1", responses.sync("here")), ("GET /1.0", errors.NoResponse("no response")))
    assert (
        capture.call(get_vm, REQUEST, config=CONFIG, directory=str(tmp_path), clock=clock, transport=wire, log=log)
        == "here"
    )
    [file] = tmp_path.iterdir()
    assert json.loads(file.read_text("utf-8"))["recorded"]["server"] == {}


def test_contains_changed_properties_without_certificates():
    config = CONFIG._replace(keep_failed_vms=True, capture=Capture("/tmp"))
    server = {"url": "https://lxd:8443", "tls_client_cert": "***", "tls_client_key": "***", "project_name": "prod"}
    assert capture.config_document(config) == {
        "server": server,
        "agent": {"mbus": CONFIG.agent.mbus},
        "keep_failed_vms": True,
    }


def test_can_be_replayed(captured, wire, responses):
    from bosh_lxd_cpi.actions import vms
    from bosh_lxd_cpi.actions.context import Context
    from bosh_lxd_cpi.lxd.client import Client
    from bosh_lxd_cpi.runtime.clock import Deadline
    from bosh_lxd_cpi.runtime.log import Log

    def act(clock, transport):
        log = Log("test", level="error")
        client = Client(transport, project="prod", deadline=Deadline(clock, 60), log=log)
        return vms.has_vm(Context(config=CONFIG, client=client, clock=clock, log=log, director="d1r"), "vm-1")

    wire.script(("GET /1.0/instances/vm-1", responses.sync({"name": "vm-1"})), ("GET /1.0", responses.sync(SERVER)))
    path = captured(act, rpc.Request("has_vm", ["vm-1"], {}))
    assert replay.play(load(path)["calls"][0]).differences == []


def test_warns_when_the_call_cannot_be_serialized(tmp_path, wire, clock, log):
    innermost = arguments = []
    for _ in range(5000):
        innermost.append([])
        innermost = innermost[0]
    wire.script(("GET /1.0/instances/vm-1", HttpResponse(200, {}, b'{"metadata": "here", "x": ' + b"[" * 99999 + b"}")))

    def act(clock, transport):
        return transport.request("GET", "/1.0/instances/vm-1") and "here"

    assert (
        capture.call(
            act,
            rpc.Request("has_vm", arguments, {}),
            config=CONFIG,
            directory=str(tmp_path),
            clock=clock,
            transport=wire,
            log=log,
        )
        == "here"
    )
    assert "cannot write a capture of this call: RecursionError" in log.stream.getvalue()
    assert list(tmp_path.iterdir()) == []
