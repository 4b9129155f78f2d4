"""Persistent disks: responses that no test server gives on demand."""

from __future__ import annotations

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import disk_migration, disks
from bosh_lxd_cpi.model import labels, naming
from bosh_lxd_cpi.model.naming import persistent_device
from bosh_lxd_cpi.runtime.retry import RetryPolicy

VOLUMES = "/1.0/storage-pools/default/volumes/custom"
VOLUME, VM = f"{VOLUMES}/vol-p-1", "/1.0/instances/vm-1"
WAIT, OPERATIONS = "GET /1.0/operations/op-1/wait", "GET /1.0/operations"
LXD = {"auth": "trusted", "api_extensions": [], "environment": {"server": "lxd"}}
DEVICE = persistent_device("vol-p-1")
THREE_ATTEMPTS = RetryPolicy(first_pause=0.05, max_attempts=3)


def volume(**changes):
    return {
        "name": "vol-p-1",
        "type": "custom",
        "content_type": "block",
        "config": {"size": "1024MiB"},
        "description": "d",
        "used_by": [],
        "location": "none",
        **changes,
    }


def instance(*sources, **changes):
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
        **changes,
    }


@pytest.fixture
def new_disk(clock):
    """Return the CID of the disk that the call creates."""
    return f"vol-p-{naming.new_id(type(clock)(), 'd1r')}"


# -- create and delete ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("response", ["sync", "asynchronous"])
def test_create_disk_takes_one_request(context, wire, responses, response):
    wire.script(
        (f"POST {VOLUMES}", getattr(responses, response)()),
        *([(WAIT, responses.done())] if response == "asynchronous" else []),
    )
    cid = disks.create_disk(context(), "1024", {"config": {"snapshots.expiry": "1d"}}, None)
    assert wire.request_to(f"POST {VOLUMES}").body == {
        "name": cid,
        "type": "custom",
        "content_type": "block",
        "description": "made by BOSH",
        "config": {
            "snapshots.expiry": "1d",
            "size": "1024MiB",
            "user.bosh.disk_options": "snapshots.expiry",
            "user.bosh.director_uuid": "d1r",
            "user.bosh.created_at": "2026-01-31T10:00:00Z",
        },
    }


@pytest.mark.parametrize("lost", ["response", "operation"])
def test_create_disk_creates_another_disk_after_a_loss(context, wire, responses, new_disk, lost):
    """The first one may lack its content, and the server may still be creating it."""
    operation = [(WAIT, responses.error("Operation not found", 404))] if lost == "operation" else []
    wire.script(
        (f"POST {VOLUMES}", responses.asynchronous() if operation else errors.NoResponse("reset")),
        *operation,
        (OPERATIONS, responses.sync({})),
        (f"DELETE {VOLUMES}/{new_disk}", responses.sync()),
        (f"POST {VOLUMES}", responses.sync()),
    )
    cid = disks.create_disk(context(), 1024, {}, None)
    assert cid == wire.last_request_to(f"POST {VOLUMES}").body["name"] != new_disk


def test_create_disk_rolls_back_when_the_operation_fails(context, wire, responses, new_disk):
    wire.script(
        (f"POST {VOLUMES}", responses.asynchronous()),
        (WAIT, responses.failed("odd")),
        (f"DELETE {VOLUMES}/{new_disk}", responses.sync()),
    )
    with pytest.raises(errors.ServerError, match="odd"):
        disks.create_disk(context(), 1024, {}, None)


@pytest.mark.parametrize("size", [0, -1, "x", None, 1.5, True])
def test_create_disk_rejects_invalid_size_before_any_request(context, wire, size):
    with pytest.raises(errors.InvalidProperties, match="disk size must be"):
        disks.create_disk(context(), size, {}, None)
    assert wire.lines == []


def test_create_disk_uses_the_member_of_its_vm(context, wire, responses):
    wire.script((f"GET {VM}", responses.sync(instance(location="m2"))), (f"POST {VOLUMES}", responses.sync()))
    disks.create_disk(context(target="@fast"), 1024, {}, "vm-1")
    assert wire.request_to(f"POST {VOLUMES}").query == {"project": "prod", "target": "m2"}


@pytest.mark.parametrize("exists, target", [(True, "m2"), (False, "m1")], ids=["VM exists", "no VM"])
def test_create_disk_prefers_the_member_of_its_vm(context, wire, responses, exists, target):
    response = responses.sync(instance(location="m2")) if exists else responses.error("Instance not found", 404)
    wire.script((f"GET {VM}", response), (f"POST {VOLUMES}", responses.sync()))
    disks.create_disk(context(), 1024, {"target": "m1"}, "vm-1")
    assert wire.request_to(f"POST {VOLUMES}").query["target"] == target


def test_delete_disk_is_repeated_when_the_response_is_lost(context, wire, responses):
    wire.script(
        (f"DELETE {VOLUME}", errors.NoResponse("reset")),
        (f"DELETE {VOLUME}", responses.error("no", 404)),
        ("GET /1.0/storage-pools", responses.sync([{"name": "default"}])),
    )
    disks.delete_disk(context(), "vol-p-1")


def test_delete_disk_rejects_attached_disk(context, wire, responses):
    wire.script(
        (f"DELETE {VOLUME}", responses.asynchronous()), (WAIT, responses.failed("The storage volume is still in use"))
    )
    with pytest.raises(errors.CloudError, match="disk vol-p-1 cannot be deleted, because it is attached") as raised:
        disks.delete_disk(context(), "vol-p-1")
    assert type(raised.value) is errors.CloudError
    assert (raised.value.code, raised.value.fields) == ("attached_delete", {"disk": "vol-p-1", "pool": "default"})


def in_use(line, responses, response):
    """A request that fails at once, or whose operation fails, because the volume is in use."""
    text = "The storage volume is still in use"
    if response == "sync":
        return [(line, responses.error(text))]
    return [(line, responses.asynchronous()), (WAIT, responses.failed(text))]


@pytest.mark.parametrize("response", ["sync", "asynchronous"])
def test_delete_disk_names_the_pool_of_the_attached_disk(context, wire, responses, response):
    wire.script(
        (f"DELETE {VOLUME}", responses.error("Not found", 404)),
        ("GET /1.0/storage-pools", responses.sync([{"name": "default"}, {"name": "fast"}])),
        *in_use(f"DELETE {VOLUME.replace('default', 'fast')}", responses, response),
    )
    with pytest.raises(errors.CloudError) as raised:
        disks.delete_disk(context(), "vol-p-1")
    assert raised.value.fields == {"disk": "vol-p-1", "pool": "fast"}


# -- attach and detach ------------------------------------------------------------------------------------------------


def before_attachment(responses, **changes):
    """The requests of attach_disk before it reads the VM. `changes` are properties of the disk."""
    return [("GET /1.0", responses.sync(LXD)), (f"GET {VOLUME}", responses.sync(volume(**changes)))]


def test_attach_disk_takes_four_requests(context, wire, responses):
    wire.script(
        *before_attachment(responses),
        (f"GET {VM}", responses.sync(instance(), etag="e1")),
        (f"PATCH {VM}", responses.sync()),
    )
    assert disks.attach_disk(context(), "vm-1", "vol-p-1") == {
        "path": f"/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_lxd_{DEVICE}"
    }
    request = wire.request_to(f"PATCH {VM}")
    assert request.headers["If-Match"] == "e1"
    assert request.body == {
        "description": "db/0",
        "devices": {DEVICE: {"type": "disk", "pool": "default", "source": "vol-p-1"}},
    }


def test_attach_disk_keeps_an_existing_device(context, wire, responses):
    vm = instance()
    vm["devices"]["persistent-1"] = {"type": "disk", "pool": "default", "source": "vol-p-1"}
    wire.script(
        *before_attachment(responses, used_by=["/1.0/instances/vm-1?project=prod"]),
        (f"GET {VM}", responses.sync(vm)),
    )
    assert disks.attach_disk(context(), "vm-1", "vol-p-1")["path"].endswith("_lxd_persistent--1")


@pytest.mark.parametrize(
    "user", ["/1.0/instances/vm-2", "/1.0/instances/vm-2?project=prod", "/1.0/virtual-machines/vm-2"]
)
def test_attach_disk_rejects_disk_of_another_vm(context, wire, responses, user):
    wire.script(*before_attachment(responses, used_by=[user]), (f"GET {VM}", responses.sync(instance())))
    with pytest.raises(errors.CloudError, match="disk vol-p-1 is already attached to vm-2") as raised:
        disks.attach_disk(context(), "vm-1", "vol-p-1")
    assert raised.value.code == "attached_elsewhere"


def test_attach_disk_raises_vm_not_found_when_others_use_disk(context, wire, responses):
    wire.script(
        *before_attachment(responses, used_by=["/1.0/instances/vm-2"]),
        (f"GET {VM}", responses.error("Instance not found", 404)),
    )
    with pytest.raises(errors.VMNotFound, match="there is no VM vm-1"):
        disks.attach_disk(context(), "vm-1", "vol-p-1")


def test_disks_of_other_clouds_do_not_exist(context, wire):
    assert disks.has_disk(context(), "disk:1;caching:None") is False
    disks.delete_disk(context(), "disk:1;caching:None")
    assert wire.lines == []


UNAVAILABLE = [{"server_name": "node2", "status": "Offline"}]


def test_has_disk_returns_true_if_its_member_is_offline(context, wire, responses):
    wire.script(
        (f"GET {VOLUME}", responses.error("Target cluster member is unavailable")),
        ("GET /1.0/cluster/members", responses.sync(UNAVAILABLE)),
    )
    assert disks.has_disk(context(), "vol-p-1") is True


def test_get_disks_reads_volumes_if_member_is_offline(context, wire, responses):
    in_use = volume(used_by=["/1.0/instances/vm-1?project=bosh"])
    wire.script(
        (f"GET {VM}", responses.error("Target cluster member is unavailable")),
        ("GET /1.0/cluster/members", responses.sync(UNAVAILABLE)),
        (f"GET {VOLUMES}", responses.sync([in_use, {**in_use, "name": "vol-e-1"}, volume(name="vol-p-2")])),
        ("GET /1.0/storage-pools", responses.sync([{"name": "default"}, {"name": "fast"}])),
        (f"GET {VOLUMES.replace('default', 'fast')}", responses.sync([{**in_use, "name": "vol-p-0"}])),
    )
    assert disks.get_disks(context(), "vm-1") == ["vol-p-0", "vol-p-1"]


@pytest.mark.parametrize(
    "used_by", [None, [], ["/1.0/profiles/default"], ["/1.0/storage-pools/default/volumes/custom/vol-p-1/snapshots/s"]]
)
def test_attach_disk_ignores_users_that_are_not_vms(context, wire, responses, used_by):
    wire.script(
        *before_attachment(responses, used_by=used_by),
        (f"GET {VM}", responses.sync(instance())),
        (f"PATCH {VM}", responses.sync()),
    )
    disks.attach_disk(context(), "vm-1", "vol-p-1")


@pytest.mark.parametrize(
    "failure",
    [("ETag doesn't match", 412), ("LXD VM agent isn't currently running", 500)],
    ids=["changed", "agent not running"],
)
def test_attach_disk_tries_again_when_in_doubt(context, wire, responses, failure):
    wire.script(
        *before_attachment(responses),
        (f"GET {VM}", responses.sync(instance(), etag="e1")),
        (f"PATCH {VM}", responses.error(*failure)),
        (f"GET {VM}", responses.sync(instance(), etag="e2")),
        (f"PATCH {VM}", responses.sync()),
    )
    disks.attach_disk(context(), "vm-1", "vol-p-1")
    assert wire.last_request_to(f"PATCH {VM}").headers["If-Match"] == "e2"


def test_attach_disk_finds_its_device_when_the_response_is_lost(context, wire, responses):
    wire.script(
        *before_attachment(responses),
        (f"GET {VM}", responses.sync(instance(), etag="e1")),
        (f"PATCH {VM}", errors.NoResponse("reset")),
        (f"PATCH {VM}", responses.error("ETag doesn't match", 412)),
        (f"GET {VM}", responses.sync(instance("vol-p-1"))),
    )
    assert disks.attach_disk(context(), "vm-1", "vol-p-1")["path"].endswith(f"_lxd_{DEVICE}")


def test_attach_disk_fails_when_the_vm_changes_every_time(context, wire, responses):
    wire.script(
        *before_attachment(responses),
        *[(f"GET {VM}", responses.sync(instance())), (f"PATCH {VM}", responses.error("ETag", 412))] * 3,
    )
    with pytest.raises(
        errors.CloudError, match="disk vol-p-1 was not attached: instance vm-1 was changed at the same time"
    ):
        disks.attach_disk(context(change_retry=THREE_ATTEMPTS), "vm-1", "vol-p-1")


def test_attach_disk_moves_a_local_disk_once(context, wire, responses, monkeypatch):
    moves = []
    monkeypatch.setattr(disk_migration, "move", lambda context, *arguments: moves.append(arguments))
    wire.script(
        *before_attachment(responses, location="m1"),
        (f"GET {VM}", responses.sync(instance(location="m2"))),
        (f"PATCH {VM}", responses.error("ETag doesn't match", 412)),
        (f"GET {VM}", responses.sync(instance(location="m2"))),
        (f"PATCH {VM}", responses.sync()),
    )
    disks.attach_disk(context(), "vm-1", "vol-p-1")
    assert moves == [("default", "vol-p-1", "m2")]


@pytest.mark.parametrize(
    "disk_member, vm_member",
    [("none", "none"), ("", "m2"), ("m2", "m2")],
    ids=["no cluster", "remote pool", "same member"],
)
def test_attach_disk_does_not_move_a_reachable_disk(context, wire, responses, disk_member, vm_member):
    wire.script(
        *before_attachment(responses, location=disk_member),
        (f"GET {VM}", responses.sync(instance(location=vm_member))),
        (f"PATCH {VM}", responses.sync()),
    )
    disks.attach_disk(context(), "vm-1", "vol-p-1")


def test_detach_disk_changes_nothing_else(context, wire, responses):
    wire.script(
        (f"GET {VM}", responses.sync(instance("vol-p-1", "vol-p-2"), etag="e1")),
        (f"PUT {VM}", responses.asynchronous()),
        (WAIT, responses.done()),
    )
    disks.detach_disk(context(), "vm-1", "vol-p-1")
    request = wire.request_to(f"PUT {VM}")
    assert request.headers["If-Match"] == "e1"
    assert request.body == {
        "architecture": "x86_64",
        "config": {"volatile.a": "b"},
        "description": "db/0",
        "ephemeral": False,
        "profiles": ["default"],
        "stateful": False,
        "devices": instance("vol-p-2")["devices"],
    }


def test_detach_disk_succeeds_when_not_attached(context, wire, responses):
    wire.script((f"GET {VM}", responses.sync(instance("vol-p-2"))))
    disks.detach_disk(context(), "vm-1", "vol-p-1")


@pytest.mark.parametrize("failure", ["changed", "no response", "unknown operation", "agent not running"])
def test_detach_disk_reads_the_vm_again_when_in_doubt(context, wire, responses, failure):
    put = (f"PUT {VM}", responses.asynchronous())
    steps = {
        "changed": [(f"PUT {VM}", responses.error("ETag doesn't match", 412))],
        "no response": [
            (f"PUT {VM}", errors.NoResponse("reset")),
            (f"PUT {VM}", responses.error("ETag doesn't match", 412)),
        ],
        "unknown operation": [put, (WAIT, responses.error("Operation not found", 404))],
        "agent not running": [put, (WAIT, responses.failed("LXD VM agent isn't currently running"))],
    }[failure]
    wire.script(
        (f"GET {VM}", responses.sync(instance("vol-p-1"), etag="e1")), *steps, (f"GET {VM}", responses.sync(instance()))
    )
    disks.detach_disk(context(), "vm-1", "vol-p-1")


@pytest.mark.parametrize(
    "action, arguments",
    [(disks.get_disks, ()), (disks.detach_disk, ("vol-p-1",))],
    ids=["get_disks", "detach_disk"],
)
def test_raises_vm_not_found(context, wire, responses, action, arguments):
    wire.script((f"GET {VM}", responses.error("Instance not found", 404)))
    with pytest.raises(errors.VMNotFound, match="there is no VM vm-1"):
        action(context(), "vm-1", *arguments)


def test_detach_disk_fails_when_the_vm_changes_every_time(context, wire, responses):
    wire.script(
        *[(f"GET {VM}", responses.sync(instance("vol-p-1"))), (f"PUT {VM}", responses.error("ETag", 412))] * 3,
    )
    with pytest.raises(errors.CloudError, match="disk vol-p-1 was not detached: instance vm-1 was changed"):
        disks.detach_disk(context(change_retry=THREE_ATTEMPTS), "vm-1", "vol-p-1")


def test_detach_disk_names_a_missing_field(context, wire, responses):
    vm = instance("vol-p-1")
    del vm["architecture"]
    wire.script((f"GET {VM}", responses.sync(vm)))
    with pytest.raises(
        errors.UnexpectedResponse, match=f"^GET {VM}: the field architecture of the response is missing$"
    ):
        disks.detach_disk(context(), "vm-1", "vol-p-1")


# -- locks ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def unusable_locks(tmp_path):
    """Put a file where the directory of the locks would be."""
    (tmp_path / "locks").touch()


@pytest.mark.usefixtures("unusable_locks")
def test_attach_disk_fails_without_its_lock(context, wire, responses):
    """LXD 5.0 lets two VMs write to one disk, so two calls must not attach it at the same time."""
    wire.script(("GET /1.0", responses.sync(LXD)))
    with pytest.raises(errors.LockUnavailable, match="attachment-of-vol-p-1 cannot be used") as raised:
        disks.attach_disk(context(), "vm-1", "vol-p-1")
    assert raised.value.code == "no_lock_directory"


@pytest.mark.usefixtures("unusable_locks")
def test_detach_disk_continues_without_its_lock(context, wire, responses, log):
    wire.script((f"GET {VM}", responses.sync(instance("vol-p-1"))), (f"PUT {VM}", responses.sync()))
    disks.detach_disk(context(), "vm-1", "vol-p-1")
    assert "continuing without the lock" in log.stream.getvalue()


@pytest.mark.usefixtures("unusable_locks")
def test_set_disk_metadata_continues_without_its_lock(context, wire, responses, log):
    wire.script((f"GET {VOLUME}", responses.sync(volume())), (f"PUT {VOLUME}", responses.sync()))
    disks.set_disk_metadata(context(), "vol-p-1", {})
    assert "continuing without the lock" in log.stream.getvalue()


# -- sizes and metadata -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "current, size, sent",
    [
        ("1024MiB", 2048, "2048MiB"),
        ("1GiB", 1025, "1025MiB"),
        ("1073741824", 2048, "2048MiB"),
        ("1024MiB", 1024, None),
        ("1GiB", "1024", None),
    ],
)
def test_resize_disk_grows_a_disk_or_sends_nothing(context, wire, responses, current, size, sent):
    wire.script(
        (f"GET {VOLUME}", responses.sync(volume(config={"size": current, "a": "b"}), etag="e1")),
        *([(f"PUT {VOLUME}", responses.sync())] if sent else []),
    )
    disks.resize_disk(context(), "vol-p-1", size)
    if sent:
        request = wire.request_to(f"PUT {VOLUME}")
        assert request.headers["If-Match"] == "e1"
        assert request.body == {"config": {"size": sent, "a": "b"}, "description": "d"}


@pytest.mark.parametrize("current", ["2GiB", "2048MiB", "2147483648", "2147483648B"])
def test_resize_disk_does_not_support_shrinking(context, wire, responses, current):
    wire.script((f"GET {VOLUME}", responses.sync(volume(config={"size": current}))))
    with pytest.raises(errors.NotSupported, match="disk vol-p-1 has 2048 MiB and cannot shrink to 1024"):
        disks.resize_disk(context(), "vol-p-1", 1024)


def test_resize_disk_checks_the_size_when_the_response_is_lost(context, wire, responses):
    wire.script(
        (f"GET {VOLUME}", responses.sync(volume(), etag="e1")),
        (f"PUT {VOLUME}", errors.NoResponse("reset")),
        (f"PUT {VOLUME}", responses.error("ETag doesn't match", 412)),
        (f"GET {VOLUME}", responses.sync(volume(config={"size": "2048MiB"}))),
    )
    disks.resize_disk(context(), "vol-p-1", 2048)


def test_resize_disk_keeps_a_concurrent_change(context, wire, responses):
    wire.script(
        (f"GET {VOLUME}", responses.sync(volume(), etag="e1")),
        (f"PUT {VOLUME}", responses.error("ETag doesn't match", 412)),
        *[(f"GET {VOLUME}", responses.sync(volume(config={"size": "1024MiB", "new": "x"})))] * 2,
        (f"PUT {VOLUME}", responses.sync()),
    )
    disks.resize_disk(context(), "vol-p-1", 2048)
    assert wire.last_request_to(f"PUT {VOLUME}").body["config"] == {"size": "2048MiB", "new": "x"}


def test_resize_disk_rejects_disk_in_use(context, wire, responses):
    wire.script(
        (f"GET {VOLUME}", responses.sync(volume(used_by=["/1.0/instances/vm-1"]))),
        (f"PUT {VOLUME}", responses.error("In use")),
    )
    with pytest.raises(errors.CloudError, match="disk vol-p-1 cannot grow while it is attached to vm-1") as raised:
        disks.resize_disk(context(), "vol-p-1", 2048)
    assert raised.value.code == "attached_grow"


def test_update_disk_does_not_support_another_pool(context, wire, responses):
    wire.script((f"GET {VOLUME}", responses.sync(volume())))
    with pytest.raises(errors.NotSupported, match="is in pool default and cannot move to pool fast in place"):
        disks.update_disk(context(), "vol-p-1", 1024, {"storage_pool": "fast"})


def test_update_disk_moves_no_disk_to_the_default_pool(context, wire, responses):
    """An absent storage_pool means the default pool, so BOSH has to copy the disk there."""
    wire.script(
        (f"GET {VOLUME}", responses.error("no", 404)),
        ("GET /1.0/storage-pools", responses.sync([{"name": "fast"}])),
        (f"GET {VOLUME.replace('default', 'fast')}", responses.sync(volume())),
    )
    with pytest.raises(errors.NotSupported, match="is in pool fast and cannot move to pool default in place"):
        disks.update_disk(context(), "vol-p-1", 1024, {})


@pytest.mark.parametrize("text", ["In use", "Invalid option"])
def test_update_disk_is_not_supported_when_the_server_refuses(context, wire, responses, text):
    wire.script((f"GET {VOLUME}", responses.sync(volume())), (f"PUT {VOLUME}", responses.error(text)))
    with pytest.raises(errors.NotSupported, match=text):
        disks.update_disk(context(), "vol-p-1", 2048, {})


@pytest.mark.parametrize(
    "text, status, error",
    [("database is locked", 500, errors.Busy), ("not authorized", 403, errors.Forbidden)],
    ids=["transient", "forbidden"],
)
def test_update_disk_raises_errors_that_a_copy_would_meet_too(context, wire, responses, text, status, error):
    attempts = 2 if error is errors.Busy else 1
    request = (f"PUT {VOLUME}", responses.error(text, status))
    wire.script((f"GET {VOLUME}", responses.sync(volume())), *[request] * attempts**2)
    with pytest.raises(error):
        disks.update_disk(context(retry=RetryPolicy(max_attempts=2)), "vol-p-1", 2048, {})


def test_update_disk_changes_size_and_options_at_once(context, wire, responses):
    wire.script(
        (f"GET {VOLUME}", responses.sync(volume())),
        (f"PUT {VOLUME}", responses.asynchronous()),
        (WAIT, responses.done()),
    )
    disks.update_disk(context(), "vol-p-1", 2048, {"config": {"snapshots.expiry": "1d"}, "storage_pool": "default"})
    assert wire.request_to(f"PUT {VOLUME}").body["config"] == {
        "size": "2048MiB",
        **labels.with_disk_options({"snapshots.expiry": "1d"}),
    }


def test_set_disk_metadata_keeps_a_concurrent_change(context, wire, responses):
    again = (f"GET {VOLUME}", responses.sync(volume(config={"size": "1GiB", "new": "x"}), etag="e2"))
    wire.script(
        (f"GET {VOLUME}", responses.sync(volume(), etag="e1")),
        (f"PUT {VOLUME}", responses.error("ETag", 412)),
        again,
        again,
        (f"PUT {VOLUME}", responses.sync()),
    )
    disks.set_disk_metadata(context(), "vol-p-1", {"deployment": "cf", "instance_group": "db", "instance_index": 0})
    request = wire.last_request_to(f"PUT {VOLUME}")
    assert request.headers["If-Match"] == "e2"
    assert request.body == {
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


@pytest.mark.parametrize(
    "action, arguments, first_requests",
    [
        (disks.attach_disk, ("vm-1", "vol-p-1"), [("GET /1.0", LXD)]),
        (disks.resize_disk, ("vol-p-1", 5), []),
        (disks.update_disk, ("vol-p-1", 5, {}), []),
        (disks.set_disk_metadata, ("vol-p-1", {}), []),
    ],
    ids=["attach_disk", "resize_disk", "update_disk", "set_disk_metadata"],
)
def test_raises_disk_not_found(context, wire, responses, action, arguments, first_requests):
    wire.script(
        *[(line, responses.sync(document)) for line, document in first_requests],
        (f"GET {VOLUME}", responses.error("no", 404)),
        ("GET /1.0/storage-pools", responses.sync([{"name": "default"}])),
    )
    with pytest.raises(errors.DiskNotFound, match="there is no disk vol-p-1 in any storage pool of project prod"):
        action(context(), *arguments)


def test_resize_disk_fails_when_the_disk_changes_every_time(context, wire, responses):
    other = volume(config={"size": "1GiB", "new": "x"})
    wire.script(
        *[
            (f"GET {VOLUME}", responses.sync(volume())),
            (f"PUT {VOLUME}", responses.error("ETag", 412)),
            (f"GET {VOLUME}", responses.sync(other)),
        ]
        * 3
    )
    with pytest.raises(errors.CloudError, match="disk vol-p-1 was not changed: another client changed it"):
        disks.resize_disk(context(change_retry=THREE_ATTEMPTS), "vol-p-1", 2048)
