from __future__ import annotations

import json

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import disk_migration
from bosh_lxd_cpi.lxd.transport import HttpResponse

VOLUMES = "/1.0/storage-pools/default/volumes/custom"
VOLUME, WAIT = f"{VOLUMES}/vol-p-1", "GET /1.0/operations/op-1/wait"
MEMBERS = [{"server_name": "m1", "url": "https://10.0.0.1:8443"}, {"server_name": "m2", "url": "https://10.0.0.2:8443"}]


def volume(location="m1", **config):
    return {
        "name": "vol-p-1",
        "type": "custom",
        "content_type": "block",
        "description": "d",
        "used_by": [],
        "location": location,
        "config": {"size": "64MiB", **{f"user.bosh_{label}": value for label, value in config.items()}},
    }


def offer(operation="/1.0/operations/op-0?project=prod"):
    body = {"type": "async", "operation": operation, "metadata": {"metadata": {"control": "c", "fs": "f"}}}
    return HttpResponse(202, {}, json.dumps(body).encode())


def copy_requests(responses, **labels):
    """The requests of a migration until the copy begins."""
    return [
        (f"GET {VOLUME}", responses.sync(volume(**labels))),
        ("GET /1.0/cluster/members", responses.sync(MEMBERS)),
        ("GET /1.0", responses.sync({"environment": {"certificate": "PEM"}})),
        (f"POST {VOLUME}", offer()),
        (f"POST {VOLUMES}", responses.asynchronous()),
    ]


def test_move_copies_the_disk_and_deletes_the_original(context, wire, responses):
    wire.script(
        *copy_requests(responses, other="x"),
        (WAIT, responses.done()),
        ("GET /1.0/operations", responses.sync({})),
        (f"PUT {VOLUME}", responses.sync()),
        (f"DELETE {VOLUME}", responses.sync()),
    )
    disk_migration.move(context(), "default", "vol-p-1", "m2")
    lines = [f"POST {VOLUME}", f"POST {VOLUMES}", f"PUT {VOLUME}", f"DELETE {VOLUME}"]
    offer, copy, label, deletion = map(wire.request_to, lines)
    assert [request.query.get("target") for request in (offer, copy, label, deletion)] == ["m1", "m2", "m1", "m1"]
    assert copy.body == {
        "name": "vol-p-1",
        "type": "custom",
        "content_type": "block",
        "description": "d",
        "config": {"size": "64MiB", "user.bosh_other": "x", "user.bosh_copy": "1"},
        "source": {
            "type": "migration",
            "mode": "pull",
            "operation": "https://10.0.0.1:8443/1.0/operations/op-0",
            "certificate": "PEM",
            "secrets": {"control": "c", "fs": "f"},
            "name": "vol-p-1",
            "pool": "default",
        },
    }
    assert label.body == {
        "description": "d",
        "config": {"size": "64MiB", "user.bosh_other": "x", "user.bosh_copied": "1"},
    }


def test_move_looks_for_the_copy_when_copying_fails(context, wire, responses):
    wire.script(
        *copy_requests(responses),
        (WAIT, responses.failed("no space left on device")),
        ("GET /1.0/operations", responses.sync({})),
        (f"GET {VOLUME}", responses.error("Storage volume not found", 404)),
    )
    with pytest.raises(errors.NoDiskSpace):
        disk_migration.move(context(), "default", "vol-p-1", "m2")
    assert wire.last_request_to(f"GET {VOLUME}").query["target"] == "m2"


@pytest.mark.parametrize(
    "labels, number",
    [({"copy": "4"}, "5"), ({"copied": "1"}, "2"), ({"copy": "1", "copied": "2"}, "3")],
    ids=["copied once", "not deleted", "copied twice"],
)
def test_move_gives_every_copy_a_new_number(context, wire, responses, labels, number):
    wire.script(
        *copy_requests(responses, **labels),
        (WAIT, responses.failed("no")),
        ("GET /1.0/operations", responses.sync({})),
        (f"GET {VOLUME}", responses.sync(volume("m2", copy=number))),
        (f"DELETE {VOLUME}", responses.sync()),
    )
    with pytest.raises(errors.CloudError):
        disk_migration.move(context(), "default", "vol-p-1", "m2")
    assert wire.request_to(f"POST {VOLUMES}").body["config"]["user.bosh_copy"] == number
    assert wire.request_to(f"DELETE {VOLUME}").query["target"] == "m2"


def test_move_does_nothing_when_the_disk_is_there(context, wire, responses):
    wire.script((f"GET {VOLUME}", responses.sync(volume("m2", copy="1"))))
    disk_migration.move(context(), "default", "vol-p-1", "m2")


def test_move_rolls_back_its_own_copy_only(context, wire, responses):
    """Another machine may have moved the disk there. Then that volume is the only one."""
    wire.script(
        (f"GET {VOLUME}", responses.sync(volume())),
        ("GET /1.0/cluster/members", responses.sync(MEMBERS)),
        ("GET /1.0", responses.sync({"environment": {"certificate": "PEM"}})),
        (f"POST {VOLUME}", responses.error("Storage volume not found", 404)),
        ("GET /1.0/operations", responses.sync({})),
        (f"GET {VOLUME}", responses.sync(volume("m2", copy="2"))),
    )
    with pytest.raises(errors.NotFound):
        disk_migration.move(context(), "default", "vol-p-1", "m2")


@pytest.mark.parametrize(
    "original, copy, deleted",
    [
        ({}, {"copy": "1"}, "m2"),
        ({"copied": "1"}, {"copy": "1"}, "m1"),
        ({"copied": "1"}, {"copy": "2"}, "m2"),
        ({"copy": "9", "copied": "10"}, {"copy": "10"}, "m1"),
    ],
    ids=["incomplete first copy", "complete first copy", "incomplete second copy", "numbers compare as numbers"],
)
def test_recovery_deletes_incomplete_copy_or_copied_original(context, wire, responses, original, copy, deleted):
    volumes = [volume("m1", **original), volume("m2", **copy)]
    for copies in (volumes, volumes[::-1]):
        other = {**volume("m3"), "name": "vol-p-2"}
        wire.script(
            ("GET /1.0/operations", responses.sync({})),
            (f"GET {VOLUMES}", responses.sync([other, *copies])),
            (f"DELETE {VOLUME}", responses.sync()),
        )
        disk_migration.recover_interrupted_migration(context(), "default", "vol-p-1")
        assert wire.last_request_to(f"DELETE {VOLUME}").query["target"] == deleted


def test_recovery_does_nothing_when_one_copy_remains(context, wire, responses):
    wire.script(
        ("GET /1.0/operations", responses.sync({})), (f"GET {VOLUMES}", responses.sync([volume("m2", copy="1")]))
    )
    disk_migration.recover_interrupted_migration(context(), "default", "vol-p-1")


@pytest.mark.parametrize(
    "copies",
    [
        [volume("m1"), volume("m2")],
        [volume("m1"), volume("m2", copy="1"), volume("m3", copy="1")],
        [volume("m1"), {**volume("m2", copy="1"), "used_by": ["/1.0/instances/vm-1"]}],
    ],
    ids=["no labels", "three copies", "attached copy"],
)
def test_recovery_rejects_copies_that_no_migration_left(context, wire, responses, copies):
    wire.script(("GET /1.0/operations", responses.sync({})), (f"GET {VOLUMES}", responses.sync(copies)))
    with pytest.raises(errors.CloudError, match="disk vol-p-1 exists on several cluster members: m1, m2") as raised:
        disk_migration.recover_interrupted_migration(context(), "default", "vol-p-1")
    assert raised.value.code == "several_disks"
    assert raised.value.fields == {"disk": "vol-p-1", "pool": "default"}


@pytest.mark.parametrize(
    "action, arguments",
    [(disk_migration.move, ("m2",)), (disk_migration.recover_interrupted_migration, ())],
    ids=["move", "recovery"],
)
def test_sends_no_request_without_its_lock(context, wire, tmp_path, action, arguments):
    (tmp_path / "locks").touch()  # a file where the directory of the locks would be
    with pytest.raises(errors.LockUnavailable, match="vol-p-1 cannot be used"):
        action(context(), "default", "vol-p-1", *arguments)
    assert wire.lines == []
