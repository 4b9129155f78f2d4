"""Stemcells on real servers: shared images, aliases as CIDs, and memory."""

from __future__ import annotations

import copy
import gzip
import itertools
import json
import os
import re
import subprocess
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import pytest

from bosh_lxd_cpi.model import naming
from tests.host import server
from tests.host.director import (
    MAX_MEMORY,
    OTHER_UUID,
    CallError,
    Director,
    cpi_with_memory,
    environment,
    manual_network,
    peak_memory,
)
from tests.host.relay import Relay
from tests.support.tarballs import MIB, header, image_header, member, pax, tar, write_gzip

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


@pytest.fixture
def another_director(host, cpi, tmp_path) -> Director:
    """A director on another machine: its calls use other locks."""
    directory = tmp_path / "another"
    directory.mkdir()
    return Director(copy.deepcopy(cpi.config), directory, prefix=cpi.prefix, uuid=OTHER_UUID)


@pytest.mark.every_server
def test_equal_stemcells_share_image_until_last_is_deleted(host, cpi, qcow2, another_director):
    first = cpi.call("create_stemcell", qcow2, PROPERTIES)
    assert cpi.last.requests <= 6
    assert cpi.call("create_stemcell", qcow2, PROPERTIES, {"tags": {"a": "b"}}) == first
    assert cpi.last.requests == 1
    second = another_director.call("create_stemcell", qcow2, PROPERTIES)
    assert another_director.last.requests == 3, "no upload"
    [image] = images(host)
    assert {alias["name"] for alias in image["aliases"]} == {first, second}
    assert re.fullmatch("img-[0-9a-f-]{36}", first)
    assert image["type"] == "virtual-machine"

    cpi.call("delete_stemcell", first)
    assert cpi.last.requests <= 5
    assert [[alias["name"] for alias in image["aliases"]] for image in images(host)] == [[second]]
    cpi.call("delete_stemcell", second)
    assert cpi.last.requests <= 5
    assert images(host) == []
    assert cpi.call("delete_stemcell", second) is None, "a missing stemcell is not an error"


@pytest.mark.every_server
def test_other_content_of_the_same_version_is_another_image(host, cpi, qcow2, tmp_path):
    damaged = cpi.call("create_stemcell", qcow2, PROPERTIES)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "fixed", "32M"], check=True)
    fixed = cpi.call("create_stemcell", write_tarball(tmp_path / "image", tmp_path / "fixed"), PROPERTIES)
    fingerprints = {alias["name"]: image["fingerprint"] for image in images(host) for alias in image["aliases"]}
    assert set(fingerprints) == {damaged, fixed} and len(set(fingerprints.values())) == 2

    cpi.call("delete_stemcell", fixed)
    assert [[alias["name"] for alias in image["aliases"]] for image in images(host)] == [[damaged]]
    cpi.call("delete_stemcell", damaged)


@pytest.mark.every_server
def test_uses_image_of_a_version_with_special_characters(cpi, qcow2):
    """The server filters images by a regular expression without escapes for spaces and quotes."""
    versions = ('1.2+dev "é"', "1x2+dev 'e'", "1.2")
    cids = [cpi.call("create_stemcell", qcow2, {**PROPERTIES, "version": version}) for version in versions]
    for version, cid in zip(versions, cids, strict=True):
        assert cpi.call("create_stemcell", qcow2, {**PROPERTIES, "version": version}) == cid
        assert cpi.last.requests == 1
    for cid in cids:
        cpi.call("delete_stemcell", cid)


@pytest.mark.every_server
def test_uses_image_of_the_go_cpi(host, cpi, qcow2, another_director):
    """It has only the property `description`."""
    first = cpi.call("create_stemcell", qcow2, PROPERTIES)
    [image] = images(host)
    body = json.dumps({"properties": {"description": image["properties"]["description"]}})
    path = f"/1.0/images/{image['fingerprint']}?project={host.project}"
    server.client(host.name, "query", "-X", "PUT", "-d", body, path)
    second = another_director.call("create_stemcell", qcow2, PROPERTIES)
    assert [image["fingerprint"] for image in images(host)] == [image["fingerprint"]]
    for cid in (first, second):
        cpi.call("delete_stemcell", cid)


FINGERPRINT = re.compile("/1.0/images/[0-9a-f]{64}$")


@pytest.mark.every_server
@pytest.mark.parametrize("request_", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize("deletion", ["delete_stemcell", "cleanup"])
def test_image_that_is_deleted_and_named_at_the_same_time(
    host, cpi, qcow2, another_director, tmp_path, *, deletion, request_
):
    """Another machine creates the stemcell before a request of the deletion. In each order, the new CID has an
    image.
    """
    first = cpi.call("create_stemcell", qcow2, PROPERTIES)
    if deletion == "cleanup":
        server.client(host.name, "query", "-X", "DELETE", f"/1.0/images/aliases/{first}?project={host.project}")
    created = []

    def name_the_image(requests: list[str]) -> None:
        is_announced = "POST /1.0/images/aliases" in requests
        method, path = requests[-1].split(" ")
        is_image = path == "/1.0/images/aliases" if request_ == "POST" else FINGERPRINT.match(path)
        if is_announced and is_image and method == request_ and not created:
            created.append(another_director.start("create_stemcell", qcow2, PROPERTIES))
            wait_for_alias(host, OTHER_UUID)

    cpi.config["server"]["url"] = f"unix://{tmp_path}/relay"
    with Relay(tmp_path / "relay", Path(host.server_cert).parent / "unix.socket", before=name_the_image):
        if deletion == "cleanup":
            assert cpi.run_program("cleanup", "--min-age", "0").returncode == 0
        else:
            cpi.call("delete_stemcell", first)
    second = another_director.finish(created[0], "create_stemcell", 0)
    [image] = images(host)
    assert [alias["name"] for alias in image["aliases"]] == [second]
    another_director.call("delete_stemcell", second)


def wait_for_alias(host, director: str) -> None:
    """Wait until a director has an alias of the stemcell."""
    digest = naming.director_digest(director)
    while not any(alias["name"].endswith(digest) for image in images(host) for alias in image["aliases"]):
        time.sleep(0.05)


@pytest.mark.long
@pytest.mark.every_server
def test_stemcells_survive_deletions_and_cleanups(host, cpi, qcow2, tmp_path):
    """Three directors create and delete one stemcell, and two cleanups run, on two machines."""
    end, failures = time.monotonic() + 60, []

    def director(name: str, machine: str) -> Director:
        (tmp_path / name).mkdir()
        config = {**cpi.config, "throttle_config": {"path": str(tmp_path / machine)}}
        uuid = str(uuid5(NAMESPACE_URL, name))
        return Director(config, tmp_path / name, prefix=cpi.prefix, uuid=uuid)

    def create_and_delete(director: Director) -> int:
        for count in itertools.count():
            if time.monotonic() > end:
                return count
            cid = director.call("create_stemcell", qcow2, PROPERTIES)
            if not any(cid == alias["name"] for image in images(host) for alias in image["aliases"]):
                failures.append(cid)
            director.call("delete_stemcell", cid)
        raise AssertionError

    def clean(director: Director) -> int:
        for count in itertools.count():
            if time.monotonic() > end:
                return count
            result = director.run_program("cleanup", "--min-age", "0", "--director", "all")
            if result.returncode:
                failures.append(result.stdout + result.stderr)
        raise AssertionError

    with ThreadPoolExecutor(5) as pool:
        counts = [
            *[pool.submit(create_and_delete, director(name, name[:1])) for name in ("a1", "a2", "b1")],
            *[pool.submit(clean, director(name, name[:1])) for name in ("a3", "b2")],
        ]
    assert failures == []
    assert all(count.result() >= 5 for count in counts)
    assert images(host) == []


@pytest.mark.every_server
def test_same_image_under_another_version(host, cpi, qcow2):
    cids = [cpi.call("create_stemcell", qcow2, {**PROPERTIES, "version": version}) for version in ("9.1", "1.9.1")]
    assert len(images(host)) == 2
    for cid in cids:
        cpi.call("delete_stemcell", cid)


IMAGE_START = image_header(virtual_size=300 * MIB).ljust(1 << 16, b"\0")


def stemcell_file(size: int = MIB, **fields: int) -> bytes:
    """Return the gzipped tar of a disk image of `size` bytes. `fields` are those of its header."""
    start = image_header(**fields).ljust(1 << 16, b"\0")
    return gzip.compress(tar(member(content=start + os.urandom(size - len(start)))), 1)


def flip_bit(content: bytes) -> bytes:
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    return bytes(changed)


def write_sparse(path: Path) -> None:
    """Write a tarball of a few hundred bytes whose header contains a size of a terabyte."""
    with (path.parent / "root.img").open("wb") as file:
        file.write(image_header())
        file.truncate(1 << 40)
    subprocess.run(["tar", "--sparse", "-czf", path, "root.img"], check=True, cwd=path.parent)


INVALID: dict[str, tuple[str, Callable[[Path], object]]] = {
    "missing": ("cannot be read: No such file", lambda path: None),
    "directory": ("cannot be read: Is a directory", lambda path: path.mkdir()),
    "fifo": ("not a regular file", os.mkfifo),
    "no gzip": ("gzip", lambda path: path.write_bytes(b"QFI\xfb" * 100)),
    "zeros": ("does not contain root.img", lambda path: write_gzip(path, b"", 256 * MIB)),
    "other member": (
        "does not contain root.img",
        lambda path: write_gzip(path, tar(member("../root.img", IMAGE_START))),
    ),
    "large headers": ("a header has", lambda path: write_gzip(path, header(tarfile.XHDTYPE, 15 * MIB), 16 * MIB)),
    "many headers": ("more than 16 MiB besides root.img", lambda path: write_gzip(path, pax(b"9 a=bcd\n") * 30_000)),
    "sparse": ("contains a sparse file", write_sparse),
    "raw": ("not qcow2", lambda path: write_gzip(path, tar(member(content=b"\x33\xc0" * 40000)))),
    "four bytes": ("ends within its header", lambda path: write_gzip(path, tar(member(content=b"QFI\xfb")))),
    "backing file": ("needs a backing file", lambda path: path.write_bytes(stemcell_file(backing_file=1024))),
    "encrypted": ("is encrypted", lambda path: path.write_bytes(stemcell_file(encryption=2))),
    "version": ("has version 99", lambda path: path.write_bytes(stemcell_file(version=99))),
    "clusters": ("has clusters of 2\\^63 bytes", lambda path: path.write_bytes(stemcell_file(cluster_bits=63))),
    "no virtual size": ("virtual size of 0", lambda path: path.write_bytes(stemcell_file(virtual_size=0))),
    "8 EiB": ("virtual size of 9", lambda path: path.write_bytes(stemcell_file(virtual_size=1 << 63, l1_entries=9))),
    "larger than its disk": (
        "more than the limit of 1088 MiB",
        lambda path: write_gzip(path, header(tarfile.REGTYPE, 1 << 40, "root.img") + IMAGE_START, MIB),
    ),
    "truncated": ("gzip data ends too early", lambda path: path.write_bytes(stemcell_file()[: MIB // 2])),
    "no trailer": ("gzip data ends too early", lambda path: path.write_bytes(stemcell_file(2096128)[:-8])),
    "flipped bit 1": ("incorrect data check", lambda path: path.write_bytes(flip_bit(stemcell_file(2096128)))),
    "flipped bit 2": ("incorrect data check", lambda path: path.write_bytes(flip_bit(stemcell_file(2093056)))),
    "flipped bit 3": ("incorrect data check", lambda path: path.write_bytes(flip_bit(stemcell_file(3145216)))),
}
"""For each kind of invalid stemcell: the error message, and a function that writes it."""


@pytest.mark.every_server
@pytest.mark.only("incus", "lxd")
@pytest.mark.parametrize("kind", INVALID)
def test_rejects_invalid_stemcell_and_leaves_nothing(host, cpi, tmp_path, kind):
    message, write = INVALID[kind]
    path = tmp_path / "image"
    write(path)
    cpi.program = cpi_with_memory(tmp_path)
    with pytest.raises(CallError, match=message) as exc_info:
        cpi.call("create_stemcell", str(path), PROPERTIES)
    assert exc_info.value.type == "Bosh::Clouds::CloudError"
    assert images(host) == []
    assert peak_memory(cpi) < MAX_MEMORY


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/" + "x/" * 3000, "cannot be read: File name too long"),
        ("x" * 300, "cannot be read: File name too long"),
        ("/dev/zero", "not a regular file"),
        ("\0", "must be the path of a file"),
        ("", "cannot be read: No such file"),
    ],
    ids=["long path", "long name", "device", "NUL", "empty"],
)
def test_rejects_invalid_path(cpi, path, message):
    with pytest.raises(CallError, match=message) as exc_info:
        cpi.call("create_stemcell", path, PROPERTIES)
    assert "unexpected" not in exc_info.value.message and len(exc_info.value.message) < 500


def large_files(directory: Path) -> set[Path]:
    """Return the files of a mebibyte or more."""
    return {path for path in directory.rglob("*") if path.is_file() and path.stat().st_size >= MIB}


@pytest.fixture
def large_stemcell(tmp_path) -> str:
    """The image of a stemcell with 300 MiB of data. The server does not parse it during import."""
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.write(IMAGE_START)
        for _ in range(300):
            file.write(os.urandom(1 << 20))
    return write_tarball(tmp_path / "image", disk)


def test_streams_large_stemcell_with_progress(host, cpi, tmp_path, large_stemcell):
    cpi.program = cpi_with_memory(tmp_path)
    cpi.call("info")
    before = large_files(tmp_path)
    stemcell = cpi.call("create_stemcell", large_stemcell, PROPERTIES)
    assert [int(percent) for percent in re.findall(r"uploading the stemcell: (\d+) %", cpi.last.stderr)] == list(
        range(10, 101, 10)
    )
    assert large_files(tmp_path) == before, "no temporary copy"
    cpi.call("delete_stemcell", stemcell)
    assert peak_memory(cpi) < MAX_MEMORY


def start_upload(cpi: Director, stemcell: str) -> subprocess.Popen[bytes]:
    """Start create_stemcell and return its process when a tenth of the image is sent."""
    process = cpi.start("create_stemcell", stemcell, PROPERTIES)
    assert process.stderr
    while b"10 %" not in (line := process.stderr.readline()):
        assert line, "the call ended before its upload"
    return process


@pytest.mark.every_server
@pytest.mark.only("incus", "lxd")
def test_signal_stops_upload(host, cpi, large_stemcell):
    process = start_upload(cpi, large_stemcell)
    process.terminate()
    with pytest.raises(CallError, match="the call was stopped by SIGTERM"):
        cpi.finish(process, "create_stemcell", time.monotonic())
    assert images(host) == []


@pytest.mark.every_server
@pytest.mark.only("incus", "lxd")
def test_error_of_server_stops_upload(host, cpi, large_stemcell):
    """The server ends while the image is sent."""
    process = start_upload(cpi, large_stemcell)
    server.restart(host.name, hard=True)
    with pytest.raises(CallError, match=r"did not respond to POST /1.0/images|cannot connect"):
        cpi.finish(process, "create_stemcell", time.monotonic())
    assert images(host) == []


@pytest.mark.every_server
@pytest.mark.only("incus", "lxd")
def test_converts_raw_stemcell_to_qcow2(host, cpi, guest_stemcell, tmp_path, guests):
    with tarfile.open(guest_stemcell["image"]) as tar:
        (tmp_path / "root.qcow2").write_bytes(tar.extractfile("root.img").read())
    subprocess.run(["qemu-img", "convert", "-O", "raw", tmp_path / "root.qcow2", tmp_path / "root.raw"], check=True)
    path = write_tarball(tmp_path / "image", tmp_path / "root.raw")
    cpi.call("info")
    before = large_files(tmp_path)
    stemcell = cpi.call("create_stemcell", path, {**PROPERTIES, "disk_format": "raw"})
    assert large_files(tmp_path) == before, "no temporary copy"
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
