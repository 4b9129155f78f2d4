from __future__ import annotations

import random
import uuid

import pytest

from bosh_lxd_cpi.model import naming
from bosh_lxd_cpi.runtime.clock import Clock

DIRECTOR = "7d0f3a52-5f1e-4c60-9c1e-2f4f6a1b0c3d"


class Fixed(Clock):
    """A clock that stands still, with randomness that does not depend on the machine."""

    def __init__(self, seconds: float = 1_770_000_000.123, seed: int = 1) -> None:
        self.seconds, self._random = seconds, random.Random(seed)

    def time(self) -> float:
        return self.seconds

    def random_hex(self, digits: int) -> str:
        return "".join(self._random.choice("0123456789abcdef") for _ in range(digits))


def test_an_id_says_when_it_was_made_and_for_whom():
    origin = naming.origin(f"vol-c-{naming.new_id(Fixed(), DIRECTOR)}")
    assert origin == (1_770_000_000.123, naming.director_digest(DIRECTOR))


@pytest.mark.parametrize("seed", range(40))
def test_an_id_is_a_version_8_uuid(seed):
    made = uuid.UUID(naming.new_id(Fixed(seed=seed), DIRECTOR))
    assert (made.version, made.variant) == (8, uuid.RFC_4122)


def test_ids_of_one_moment_differ():
    clock = Fixed()
    assert len({naming.new_id(clock, DIRECTOR) for _ in range(1000)}) == 1000


def test_ids_sort_by_time():
    assert naming.new_id(Fixed(1_770_000_000.001, seed=1), DIRECTOR) < naming.new_id(
        Fixed(1_770_000_000.002, seed=2), DIRECTOR
    )


def test_directors_can_be_told_apart_also_the_one_without_a_uuid():
    digests = [naming.director_digest(name) for name in (DIRECTOR, DIRECTOR.upper(), "")]
    assert len(set(digests)) == 3
    assert all(len(digest) == 12 and set(digest) <= set("0123456789abcdef") for digest in digests)


@pytest.mark.parametrize(
    "name",
    [
        f"vol-c-{uuid.UUID(int=7, version=4)}",
        "vol-c-01a2030b-da83-881f-9150-73ab989ac49",
        "vol-c-01a2030b-da83-881f-9150-733ab989ac49-copy",
        "vol-c-01a2030b-da83-881f-c150-733ab989ac49",
        "vm-web",
        "",
    ],
)
def test_other_names_say_nothing(name):
    assert naming.origin(name) is None
