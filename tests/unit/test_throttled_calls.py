"""What BOSH is told when no throttle slot becomes free."""

from __future__ import annotations

import contextlib
import json
import types

import pytest

from bosh_lxd_cpi.actions import disks
from bosh_lxd_cpi.config import schema
from bosh_lxd_cpi.config.schema import Config, ThrottleConfig
from bosh_lxd_cpi.protocol import cli, dispatch, methods, rpc
from bosh_lxd_cpi.runtime import throttle


def call(tmp_path, method, *arguments):
    slots = tmp_path / "slots"
    config = {
        "server": {"url": "unix:///nowhere"},
        "agent": {"mbus": "m"},
        "throttle_config": {"enabled": True, "path": str(slots), "limit": 1, "wait": "50ms"},
    }
    file = tmp_path / "cpi.json"
    file.write_text(json.dumps(config), encoding="utf-8")
    request = {"method": method, "arguments": list(arguments), "context": {"request_id": "cpi-2"}}
    holder = throttle.Settings(True, str(slots), 1, 0, 0)
    with throttle.slot(holder, label="delete_vm cpi-1", log=print):
        return json.loads(cli.respond(json.dumps(request).encode(), ["--config", str(file)], {}))["error"]


@pytest.mark.usefixtures("real_time")
@pytest.mark.parametrize(
    ("method", "arguments", "kind", "retry"),
    [
        ("create_vm", ["a", "img-1", {}, {}], "Bosh::Clouds::VMCreationFailed", True),
        ("delete_vm", ["vm-1"], "Bosh::Clouds::CloudError", False),
    ],
)
def test_throttle_timeout_names_the_holder(tmp_path, method, arguments, kind, retry):
    error = call(tmp_path, method, *arguments)
    assert (error["type"], error["ok_to_retry"]) == (kind, retry)
    assert "delete_vm cpi-1" in error["message"]


def test_wait_for_a_slot_does_not_use_up_the_deadline(clock, log, monkeypatch):
    """Here it takes longer than the call may."""
    seen = []

    @contextlib.contextmanager
    def slot(*_, **__):
        clock.sleep(3600)
        yield

    monkeypatch.setattr(throttle, "slot", slot)
    monkeypatch.setattr(disks, "detach_disk", lambda context, *_: seen.append(context.client.deadline.remaining()))
    settings = Config(throttle_config=ThrottleConfig(enabled=True))
    method = methods.METHODS["detach_disk"]
    transport = types.SimpleNamespace(requests=0)
    monkeypatch.setattr(schema, "load", lambda *_, **__: settings)
    dispatch.call(
        rpc.Request("detach_disk", ["vm-1", "vol-p-1"], {}),
        config_path="x",
        environ={},
        log=log,
        clock=clock,
        transport=transport,
    )
    assert seen == [method.deadline]
