"""What the servers refuse, and the hint for it: limits and restrictions of projects, missing resources, full disks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host import server
from tests.host.director import CallError, Director, environment, manual_network
from tests.host.processes import enter_command
from tests.host.tiny_stemcell import STEMCELL, VM, stemcell_image

pytestmark = pytest.mark.every_server
CLOUD, NO_SPACE = "Bosh::Clouds::CloudError", "Bosh::Clouds::NoDiskSpace"
RESTRICTED = {
    "restricted": "true",
    "restricted.devices.disk": "allow",
    "restricted.devices.nic": "allow",
    "restricted.virtual-machines.lowlevel": "allow",
}
"""A restricted project in which the CPI works."""


@pytest.fixture
def stemcell(cpi: Director, tmp_path: Path) -> Iterator[str]:
    cid = cpi.call("create_stemcell", str(stemcell_image(tmp_path)), STEMCELL)
    yield cid
    cpi.call("delete_stemcell", cid)


@pytest.fixture
def project(host: server.Facts) -> Iterator[Any]:
    """Sets keys of the project. They are unset at the end."""
    keys: list[str] = []

    def change(settings: dict[str, str]) -> None:
        keys.extend(settings)
        for key, value in settings.items():
            server.client(host.name, "project", "set", host.project, f"{key}={value}")

    yield change
    for key in keys:
        server.client(host.name, "project", "unset", host.project, key)


def refusal(cpi: Director, method: str, *arguments: Any) -> CallError:
    with pytest.raises(CallError) as raised:
        cpi.call(method, *arguments)
    return raised.value


def vm(stemcell: str, *, network: dict[str, Any] | None = None, **properties: Any) -> tuple[Any, ...]:
    """Return the arguments of create_vm."""
    networks = {"n": manual_network("10.245.0.60", cloud_properties=network or {})}
    return "agent", stemcell, {**VM, **properties}, networks, [], environment()


@pytest.mark.parametrize(
    "key, value, error",
    [
        ("limits.disk", "40MiB", NO_SPACE),
        ("limits.memory", "32MiB", CLOUD),
        ("limits.cpu", "0", CLOUD),
        ("limits.virtual-machines", "0", CLOUD),
        ("limits.instances", "0", CLOUD),
    ],
)
def test_vm_over_the_limit_of_the_project(host, cpi, project, stemcell, key, value, error):
    project({key: value})
    refused = refusal(cpi, "create_vm", *vm(stemcell, root_disk=64))
    assert (refused.type, refused.ok_to_retry) == (error, False)
    assert f" project unset {host.project} {key}`" in refused.message


def test_disk_over_the_limit_of_the_project_is_no_disk_space(host, cpi, project):
    project({"limits.disk": "40MiB"})
    refused = refusal(cpi, "create_disk", 100, {}, "")
    assert refused.type == NO_SPACE
    assert f" project unset {host.project} limits.disk`" in refused.message


@pytest.mark.parametrize(
    "setting, properties, says",
    [
        (
            {"restricted.networks.access": "boshbr1", "restricted.devices.nic": "managed"},
            {},
            "restricted.networks.access",
        ),
        ({"restricted.devices.nic": "block"}, {}, "restricted.devices.nic=managed`"),
        ({"restricted.devices.disk": "block"}, {}, "restricted.devices.disk=managed`"),
        (
            {"restricted.virtual-machines.lowlevel": "block"},
            {"config": {"raw.qemu": "-name x"}},
            "restricted.virtual-machines.lowlevel=allow`",
        ),
        ({}, {"devices": {"gpu0": {"type": "gpu"}}}, "cloud_properties.devices"),
    ],
    ids=["network", "NICs", "disks", "options", "devices"],
)
def test_restricted_project_names_the_restriction(cpi, project, stemcell, setting, properties, says):
    project({**RESTRICTED, **setting})
    refused = refusal(cpi, "create_vm", *vm(stemcell, **properties))
    assert refused.type == CLOUD
    assert says in refused.message


def test_more_cpus_than_the_server_has(cpi, stemcell):
    refused = refusal(cpi, "create_vm", *vm(stemcell, cpu=512))
    assert refused.type == CLOUD
    assert "cpu or instance_type" in refused.message


def test_unknown_option_names_its_setting(cpi, stemcell):
    unknown = {"security.no_such_option": "1"}
    for properties, setting in ({"config": unknown}, "cloud_properties.config"), ({}, "server.instance_config"):
        cpi.config["server"]["instance_config"] = {"default": unknown}
        refused = refusal(cpi, "create_vm", *vm(stemcell, **properties))
        assert (refused.type, refused.ok_to_retry) == (CLOUD, False)
        assert f"Remove security.no_such_option from {setting}, or upgrade the server" in refused.message
    del cpi.config["server"]["instance_config"]
    for arguments, option in (
        (("create_vm", *vm(stemcell, devices={"extra0": {"type": "none", "nope": "1"}})), "nope of extra0"),
        (("create_disk", 16, {"config": {"nope": "1"}}, ""), "nope from config in the disk's cloud_properties"),
    ):
        assert f"Remove {option}" in refusal(cpi, *arguments).message


def test_missing_network_acl(host, cpi, stemcell):
    refused = refusal(cpi, "create_vm", *vm(stemcell, network={"security_groups": ["nope"]}))
    assert refused.type == CLOUD
    hint = "Remove security_groups" if host.type == "lxd" else "incus network acl list"
    assert hint in refused.message


def test_protected_vm_names_a_command_that_works(host, cpi, stemcell):
    cid = cpi.call("create_vm", *vm(stemcell))[0]
    for command in (
        ("stop", "--force", cid),
        ("config", "set", cid, "security.protection.delete=true"),
        ("start", cid),
    ):
        server.client(host.name, *command, "--project", host.project)
    refused = refusal(cpi, "delete_vm", cid)
    stop, change = f"stop --force {cid} --project {host.project}", f"{cid} security.protection.delete=false"
    assert stop in refused.message and change in refused.message
    server.client(host.name, *stop.split())
    server.client(host.name, "config", "set", *change.split(), "--project", host.project)
    cpi.call("delete_vm", cid)


@pytest.fixture
def unavailable_pool(host: server.Facts) -> Iterator[str]:
    """A pool whose directory is missing since the last start of the server."""
    directory, mount = "/srv/unavailable", f"/var/lib/{host.type}/storage-pools/unavailable"

    def restart_after(*commands: str) -> None:
        server.stop_daemon(host.name)
        for command in commands:
            subprocess.run(enter_command(host.name, "sh", "-c", command), check=True)
        server.start_daemon(host.name)

    subprocess.run(enter_command(host.name, "mkdir", directory), check=True)
    server.client(host.name, "storage", "create", "unavailable", "dir", f"source={directory}")
    restart_after(f"umount {mount}", f"mv {directory} {directory}.away")
    yield "unavailable"
    restart_after(f"mv {directory}.away {directory}")
    server.client(host.name, "storage", "delete", "unavailable")


def test_unavailable_pool_fails_at_once(host, cpi, stemcell, unavailable_pool):
    """The server tries every minute to use the pool again, so that to repeat the request does not help."""
    for arguments in (
        ("create_disk", 16, {"storage_pool": unavailable_pool}, ""),
        ("create_vm", *vm(stemcell, storage_pool=unavailable_pool)),
    ):
        refused = refusal(cpi, *arguments)
        assert (refused.type, refused.ok_to_retry) == (CLOUD, False)
        assert f" storage show {unavailable_pool}`" in refused.message
        assert cpi.last.requests < 20
    cpi.config["server"]["storage_pool_name"] = unavailable_pool
    [problem] = [check for check in json.loads(cpi.run_program("doctor", "--json").stdout) if check["status"] == "fail"]
    assert problem["message"] == "unavailable is unavailable" and "tries again" in problem["hint"]


@pytest.fixture
def small_pool(host: server.Facts) -> Iterator[str]:
    """A pool of 64 MiB."""

    def run(*command: str) -> None:
        subprocess.run(enter_command(host.name, *command), check=True)

    run("mkdir", "/srv/small")
    run("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", "/srv/small")
    server.client(host.name, "storage", "create", "small", "dir", "source=/srv/small")
    yield "small"
    server.client(host.name, "storage", "delete", "small")
    run("umount", "/srv/small")
    run("rmdir", "/srv/small")


def test_image_that_is_larger_than_the_space_of_the_pool(host, cpi, small_pool, tmp_path, restricted_certificate):
    disk, image = tmp_path / "root.img", tmp_path / "large-image"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=full", disk, "300M"], check=True)
    with tarfile.open(image, "w:gz", compresslevel=1) as tar:
        tar.add(disk, "root.img")
    arguments = str(image), {**STEMCELL, "disk": 300}
    cpi.config["server"]["storage_pool_name"] = small_pool
    for certificate in {}, restricted_certificate:
        cpi.config["server"].update(certificate)
        refused = refusal(cpi, "create_stemcell", *arguments)
        assert refused.type == NO_SPACE
        assert re.search(r"image has 30\d MiB, and storage pool small has 6\d MiB free\. Free space", refused.message)
        assert cpi.last.requests == 3, "no upload"


def test_full_image_directory_is_no_disk_space(host, cpi, tmp_path):
    disk, image, images = tmp_path / "root.img", tmp_path / "large-image", f"/var/lib/{host.type}/images"
    (tmp_path / "raw").write_bytes(os.urandom(64 << 20))
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", tmp_path / "raw", disk], check=True)
    with tarfile.open(image, "w:gz", compresslevel=1) as tar:
        tar.add(disk, "root.img")
    subprocess.run(enter_command(host.name, "mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", images), check=True)
    try:
        refused = refusal(cpi, "create_stemcell", str(image), {**STEMCELL, "disk": 64})
    finally:
        subprocess.run(enter_command(host.name, "umount", images), check=True)
    assert refused.type == NO_SPACE
    assert "no space left on device" in refused.message and "storage.images_volume" in refused.message
