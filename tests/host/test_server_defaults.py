"""A server with the defaults of its own initialisation, instead of the settings of the test hosts."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host import server
from tests.host.conftest import Guests
from tests.host.director import Director, configuration, environment, manual_network
from tests.host.kinds import KINDS
from tests.host.machine import run
from tests.host.processes import enter_command
from tests.support.certificates import create_certificate


def initialise(name: str, kind: str, _: str) -> None:
    """Configure a new server with `init --minimal`, and let it trust the client certificate."""
    client, folder = KINDS[kind].client, server.STATE / name
    create_certificate(folder / "client.crt", folder / "client.key", name="bosh", days=3650)
    Path(f"/tmp/{name}.crt").write_bytes((folder / "client.crt").read_bytes())  # the host shares /tmp only
    add = "add-certificate" if client == "incus" else "add"
    for command in (
        [*KINDS[kind].init, "--minimal"],
        [client, "config", "set", "core.https_address", "127.0.0.1:8443"],
        [client, "config", "trust", add, f"/tmp/{name}.crt"],
    ):
        run(*enter_command(name, *command), env=server.CLIENT_ENVIRONMENT)
    Path(f"/tmp/{name}.crt").unlink()


@pytest.fixture
def default_host(request: pytest.FixtureRequest) -> Iterator[server.Facts]:
    name = f"{request.config.getoption('--hosts')}-default-{request.param}"
    server.down(name, wipe=True)
    try:
        yield server.up(request.param, name=name, pool="dir", configure=initialise)
    finally:
        server.down(name, wipe=True)


def test_vm_with_a_disk_on_a_server_with_default_settings(default_host, guest_stemcell, tmp_path):
    host = default_host
    bridge = "incusbr0" if host.type == "incus" else "lxdbr0"
    properties = configuration(host, project_name="default", network_name=bridge)
    cpi = Director(properties, tmp_path, prefix=server.netns_command(host.name))
    results = json.loads(cpi.run_program("doctor", "--json").stdout)
    config = json.loads(server.client(host.name, "query", f"/1.0/networks/{bridge}").stdout)["config"]
    gateway = ipaddress.ip_interface(config["ipv4.address"]).ip

    stemcell = cpi.call("create_stemcell", guest_stemcell["image"], guest_stemcell["properties"])
    network = manual_network(str(gateway + 9), gateway=str(gateway))
    vm, _ = cpi.call("create_vm", "a", stemcell, {"instance_type": "c1-m0.375"}, {"net": network}, [], environment())
    report = Guests(cpi.prefix).wait(network["ip"])
    disk = cpi.call("create_disk", 16, {}, vm)
    cpi.call("attach_disk", vm, disk)
    assert cpi.call("get_disks", vm) == [disk]
    cpi.call("detach_disk", vm, disk)
    for method, cid in (("delete_disk", disk), ("delete_vm", vm), ("delete_stemcell", stemcell)):
        cpi.call(method, cid)

    assert report["errors"] == [] and len(report["nics"]) == 1
    assert {result["check"] for result in results if result["status"] == "warn"} == {"pool", "network"}
    assert not [result for result in results if result["status"] == "fail"]
