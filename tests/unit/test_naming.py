from __future__ import annotations

import random
import re
import uuid

import pytest

from bosh_lxd_cpi.model import naming
from bosh_lxd_cpi.runtime.clock import Clock

DIRECTOR = "7d0f3a52-5f1e-4c60-9c1e-2f4f6a1b0c3d"


class FixedClock(Clock):
    """A clock that stands still, and random digits from a seed."""

    def __init__(self, seconds: float = 1_770_000_000.123, seed: int = 1) -> None:
        self.seconds, self._random = seconds, random.Random(seed)

    def time(self) -> float:
        return self.seconds

    def random_hex(self, digits: int) -> str:
        return "".join(self._random.choice("0123456789abcdef") for _ in range(digits))


# -- UUIDs ---------------------------------------------------------------------------------------------------------


def test_id_contains_time_and_director():
    origin = naming.origin(f"vol-c-{naming.new_id(FixedClock(), DIRECTOR)}")
    assert origin == (1_770_000_000.123, naming.director_digest(DIRECTOR))


@pytest.mark.parametrize("seed", range(40))
def test_id_is_a_version_8_uuid(seed):
    created = uuid.UUID(naming.new_id(FixedClock(seed=seed), DIRECTOR))
    assert (created.version, created.variant) == (8, uuid.RFC_4122)


def test_ids_of_the_same_moment_differ():
    clock = FixedClock()
    assert len({naming.new_id(clock, DIRECTOR) for _ in range(1000)}) == 1000


def test_ids_sort_by_time():
    first = naming.new_id(FixedClock(1_770_000_000.001, seed=1), DIRECTOR)
    second = naming.new_id(FixedClock(1_770_000_000.002, seed=2), DIRECTOR)
    assert first < second


def test_digests_of_directors_differ_even_without_uuid():
    digests = [naming.director_digest(name) for name in (DIRECTOR, DIRECTOR.upper(), "")]
    assert len(set(digests)) == 3
    assert all(len(digest) == 12 and set(digest) <= set("0123456789abcdef") for digest in digests)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(f"vol-c-{uuid.UUID(int=7, version=4)}", id="version 4"),
        pytest.param("vol-c-01a2030b-da83-881f-9150-73ab989ac49", id="too short"),
        pytest.param("vol-c-01a2030b-da83-881f-9150-733ab989ac49-copy", id="suffix"),
        pytest.param("vol-c-01a2030b-da83-881f-c150-733ab989ac49", id="other variant"),
        pytest.param("vm-web", id="no uuid"),
        pytest.param("", id="empty"),
    ],
)
def test_other_names_have_no_origin(name):
    assert naming.origin(name) is None


# -- CIDs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        naming.vm_cid("01a2030b-da83-881f-9150-733ab989ac49"),
        naming.stemcell_cid("01a2030b-da83-881f-9150-733ab989ac49"),
        naming.disk_cid("01a2030b-da83-881f-9150-733ab989ac49"),
        naming.config_drive("01a2030b-da83-881f-9150-733ab989ac49"),
        naming.snapshot_name("01a2030b-da83-881f-9150-733ab989ac49"),
        "vol-e-01a2030b-da83-881f-9150-733ab989ac49",
        pytest.param("vm-01a2030b-da83-481f-7150-733ab989ac49", id="Go CPI with wrong variant"),
    ],
)
def test_pattern_matches_names_of_both_cpis(name):
    assert naming.is_generated(name)


@pytest.mark.parametrize("name", ["vm-web", "vol-x-01a2030b-da83-881f-9150-733ab989ac49", "img-", "disk"])
def test_pattern_does_not_match_other_names(name):
    assert not naming.is_generated(name)


def test_volumes_of_a_vm_contain_its_uuid():
    assert naming.own_volumes("vm-1234-ab") == ("vol-e-1234-ab", "vol-c-1234-ab")


def test_snapshot_cid_contains_disk_and_snapshot():
    cid = naming.snapshot_cid("vol-p-1", naming.snapshot_name("2"))
    assert cid == "vol-p-1_snap-2"
    assert naming.split_snapshot_cid(cid) == ("vol-p-1", "snap-2")
    assert naming.split_snapshot_cid("vol-p-1") is None


# -- devices and locks ---------------------------------------------------------------------------------------------


def test_device_name_depends_on_disk_cid_only():
    name = naming.persistent_device("vol-p-3f2b1c00-0000-4000-8000-000000000001")
    assert re.fullmatch("p[0-9a-f]{12}", name)
    assert name == naming.persistent_device("vol-p-3f2b1c00-0000-4000-8000-000000000001")
    assert len({naming.persistent_device(f"vol-p-{number}") for number in range(1000)}) == 1000


@pytest.mark.parametrize(
    "name", [naming.persistent_device("vol-p-1"), naming.EPHEMERAL_DEVICE, naming.CONFIG_DEVICE, naming.ROOT_DEVICE]
)
def test_serial_number_is_short_enough_for_every_server(name):
    """LXD before 6.4 cuts serial numbers off at 20 characters (docs/development/lxd-api.md §4)."""
    assert len(f"incus_{name}") <= 20
    assert re.fullmatch("[a-z0-9]+", name)
    assert naming.is_reserved_device(name)


def test_locks_have_different_names():
    assert len({"vol-p-1", naming.change_lock("vol-p-1"), naming.attachment_lock("vol-p-1")}) == 3
