from __future__ import annotations

import pytest

from bosh_lxd_cpi.runtime.suggest import did_you_mean

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
