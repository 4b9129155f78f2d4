"""Fine-grained TLS identities of LXD 5.21 and 6, with the permissions that `util init_lxd --identity` gives."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host import server
from tests.host.director import CallError, Director, configuration, environment, manual_network
from tests.host.kinds import IDENTITIES
from tests.host.test_doctor import STEPS, Doctor
from tests.host.tiny_stemcell import STEMCELL, VM, stemcell_image
from tests.host.util_program import run_util
from tests.support.certificates import create_certificate

pytestmark = pytest.mark.only(*IDENTITIES)

VARIABLES = """\
lxd_project_name: {project}
lxd_profile_name: {profile}
lxd_network_name: {network}
lxd_storage_pool_name: {pool}
internal_cidr: {cidr}
internal_gw: {gateway}
internal_ip: 10.245.0.11
dhcp_range: 10.245.0.180-10.245.0.199
"""
PROJECT, NETWORK = ("project", "bosh", "operator"), ("network", "boshbr0", "can_view", "project=default")
PERMISSIONS = {
    (PROJECT,): ["lacks operator on project bosh"],
    (NETWORK,): ["lacks can_view on network boshbr0"],
    (NETWORK, ("project", "default", "can_view")): [
        "lacks can_view on project default",
        "lacks can_view on network boshbr0",
    ],
}
"""Permissions of the group, and what bin/doctor reports without them."""


@pytest.fixture(scope="module")
def identity(host: server.Facts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The certificate and the key of an identity, as properties."""
    directory = tmp_path_factory.mktemp("identity")
    certificate, key = directory / "client.crt", directory / "client.key"
    create_certificate(certificate, key, name="identity", days=100)
    (directory / "bosh-vars.yml").write_text(VARIABLES.format_map(vars(host)), encoding="utf-8")
    try:
        for number in (1, 2):
            done = run_util(host, directory, "init_lxd", "--identity", SERVER_CLIENT_CERT=str(certificate))
            assert done.returncode == 0, done.stdout + done.stderr
            assert ("+ " in done.stdout) == (number == 1), "the second run changes nothing"
        yield {"tls_client_cert": certificate.read_text("utf-8"), "tls_client_key": key.read_text("utf-8")}
    finally:
        for name in identities(host):
            server.client(host.name, "auth", "identity", "delete", f"tls/{name}")
        server.client(host.name, "auth", "group", "delete", "bosh", check=False)


def identities(host: server.Facts) -> list[str]:
    """Return the names of the fine-grained identities."""
    rows = json.loads(server.client(host.name, "auth", "identity", "list", "--format=json").stdout)
    return [row["name"] for row in rows if row["type"] == "Client certificate"]


@pytest.fixture
def restricted_cpi(host: server.Facts, tmp_path: Path, identity: dict[str, str]) -> Callable[..., Director]:
    """Return a function that returns a director that uses the identity."""

    def restricted_cpi(**properties: str) -> Director:
        properties = configuration(host, **identity, **properties)
        return Director(properties, tmp_path, prefix=server.netns_command(host.name))

    return restricted_cpi


@pytest.fixture
def doctor(host: server.Facts, tmp_path: Path, restricted_cpi: Callable[..., Director]) -> Doctor:
    return Doctor(host, restricted_cpi(), tmp_path)


def life_of_a_vm(cpi: Director, directory: Path, network: dict[str, Any]) -> None:
    """Make a call of each method that has requests, and delete everything."""
    stemcell = cpi.call("create_stemcell", str(stemcell_image(directory)), STEMCELL)
    vm, _ = cpi.call("create_vm", "agent", stemcell, VM, {"default": network}, [], environment())
    cpi.call("set_vm_metadata", vm, {"deployment": "d", "job": "web"})
    disk = cpi.call("create_disk", 16, {}, vm)
    cpi.call("set_disk_metadata", disk, {"deployment": "d"})
    cpi.call("attach_disk", vm, disk)
    assert cpi.call("get_disks", vm) == [disk]
    snapshot = cpi.call("snapshot_disk", disk, {"deployment": "d", "job": "web", "index": 0})
    cpi.call("delete_snapshot", snapshot)
    cpi.call("reboot_vm", vm)
    cpi.call("detach_disk", vm, disk)
    cpi.call("resize_disk", disk, 32)
    assert cpi.call("has_vm", vm) and cpi.call("has_disk", disk)
    cpi.call("delete_disk", disk)
    cpi.call("delete_vm", vm)
    assert not cpi.call("has_vm", vm) and not cpi.call("has_disk", disk)
    cpi.call("delete_stemcell", stemcell)


def test_identity_may_do_everything(restricted_cpi, tmp_path):
    life_of_a_vm(restricted_cpi(), tmp_path, manual_network("10.245.0.81"))


def test_identity_reserves_addresses_if_it_may_edit_the_network(host, restricted_cpi, doctor, tmp_path):
    """The hints of the CPI and of bin/doctor name the permission."""
    cpi, network = restricted_cpi(managed_network_assignment="dhcp"), manual_network("10.245.0.81")
    stemcell = cpi.call("create_stemcell", str(stemcell_image(tmp_path)), STEMCELL)
    with pytest.raises(CallError, match="hides the settings") as raised:
        cpi.call("create_vm", "agent", stemcell, VM, {"default": network}, [], environment())
    cpi.call("delete_stemcell", stemcell)
    doctor.cpi.config["server"]["managed_network_assignment"] = "dhcp"
    hints = raised.value.message, doctor.problem("network", "fail")["hint"]
    [command] = {re.findall("`(lxc [^`]+)`", hint)[0] for hint in hints}
    doctor.apply(f"`{command.replace('GROUP', 'bosh')}`")
    try:
        life_of_a_vm(cpi, tmp_path, network)
        assert doctor.problems() == []
    finally:
        server.client(host.name, *command.replace("GROUP", "bosh").replace("add", "remove").split()[1:])


def test_identity_cannot_use_other_projects(host, restricted_cpi):
    with pytest.raises(CallError) as raised:
        restricted_cpi(project_name="default").call("create_disk", 16, {}, None)
    assert not raised.value.ok_to_retry
    assert server.client(host.name, "query", "/1.0/storage-pools/default/volumes/custom").stdout.strip() == "[]"


def test_doctor_accepts_the_identity(doctor):
    [trust] = [result for result in doctor.results() if result["check"] == "trust"]
    assert trust["message"].endswith("has all entitlements")
    assert doctor.problems() == []
    deep = [result for result in doctor.results("--deep") if result["check"].startswith("deep")]
    assert len(deep) == 2 * STEPS + 1 and {result["status"] for result in deep} == {"ok"}


@pytest.mark.parametrize("permissions", PERMISSIONS, ids=["project", "network", "network and its project"])
def test_doctor_names_missing_permissions(host, doctor, permissions):
    """Its hints add them again."""
    for permission in permissions:
        server.client(host.name, "auth", "group", "permission", "remove", "bosh", *permission)
    problems = [problem for problem in doctor.problems() if problem["check"] == "trust"]
    for problem in problems:
        doctor.apply(problem["hint"])
    assert [problem["message"].partition(") ")[2] for problem in problems] == PERMISSIONS[permissions]
    assert doctor.problems() == []


def test_doctor_reports_an_identity_without_group(host, doctor):
    name = identities(host)[0]
    server.client(host.name, "auth", "identity", "group", "remove", f"tls/{name}", "bosh")
    problems = [problem for problem in doctor.problems() if problem["check"] == "trust"]
    server.client(host.name, "auth", "identity", "group", "add", f"tls/{name}", "bosh")
    assert [problem["message"] for problem in problems] == [f"the identity {name} is in no group"]
    assert doctor.problems() == []


def test_missing_permission_is_an_error_with_advice(host, restricted_cpi):
    """A hidden VM is not reported as missing."""
    vm = "vm-00000000-0000-4000-8000-000000000000"
    server.client(host.name, "auth", "group", "permission", "remove", "bosh", *PROJECT)
    try:
        with pytest.raises(CallError, match="`bin/doctor` names the missing permission") as raised:
            restricted_cpi().call("has_vm", vm)
        assert not raised.value.ok_to_retry
    finally:
        server.client(host.name, "auth", "group", "permission", "add", "bosh", *PROJECT)
    assert restricted_cpi().call("has_vm", vm) is False


def test_restricted_certificate_cannot_use_snapshots(cpi, restricted_certificate):
    """As docs/how-to/authentication.md says. The hint names the identity."""
    cpi.config["server"] |= restricted_certificate
    disk = cpi.call("create_disk", 16, {}, None)
    try:
        with pytest.raises(CallError, match="init_lxd --identity"):
            cpi.call("snapshot_disk", disk, {"deployment": "d", "job": "web", "index": 0})
    finally:
        cpi.call("delete_disk", disk)
