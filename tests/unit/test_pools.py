from __future__ import annotations

import pytest

from bosh_lxd_cpi.lxd import pools
from bosh_lxd_cpi.lxd.resources import StoragePool


@pytest.mark.parametrize(
    ("driver", "config", "size"),
    [
        ("btrfs", {}, 10240),
        ("zfs", {"volume.size": "3GiB"}, 3072),
        ("ceph", {"volume.size": "20GB"}, 19074),
        ("btrfs", {"volume.size": "0"}, 10240),
        ("lvm", {}, 10240),
        ("lvm", {"lvm.use_thinpool": "false"}, 0),
        ("dir", {"volume.size": "3GiB"}, 0),
        ("lvmcluster", {}, 0),
        ("btrfs", None, 10240),
    ],
)
def test_image_volume_size(driver, config, size):
    """A restricted certificate reads no configuration."""
    document = {"name": "default", "driver": driver, "config": config}
    assert pools.image_volume_size(StoragePool(document, endpoint="GET")) == size
