"""Volume options of a disk that change or that cloud_properties no longer set."""

from __future__ import annotations

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import disks
from bosh_lxd_cpi.model import labels

POOL = "/1.0/storage-pools/default"
VOLUME = f"{POOL}/volumes/custom/vol-p-1"
OPTIONS = {"snapshots.expiry": "1d", "snapshots.schedule": "@daily"}


def test_update_disk_resets_dropped_options_to_the_defaults(context, wire, responses):
    config = {"size": "1GiB", "snapshots.pattern": "p%d", "user.x": "y", **labels.with_disk_options(OPTIONS)}
    wire.script(
        (f"GET {VOLUME}", responses.sync({"name": "vol-p-1", "config": config})),
        (
            f"GET {POOL}",
            responses.sync({"name": "default", "config": {"volume.snapshots.expiry": "9d", "size": "20GiB"}}),
        ),
        (f"PUT {VOLUME}", responses.sync()),
    )
    disks.update_disk(context(), "vol-p-1", 1024, {})
    assert wire.request_to(f"PUT {VOLUME}").body["config"] == {
        "size": "1GiB",
        "snapshots.pattern": "p%d",
        "user.x": "y",
        "snapshots.expiry": "9d",
    }


def test_update_disk_replaces_options_without_further_requests(context, wire, responses):
    config = {"size": "1GiB", **labels.with_disk_options({"snapshots.expiry": "2d"})}
    wire.script(
        (f"GET {VOLUME}", responses.sync({"name": "vol-p-1", "config": config})), (f"PUT {VOLUME}", responses.sync())
    )
    disks.update_disk(context(), "vol-p-1", 1024, {"config": OPTIONS})
    assert wire.request_to(f"PUT {VOLUME}").body["config"] == {"size": "1GiB", **labels.with_disk_options(OPTIONS)}


def test_update_disk_does_not_support_unreadable_defaults(context, wire, responses):
    """A restricted certificate cannot read the configuration of a pool."""
    wire.script(
        (f"GET {VOLUME}", responses.sync({"name": "vol-p-1", "config": labels.with_disk_options(OPTIONS)})),
        (f"GET {POOL}", responses.sync({"name": "default", "config": None})),
    )
    with pytest.raises(errors.NotSupported, match=r"loses the options snapshots.expiry, snapshots.schedule, but the"):
        disks.update_disk(context(), "vol-p-1", 1024, {})
