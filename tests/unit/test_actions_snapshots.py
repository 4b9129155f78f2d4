"""What no test server does on demand; the rest of snapshots is proven on real ones."""

from __future__ import annotations

import json

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import snapshots
from bosh_lxd_cpi.model import naming

VOLUME = "/1.0/storage-pools/default/volumes/custom/vol-p-1"
WAIT = "GET /1.0/operations/op-1/wait"


@pytest.fixture
def name(clock) -> str:
    """Of the snapshot that a call makes."""
    return f"snap-{naming.new_id(type(clock)(), 'd1r')}"


@pytest.mark.parametrize("described", ["sync", "asynchronous"])
def test_a_snapshot_is_made_and_then_described(cpi, wire, replies, name, described):
    wire.script(
        (f"POST {VOLUME}/snapshots", replies.asynchronous()),
        (WAIT, replies.done()),
        (f"PUT {VOLUME}/snapshots/{name}", getattr(replies, described)()),
        *([(WAIT, replies.done())] if described == "asynchronous" else []),
    )
    assert snapshots.snapshot_disk(cpi(), "vol-p-1", {"deployment": "cf", "index": 0}) == f"vol-p-1_{name}"
    assert wire.asked[0].body == {"name": name}
    assert json.loads(wire.asked[2].body["description"]) == {"deployment": "cf", "director_uuid": "d1r", "index": 0}


def test_a_description_stays_json_and_small_enough_for_every_server(cpi, wire, replies, name):
    wire.script((f"POST {VOLUME}/snapshots", replies.sync()), (f"PUT {VOLUME}/snapshots/{name}", replies.sync()))
    snapshots.snapshot_disk(cpi(), "vol-p-1", {**{f"tag{number}": "x" * 9000 for number in range(200)}, "job": "db"})
    told = wire.asked[1].body["description"]
    assert {"director_uuid", "tag0", "job"} < json.loads(told).keys() and 9000 < len(told) <= 129 << 10


def test_a_snapshot_whose_answer_is_lost_is_found_by_its_name(cpi, wire, replies, name):
    wire.script(
        (f"POST {VOLUME}/snapshots", errors.NoResponse("reset")),
        ("GET /1.0/operations", replies.sync({})),
        (f"GET {VOLUME}/snapshots/{name}", replies.sync({})),
        (f"PUT {VOLUME}/snapshots/{name}", replies.sync()),
    )
    assert snapshots.snapshot_disk(cpi(), "vol-p-1") == f"vol-p-1_{name}"


def test_a_snapshot_that_cannot_be_described_is_taken_back(cpi, wire, replies, name):
    wire.script(
        (f"POST {VOLUME}/snapshots", replies.sync()),
        (f"PUT {VOLUME}/snapshots/{name}", replies.error("odd")),
        ("GET /1.0/operations", replies.sync({})),
        (f"DELETE {VOLUME}/snapshots/{name}", replies.asynchronous()),
        (WAIT, replies.done()),
    )
    with pytest.raises(errors.ServerError, match="odd"):
        snapshots.snapshot_disk(cpi(), "vol-p-1", {})


@pytest.mark.parametrize("failure", [errors.Interrupted("stopped by SIGTERM"), errors.DeadlineExceeded("too late")])
def test_a_snapshot_that_is_broken_off_is_taken_back_once_it_is_there(cpi, wire, replies, name, failure):
    making = {"id": "op-1", "resources": {"storage_volume_snapshots": [f"{VOLUME}/snapshots/{name}?project=prod"]}}
    wire.script(
        (f"POST {VOLUME}/snapshots", replies.asynchronous()),
        (WAIT, failure),
        ("GET /1.0/operations", replies.sync({"running": [making]})),
        (WAIT, replies.done()),
        (f"DELETE {VOLUME}/snapshots/{name}", replies.sync()),
    )
    with pytest.raises(type(failure)):
        snapshots.snapshot_disk(cpi(), "vol-p-1", {})


def test_a_snapshot_of_a_disk_that_is_nowhere_is_told_by_its_type(cpi, wire, replies):
    wire.script(
        (f"POST {VOLUME}/snapshots", replies.error("no", 404)),
        ("GET /1.0/storage-pools", replies.sync([{"name": "default"}])),
    )
    with pytest.raises(errors.DiskNotFound, match="there is no disk vol-p-1 to make a snapshot of"):
        snapshots.snapshot_disk(cpi(), "vol-p-1", {})


def test_a_deletion_looks_in_every_pool_and_misses_nothing(cpi, wire, replies):
    wire.script(
        (f"DELETE {VOLUME}/snapshots/snap-7", replies.error("no", 404)),
        ("GET /1.0/storage-pools", replies.sync([{"name": "b"}])),
        ("DELETE /1.0/storage-pools/b/volumes/custom/vol-p-1/snapshots/snap-7", replies.error("no", 404)),
    )
    snapshots.delete_snapshot(cpi(), "vol-p-1_snap-7")


def test_a_deletion_whose_operation_is_forgotten_is_looked_at(cpi, wire, replies):
    wire.script(
        (f"DELETE {VOLUME}/snapshots/snap-7", replies.asynchronous()),
        (WAIT, replies.error("Operation not found", 404)),
        ("GET /1.0/operations", replies.sync({})),
        (f"GET {VOLUME}/snapshots/snap-7", replies.error("no", 404)),
    )
    snapshots.delete_snapshot(cpi(), "vol-p-1_snap-7")


@pytest.mark.parametrize("cid", ["vol-p-1", "snap-1", "vol-p-1-snap-1", "", None, "vol-p-1_snap-/x"])
def test_what_is_no_snapshot_is_refused(cpi, wire, cid):
    with pytest.raises(errors.BadRequest):
        snapshots.delete_snapshot(cpi(), cid)


@pytest.mark.parametrize("metadata", ["x", [1], 5])
def test_metadata_that_are_no_mapping_are_refused(cpi, wire, metadata):
    with pytest.raises(errors.BadRequest, match="metadata must be a mapping"):
        snapshots.snapshot_disk(cpi(), "vol-p-1", metadata)


@pytest.mark.parametrize("cid", ["_snap-x", "vol-p-1_snap-", "_snap-"])
def test_rejects_a_cid_without_disk_or_snapshot(context, cid):
    with pytest.raises(errors.BadRequest, match="is not the CID of a snapshot"):
        snapshots.delete_snapshot(context(), cid)
