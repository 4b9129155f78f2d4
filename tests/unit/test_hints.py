from __future__ import annotations

import re

import pytest

from bosh_lxd_cpi import hints


@pytest.mark.parametrize("problem", hints.HINTS)
def test_every_mend_can_be_told_with_and_without_names(problem):
    names = set(re.findall(r"(?<!\{)\{(\w+)\}", hints.HINTS[problem]))
    bare = hints.text(problem)
    assert not re.search(r"\{\w+\}", bare) and all(name.upper() in bare for name in names - {"client", "add"})
    given = hints.text(problem, **{name: f"<{name}>" for name in names})
    assert all(f"<{name}>" in given for name in names)


@pytest.mark.parametrize(
    "client, told",
    [
        (None, "`lxc config trust add bosh.crt` or `incus config trust add-certificate bosh.crt`"),
        ("lxc", "lxc config trust add bosh.crt"),
        ("incus", "incus config trust add-certificate bosh.crt"),
    ],
)
def test_commands_are_those_of_the_servers_own_client(client, told):
    assert told in hints.text("untrusted", **({"client": client} if client else {}))


def test_a_name_with_braces_is_told_as_it_is():
    assert "{x}" in hints.text("unreachable", client="{x}")


def test_an_unknown_problem_is_a_mistake():
    with pytest.raises(KeyError):
        hints.text("no_such_problem")
