from __future__ import annotations

import pytest

from bosh_lxd_cpi.runtime.suggest import did_you_mean

KNOWN = ["root_disk", "ephemeral_disk", "cpu", "ram"]


@pytest.mark.parametrize(
    "word, near",
    [
        ("root-disk", "root_disk"),
        ("ephemeral_dsik", "ephemeral_disk"),
        ("cpus", "cpu"),
        ("disk", "root_disk"),
        ("rams", "ram"),
    ],
)
def test_a_misspelt_name_is_recognised(word, near):
    assert did_you_mean(word, KNOWN) == f" (did you mean {near}?)"


@pytest.mark.parametrize("word", ["zzz", "", 5, None])
def test_otherwise_all_names_are_shown_in_order(word):
    assert did_you_mean(word, KNOWN) == " (known: cpu, ephemeral_disk, ram, root_disk)"
