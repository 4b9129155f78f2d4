"""Storage volumes: responses that no test server gives on demand."""

from __future__ import annotations

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import volumes
from bosh_lxd_cpi.lxd.features import features
from bosh_lxd_cpi.lxd.resources import Server

VOLUMES = "/1.0/storage-pools/fast/volumes/custom"
WAIT = "GET /1.0/operations/op-1/wait"
FEATURES = features(
    Server(
        {
            "auth": "trusted",
            "api_extensions": ["custom_volume_iso"],
            "environment": {"server": "incus", "server_version": "6.0"},
        },
        endpoint="GET /1.0",
    )
)


def test_create_volume_sends_target_and_size(context, wire, responses):
    wire.script((f"POST {VOLUMES}", responses.sync()))
    volumes.create_volume(context(), "fast", "v", size=64, config={"a": "b"}, target="m1")
    request = wire.request_to(f"POST {VOLUMES}")
    assert request.query["target"] == "m1"
    assert request.body == {
        "name": "v",
        "type": "custom",
        "content_type": "block",
        "description": "made by BOSH",
        "config": {"a": "b", "size": "64MiB"},
    }


def test_create_volume_raises_an_unknown_operation(context, wire, responses):
    wire.script((f"POST {VOLUMES}", responses.asynchronous()), (WAIT, responses.error("Operation not found", 404)))
    with pytest.raises(errors.OperationNotFound):
        volumes.create_volume(context(), "fast", "v", size=64, config={})


@pytest.mark.parametrize("exists", [True, False], ids=["empty volume", "no volume"])
def test_import_drive_starts_over_when_the_response_is_lost(context, wire, responses, exists):
    """A server that is killed during an import keeps an empty volume."""
    wire.script(
        (f"POST {VOLUMES}", errors.NoResponse("reset")),
        ("GET /1.0/operations", responses.sync({})),
        (f"DELETE {VOLUMES}/v", responses.sync() if exists else responses.error("no", 404)),
        (f"POST {VOLUMES}", responses.asynchronous()),
        (WAIT, responses.done()),
    )
    volumes.import_drive(context(), "fast", "v", content=b"drive", features=FEATURES)


@pytest.mark.parametrize("text", ["Storage volume not found", "Storage pool not found"])
def test_delete_volume_succeeds_when_it_is_missing(context, wire, responses, text):
    wire.script((f"DELETE {VOLUMES}/v", responses.error(text, 404)))
    volumes.delete_volume(context(), "fast", "v")


def test_delete_volume_looks_when_the_operation_is_unknown(context, wire, responses):
    wire.script(
        (f"DELETE {VOLUMES}/v", responses.asynchronous()),
        (WAIT, responses.error("Operation not found", 404)),
        ("GET /1.0/operations", responses.sync({})),
        (f"GET {VOLUMES}/v", responses.error("no", 404)),
    )
    volumes.delete_volume(context(), "fast", "v")


def test_delete_volume_raises_in_use(context, wire, responses):
    wire.script((f"DELETE {VOLUMES}/v", responses.error("In use")))
    with pytest.raises(errors.InUse) as raised:
        volumes.delete_volume(context(), "fast", "v")
    assert raised.value.fields["pool"] == "fast"
