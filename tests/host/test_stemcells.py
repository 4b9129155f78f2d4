"""Stemcells on real servers: shared images, aliases as CIDs, and memory."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.host import server
from tests.host.director import MAX_MEMORY, CallError, cpi_with_memory, environment, manual_network, peak_memory

PROPERTIES = {
    "name": "bosh-openstack-kvm-ubuntu-jammy-go_agent",
    "version": "9.1",
    "disk": 64,
    "disk_format": "qcow2",
    "architecture": "x86_64",
    "os_distro": "ubuntu",
    "infrastructure": "openstack",
}


def write_tarball(path: Path, disk: Path, name: str = "root.img") -> str:
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        tar.add(disk, name)
    return str(path)


@pytest.fixture
def qcow2(tmp_path) -> str:
    """The image of a stemcell with an empty disk."""
    disk = tmp_path / "disk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "64M"], check=True)
    return write_tarball(tmp_path / "image", disk)


def images(host) -> list[dict]:
    documents = json.loads(server.client(host.name, "query", f"/1.0/images?recursion=1&project={host.project}").stdout)
    return [image for image in documents if image["properties"]["description"].endswith(PROPERTIES["version"])]


@pytest.mark.every_server
def test_equal_stemcells_share_image_until_last_is_deleted(host, cpi, qcow2):
    first = cpi.call("create_stemcell", qcow2, PROPERTIES)
    assert cpi.last.requests <= 5
    second = cpi.call("create_stemcell", qcow2, PROPERTIES, {"tags": {"a": "b"}})
    assert cpi.last.requests == 2, "no upload"
    [image] = images(host)
    assert {alias["name"] for alias in image["aliases"]} == {first, second}
    assert re.fullmatch("img-[0-9a-f-]{36}", first)
    assert image["type"] == "virtual-machine"

    cpi.call("delete_stemcell", first)
    assert cpi.last.requests <= 4
    assert len(images(host)) == 1
    cpi.call("delete_stemcell", second)
    assert cpi.last.requests <= 4
    assert images(host) == []
    assert cpi.call("delete_stemcell", second) is None, "a missing stemcell is not an error"


@pytest.mark.every_server
def test_same_image_under_another_version(host, cpi, qcow2):
    cids = [cpi.call("create_stemcell", qcow2, {**PROPERTIES, "version": version}) for version in ("9.1", "1.9.1")]
    assert len(images(host)) == 2
    for cid in cids:
        cpi.call("delete_stemcell", cid)


def invalid_stemcell(tmp_path: Path, kind: str) -> str:
    """Create an invalid stemcell and return its path."""
    disk, path = tmp_path / "disk", tmp_path / "image"
    if kind == "raw":
        disk.write_bytes(b"\x33\xc0" * 40000)
        return write_tarball(path, disk)
    if kind == "truncated":
        disk.write_bytes(b"QFI\xfb" + bytes(12) + os.urandom(1 << 20))
        content = Path(write_tarball(path, disk)).read_bytes()
        path.write_bytes(content[: len(content) // 2])
    elif kind == "other member":
        disk.write_bytes(b"QFI\xfb" + bytes(100))
        return write_tarball(path, disk, "../root.img")
    elif kind == "no gzip":
        path.write_bytes(b"QFI\xfb" * 100)
    elif kind == "zeros":
        with gzip.open(path, "wb", compresslevel=1) as file:
            for _ in range(256):
                file.write(bytes(1 << 20))
    elif kind == "backing file":
        disk.write_bytes(b"QFI\xfb\0\0\0\3" + (1 << 10).to_bytes(8, "big") + bytes(100))
        return write_tarball(path, disk)
    return str(path)


@pytest.mark.every_server
@pytest.mark.only("incus", "lxd")
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("raw", "not qcow2"),
        ("truncated", "not a complete gzipped tar"),
        ("other member", "does not contain root.img"),
        ("no gzip", "gzip"),
        ("zeros", "root.img"),
        ("backing file", "backing file"),
        ("missing", "cannot be read"),
    ],
)
def test_rejects_invalid_stemcell_and_leaves_nothing(host, cpi, tmp_path, kind, message):
    with pytest.raises(CallError, match=message) as exc_info:
        cpi.call("create_stemcell", invalid_stemcell(tmp_path, kind), PROPERTIES)
    assert exc_info.value.type == "Bosh::Clouds::CloudError"


def test_streams_large_stemcell_with_progress(host, cpi, tmp_path):
    disk = tmp_path / "disk"
    with Path(disk).open("wb") as file:  # the server does not parse the image during import
        file.write(b"QFI\xfb" + bytes(65532))
        for _ in range(300):
            file.write(os.urandom(1 << 20))
    path = write_tarball(tmp_path / "image", disk)
    cpi.program = cpi_with_memory(tmp_path)
    cpi.call("info")
    before = set(tmp_path.iterdir())
    stemcell = cpi.call("create_stemcell", path, PROPERTIES)
    assert [int(percent) for percent in re.findall(r"uploading the stemcell: (\d+) %", cpi.last.stderr)] == list(
        range(10, 101, 10)
    )
    assert set(tmp_path.iterdir()) == before, "no temporary copy"
    cpi.call("delete_stemcell", stemcell)
    assert peak_memory(cpi) < MAX_MEMORY


@pytest.mark.every_server
@pytest.mark.only("incus", "lxd")
def test_converts_raw_stemcell_to_qcow2(host, cpi, guest_stemcell, tmp_path, guests):
    with tarfile.open(guest_stemcell["image"]) as tar:
        (tmp_path / "root.qcow2").write_bytes(tar.extractfile("root.img").read())
    subprocess.run(["qemu-img", "convert", "-O", "raw", tmp_path / "root.qcow2", tmp_path / "root.raw"], check=True)
    path = write_tarball(tmp_path / "image", tmp_path / "root.raw")
    cpi.call("info")
    before = set(tmp_path.iterdir())
    stemcell = cpi.call("create_stemcell", path, {**PROPERTIES, "disk_format": "raw"})
    assert set(tmp_path.iterdir()) == before, "no temporary copy"
    [image] = images(host)
    assert image["size"] < (tmp_path / "root.raw").stat().st_size / 2, "zeros are left out"
    vm, _ = cpi.call(
        "create_vm",
        "a",
        stemcell,
        {"instance_type": "c1-m0.375"},
        {"n": manual_network("10.245.0.22")},
        [],
        environment(),
    )
    assert guests.wait("10.245.0.22")["errors"] == []
    cpi.call("delete_vm", vm)
    cpi.call("delete_stemcell", stemcell)


@pytest.mark.every_server
@pytest.mark.only("incus", "lxd")
def test_light_stemcell_uses_existing_image(host, cpi, stemcell_cids, guests):
    existing = stemcell_cids["jammy"]
    alias = json.loads(
        server.client(host.name, "query", f"/1.0/images/aliases/{existing}?project={host.project}").stdout
    )
    by_alias = cpi.call("create_stemcell", "", {"name": "light-jammy", "version": "1", "image_alias": existing})
    by_fingerprint = cpi.call("create_stemcell", "", {"name": "light-jammy", "image_fingerprint": alias["target"]})
    vm, _ = cpi.call(
        "create_vm",
        "a",
        by_alias,
        {"instance_type": "c1-m0.375"},
        {"n": manual_network("10.245.0.23")},
        [],
        environment(),
    )
    assert guests.wait("10.245.0.23")["firmware"] == "bios"
    cpi.call("delete_vm", vm)
    for cid in (by_alias, by_fingerprint):
        cpi.call("delete_stemcell", cid)
    with pytest.raises(CallError, match="not on the server"):
        cpi.call("create_stemcell", "", {"image_alias": "nope"})


def test_predeployment_leaves_no_vm(host, cpi, qcow2):
    cpi.config["server"]["predeploy_stemcell"] = True
    cpi.call("delete_stemcell", cpi.call("create_stemcell", qcow2, PROPERTIES))


def test_upload_succeeds_after_killed_upload(host, cpi, qcow2):
    process = cpi.start("create_stemcell", qcow2, PROPERTIES)
    process.kill()
    process.communicate()
    cpi.call("delete_stemcell", cpi.call("create_stemcell", qcow2, PROPERTIES))
