from __future__ import annotations

import fcntl
import importlib
import inspect
import io
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.model import naming
from bosh_lxd_cpi.protocol import dispatch, methods, rpc
from bosh_lxd_cpi.protocol.methods import METHODS
from bosh_lxd_cpi.protocol.rpc import Request
from bosh_lxd_cpi.runtime import signals, throttle

OFFLINE = {"info", "ping", "calculate_vm_cloud_properties"}
DIRECTORS = {
    "info",
    "create_stemcell",
    "delete_stemcell",
    "create_vm",
    "delete_vm",
    "has_vm",
    "reboot_vm",
    "set_vm_metadata",
    "set_disk_metadata",
    "calculate_vm_cloud_properties",
    "create_disk",
    "delete_disk",
    "has_disk",
    "attach_disk",
    "detach_disk",
    "get_disks",
    "snapshot_disk",
    "delete_snapshot",
    "resize_disk",
    "update_disk",
    "ping",
}
"""All methods that a director may call (docs/development/bosh-contract.md §1.4)."""


@pytest.fixture
def call(tmp_path: Path, clock, wire, log) -> Callable[..., Any]:
    """Serves a method with the scripted server; `changed` are sections of the configuration."""

    def call(
        method: str, *arguments: Any, context: dict[str, Any] | None = None, changed: dict[str, Any] | None = None
    ) -> Any:
        tree = {
            "server": {"url": "unix:///run/lxd", "project_name": "prod"},
            "agent": {"mbus": "nats://u:sesame@h"},
            "throttle_config": {"path": str(tmp_path / "locks")},
            **(changed or {}),
        }
        (tmp_path / "cpi.json").write_text(json.dumps(tree), encoding="utf-8")
        request = Request(method, list(arguments), {"request_id": "cpi-7", "director_uuid": "d", **(context or {})})
        return dispatch.call(
            request, config_path=str(tmp_path / "cpi.json"), environ={}, log=log, clock=clock, transport=wire
        )

    return call


def test_table_has_every_method_of_a_director():
    assert METHODS.keys() | OFFLINE == DIRECTORS


@pytest.mark.parametrize("name", METHODS)
def test_actions_take_the_arguments_of_the_table(name):
    module, _, function = METHODS[name].action.partition(".")
    action = getattr(importlib.import_module(f"bosh_lxd_cpi.actions.{module}"), function)
    context, *parameters = inspect.signature(action).parameters.values()
    needed = [parameter for parameter in parameters if parameter.default is parameter.empty]
    assert context.name == "context"
    assert (len(needed), len(parameters)) == (METHODS[name].min_arguments, METHODS[name].max_arguments)


@pytest.mark.parametrize("name", METHODS)
def test_rejects_a_wrong_number_of_arguments(call, name):
    for count in {METHODS[name].min_arguments - 1, METHODS[name].max_arguments + 1} - {-1}:
        with pytest.raises(errors.BadRequest, match=f"^{name} takes .* arguments, not {count}$"):
            call(name, *["x"] * count)


@pytest.mark.parametrize(
    "name", ["create_network", "delete_network", "current_vm_id", "configure_networks", "__init__", "x" * 1000]
)
def test_unknown_method_is_not_implemented(call, name):
    with pytest.raises(errors.MethodNotImplemented, match=r"^this CPI has no method ") as raised:
        call(name)
    assert len(raised.value.brief) < 100


class InterruptedStream(io.StringIO):
    """Sends a signal when the last line of a call is written."""

    def write(self, text: str) -> int:
        if "requests in" in text:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().write(text)


def test_signal_after_the_result_does_not_hide_it(call, wire, responses, log):
    wire.script(("POST /1.0/storage-pools/default/volumes/custom", responses.sync()))
    log._stream = InterruptedStream()
    with signals.interruptible():
        assert call("create_disk", 16, {}).startswith("vol-p-")


def test_ping_needs_no_server(call):
    assert call("ping") == "pong"


def test_info_has_api_version_2_and_both_formats(call):
    assert call("info") == {"stemcell_formats": ["openstack-qcow2", "openstack-raw"], "api_version": 2}


@pytest.mark.parametrize(
    "wanted",
    [
        {"cpu": 2, "ram": 512, "ephemeral_disk_size": 1024},
        {"cpu": 0, "ram": 0, "ephemeral_disk_size": 0},
        {"cpu": 2, "ram": 512, "ephemeral_disk_size": 1024, "new": "key"},
    ],
)
def test_calculates_the_requested_numbers(call, wanted):
    assert call("calculate_vm_cloud_properties", wanted) == {
        "cpu": wanted["cpu"],
        "ram": wanted["ram"],
        "ephemeral_disk": wanted["ephemeral_disk_size"],
    }


@pytest.mark.parametrize("key", ["cpu", "ram", "ephemeral_disk_size"])
@pytest.mark.parametrize("value", [None, -1, 1.5, "2", True, [], {}])
def test_calculation_rejects_invalid_numbers(call, key, value):
    with pytest.raises(errors.BadRequest, match="needs whole numbers for cpu, ram, ephemeral_disk_size"):
        call("calculate_vm_cloud_properties", {"cpu": 2, "ram": 512, "ephemeral_disk_size": 1024, key: value})


@pytest.mark.parametrize("wanted", [None, [], "x", {}, {"cpu": 1, "ram": 1}])
def test_calculation_rejects_invalid_requirements(call, wanted):
    with pytest.raises(errors.BadRequest):
        call("calculate_vm_cloud_properties", wanted)


def test_calculated_properties_are_valid(call):
    from bosh_lxd_cpi.guest.cloud_properties import parse_vm_properties

    calculated = call("calculate_vm_cloud_properties", {"cpu": 2, "ram": 512, "ephemeral_disk_size": 1024})
    assert parse_vm_properties(calculated).limits() == {"limits.cpu": "2", "limits.memory": "512MiB"}


def test_uses_the_configured_project(call, wire, responses, log):
    wire.script(("GET /1.0/instances/vm-1", responses.sync({"name": "vm-1"})))
    assert call("has_vm", "vm-1") is True
    assert wire.request_to("GET /1.0/instances/vm-1").query == {"project": "prod"}
    assert "1 requests in 0.00 s" in log.stream.getvalue()


def test_context_overrides_the_configuration(call, wire, responses):
    wire.script(("GET /1.0/instances/vm-1", responses.sync({"name": "vm-1"})))
    call("has_vm", "vm-1", context={"project": "other"})
    assert wire.request_to("GET /1.0/instances/vm-1").query == {"project": "other"}


def test_rejects_an_unknown_context_property(call):
    with pytest.raises(errors.ConfigError, match=r"unknown property server.projekt"):
        call("has_vm", "vm-1", context={"projekt": "other"})


def test_logs_the_number_of_requests_of_a_failed_call(call, wire, responses, log):
    wire.script(("GET /1.0/instances/vm-1", responses.error("odd", 400)))
    with pytest.raises(errors.ServerError):
        call("has_vm", "vm-1")
    assert "1 requests in" in log.stream.getvalue()


def test_ends_at_the_deadline_of_the_method(call, wire, clock, responses):
    wire.script(("GET /1.0/instances/vm-1", lambda: clock.sleep(600) or responses.error("Instance not found", 404)))
    with pytest.raises(errors.DeadlineExceeded, match=r"^delete_vm did not finish within 600 seconds$"):
        call("delete_vm", "vm-1")


def test_hides_secrets_of_request_and_configuration(call, log):
    with pytest.raises(errors.BadRequest):
        call("set_vm_metadata", "vm-1", [{"password": "hunter22"}], context={"client_key": "KEYKEY"})
    assert log.redact("hunter22 KEYKEY sesame nats://u:sesame@h") == "<redacted> <redacted> <redacted> <redacted>"


def test_uses_the_configured_log_level(call, wire, responses, log):
    wire.script(("GET /1.0/instances/vm-1", responses.sync({"name": "vm-1"})))
    call("has_vm", "vm-1", changed={"log_level": "error"})
    assert log.stream.getvalue() == ""


def test_warns_about_unknown_properties(call, wire, responses, log):
    wire.script(("GET /1.0/instances/vm-1", responses.sync({"name": "vm-1"})))
    call("has_vm", "vm-1", changed={"throtle_config": {}})
    assert "unknown property throtle_config (did you mean throttle_config?)" in log.stream.getvalue()


@pytest.mark.parametrize(
    "enabled, name, held",
    [(True, "delete_disk", ["delete_disk cpi-7"]), (False, "delete_disk", []), (True, "has_disk", [])],
)
def test_holds_a_slot_during_a_throttled_call(call, wire, responses, tmp_path, enabled, name, held):
    seen = []

    def look() -> Any:
        seen.extend(holder.label for holder in throttle.holders(str(tmp_path / "locks")))
        return responses.sync({"config": {}})

    wire.script(
        (f"{'DELETE' if name == 'delete_disk' else 'GET'} /1.0/storage-pools/default/volumes/custom/vol-p-1", look)
    )
    call(
        name, "vol-p-1", changed={"throttle_config": {"enabled": enabled, "path": str(tmp_path / "locks"), "limit": 1}}
    )
    assert seen == held
    assert throttle.holders(str(tmp_path / "locks")) == []


@pytest.mark.parametrize(
    "name, arguments, error",
    [
        ("delete_disk", ["vol-p-1"], errors.ThrottleTimeout),
        ("create_vm", ["a", "img-1", {}, {}], errors.VMCreationFailed),
    ],
)
def test_sends_nothing_without_a_slot(call, tmp_path, real_time, name, arguments, error):
    Path(tmp_path / "locks").mkdir(parents=True)
    with Path(tmp_path / "locks" / "slot-00").open("w", encoding="utf-8") as slot:
        fcntl.flock(slot, fcntl.LOCK_EX)
        with pytest.raises(error, match="no throttle slot became free") as raised:
            call(
                name,
                *arguments,
                changed={
                    "throttle_config": {"enabled": True, "path": str(tmp_path / "locks"), "limit": 1, "wait": "1ms"}
                },
            )
    assert raised.value.ok_to_retry is (name == "create_vm")


def test_deadlines_and_throttled_methods():
    assert METHODS["create_stemcell"].deadline == 3600 and METHODS["has_vm"].deadline == 300
    assert {name for name, method in METHODS.items() if not method.throttled} == {
        "has_vm",
        "has_disk",
        "get_disks",
        "set_vm_metadata",
        "set_disk_metadata",
    }


@pytest.mark.parametrize(
    "method, result, reverse, cid",
    [
        ("create_vm", ["vm-1", {"net": {}}], "delete_vm", "vm-1"),
        ("create_disk", "vol-p-1", "delete_disk", "vol-p-1"),
        ("create_stemcell", "img-1", "delete_stemcell", "img-1"),
        ("snapshot_disk", "vol-p-1_snap-1", "delete_snapshot", "vol-p-1_snap-1"),
    ],
)
def test_reverse_deletes_what_a_method_created(method, result, reverse, cid):
    request = json.dumps({"method": method, "arguments": [1, 2], "context": {"director_uuid": "d"}}).encode()
    assert json.loads(methods.reverse(request, rpc.success(result), started=0)) == {
        "method": reverse,
        "arguments": [cid],
        "context": {"director_uuid": "d"},
    }
    assert methods.reverse(request, rpc.failure(errors.CloudError("no")), started=0) == b""


@pytest.mark.parametrize("age, is_kept", [(-0.5, False), (0.0, False), (0.5, True)])
def test_reverse_keeps_a_stemcell_that_is_older_than_the_call(clock, age, is_kept):
    cid = naming.stemcell_cid(naming.new_id(clock, "d1r"))
    response = rpc.success(cid)
    assert (methods.reverse(b'{"method": "create_stemcell"}', response, started=clock.time() + age) == b"") is is_kept


@pytest.mark.parametrize(
    "request_, result",
    [(b'{"method": "has_vm", "arguments": []}', True), (b'{"method": "get_disks"}', ["vol-p-1"]), (b"{", None)],
)
def test_other_methods_have_no_reverse(request_, result):
    assert methods.reverse(request_, rpc.success(result), started=0) == b""
