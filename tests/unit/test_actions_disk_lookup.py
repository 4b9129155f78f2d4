"""Finding a persistent disk: look-ups change nothing, changes first recover an interrupted migration."""

from __future__ import annotations

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import disk_lookup, disks

POOLS = "GET /1.0/storage-pools"
VOLUMES = "/1.0/storage-pools/default/volumes/custom"
VOLUME = f"{VOLUMES}/vol-p-1"
OTHER_VOLUME = "/1.0/storage-pools/fast/volumes/custom/vol-p-1"
AMBIGUOUS = 'More than one cluster member has a volume named "vol-p-1"'


def volume(**changes):
    return {"name": "vol-p-1", "type": "custom", "location": "none", "config": {"size": "64MiB"}, **changes}


def missing(responses):
    return responses.error("Storage volume not found", 404)


def interrupted_migration(responses):
    """The requests that recover a migration that was interrupted before its copy was complete."""
    copy = volume(location="m2", config={"size": "64MiB", "user.bosh_copy": "1"})
    return [
        ("GET /1.0/operations", responses.sync({})),
        (f"GET {VOLUMES}", responses.sync([volume(location="m1"), copy])),
        (f"DELETE {VOLUME}", responses.sync()),
    ]


def test_locate_takes_one_request_in_the_default_pool(context, wire, responses):
    wire.script((f"GET {VOLUME}", responses.sync(volume())))
    disk = disk_lookup.locate(context(), "vol-p-1")
    assert disk and (disk.pool, disk.volume.name) == ("default", "vol-p-1")


def test_locate_looks_in_the_default_pool_first(context, wire, responses):
    wire.script(
        (f"GET {VOLUME}", missing(responses)),
        (POOLS, responses.sync([{"name": "a"}, {"name": "default"}, {"name": "fast"}])),
        ("GET /1.0/storage-pools/a/volumes/custom/vol-p-1", missing(responses)),
        (f"GET {OTHER_VOLUME}", responses.sync(volume())),
    )
    disk = disk_lookup.locate(context(), "vol-p-1")
    assert disk and disk.pool == "fast"


def test_locate_uses_the_default_pool_only_without_list_of_pools(context, wire, responses, log):
    """Incus 6.0 refuses the list of pools to restricted certificates."""
    wire.script((f"GET {VOLUME}", missing(responses)), (POOLS, responses.error("not authorized", 403)))
    assert disk_lookup.locate(context(), "vol-p-1") is None
    assert "using only default" in log.stream.getvalue()


def test_locate_raises_ambiguous(context, wire, responses):
    wire.script((f"GET {VOLUME}", responses.error(AMBIGUOUS)))
    with pytest.raises(errors.Ambiguous):
        disk_lookup.locate(context(), "vol-p-1")


@pytest.mark.parametrize("exists", [True, False], ids=["present", "missing"])
def test_has_disk_looks_in_every_pool(context, wire, responses, exists):
    wire.script(
        (f"GET {VOLUME}", missing(responses)),
        (POOLS, responses.sync([{"name": "fast"}])),
        (f"GET {OTHER_VOLUME}", responses.sync(volume()) if exists else missing(responses)),
    )
    assert disks.has_disk(context(), "vol-p-1") is exists


def test_has_disk_does_not_recover_a_migration(context, wire, responses):
    wire.script((f"GET {VOLUME}", responses.error(AMBIGUOUS)))
    assert disks.has_disk(context(), "vol-p-1") is True
    assert wire.lines == [f"GET {VOLUME}"]


def test_locate_for_change_recovers_a_migration_first(context, wire, responses):
    wire.script(
        (f"GET {VOLUME}", responses.error(AMBIGUOUS)),
        *interrupted_migration(responses),
        (f"GET {VOLUME}", responses.sync(volume(location="m1"))),
    )
    assert disk_lookup.locate_for_change(context(), "vol-p-1").volume.location == "m1"
    assert wire.request_to(f"DELETE {VOLUME}").query["target"] == "m2"


def test_locate_for_change_raises_disk_not_found(context, wire, responses):
    wire.script((f"GET {VOLUME}", missing(responses)), (POOLS, responses.sync([{"name": "default"}])))
    with pytest.raises(errors.DiskNotFound, match=r"^there is no disk vol-p-1 in any storage pool of project prod$"):
        disk_lookup.locate_for_change(context(), "vol-p-1")


@pytest.mark.parametrize("cid", [None, "", "a/b", 5])
def test_locate_for_change_rejects_invalid_cid(context, wire, cid):
    with pytest.raises(errors.BadRequest, match="disk_cid must be a CID"):
        disk_lookup.locate_for_change(context(), cid)
    assert wire.lines == []


def test_change_in_any_pool_repeats_the_change_after_recovery(context, wire, responses):
    pools = []

    def change(pool):
        pools.append(pool)
        if len(pools) == 1:
            raise errors.Ambiguous(AMBIGUOUS)
        return "changed"

    wire.script(*interrupted_migration(responses))
    assert disk_lookup.change_in_any_pool(context(), "vol-p-1", change) == "changed"
    assert pools == ["default", "default"]


def test_change_in_any_pool_stops_at_the_first_success(context, wire, responses):
    pools = []

    def change(pool):
        pools.append(pool)
        if pool == "default":
            raise errors.NotFound("no")
        return pool

    wire.script((POOLS, responses.sync([{"name": "default"}, {"name": "fast"}, {"name": "slow"}])))
    assert disk_lookup.change_in_any_pool(context(), "vol-p-1", change) == "fast"
    assert pools == ["default", "fast"]


def test_unexpected_volume_names_endpoint_and_field(context, wire, responses):
    wire.script((f"GET {VOLUME}", responses.sync(volume(config="size"))))
    with pytest.raises(
        errors.UnexpectedResponse,
        match=f"^GET {VOLUME}: the field config of the response is a string, not an object$",
    ):
        disks.resize_disk(context(), "vol-p-1", 128)
