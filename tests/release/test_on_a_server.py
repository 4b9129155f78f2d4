"""The compiled release on real servers that `util init_lxd` has prepared, with a restricted certificate."""

from __future__ import annotations

import ipaddress
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host import dhcp, machine, server, tiny_stemcell
from tests.release import bosh_job, bosh_release
from tests.support.certificates import create_certificate
from tests.support.lab import VARIABLES

pytestmark = pytest.mark.skipif(machine.unsupported_reason() is not None, reason=str(machine.unsupported_reason()))

STEMCELL = {
    "name": "bosh-openstack-kvm-ubuntu-noble",
    "version": "1",
    "disk": 64,
    "disk_format": "qcow2",
    "architecture": "x86_64",
}
NETWORKS = {
    "default": {
        "type": "manual",
        "ip": "10.250.0.20",
        "netmask": "255.255.255.0",
        "gateway": "10.250.0.1",
        "dns": ["10.250.0.1"],
        "default": ["dns", "gateway"],
        "cloud_properties": {},
    }
}


@pytest.fixture(params=["incus", "lxd"])
def host(request: pytest.FixtureRequest) -> Iterator[Any]:
    with server.temporary_host(request.param, name=f"release-{request.param}") as facts:
        yield facts


def util_environ(host: Any, folder: Path) -> dict[str, str]:
    return {
        "HOME": str(folder),
        "PATH": f"{folder / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin",
        "SERVER_TYPE": host.type,
        "CPI_CONFIG_DIR": str(folder),
        "SERVER_CLIENT_CERT": str(folder / "client.crt"),
    }


def init_lxd(host: Any, folder: Path) -> str:
    """Prepare the server with bin/util and the client program of the server. Return stdout."""
    program = folder / "bin" / ("incus" if host.type == "incus" else "lxc")
    program.parent.mkdir(exist_ok=True)
    path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"  # the stub must not start itself on the host
    program.write_text(f'#!/bin/sh\n{path} exec {" ".join(server.client_command(host.name))} "$@"\n')
    program.chmod(0o755)
    (folder / "bosh-vars.yml").write_text(VARIABLES)
    environ = util_environ(host, folder)
    run = subprocess.run(
        [bosh_release.ROOT / "bin/util", "init_lxd"],
        env=environ,
        cwd=folder,
        input="further lines of a script\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def create_client_certificate(folder: Path) -> None:
    create_certificate(folder / "client.crt", folder / "client.key", name="release", curve="prime256v1")


@pytest.fixture
def cpi(host: Any, public_path: Path, packages: Path) -> Callable[..., Any]:
    """The job of the compiled release on a server. Return a function that returns the result of a CPI call."""
    create_client_certificate(public_path)
    init_lxd(host, public_path)
    assert "+ " not in init_lxd(host, public_path), "the second run changes nothing"
    properties = {
        "agent": {"mbus": "nats://10.250.0.11:4222"},
        "lxd_cpi": {
            "server": {
                "url": host.url,
                "tls_server_cert": Path(host.server_cert).read_text(),
                "project_name": "boshdev",
                "profile_name": "bosh",
                "network_name": "boshdevbr0",
                "storage_pool_name": "devpool",
                "tls_client_cert": (public_path / "client.crt").read_text(),
                "tls_client_key": (public_path / "client.key").read_text(),
            }
        },
    }
    job = bosh_job.render_job(public_path / "jobs", properties)
    environ = bosh_job.worker_environ(public_path) | {
        "BOSH_PACKAGES_DIR": str(packages),
        "BOSH_JOBS_DIR": str(public_path / "jobs"),
    }

    def call(method: str, *arguments: Any) -> Any:
        request = {
            "method": method,
            "arguments": arguments,
            "api_version": 2,
            "context": {"director_uuid": "d", "request_id": "cpi-1", "vm": {"stemcell": {"api_version": 3}}},
        }
        response, stderr = bosh_job.call(
            [*server.netns_command(host.name), str(job / "bin/cpi")], request, environ=environ
        )
        assert response["error"] is None, stderr
        return response["result"]

    return call


@pytest.fixture
def stemcell_image(tmp_path: Path) -> str:
    """A stemcell image with an empty disk. The test does not need a VM that boots."""
    return str(tiny_stemcell.stemcell_image(tmp_path, mib=64))


@pytest.mark.skipif(not shutil.which("qemu-img"), reason="needs qemu-img")
def test_lifecycle_of_a_vm_with_a_restricted_certificate(
    cpi: Callable[..., Any], host: Any, stemcell_image: str
) -> None:
    stemcell = cpi("create_stemcell", stemcell_image, STEMCELL, None)
    vm, networks = cpi(
        "create_vm", "agent", stemcell, {"instance_type": "c1-m1", "ephemeral_disk": 512}, NETWORKS, [], {"bosh": {}}
    )
    assert networks["default"]["ip"] == "10.250.0.20"
    assert cpi("has_vm", vm)
    cpi("set_vm_metadata", vm, {"director": "d", "deployment": "x", "job": "j", "index": "0"})
    disk = cpi("create_disk", 64, {}, vm)
    assert cpi("attach_disk", vm, disk)["path"].startswith("/dev/disk/by-id/")
    assert cpi("get_disks", vm) == [disk]
    snapshot = cpi("snapshot_disk", disk, {"director_name": "d"})
    cpi("delete_snapshot", snapshot)
    cpi("detach_disk", vm, disk)
    cpi("resize_disk", disk, 128)
    cpi("delete_vm", vm)
    assert not cpi("has_vm", vm)
    cpi("delete_disk", disk)
    cpi("delete_stemcell", stemcell)
    volumes = json.loads(
        server.client(host.name, "--project", "boshdev", "storage", "volume", "list", "devpool", "--format=json").stdout
    )
    assert [volume["name"] for volume in volumes if volume["type"] == "custom"] == []


def test_dhcp_does_not_assign_the_address_of_the_director(host: Any, public_path: Path) -> None:
    create_client_certificate(public_path)
    init_lxd(host, public_path)
    assert dhcp.offer(host.name, "boshdevbr0", request="10.250.0.185") == "10.250.0.185"
    offered = ipaddress.ip_address(dhcp.offer(host.name, "boshdevbr0", request="10.250.0.11"))
    assert ipaddress.ip_address("10.250.0.180") <= offered <= ipaddress.ip_address("10.250.0.199")


def test_handles_missing_resources_without_pool_access(cpi: Callable[..., Any]) -> None:
    """cloud-check looks for missing disks and VMs, and BOSH may delete both twice."""
    assert not cpi("has_disk", "vol-p-01ae91cd-0385-4f72-658a-b9496717212b")
    assert cpi("delete_disk", "vol-p-01ae91cd-0385-4f72-658a-b9496717212b") is None
    assert cpi("delete_vm", "vm-01ae91cd-0385-4f72-658a-b9496717212b") is None


def test_destroy_deletes_what_bosh_created(cpi: Callable[..., Any], host: Any, public_path: Path) -> None:
    disk = cpi("create_disk", 64, {}, None)
    environ = util_environ(host, public_path)
    command = [bosh_release.ROOT / "bin/util", "destroy"]
    run = subprocess.run(
        command, env=environ, cwd=public_path, input="yes\n", capture_output=True, text=True, check=True
    )
    assert f"  disk {disk}\n" in run.stdout
    assert not cpi("has_disk", disk)
