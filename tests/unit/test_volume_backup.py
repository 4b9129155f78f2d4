from __future__ import annotations

import io
import tarfile

import yaml

from bosh_lxd_cpi.lxd import volume_backup


def unpacked(backup: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(backup)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]  # all members are files


def test_a_backup_is_an_index_and_then_the_disk():
    content = bytes(range(256)) * 4
    files = unpacked(volume_backup.volume_backup("vol-c-1", "fast", content))
    assert list(files) == ["backup/index.yaml", "backup/volume.img"]
    assert files["backup/volume.img"] == content


def test_the_index_describes_a_block_volume_of_the_disks_size():
    index = yaml.safe_load(unpacked(volume_backup.volume_backup("vol-c-1", "fast", bytes(1024)))["backup/index.yaml"])
    assert (index["name"], index["pool"], index["type"], index["optimized"], index["optimized_header"]) == (
        "vol-c-1",
        "fast",
        "custom",
        False,
        False,
    )
    assert index["config"] == {
        "volume": {"name": "vol-c-1", "type": "custom", "content_type": "block", "config": {"size": "1024"}}
    }


def test_equal_content_gives_equal_bytes():
    assert volume_backup.volume_backup("v", "p", b"x" * 512) == volume_backup.volume_backup("v", "p", b"x" * 512)
