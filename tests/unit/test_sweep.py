from __future__ import annotations

import pytest

from bosh_lxd_cpi.inventory import CONFIG, DISK, EPHEMERAL, HALF_MADE, IMAGE, NO_ALIAS, ORPHAN, SNAPSHOT, UNMARKED, UNUSED, VM, Thing
from bosh_lxd_cpi.sweep import ALL, Rules

NOW, HOUR = 1_770_000_000.0, 3600.0
OURS, OTHERS = "733ab989ac49", "8b3c04bb2a6c"
STATES = {VM: HALF_MADE, CONFIG: UNUSED, EPHEMERAL: UNUSED, IMAGE: NO_ALIAS, DISK: ORPHAN, SNAPSHOT: ""}


def rules(**changed) -> Rules:
    return Rules(**{"director": OURS, "min_age": HOUR, "legacy": False, "now": NOW, **changed})


def thing(kind: str, *, age: float | None = HOUR, director: str = OURS, state: str | None = None) -> Thing:
    return Thing(kind=kind, cid=kind, director=director, created=None if age is None else NOW - age,
                 state=STATES[kind] if state is None else state)


@pytest.mark.parametrize("kind", [VM, CONFIG, EPHEMERAL, IMAGE])
def test_what_nobody_needs_can_go_when_it_is_old_enough(kind):
    assert rules().reason_to_keep(thing(kind)) == ""
    assert rules().reason_to_keep(thing(kind, age=HOUR - 1)) == "too young"
    assert rules(min_age=0).reason_to_keep(thing(kind, age=0)) == ""


@pytest.mark.parametrize("kind", [VM, CONFIG, EPHEMERAL, IMAGE])
def test_what_is_in_use_stays(kind):
    assert rules(min_age=0, legacy=True, director=ALL).reason_to_keep(thing(kind, state="")) == "in use"


@pytest.mark.parametrize("kind", [DISK, SNAPSHOT])
@pytest.mark.parametrize("director", [OURS, OTHERS, UNMARKED])
def test_what_is_persistent_stays(kind, director):
    assert rules(min_age=0, legacy=True, director=ALL).reason_to_keep(thing(kind, director=director)) == "persistent"


@pytest.mark.parametrize("kind", [VM, CONFIG, EPHEMERAL, IMAGE])
def test_another_directors_things_stay_unless_all_are_meant(kind):
    assert rules(min_age=0, legacy=True).reason_to_keep(thing(kind, director=OTHERS)) == "another director's"
    assert rules(director=ALL).reason_to_keep(thing(kind, director=OTHERS)) == ""


@pytest.mark.parametrize("kind", [VM, CONFIG, EPHEMERAL, IMAGE])
def test_unmarked_things_stay_but_legacy_configuration_drives(kind):
    unmarked = thing(kind, director=UNMARKED)
    assert rules(min_age=0).reason_to_keep(unmarked) == "unmarked"
    assert rules(min_age=0, director=ALL).reason_to_keep(unmarked) == "unmarked"
    assert rules(legacy=True).reason_to_keep(unmarked) == ("" if kind == CONFIG else "unmarked")


def test_an_unknown_age_counts_as_none():
    drive = thing(CONFIG, age=None, director=UNMARKED)
    assert rules(legacy=True).reason_to_keep(drive) == "too young"
    assert rules(legacy=True, min_age=0).reason_to_keep(drive) == ""


def test_a_thing_from_the_future_is_young():
    assert rules(min_age=0).reason_to_keep(thing(CONFIG, age=-60)) == "too young"
