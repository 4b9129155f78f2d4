from __future__ import annotations

import pytest

from bosh_lxd_cpi.actions import root_disks
from bosh_lxd_cpi.lxd.features import features
from bosh_lxd_cpi.lxd.resources import Server

POOL = "GET /1.0/storage-pools/fast"


@pytest.fixture
def size(context):
    """Return a function that returns the size of a root disk on a server with these storage drivers."""

    def size(root_disk: int, *, storage: str = "btrfs") -> int:
        document = {"auth": "trusted", "environment": {"storage": storage}}
        server_features = features(Server(document, endpoint="GET /1.0"))
        return root_disks.size(context(), server_features, pool="fast", root_disk=root_disk)

    return size


@pytest.mark.parametrize(("root_disk", "expected"), [(1024, 3072), (3072, 3072), (4096, 4096)])
def test_has_at_least_the_size_of_the_volume_of_the_image(size, wire, responses, root_disk, expected):
    pool = {"name": "fast", "driver": "btrfs", "config": {"volume.size": "3GiB"}}
    wire.script((POOL, responses.sync(pool)))
    assert size(root_disk) == expected


def test_keeps_the_size_in_a_pool_of_directories(size, wire, responses):
    wire.script((POOL, responses.sync({"name": "fast", "driver": "dir", "config": {}})))
    assert size(1024, storage="dir | zfs") == 1024


@pytest.mark.parametrize(("root_disk", "storage"), [(0, "btrfs"), (1024, "dir"), (1024, "")])
def test_reads_no_pool_if_it_does_not_matter(size, wire, root_disk, storage):
    assert size(root_disk, storage=storage) == root_disk and wire.requests == 0


@pytest.mark.parametrize("status", [403, 404])
def test_keeps_the_size_if_the_pool_cannot_be_read(size, wire, responses, status):
    """The creation of the VM reports a missing pool."""
    wire.script((POOL, responses.error("no", status)))
    assert size(1024) == 1024
