"""What no test server does on demand; the rest of volumes is proven on real ones."""

from __future__ import annotations

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import volumes
from bosh_lxd_cpi.lxd.features import features

VOLUMES = "/1.0/storage-pools/fast/volumes/custom"
WAIT = "GET /1.0/operations/op-1/wait"
INCUS = {
    "auth": "trusted",
    "api_extensions": ["custom_volume_iso"],
    "environment": {"server": "incus", "server_version": "6.0"},
}


def test_a_volume_is_made_where_it_is_wanted(cpi, wire, replies):
    wire.script((f"POST {VOLUMES}", replies.sync()))
    volumes.create_volume(cpi(), "fast", "v", 64, config={"a": "b"}, target="m1")
    assert wire.asked[0].query["target"] == "m1"
    assert wire.asked[0].body == {
        "name": "v",
        "type": "custom",
        "content_type": "block",
        "description": "made by BOSH",
        "config": {"a": "b", "size": "64MiB"},
    }


def test_a_volume_whose_operation_is_forgotten_is_looked_at(cpi, wire, replies):
    wire.script(
        (f"POST {VOLUMES}", replies.asynchronous()),
        (WAIT, replies.error("Operation not found", 404)),
        ("GET /1.0/operations", replies.sync({})),
        (f"GET {VOLUMES}/v", replies.sync({})),
    )
    volumes.create_volume(cpi(), "fast", "v", 64, config={})


@pytest.mark.parametrize("deleted", ["done", "not there"])
def test_a_drive_whose_import_is_lost_is_imported_anew(cpi, wire, replies, deleted):
    """The server may have been killed before it wrote what it was sent."""
    done = replies.sync() if deleted == "done" else replies.error("no", 404)
    wire.script(
        (f"POST {VOLUMES}", errors.NoResponse("reset")),
        ("GET /1.0/operations", replies.sync({})),
        (f"DELETE {VOLUMES}/v", done),
        (f"POST {VOLUMES}", replies.asynchronous()),
        (WAIT, replies.done()),
    )
    volumes.import_drive(cpi(), "fast", "v", b"drive", features=features(INCUS))


def test_a_volume_that_is_gone_is_deleted(cpi, wire, replies):
    wire.script((f"DELETE {VOLUMES}/v", replies.error("no", 404)))
    volumes.delete_volume(cpi(), "fast", "v")


def test_a_deletion_that_took_place_behind_a_lost_operation_is_enough(cpi, wire, replies):
    wire.script(
        (f"DELETE {VOLUMES}/v", replies.asynchronous()),
        (WAIT, replies.error("Operation not found", 404)),
        ("GET /1.0/operations", replies.sync({})),
        (f"GET {VOLUMES}/v", replies.error("no", 404)),
    )
    volumes.delete_volume(cpi(), "fast", "v")


def test_a_volume_in_use_is_an_error(cpi, wire, replies):
    wire.script((f"DELETE {VOLUMES}/v", replies.error("In use")))
    with pytest.raises(errors.InUse):
        volumes.delete_volume(cpi(), "fast", "v")
