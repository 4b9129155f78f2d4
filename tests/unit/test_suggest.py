from __future__ import annotations

import pytest

from bosh_lxd_cpi.runtime.suggest import did_you_mean, is_similar, quote

NAMES = ["root_disk", "ephemeral_disk", "cpu", "ram"]


@pytest.mark.parametrize(
    "name, suggestion",
    [
        ("root-disk", "root_disk"),
        ("ephemeral_dsik", "ephemeral_disk"),
        ("cpus", "cpu"),
        ("disk", "root_disk"),
        ("rams", "ram"),
    ],
)
def test_suggests_most_similar_name(name, suggestion):
    assert did_you_mean(name, NAMES) == f" (did you mean {suggestion}?)"


@pytest.mark.parametrize("name", ["zzz", "", 5, None])
def test_lists_all_names_without_similar_one(name):
    assert did_you_mean(name, NAMES) == " (valid names: cpu, ephemeral_disk, ram, root_disk)"


@pytest.mark.parametrize(
    "value, text",
    [
        ("1 GiB", "'1 GiB'"),
        (-5, "-5"),
        (True, "True"),
        (None, "None"),
        ({"password": "a"}, "an object"),
        (["a"], "a list"),
        ("x" * 39, "a string"),
        (10**40, "a number"),
    ],
    ids=["string", "number", "boolean", "null", "object", "list", "long string", "long number"],
)
def test_quotes_short_values_only(value, text):
    """A part of a secret would not be recognised as the secret."""
    assert quote(value) == text


@pytest.mark.parametrize("name", ["rma", "CPU", "root-disk", "vm.cpu", "ephemeral_dsik", "cpus"])
def test_recognizes_misspelt_names(name):
    assert is_similar(name, NAMES)


@pytest.mark.parametrize("name", ["disk", "cpu_type", "", "x" * 5000])
def test_other_names_are_not_similar(name):
    assert not is_similar(name, NAMES)
