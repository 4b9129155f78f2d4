"""Snapshots: responses that no test server gives on demand."""

from __future__ import annotations

import json

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import snapshots
from bosh_lxd_cpi.model import labels, naming

VOLUME = "/1.0/storage-pools/default/volumes/custom/vol-p-1"
WAIT = "GET /1.0/operations/op-1/wait"


@pytest.fixture
def name(clock) -> str:
    """Return the name of the snapshot that the call creates."""
    return f"snap-{naming.new_id(type(clock)(), 'd1r')}"


@pytest.mark.parametrize("response", ["sync", "asynchronous"])
def test_snapshot_disk_creates_then_describes(context, wire, responses, name, response):
    wire.script(
        (f"POST {VOLUME}/snapshots", responses.asynchronous()),
        (WAIT, responses.done()),
        (f"PUT {VOLUME}/snapshots/{name}", getattr(responses, response)()),
        *([(WAIT, responses.done())] if response == "asynchronous" else []),
    )
    assert snapshots.snapshot_disk(context(), "vol-p-1", {"deployment": "cf", "index": 0}) == f"vol-p-1_{name}"
    assert wire.request_to(f"POST {VOLUME}/snapshots").body == {"name": name}
    assert json.loads(wire.request_to(f"PUT {VOLUME}/snapshots/{name}").body["description"]) == {
        "deployment": "cf",
        "director_uuid": "d1r",
        "index": 0,
    }


def test_description_is_limited_and_valid_json(context, wire, responses, name):
    wire.script((f"POST {VOLUME}/snapshots", responses.sync()), (f"PUT {VOLUME}/snapshots/{name}", responses.sync()))
    snapshots.snapshot_disk(
        context(), "vol-p-1", {**{f"tag{number}": "x" * 9000 for number in range(200)}, "job": "db"}
    )
    description = wire.request_to(f"PUT {VOLUME}/snapshots/{name}").body["description"]
    assert {"director_uuid", "tag0", "job"} < json.loads(description).keys()
    assert 9000 < len(description) <= labels.MAX_TOTAL_LENGTH


@pytest.mark.parametrize("exists", [True, False], ids=["incomplete", "missing"])
def test_snapshot_disk_starts_over_when_the_response_is_lost(context, wire, responses, name, exists):
    wire.script(
        (f"POST {VOLUME}/snapshots", errors.NoResponse("reset")),
        ("GET /1.0/operations", responses.sync({})),
        (f"DELETE {VOLUME}/snapshots/{name}", responses.sync() if exists else responses.error("no", 404)),
        (f"POST {VOLUME}/snapshots", responses.sync()),
        (f"PUT {VOLUME}/snapshots/{name}", responses.sync()),
    )
    assert snapshots.snapshot_disk(context(), "vol-p-1") == f"vol-p-1_{name}"


def test_snapshot_disk_rolls_back_when_describing_fails(context, wire, responses, name):
    wire.script(
        (f"POST {VOLUME}/snapshots", responses.sync()),
        (f"PUT {VOLUME}/snapshots/{name}", responses.error("odd")),
        ("GET /1.0/operations", responses.sync({})),
        (f"DELETE {VOLUME}/snapshots/{name}", responses.asynchronous()),
        (WAIT, responses.done()),
    )
    with pytest.raises(errors.ServerError, match="odd"):
        snapshots.snapshot_disk(context(), "vol-p-1", {})


@pytest.mark.parametrize(
    "failure", [errors.Interrupted("SIGTERM"), errors.DeadlineExceeded("too late")], ids=["signal", "deadline"]
)
def test_rollback_waits_for_the_creation_of_the_snapshot(context, wire, responses, name, failure):
    creation = {"id": "op-1", "resources": {"storage_volume_snapshots": [f"{VOLUME}/snapshots/{name}?project=prod"]}}
    wire.script(
        (f"POST {VOLUME}/snapshots", responses.asynchronous()),
        (WAIT, failure),
        ("GET /1.0/operations", responses.sync({"running": [creation]})),
        (WAIT, responses.done()),
        (f"DELETE {VOLUME}/snapshots/{name}", responses.sync()),
    )
    with pytest.raises(type(failure)):
        snapshots.snapshot_disk(context(), "vol-p-1", {})


def test_snapshot_disk_raises_disk_not_found(context, wire, responses):
    wire.script(
        (f"POST {VOLUME}/snapshots", responses.error("no", 404)),
        ("GET /1.0/storage-pools", responses.sync([{"name": "default"}])),
    )
    with pytest.raises(errors.DiskNotFound, match="there is no disk vol-p-1 to create a snapshot of"):
        snapshots.snapshot_disk(context(), "vol-p-1", {})


def test_delete_snapshot_succeeds_when_no_pool_has_it(context, wire, responses):
    wire.script(
        (f"DELETE {VOLUME}/snapshots/snap-7", responses.error("no", 404)),
        ("GET /1.0/storage-pools", responses.sync([{"name": "b"}])),
        ("DELETE /1.0/storage-pools/b/volumes/custom/vol-p-1/snapshots/snap-7", responses.error("no", 404)),
    )
    snapshots.delete_snapshot(context(), "vol-p-1_snap-7")


def test_delete_snapshot_looks_when_the_operation_is_unknown(context, wire, responses):
    wire.script(
        (f"DELETE {VOLUME}/snapshots/snap-7", responses.asynchronous()),
        (WAIT, responses.error("Operation not found", 404)),
        ("GET /1.0/operations", responses.sync({})),
        (f"GET {VOLUME}/snapshots/snap-7", responses.error("no", 404)),
    )
    snapshots.delete_snapshot(context(), "vol-p-1_snap-7")


@pytest.mark.parametrize("cid", ["", None, 5, ["vol-p-1_snap-1"]])
def test_delete_snapshot_rejects_invalid_cid(context, cid):
    with pytest.raises(errors.BadRequest):
        snapshots.delete_snapshot(context(), cid)


@pytest.mark.parametrize("cid", ["snap-1", "projects/p/snapshots/s", "vol-p-1_snap-/x"])
def test_snapshots_of_other_clouds_do_not_exist(context, wire, cid):
    snapshots.delete_snapshot(context(), cid)
    assert wire.lines == []


@pytest.mark.parametrize("metadata", ["x", [1], 5])
def test_rejects_metadata_that_is_not_an_object(context, wire, metadata):
    with pytest.raises(errors.BadRequest, match="metadata must be an object"):
        snapshots.snapshot_disk(context(), "vol-p-1", metadata)


@pytest.mark.parametrize("cid", ["_snap-x", "vol-p-1_snap-", "_snap-"])
def test_rejects_a_cid_without_disk_or_snapshot(context, cid):
    with pytest.raises(errors.BadRequest, match="is not the CID of a snapshot"):
        snapshots.delete_snapshot(context(), cid)
