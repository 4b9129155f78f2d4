from __future__ import annotations

import dataclasses
import time

import pytest

from bosh_lxd_cpi import errors
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
    UNKNOWN_OWNER,
    UNUSED,
    VM,
    Inventory,
    Resource,
)
from bosh_lxd_cpi.runtime.locks import creating

NOW, HOUR = 1_770_000_000.0, 3600.0
OURS, OTHERS = "733ab989ac49", "8b3c04bb2a6c"
STATES = {VM: INCOMPLETE, CONFIG: UNUSED, EPHEMERAL: UNUSED, IMAGE: NO_ALIAS, DISK: ORPHAN, SNAPSHOT: ""}


def rules(**changed) -> Policy:
    return Policy(**{"director": OURS, "min_age": HOUR, "legacy": False, "now": NOW, **changed})


def resource(kind: str, *, age: float | None = HOUR, director: str = OURS, state: str | None = None) -> Resource:
    return Resource(
        kind=kind,
        cid=kind,
        director=director,
        created=None if age is None else NOW - age,
        state=STATES[kind] if state is None else state,
    )


@pytest.mark.parametrize("kind", [VM, CONFIG, EPHEMERAL, IMAGE])
def test_what_nobody_needs_can_go_when_it_is_old_enough(kind):
    assert rules().skip_reason(resource(kind)) == ""
    assert rules().skip_reason(resource(kind, age=HOUR - 1)) == "too young"
    assert rules(min_age=0).skip_reason(resource(kind, age=0)) == ""


@pytest.mark.parametrize("kind", [VM, CONFIG, EPHEMERAL, IMAGE])
def test_what_is_in_use_stays(kind):
    assert rules(min_age=0, legacy=True, director=ALL).skip_reason(resource(kind, state="")) == "in use"


def test_a_failed_vm_that_was_kept_on_purpose_stays():
    assert rules(min_age=0).skip_reason(resource(VM, state="failed")) == "kept for inspection"


@pytest.mark.parametrize("kind", [DISK, SNAPSHOT])
@pytest.mark.parametrize("director", [OURS, OTHERS, UNKNOWN_OWNER])
def test_what_is_persistent_stays(kind, director):
    assert rules(min_age=0, legacy=True, director=ALL).skip_reason(resource(kind, director=director)) == "persistent"


@pytest.mark.parametrize("kind", [VM, CONFIG, EPHEMERAL, IMAGE])
def test_another_directors_things_stay_unless_all_are_meant(kind):
    assert rules(min_age=0, legacy=True).skip_reason(resource(kind, director=OTHERS)) == "another director's"
    assert rules(director=ALL).skip_reason(resource(kind, director=OTHERS)) == ""


@pytest.mark.parametrize("kind", [VM, CONFIG, EPHEMERAL, IMAGE])
def test_unmarked_things_stay_but_legacy_configuration_drives(kind):
    unmarked = resource(kind, director=UNKNOWN_OWNER)
    assert rules(min_age=0).skip_reason(unmarked) == "unmarked"
    assert rules(min_age=0, director=ALL).skip_reason(unmarked) == "unmarked"
    assert rules(legacy=True).skip_reason(unmarked) == ("" if kind == CONFIG else "unmarked")


def test_an_unknown_age_counts_as_none():
    drive = resource(CONFIG, age=None, director=UNKNOWN_OWNER)
    assert rules(legacy=True).skip_reason(drive) == "too young"
    assert rules(legacy=True, min_age=0).skip_reason(drive) == ""


def test_a_thing_from_the_future_is_young():
    assert rules(min_age=0).skip_reason(resource(CONFIG, age=-60)) == "too young"


UUID = "01a2030b-da83-881f-9150-733ab989ac49"
NAME = f"vm-{UUID}"
DRIVE = Resource(
    kind=CONFIG, cid=f"vol-c-{UUID}", director=OURS, created=0.0, state=UNUSED, pool="fast", location="none"
)
HALF_VM = Resource(kind=VM, cid=NAME, director=OURS, created=0.0, state=INCOMPLETE)
OWN = dataclasses.replace(DRIVE, state="", used_by=(NAME,))
VOLUME = f"/1.0/storage-pools/fast/volumes/custom/vol-c-{UUID}"
INSTANCE = f"/1.0/instances/{NAME}"


@pytest.fixture
def sweep(client, tmp_path):
    return Pruner(client, str(tmp_path), dry_run=False)


def run(sweep: Pruner, *resources: Resource) -> str:
    """Pruner these; what the summary says."""
    sweep.run(Inventory(resources=list(resources)), rules())
    return sweep.summary(0)


def state(value: str) -> dict:
    return {"name": NAME, "status": "Running", "config": {"user.bosh.state": value}}


def test_an_unused_volume_is_deleted(sweep, wire, replies, capsys):
    wire.script((f"DELETE {VOLUME}", replies.sync()))
    assert run(sweep, DRIVE) == "removed 1, kept 0, failed 0"
    assert "target" not in wire.asked[0].query
    assert capsys.readouterr().out.startswith(f"removed config vol-c-{UUID} in pool fast (unused, ")


def test_in_a_cluster_it_is_deleted_where_it_is(sweep, wire, replies):
    wire.script((f"DELETE {VOLUME}", replies.sync()))
    run(sweep, dataclasses.replace(DRIVE, location="node2"))
    assert wire.asked[0].query["target"] == "node2"


def test_a_half_made_vm_is_read_again_and_goes_before_its_volumes(sweep, wire, replies):
    wire.script(
        (f"GET {INSTANCE}", replies.sync(state("creating"))),
        (f"GET {INSTANCE}", replies.sync(state("creating"))),
        (f"PUT {INSTANCE}/state", replies.sync()),
        (f"DELETE {INSTANCE}", replies.sync()),
        (f"DELETE {VOLUME}", replies.sync()),
    )
    assert run(sweep, HALF_VM, OWN) == "removed 2, kept 0, failed 0"


def test_a_vm_that_is_complete_by_now_stays_with_its_volumes(sweep, wire, replies):
    wire.script((f"GET {INSTANCE}", replies.sync(state("created"))))
    assert run(sweep, HALF_VM, OWN) == "removed 0, kept 2 (2 in use), failed 0"


@pytest.mark.parametrize(
    "resources, kept", [([DRIVE], "1 (1 being made)"), ([HALF_VM, OWN], "2 (1 being made, 1 in use)")]
)
def test_what_a_create_vm_on_this_machine_is_at_is_not_asked_for(resources, kept, sweep, tmp_path, log):
    with creating(str(tmp_path), NAME, log, sleep=time.sleep):
        assert run(sweep, *resources) == f"removed 0, kept {kept}, failed 0"


def test_a_half_made_vm_that_goes_meanwhile_was_not_removed(sweep, wire, replies):
    wire.script(
        (f"GET {INSTANCE}", replies.sync(state("creating"))),
        (f"GET {INSTANCE}", replies.error("Instance not found", 404)),
    )
    assert run(sweep, HALF_VM) == "removed 0, kept 1 (1 gone by itself), failed 0"


@pytest.mark.parametrize(
    "text, code, reason",
    [("Storage pool volume not found", 404, "gone by itself"), ("The storage volume is still in use", 400, "in use")],
)
def test_what_the_server_knows_better_is_no_failure(text, code, reason, sweep, wire, replies):
    wire.script((f"DELETE {VOLUME}", replies.error(text, code)))
    assert run(sweep, DRIVE) == f"removed 0, kept 1 (1 {reason}), failed 0"


def test_a_failure_is_told_in_one_line_and_the_next_thing_has_its_turn(sweep, wire, replies, capsys):
    other = dataclasses.replace(DRIVE, pool="slow")
    wire.script(
        (f"DELETE {VOLUME}", replies.error("disk on fire")),
        (f"DELETE {VOLUME.replace('fast', 'slow')}", replies.sync()),
    )
    assert run(sweep, DRIVE, other) == "removed 1, kept 0, failed 1"
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("cleanup: deleting ") and "disk on fire" in line


def test_a_lock_that_cannot_be_looked_at_is_a_failure(sweep, tmp_path):
    (tmp_path / f"creating-{NAME}").symlink_to("/dev/null")
    assert run(sweep, DRIVE) == "removed 0, kept 0, failed 1"


def test_an_image_that_has_a_name_by_now_stays(sweep, wire, replies):
    image = Resource(kind=IMAGE, cid="f00d", director=OURS, created=0.0, state=NO_ALIAS)
    wire.script(("GET /1.0/images/f00d", replies.sync({"aliases": [{"name": "img-1"}]})))
    assert run(sweep, image) == "removed 0, kept 1 (1 in use), failed 0"
    wire.script(("GET /1.0/images/f00d", replies.sync({"aliases": []})), ("DELETE /1.0/images/f00d", replies.sync()))
    assert run(sweep, image) == "removed 1, kept 1 (1 in use), failed 0"


def test_a_dry_run_only_reads(client, tmp_path, wire, replies, capsys):
    wire.script((f"GET {INSTANCE}", replies.sync(state("creating"))))
    assert run(Pruner(client, str(tmp_path), dry_run=True), HALF_VM, OWN) == "would remove 2, kept 0, failed 0"
    assert [line.split(" (")[0] for line in capsys.readouterr().out.splitlines()] == [
        f"would remove vm {NAME}",
        f"would remove config vol-c-{UUID} in pool fast",
    ]


def test_each_removal_has_time_of_its_own(sweep, wire, replies, clock):
    def slow():
        clock.sleep(200)
        return replies.sync()

    wire.script(*[(f"DELETE {VOLUME}", slow)] * 3)
    assert run(
        sweep, DRIVE, dataclasses.replace(DRIVE, created=1.0), dataclasses.replace(DRIVE, created=2.0)
    ).startswith("removed 3,")


def test_a_disk_that_is_attached_at_the_last_moment_is_refused(sweep, wire, replies):
    disk = dataclasses.replace(DRIVE, kind=DISK, cid=f"vol-p-{UUID}", state=ORPHAN)
    wire.script(
        (f"DELETE {VOLUME.replace('vol-c', 'vol-p')}", replies.error("The storage volume is still in use", 400))
    )
    with pytest.raises(errors.CloudError, match="was not deleted: it is in use"):
        sweep.delete_disk(disk)
