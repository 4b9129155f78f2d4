from __future__ import annotations

import pytest

from bosh_lxd_cpi.lxd import sizes


@pytest.mark.parametrize(
    "text, mib",
    [
        ("64MiB", 64),
        ("20GiB", 20480),
        ("1TiB", 1 << 20),
        ("1048576", 1),
        ("512B", 512 / (1 << 20)),
        ("1000MB", 1e9 / (1 << 20)),
        ("2 GiB", 2048),
        ("0", 0),
    ],
)
def test_a_size_is_read_as_the_server_means_it(text, mib):
    assert sizes.mib(text) == mib


@pytest.mark.parametrize("text", ["", "GiB", "1.5GiB", "-1", "10%", "5 apples"])
def test_what_is_no_size_has_none(text):
    assert sizes.mib(text) is None
