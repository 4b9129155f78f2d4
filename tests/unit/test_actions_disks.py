"""What no test server does on demand; the rest of disks is proven on real ones."""

from __future__ import annotations

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import disk_migration, disks
from bosh_lxd_cpi.model.naming import persistent_device

VOLUMES = "/1.0/storage-pools/default/volumes/custom"
VOLUME, VM = f"{VOLUMES}/vol-p-1", "/1.0/instances/vm-1"
WAIT, OPERATIONS = "GET /1.0/operations/op-1/wait", "GET /1.0/operations"
LXD = {"auth": "trusted", "api_extensions": [], "environment": {"server": "lxd"}}
DEVICE = persistent_device("vol-p-1")


def volume(**changed):
    return {
        "name": "vol-p-1",
        "type": "custom",
        "content_type": "block",
        "config": {"size": "1024MiB"},
        "description": "d",
        "used_by": [],
        "location": "none",
        **changed,
    }


def instance(*sources, **changed):
    devices = {persistent_device(source): {"type": "disk", "pool": "default", "source": source} for source in sources}
    return {
        "name": "vm-1",
        "description": "db/0",
        "location": "none",
        "architecture": "x86_64",
        "config": {"volatile.a": "b"},
        "ephemeral": False,
        "profiles": ["default"],
        "stateful": False,
        "devices": {"root": {"type": "disk", "path": "/"}, **devices},
        **changed,
    }


# -- create and delete ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["sync", "asynchronous"])
def test_create_disk_takes_one_request(context, wire, replies, answer):
    wire.script(
        (f"POST {VOLUMES}", getattr(replies, answer)()), *([(WAIT, replies.done())] if answer == "asynchronous" else [])
    )
    cid = disks.create_disk(context(), "1024", {"config": {"snapshots.expiry": "1d"}}, None)
    assert wire.asked[0].body == {
        "name": cid,
        "type": "custom",
        "content_type": "block",
        "description": "made by BOSH",
        "config": {
            "snapshots.expiry": "1d",
            "size": "1024MiB",
            "user.bosh.director_uuid": "d1r",
            "user.bosh.created_at": "2026-01-31T10:00:00Z",
        },
    }


def test_create_disk_finds_the_disk_when_the_response_is_lost(context, wire, replies):
    wire.script((f"POST {VOLUMES}", errors.NoResponse("reset")), (OPERATIONS, replies.sync({})))
    call = context()
    wire.rest.append((f"GET {VOLUMES}/{next_disk(one)}", replies.sync(volume())))
    assert disks.create_disk(one, 1024, {}, None).startswith("vol-p-")


def test_create_disk_rolls_back_when_the_operation_fails(context, wire, replies):
    call = context()
    name = next_disk(one)
    wire.script(
        (f"POST {VOLUMES}", replies.asynchronous()),
        (WAIT, replies.failed("odd")),
        (f"DELETE {VOLUMES}/{name}", replies.sync()),
    )
    with pytest.raises(errors.ServerError, match="odd"):
        disks.create_disk(one, 1024, {}, None)


def next_disk(context):
    from bosh_lxd_cpi.model import naming

    return f"vol-p-{naming.new_id(type(context.clock)(), 'd1r')}"


@pytest.mark.parametrize("size", [0, -1, "x", None, 1.5, True])
def test_create_disk_rejects_invalid_size_before_any_request(context, wire, size):
    with pytest.raises(errors.InvalidProperties, match="disk size must be"):
        disks.create_disk(context(), size, {}, None)
    assert wire.asked == []


def test_create_disk_uses_the_member_of_its_vm(context, wire, replies):
    wire.script((f"GET {VM}", replies.sync(instance(location="m2"))), (f"POST {VOLUMES}", replies.sync()))
    disks.create_disk(context(target="@fast"), 1024, {}, "vm-1")
    assert wire.asked[1].query == {"project": "prod", "target": "m2"}


@pytest.mark.parametrize("vm, target", [({"location": "m2"}, "m2"), (None, "m1")])
def test_create_disk_prefers_the_member_of_its_vm(context, wire, replies, vm, target):
    answer = replies.sync(instance(**vm)) if vm else replies.error("Instance not found", 404)
    wire.script((f"GET {VM}", answer), (f"POST {VOLUMES}", replies.sync()))
    disks.create_disk(context(), 1024, {"target": "m1"}, "vm-1")
    assert wire.asked[1].query["target"] == target


def test_delete_disk_is_repeated_when_the_response_is_lost(context, wire, replies):
    wire.script(
        (f"DELETE {VOLUME}", errors.NoResponse("reset")),
        (f"DELETE {VOLUME}", replies.error("no", 404)),
        ("GET /1.0/storage-pools", replies.sync([{"name": "default"}])),
    )
    disks.delete_disk(context(), "vol-p-1")


def test_delete_disk_rejects_attached_disk(context, wire, replies):
    wire.script(
        (f"DELETE {VOLUME}", replies.asynchronous()), (WAIT, replies.failed("The storage volume is still in use"))
    )
    with pytest.raises(errors.CloudError, match="disk vol-p-1 is attached to a VM, so it is not deleted") as raised:
        disks.delete_disk(context(), "vol-p-1")
    assert (
        type(raised.value) is errors.CloudError
        and "storage volume show default vol-p-1 --project prod" in raised.value.hint
    )


def test_delete_disk_names_the_pool_of_the_attached_disk(context, wire, replies):
    wire.script(
        (f"DELETE {VOLUME}", replies.error("Not found", 404)),
        ("GET /1.0/storage-pools", replies.sync([{"name": "default"}, {"name": "fast"}])),
        (f"DELETE {VOLUME.replace('default', 'fast')}", replies.error("The storage volume is still in use")),
    )
    with pytest.raises(errors.CloudError) as raised:
        disks.delete_disk(context(), "vol-p-1")
    assert "storage volume show fast vol-p-1" in raised.value.hint


# -- attach and detach ---------------------------------------------------------------------------------------------------


def attaching(replies, *, first=None):
    return [("GET /1.0", replies.sync(LXD)), (f"GET {VOLUME}", replies.sync(first or volume()))]


def test_attach_disk_takes_four_requests(context, wire, replies):
    wire.script(
        *attaching(replies), (f"GET {VM}", replies.sync(instance(), etag="e1")), (f"PATCH {VM}", replies.sync())
    )
    assert disks.attach_disk(context(), "vm-1", "vol-p-1") == {
        "path": f"/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_lxd_{DEVICE}"
    }
    assert wire.asked[3].headers["If-Match"] == "e1"
    assert wire.asked[3].body == {
        "description": "db/0",
        "devices": {DEVICE: {"type": "disk", "pool": "default", "source": "vol-p-1"}},
    }


def test_attach_disk_keeps_an_existing_device(context, wire, replies):
    there = instance()
    there["devices"]["persistent-1"] = {"type": "disk", "pool": "default", "source": "vol-p-1"}
    wire.script(
        *attaching(replies, first=volume(used_by=["/1.0/instances/vm-1?project=prod"])),
        (f"GET {VM}", replies.sync(there)),
    )
    assert disks.attach_disk(context(), "vm-1", "vol-p-1")["path"].endswith("_lxd_persistent--1")


@pytest.mark.parametrize(
    "user", ["/1.0/instances/vm-2", "/1.0/instances/vm-2?project=prod", "/1.0/virtual-machines/vm-2"]
)
def test_attach_disk_rejects_disk_of_another_vm(context, wire, replies, user):
    wire.script(*attaching(replies, first=volume(used_by=[user])))
    with pytest.raises(errors.CloudError, match="disk vol-p-1 is attached to vm-2 already"):
        disks.attach_disk(context(), "vm-1", "vol-p-1")


@pytest.mark.parametrize(
    "used_by", [None, [], ["/1.0/profiles/default"], ["/1.0/storage-pools/default/volumes/custom/vol-p-1/snapshots/s"]]
)
def test_attach_disk_ignores_users_that_are_not_vms(context, wire, replies, used_by):
    wire.script(
        *attaching(replies, first=volume(used_by=used_by)),
        (f"GET {VM}", replies.sync(instance())),
        (f"PATCH {VM}", replies.sync()),
    )
    disks.attach_disk(context(), "vm-1", "vol-p-1")


@pytest.mark.parametrize("failure", [("ETag doesn't match", 412), ("LXD VM agent isn't currently running", 500)])
def test_attach_disk_tries_again_when_in_doubt(context, wire, replies, failure):
    wire.script(
        *attaching(replies),
        (f"GET {VM}", replies.sync(instance(), etag="e1")),
        (f"PATCH {VM}", replies.error(*failure)),
        (f"GET {VM}", replies.sync(instance(), etag="e2")),
        (f"PATCH {VM}", replies.sync()),
    )
    disks.attach_disk(context(), "vm-1", "vol-p-1")
    assert wire.asked[-1].headers["If-Match"] == "e2"


def test_attach_disk_finds_its_device_when_the_response_is_lost(context, wire, replies):
    wire.script(
        *attaching(replies),
        (f"GET {VM}", replies.sync(instance(), etag="e1")),
        (f"PATCH {VM}", errors.NoResponse("reset")),
        (f"PATCH {VM}", replies.error("ETag doesn't match", 412)),
        (f"GET {VM}", replies.sync(instance("vol-p-1"))),
    )
    assert disks.attach_disk(context(), "vm-1", "vol-p-1")["path"].endswith(f"_lxd_{DEVICE}")


def test_attach_disk_fails_when_the_vm_changes_every_time(context, wire, replies):
    wire.script(
        *attaching(replies),
        *[(f"GET {VM}", replies.sync(instance())), (f"PATCH {VM}", replies.error("ETag", 412))] * disks.REPEATS,
    )
    with pytest.raises(errors.CloudError, match="instance vm-1 kept changing while vol-p-1 was attached to it"):
        disks.attach_disk(context(), "vm-1", "vol-p-1")


def test_attach_disk_moves_a_local_disk_once(context, wire, replies, monkeypatch):
    moved = []
    monkeypatch.setattr(disk_migration, "move", lambda context, *arguments: moved.append(arguments))
    wire.script(
        *attaching(replies, first=volume(location="m1")),
        (f"GET {VM}", replies.sync(instance(location="m2"))),
        (f"PATCH {VM}", replies.error("ETag doesn't match", 412)),
        (f"GET {VM}", replies.sync(instance(location="m2"))),
        (f"PATCH {VM}", replies.sync()),
    )
    disks.attach_disk(context(), "vm-1", "vol-p-1")
    assert moved == [("default", "vol-p-1", "m2")], "once"


def test_a_disk_that_two_members_have_is_settled_first(context, wire, replies, monkeypatch):
    settled = []
    monkeypatch.setattr(disk_migration, "settle", lambda context, *arguments: settled.append(arguments))
    wire.script(
        (f"GET {VOLUME}", replies.error('More than one cluster member has a volume named "vol-p-1"')),
        (f"GET {VOLUME}", replies.sync(volume())),
    )
    assert disks.has_disk(context(), "vol-p-1") is True
    assert settled == [("default", "vol-p-1")]


@pytest.mark.parametrize("where, member", [("none", "none"), ("", "m2"), ("m2", "m2")])
def test_attach_disk_does_not_move_a_reachable_disk(context, wire, replies, where, member):
    wire.script(
        *attaching(replies, first=volume(location=where)),
        (f"GET {VM}", replies.sync(instance(location=member))),
        (f"PATCH {VM}", replies.sync()),
    )
    disks.attach_disk(context(), "vm-1", "vol-p-1")


def test_detach_disk_changes_nothing_else(context, wire, replies):
    wire.script(
        (f"GET {VM}", replies.sync(instance("vol-p-1", "vol-p-2"), etag="e1")),
        (f"PUT {VM}", replies.asynchronous()),
        (WAIT, replies.done()),
    )
    disks.detach_disk(context(), "vm-1", "vol-p-1")
    assert wire.asked[1].headers["If-Match"] == "e1"
    assert wire.asked[1].body == {
        "architecture": "x86_64",
        "config": {"volatile.a": "b"},
        "description": "db/0",
        "ephemeral": False,
        "profiles": ["default"],
        "stateful": False,
        "devices": instance("vol-p-2")["devices"],
    }


def test_detach_disk_succeeds_when_not_attached(context, wire, replies):
    wire.script((f"GET {VM}", replies.sync(instance("vol-p-2"))))
    disks.detach_disk(context(), "vm-1", "vol-p-1")


@pytest.mark.parametrize("failure", ["412", "lost", "forgotten", "agent"])
def test_detach_disk_reads_the_vm_again_when_in_doubt(context, wire, replies, failure):
    put = (f"PUT {VM}", replies.asynchronous())
    steps = {
        "412": [(f"PUT {VM}", replies.error("ETag doesn't match", 412))],
        "lost": [(f"PUT {VM}", errors.NoResponse("reset")), (f"PUT {VM}", replies.error("ETag doesn't match", 412))],
        "forgotten": [put, (WAIT, replies.error("Operation not found", 404))],
        "agent": [put, (WAIT, replies.failed("LXD VM agent isn't currently running"))],
    }[failure]
    wire.script(
        (f"GET {VM}", replies.sync(instance("vol-p-1"), etag="e1")), *steps, (f"GET {VM}", replies.sync(instance()))
    )
    disks.detach_disk(context(), "vm-1", "vol-p-1")


def test_a_vm_that_is_gone_is_told_by_its_type(context, wire, replies):
    wire.script(*[(f"GET {VM}", replies.error("Instance not found", 404))] * 2)
    for call in disks.get_disks, lambda context, vm: disks.detach_disk(context, vm, "vol-p-1"):
        with pytest.raises(errors.VMNotFound):
            call(context(), "vm-1")


# -- sizes and metadata --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "now, size, sent",
    [
        ("1024MiB", 2048, "2048MiB"),
        ("1GiB", 1025, "1025MiB"),
        ("1073741824", 2048, "2048MiB"),
        ("1024MiB", 1024, None),
        ("1GiB", "1024", None),
    ],
)
def test_resize_disk_sends_nothing_when_the_size_is_equal(context, wire, replies, now, size, sent):
    wire.script(
        (f"GET {VOLUME}", replies.sync(volume(config={"size": now, "a": "b"}), etag="e1")),
        *([(f"PUT {VOLUME}", replies.sync())] if sent else []),
    )
    disks.resize_disk(context(), "vol-p-1", size)
    if sent:
        assert wire.asked[1].headers["If-Match"] == "e1"
        assert wire.asked[1].body == {"config": {"size": sent, "a": "b"}, "description": "d"}


@pytest.mark.parametrize("now", ["2GiB", "2048MiB", "2147483648", "2147483648B"])
def test_resize_disk_does_not_support_shrinking(context, wire, replies, now):
    wire.script((f"GET {VOLUME}", replies.sync(volume(config={"size": now}))))
    with pytest.raises(errors.NotSupported, match="disk vol-p-1 has 2048 MiB and cannot shrink to 1024"):
        disks.resize_disk(context(), "vol-p-1", 1024)


def test_resize_disk_checks_the_size_when_the_response_is_lost(context, wire, replies):
    wire.script(
        (f"GET {VOLUME}", replies.sync(volume(), etag="e1")),
        (f"PUT {VOLUME}", errors.NoResponse("reset")),
        (f"PUT {VOLUME}", replies.error("ETag doesn't match", 412)),
        (f"GET {VOLUME}", replies.sync(volume(config={"size": "2048MiB"}))),
    )
    disks.resize_disk(context(), "vol-p-1", 2048)


def test_resize_disk_keeps_a_concurrent_change(context, wire, replies):
    wire.script(
        (f"GET {VOLUME}", replies.sync(volume(), etag="e1")),
        (f"PUT {VOLUME}", replies.error("ETag doesn't match", 412)),
        *[(f"GET {VOLUME}", replies.sync(volume(config={"size": "1024MiB", "new": "x"})))] * 2,
        (f"PUT {VOLUME}", replies.sync()),
    )
    disks.resize_disk(context(), "vol-p-1", 2048)
    assert wire.asked[-1].body["config"] == {"size": "2048MiB", "new": "x"}


def test_resize_disk_rejects_disk_in_use(context, wire, replies):
    wire.script(
        (f"GET {VOLUME}", replies.sync(volume(used_by=["/1.0/instances/vm-1"]))),
        (f"PUT {VOLUME}", replies.error("In use")),
    )
    with pytest.raises(errors.CloudError, match="disk vol-p-1 cannot grow while it is attached to vm-1") as raised:
        disks.resize_disk(context(), "vol-p-1", 2048)
    assert "bosh stop --hard" in raised.value.hint


def test_update_disk_does_not_support_another_pool(context, wire, replies):
    wire.script((f"GET {VOLUME}", replies.sync(volume())))
    with pytest.raises(errors.NotSupported, match="is in pool default and cannot move to fast in place"):
        disks.update_disk(context(), "vol-p-1", 1024, {"storage_pool": "fast"})


def test_update_disk_changes_size_and_options_at_once(context, wire, replies):
    wire.script(
        (f"GET {VOLUME}", replies.sync(volume())), (f"PUT {VOLUME}", replies.asynchronous()), (WAIT, replies.done())
    )
    disks.update_disk(context(), "vol-p-1", 2048, {"config": {"snapshots.expiry": "1d"}, "storage_pool": "default"})
    assert wire.asked[1].body["config"] == {"size": "2048MiB", "snapshots.expiry": "1d"}


def test_set_disk_metadata_keeps_a_concurrent_change(context, wire, replies):
    changed = (f"GET {VOLUME}", replies.sync(volume(config={"size": "1GiB", "new": "x"}), etag="e2"))
    wire.script(
        (f"GET {VOLUME}", replies.sync(volume(), etag="e1")),
        (f"PUT {VOLUME}", replies.error("ETag", 412)),
        changed,
        changed,
        (f"PUT {VOLUME}", replies.sync()),
    )
    disks.set_disk_metadata(context(), "vol-p-1", {"deployment": "cf", "instance_group": "db", "instance_index": 0})
    assert wire.asked[4].headers["If-Match"] == "e2"
    assert wire.asked[4].body == {
        "description": "cf db/0",
        "config": {
            "size": "1GiB",
            "new": "x",
            "user.bosh.deployment": "cf",
            "user.bosh.instance_group": "db",
            "user.bosh.instance_index": "0",
        },
    }


@pytest.mark.parametrize(
    "metadata, description",
    [
        ({}, ""),
        ({"deployment": "cf"}, "cf"),
        ({"deployment": "cf", "instance_id": "i"}, "cf i"),
        ({"job": "db", "index": 2}, "db/2"),
    ],
)
def test_description_of_disk_is_deployment_and_instance(metadata, description):
    assert disks.describe(metadata) == description


# -- finding -------------------------------------------------------------------------------------------------------------


def test_the_configured_pool_is_looked_at_first_and_then_all_others(context, wire, replies):
    wire.script(
        (f"GET {VOLUME}", replies.error("no", 404)),
        ("GET /1.0/storage-pools", replies.sync([{"name": "a"}, {"name": "default"}, {"name": "b"}])),
        ("GET /1.0/storage-pools/a/volumes/custom/vol-p-1", replies.error("no", 404)),
        ("GET /1.0/storage-pools/b/volumes/custom/vol-p-1", replies.sync(volume())),
    )
    assert disks.has_disk(context(), "vol-p-1") is True


@pytest.mark.parametrize(
    "call",
    [
        lambda context: disks.attach_disk(context, "vm-1", "vol-p-1"),
        lambda context: disks.resize_disk(context, "vol-p-1", 5),
        lambda context: disks.update_disk(context, "vol-p-1", 5, {}),
        lambda context: disks.set_disk_metadata(context, "vol-p-1", {}),
    ],
)
def test_raises_disk_not_found(context, wire, replies, call):
    if "attach_disk" in call.__code__.co_names:
        wire.script(("GET /1.0", replies.sync(LXD)))
    wire.script(
        (f"GET {VOLUME}", replies.error("no", 404)), ("GET /1.0/storage-pools", replies.sync([{"name": "default"}]))
    )
    with pytest.raises(errors.DiskNotFound, match="there is no disk vol-p-1 in any storage pool of project prod"):
        call(context())
