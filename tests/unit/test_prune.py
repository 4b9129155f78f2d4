from __future__ import annotations

import dataclasses
import os
import time

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin import cli
from bosh_lxd_cpi.admin.cleanup.prune import ALL, Policy, Pruner
from bosh_lxd_cpi.admin.inventory import (
    CONFIG,
    DISK,
    EPHEMERAL,
    IMAGE,
    INCOMPLETE,
    NO_ALIAS,
    ORPHAN,
    SNAPSHOT,
    SUPERSEDED,
    UNKNOWN_OWNER,
    UNUSED,
    VM,
    Inventory,
    Resource,
)
from bosh_lxd_cpi.model import naming
from bosh_lxd_cpi.runtime import locks

NOW, HOUR = 1_770_000_000.0, 3600.0
OURS, OTHERS = "733ab989ac49", "8b3c04bb2a6c"
STATES = {VM: INCOMPLETE, CONFIG: UNUSED, EPHEMERAL: UNUSED, IMAGE: NO_ALIAS, DISK: ORPHAN, SNAPSHOT: ""}


def policy(**changes) -> Policy:
    return Policy(**{"director": OURS, "min_age": HOUR, "remove_legacy": False, "now": NOW, **changes})


def resource(kind: str, *, age: float | None = HOUR, director: str = OURS, state: str | None = None) -> Resource:
    return Resource(
        kind=kind,
        cid=kind,
        director=director,
        created=None if age is None else NOW - age,
        state=STATES[kind] if state is None else state,
    )


@pytest.mark.parametrize("kind", [VM, CONFIG, EPHEMERAL, IMAGE])
def test_removes_unused_resources_that_are_old_enough(kind):
    assert policy().skip_reason(resource(kind)) == ""
    assert policy().skip_reason(resource(kind, age=HOUR - 1)) == "too young"
    assert policy(min_age=0).skip_reason(resource(kind, age=0)) == ""


@pytest.mark.parametrize("resource", ["VM", "DRIVE"])
def test_removes_young_resources_of_interrupted_creations(resource):
    young = dataclasses.replace({"VM": INCOMPLETE_VM, "DRIVE": DRIVE}[resource], created=NOW)
    assert policy().skip_reason(young) == "too young"
    assert policy(interrupted={NAME}).skip_reason(young) == ""
    assert policy(interrupted={NAME}).skip_reason(dataclasses.replace(young, state="")) == "in use"
    assert policy(interrupted={NAME}, director=OTHERS).skip_reason(young) == "of another director"


@pytest.mark.parametrize("kind", [VM, CONFIG, EPHEMERAL, IMAGE])
def test_keeps_resources_in_use(kind):
    assert policy(min_age=0, remove_legacy=True, director=ALL).skip_reason(resource(kind, state="")) == "in use"


def test_keeps_failed_vms_for_inspection():
    assert policy(min_age=0).skip_reason(resource(VM, state="failed")) == "kept for inspection"


@pytest.mark.parametrize("kind", [DISK, SNAPSHOT])
@pytest.mark.parametrize("director", [OURS, OTHERS, UNKNOWN_OWNER])
def test_keeps_persistent_disks_and_snapshots(kind, director):
    everything = policy(min_age=0, remove_legacy=True, director=ALL)
    assert everything.skip_reason(resource(kind, director=director)) == "persistent"


@pytest.mark.parametrize("kind", [VM, CONFIG, EPHEMERAL, IMAGE])
def test_keeps_resources_of_other_directors_by_default(kind):
    assert policy(min_age=0, remove_legacy=True).skip_reason(resource(kind, director=OTHERS)) == "of another director"
    assert policy(director=ALL).skip_reason(resource(kind, director=OTHERS)) == ""


@pytest.mark.parametrize("kind", [VM, CONFIG, EPHEMERAL, IMAGE])
def test_keeps_resources_of_unknown_owner(kind):
    unowned = resource(kind, director=UNKNOWN_OWNER)
    assert policy(min_age=0).skip_reason(unowned) == "of unknown owner"
    assert policy(min_age=0, director=ALL).skip_reason(unowned) == "of unknown owner"
    assert policy(remove_legacy=True).skip_reason(unowned) == ("" if kind == CONFIG else "of unknown owner")


def test_treats_an_unknown_age_as_zero():
    drive = resource(CONFIG, age=None, director=UNKNOWN_OWNER)
    assert policy(remove_legacy=True).skip_reason(drive) == "too young"
    assert policy(remove_legacy=True, min_age=0).skip_reason(drive) == ""


def test_keeps_resources_with_a_creation_time_in_the_future():
    assert policy(min_age=0).skip_reason(resource(CONFIG, age=-60)) == "too young"


UUID = "01a2030b-da83-881f-9150-733ab989ac49"
NAME = f"vm-{UUID}"
DRIVE = Resource(
    kind=CONFIG, cid=f"vol-c-{UUID}", director=OURS, created=0.0, state=UNUSED, pool="fast", location="none"
)
INCOMPLETE_VM = Resource(kind=VM, cid=NAME, director=OURS, created=0.0, state=INCOMPLETE)
OWN = dataclasses.replace(DRIVE, state="", used_by=(NAME,))
VOLUME = f"/1.0/storage-pools/fast/volumes/custom/vol-c-{UUID}"
INSTANCE = f"/1.0/instances/{NAME}"


@pytest.fixture
def program(log):
    program = cli.Program("cleanup")
    program.log = log
    return program


@pytest.fixture
def pruner(context, program):
    return Pruner(context(), program, dry_run=False)


def run(pruner: Pruner, *resources: Resource) -> str:
    """Prune these resources and return the summary."""
    pruner.run(Inventory(resources=list(resources)), policy())
    return pruner.summary(0)


def instance(state: str) -> dict:
    return {"name": NAME, "status": "Running", "config": {"user.bosh.state": state}}


def test_deletes_an_unused_volume(pruner, wire, responses, capsys):
    wire.script((f"DELETE {VOLUME}", responses.sync()))
    assert run(pruner, DRIVE) == "removed 1, kept 0, failed 0"
    assert "target" not in wire.request_to(f"DELETE {VOLUME}").query
    assert capsys.readouterr().out.startswith(f"removed config vol-c-{UUID} in pool fast (unused, ")


def test_deletes_a_volume_on_its_cluster_member(pruner, wire, responses):
    wire.script((f"DELETE {VOLUME}", responses.sync()))
    run(pruner, dataclasses.replace(DRIVE, location="node2"))
    assert wire.request_to(f"DELETE {VOLUME}").query["target"] == "node2"


def test_reads_incomplete_vm_again_before_deletion(pruner, wire, responses):
    wire.script(
        (f"GET {INSTANCE}", responses.sync(instance("creating"))),
        (f"GET {INSTANCE}", responses.sync(instance("creating"))),
        (f"PUT {INSTANCE}/state", responses.sync()),
        (f"DELETE {INSTANCE}", responses.sync()),
        (f"DELETE {VOLUME}", responses.sync()),
    )
    assert run(pruner, INCOMPLETE_VM, OWN) == "removed 2, kept 0, failed 0"


def test_keeps_a_vm_that_was_completed_in_the_meantime(pruner, wire, responses):
    wire.script((f"GET {INSTANCE}", responses.sync(instance("created"))))
    assert run(pruner, INCOMPLETE_VM, OWN) == "removed 0, kept 2 (2 in use), failed 0"


@pytest.mark.parametrize("dry_run", [False, True])
def test_removes_abandoned_locks(context, program, wire, responses, tmp_path, dry_run):
    directory = tmp_path / "locks"
    directory.mkdir()
    for name, age in ((NAME, 0), ("vm-old", HOUR + 1), ("vm-young", HOUR - 1)):
        (directory / f"creating-{name}").touch()
        os.utime(directory / f"creating-{name}", (NOW - age, NOW - age))
    if not dry_run:
        wire.script((f"DELETE {VOLUME}", responses.sync()))
    young = dataclasses.replace(DRIVE, created=NOW)
    interrupted = locks.abandoned(str(directory))
    Pruner(context(), program, dry_run=dry_run).run(Inventory(resources=[young]), policy(interrupted=interrupted))
    remaining = {"vm-old", NAME, "vm-young"} if dry_run else {"vm-young"}
    assert locks.abandoned(str(directory)) == remaining


@pytest.mark.parametrize(
    "resources, kept", [([DRIVE], "1 (1 being created)"), ([INCOMPLETE_VM, OWN], "2 (1 being created, 1 in use)")]
)
def test_sends_no_request_for_resources_that_create_vm_holds(resources, kept, pruner, tmp_path, log):
    with locks.exclusive(str(tmp_path / "locks"), NAME, log=log, sleep=time.sleep):
        assert run(pruner, *resources) == f"removed 0, kept {kept}, failed 0"


def test_does_not_count_a_vm_that_was_deleted_in_the_meantime(pruner, wire, responses):
    wire.script(
        (f"GET {INSTANCE}", responses.sync(instance("creating"))),
        (f"GET {INSTANCE}", responses.error("Instance not found", 404)),
    )
    assert run(pruner, INCOMPLETE_VM) == "removed 0, kept 1 (1 already gone), failed 0"


@pytest.mark.parametrize(
    "text, code, reason",
    [("Storage pool volume not found", 404, "already gone"), ("The storage volume is still in use", 400, "in use")],
)
def test_counts_volumes_in_use_or_gone_as_kept(pruner, *, text, code, reason, wire, responses):
    wire.script((f"DELETE {VOLUME}", responses.error(text, code)))
    assert run(pruner, DRIVE) == f"removed 0, kept 1 (1 {reason}), failed 0"


def test_prints_a_failure_and_continues(pruner, wire, responses, capsys):
    other = dataclasses.replace(DRIVE, pool="slow")
    wire.script(
        (f"DELETE {VOLUME}", responses.error("disk on fire")),
        (f"DELETE {VOLUME.replace('fast', 'slow')}", responses.sync()),
    )
    assert run(pruner, DRIVE, other) == "removed 1, kept 0, failed 1"
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("cleanup: deleting ") and "disk on fire" in line


def test_sends_nothing_to_an_unavailable_member(pruner, wire, responses):
    away, other = (dataclasses.replace(DRIVE, location=member) for member in ("m2", "m3"))
    wire.script((f"DELETE {VOLUME}", responses.sync()))
    pruner.run(Inventory(resources=[away, other], unavailable={"m2"}), policy())
    assert pruner.summary(0) == "removed 1, kept 1 (1 on an unavailable cluster member), failed 0"


def test_fails_once_for_an_unavailable_member(pruner, wire, responses, capsys):
    away = [dataclasses.replace(DRIVE, location="m2", created=float(number)) for number in (1, 2, 3)]
    members = responses.sync([{"server_name": "m2", "status": "Offline"}])
    failure = errors.MemberUnavailable("cluster member m2 is offline", code="member_offline")
    wire.script((f"DELETE {VOLUME}", failure), ("GET /1.0/cluster/members", members))
    assert run(pruner, *away) == "removed 0, kept 2 (2 on an unavailable cluster member), failed 1"
    assert len([line for line in capsys.readouterr().err.splitlines() if line.startswith("cleanup: ")]) == 1


def test_counts_an_unreadable_lock_as_failure(pruner, tmp_path):
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / f"creating-{NAME}").symlink_to("/dev/null")
    assert run(pruner, DRIVE) == "removed 0, kept 0, failed 1"


IMAGE_WITHOUT_ALIAS = Resource(kind=IMAGE, cid="f00d", director=OURS, created=0.0, state=NO_ALIAS)
READ_IMAGE, CREATE_ALIAS = "GET /1.0/images/f00d", "POST /1.0/images/aliases"


def image_with(responses, *names: str):
    document = {"properties": {"bosh.stemcell": "bosh-noble 1.2"}, "aliases": [{"name": name} for name in names]}
    return responses.sync(document)


def test_deletes_an_image_after_it_has_announced_that(pruner, wire, responses):
    wire.script(
        (READ_IMAGE, image_with(responses)),
        (CREATE_ALIAS, responses.sync()),
        (READ_IMAGE, image_with(responses, "deleting-x")),
        ("DELETE /1.0/images/f00d", responses.sync()),
    )
    assert run(pruner, IMAGE_WITHOUT_ALIAS) == "removed 1, kept 0, failed 0"


def test_keeps_an_image_that_got_an_alias_in_the_meantime(pruner, wire, responses):
    wire.script((READ_IMAGE, image_with(responses, "img-1")))
    assert run(pruner, IMAGE_WITHOUT_ALIAS) == "removed 0, kept 1 (1 in use), failed 0"


def test_keeps_an_image_that_another_machine_names(pruner, wire, responses, clock):
    announcement = naming.deletion_alias(naming.new_id(type(clock)(), ""))
    pruner._context.director = ""
    wire.script(
        (READ_IMAGE, image_with(responses)),
        (CREATE_ALIAS, responses.sync()),
        (READ_IMAGE, image_with(responses, announcement, "img-1")),
        (f"DELETE /1.0/images/aliases/{announcement}", responses.sync()),
    )
    assert run(pruner, IMAGE_WITHOUT_ALIAS) == "removed 0, kept 1 (1 in use), failed 0"


def test_keeps_an_image_while_a_call_holds_its_stemcell(pruner, wire, responses, tmp_path, log):
    wire.script((READ_IMAGE, image_with(responses)))
    with locks.exclusive(str(tmp_path / "locks"), naming.stemcell_lock("bosh-noble 1.2"), log=log, sleep=time.sleep):
        assert run(pruner, IMAGE_WITHOUT_ALIAS) == "removed 0, kept 1 (1 being created), failed 0"


def test_keeps_superseded_stemcells(context, program):
    stemcell = dataclasses.replace(IMAGE_WITHOUT_ALIAS, cid="img-1", state=SUPERSEDED)
    assert run(Pruner(context(), program, dry_run=False), stemcell) == "removed 0, kept 1 (1 superseded), failed 0"


def test_deletes_a_superseded_stemcell_by_name(pruner, wire, responses, capsys):
    wire.script(
        ("GET /1.0/images/aliases/img-1", responses.sync({"target": "f00d", "description": "bosh-noble 1.2"})),
        (CREATE_ALIAS, responses.sync()),
        (READ_IMAGE, image_with(responses, "img-1")),
        ("DELETE /1.0/images/f00d", responses.sync()),
    )
    pruner.delete(dataclasses.replace(IMAGE_WITHOUT_ALIAS, cid="img-1", state=SUPERSEDED))
    assert capsys.readouterr().out.startswith("removed image img-1 (superseded, ")


def test_changes_nothing_in_a_dry_run(context, program, wire, responses, capsys):
    wire.script((f"GET {INSTANCE}", responses.sync(instance("creating"))))
    assert run(Pruner(context(), program, dry_run=True), INCOMPLETE_VM, OWN) == "would remove 2, kept 0, failed 0"
    assert [line.split(" (")[0] for line in capsys.readouterr().out.splitlines()] == [
        f"would remove vm {NAME}",
        f"would remove config vol-c-{UUID} in pool fast",
    ]


def test_gives_each_removal_its_own_deadline(pruner, wire, responses, clock):
    def slow():
        clock.sleep(200)
        return responses.sync()

    wire.script(*[(f"DELETE {VOLUME}", slow)] * 3)
    assert run(
        pruner, DRIVE, dataclasses.replace(DRIVE, created=1.0), dataclasses.replace(DRIVE, created=2.0)
    ).startswith("removed 3,")


def test_rejects_a_disk_that_was_attached_in_the_meantime(pruner, wire, responses):
    disk = dataclasses.replace(DRIVE, kind=DISK, cid=f"vol-p-{UUID}", state=ORPHAN)
    wire.script(
        (f"DELETE {VOLUME.replace('vol-c', 'vol-p')}", responses.error("The storage volume is still in use", 400))
    )
    with pytest.raises(errors.CloudError, match="was not deleted: it is in use"):
        pruner.delete(disk)
