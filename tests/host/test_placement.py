"""Placement of VMs and disks on the members of a cluster of three, and several addresses of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.host import cluster as clusters
from tests.host import server
from tests.host.conftest import inventory
from tests.host.director import UUID, CallError, Director, configuration, environment, manual_network
from tests.host.kinds import volume_change
from tests.host.machine import run, wait_until
from tests.host.tiny_stemcell import STEMCELL, VM, Connection, stemcell_image
from tests.support.certificates import create_certificate

NODES = clusters.names(3)
GROUPS = {"rack12": ("node1", "node2"), "rack23": ("node2", "node3"), "rack3": ("node3",), "empty": ()}


class Cluster:
    """A cluster with the groups GROUPS, and a director that is no member of it."""

    def __init__(self, kind: str, name: str, directory: Path) -> None:
        self.name, self.directory = name, directory
        self.members = clusters.up(kind, name=name)
        self.first = self.members["node1"]
        self.server = Connection(self.first)
        for group in GROUPS:
            self.server.query("POST", "/1.0/cluster/groups", {"name": group})
        for node in NODES:
            member = self.server.query("GET", f"/1.0/cluster/members/{node}")
            groups = ["default", *(group for group, members in GROUPS.items() if node in members)]
            self.server.query("PUT", f"/1.0/cluster/members/{node}", {**member, "groups": groups})
        self.cpi = self.director(directory)
        self.stemcell = self.cpi.call("create_stemcell", str(stemcell_image(directory)), STEMCELL)

    def director(self, directory: Path, **properties: Any) -> Director:
        certificate = Path(self.first.server_cert).with_name("cluster.crt").read_text("utf-8")
        properties = {"url": clusters.url("node1"), "tls_server_cert": certificate, **properties}
        directory.mkdir(exist_ok=True)
        config = configuration(self.first, **properties)
        return Director({**config, "director_uuid": UUID}, directory, prefix=clusters.netns_command(self.name))

    def create_vm(self, target: str = "", *, network: str = "", disks: Any = (), cpi: Director | None = None) -> str:
        """Create a VM with the targets of a VM and its network, and disk CIDs."""
        networks = {"n": manual_network("10.245.0.90", cloud_properties={"target": network} if network else {})}
        arguments = "agent", self.stemcell, {**VM, "target": target}, networks, list(disks), environment()
        return (cpi or self.cpi).call("create_vm", *arguments)[0]

    def place_vm(self, target: str = "", **options: Any) -> str:
        """Return the member of a new VM, which is deleted."""
        vm = self.create_vm(target, **options)
        location = self.location_of_vm(vm)
        (options.get("cpi") or self.cpi).call("delete_vm", vm)
        return location

    def location_of_vm(self, vm: str) -> str:
        return self.server.query("GET", f"/1.0/instances/{vm}")["location"]

    def location_of_disk(self, disk: str) -> str:
        return self.server.query("GET", f"/1.0/storage-pools/default/volumes/custom/{disk}")["location"]

    def status(self, node: str) -> str:
        return self.server.query("GET", f"/1.0/cluster/members/{node}")["status"]


SERVERS_OF_CLUSTERS = ("incus7", pytest.param("lxd", marks=pytest.mark.long))


@pytest.fixture(scope="module")
def cluster(request, tmp_path_factory):
    name = f"{request.config.getoption('--hosts')}-place-{request.param}"
    try:
        yield Cluster(request.param, name, tmp_path_factory.mktemp("cluster"))
    finally:
        clusters.down(name)


@pytest.fixture(autouse=True)
def unchanged_resources(cluster):
    """Compare the resources in the cluster before and after the test."""
    before = inventory(cluster.first)
    yield
    assert inventory(cluster.first) == before


def test_combines_targets_of_vm_and_network(cluster):
    assert cluster.place_vm("node3", network="@rack3") == "node3"
    assert cluster.place_vm("@rack23", network="node2") == "node2"
    assert cluster.place_vm("@rack12", network="@rack23") == "node2"
    assert cluster.place_vm("@rack3") == "node3"


@pytest.mark.parametrize(
    ("target", "network", "message"),
    [
        ("node1", "@rack3", "different targets: node1 is not in @rack3. .*cluster list"),
        ("node1", "node2", "different targets: node1, node2. .*cluster list"),
        ("@rack12", "@rack3", "no cluster member in @rack12 and @rack3. .*cluster group list"),
        ("node9", "", "on node9.*cluster list"),
        ("node9", "@rack3", "node9 is not in @rack3. .*cluster list"),
        ("@nobody", "", "nobody.*cluster group list"),
        ("@empty", "", "cluster member.*cluster list"),
    ],
)
def test_explains_target_that_no_member_has(cluster, target, network, message):
    with pytest.raises(CallError, match=message) as exc_info:
        cluster.place_vm(target, network=network)
    assert not exc_info.value.ok_to_retry


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("node9", "target: .*cluster list"),
        ("@nobody", "there is no cluster member in @nobody. .*cluster group list"),
        ("@empty", "there is no cluster member in @empty. .*cluster group list"),
    ],
)
def test_explains_disk_target_that_no_member_has(cluster, target, message):
    with pytest.raises(CallError, match=message):
        cluster.cpi.call("create_disk", 16, {"target": target}, None)


def test_creates_disk_on_a_member_of_a_group(cluster):
    for target, members in (("@rack3", {"node3"}), ("@rack12", {"node1", "node2"}), ("node2", {"node2"})):
        disk = cluster.cpi.call("create_disk", 16, {"target": target}, None)
        assert cluster.location_of_disk(disk) in members
        cluster.cpi.call("delete_disk", disk)


def test_creates_disk_on_the_member_of_its_vm(cluster):
    """Without settings, and although the disk has another target. So attach_disk moves nothing."""
    vm = cluster.create_vm("node3")
    for properties in ({}, {"target": "node1"}, {"target": "@rack12"}):
        disk = cluster.cpi.call("create_disk", 16, properties, vm)
        assert cluster.location_of_disk(disk) == "node3"
        assert cluster.cpi.last.requests == 1 + volume_change(cluster.first.kind)
        cluster.cpi.call("attach_disk", vm, disk)
        assert "moving disk" not in cluster.cpi.last.stderr and cluster.location_of_disk(disk) == "node3"
        cluster.cpi.call("detach_disk", vm, disk)
        cluster.cpi.call("delete_disk", disk)
    cluster.cpi.call("delete_vm", vm)


def test_creates_vm_on_the_member_of_its_disks(cluster):
    small, large = (
        cluster.cpi.call("create_disk", size, {"target": node}, None) for size, node in ((16, "node2"), (32, "node3"))
    )
    vm = cluster.create_vm(disks=[small, large])
    assert cluster.location_of_vm(vm) == "node3"
    cluster.cpi.call("attach_disk", vm, large)
    assert "moving disk" not in cluster.cpi.last.stderr
    cluster.cpi.call("detach_disk", vm, large)
    cluster.cpi.call("delete_vm", vm)
    assert cluster.place_vm("@rack12", disks=[small]) == "node2"
    assert cluster.place_vm("@rack12", disks=[large]) in ("node1", "node2")
    assert cluster.place_vm("node1", disks=[large]) == "node1"
    clusters.evacuate(cluster.name, "node3")
    try:
        assert cluster.place_vm(disks=[large]) in ("node1", "node2")
    finally:
        clusters.restore(cluster.name, "node3")
    for disk in (small, large):
        cluster.cpi.call("delete_disk", disk)


@pytest.mark.parametrize("target", ["block", "allow"])
def test_restricted_project_may_forbid_members(cluster, tmp_path, target):
    """With a restricted certificate, because a server allows full ones to select a member always."""
    create_certificate(tmp_path / "crt", tmp_path / "key", name="restricted")
    add = "add-certificate" if cluster.first.type == "incus" else "add"
    options = "--name", target, "--restricted", "--projects", cluster.first.project
    server.client(cluster.first.name, "config", "trust", add, str(tmp_path / "crt"), *options)
    cpi = cluster.director(
        tmp_path / "cpi", tls_client_cert=str(tmp_path / "crt"), tls_client_key=str(tmp_path / "key")
    )
    set_project = cluster.first.name, "project", "set", cluster.first.project
    disk = cpi.call("create_disk", 16, {"target": "node3"}, None)
    settings = f"restricted.cluster.target={target}", "restricted.virtual-machines.lowlevel=allow"  # LXD 5.0: raw.qemu
    server.client(*set_project, *settings, "restricted=true")
    try:
        location = cluster.place_vm(disks=[disk], cpi=cpi)
    finally:
        server.client(*set_project, "restricted=false")
        cpi.call("delete_disk", disk)
    assert location == "node3" or target == "block"


def test_uses_the_next_address_if_the_first_member_is_isolated(cluster, tmp_path):
    """The CPI reaches the member, which does not reach the others: they have a network of their own."""
    cpi = cluster.director(tmp_path, url=[clusters.url("node2"), clusters.url("node3")])
    routes = [("blackhole", clusters.address(node)) for node in ("node1", "node3")]
    isolated = Connection(cluster.members["node2"])
    for route in routes:
        run("ip", "-n", cluster.members["node2"].netns, "route", "add", *route)
    try:
        assert wait_until(lambda: isolated.query("GET", "/1.0/instances") is None, seconds=120)
        assert cpi.call("has_vm", "vm-1") is False
        assert "does not reach the database of the cluster" in cpi.last.stderr
        assert cpi.call("has_vm", "vm-1") is False and "the other addresses come first" in cpi.last.stderr
    finally:
        for route in routes:
            run("ip", "-n", cluster.members["node2"].netns, "route", "delete", *route)
    assert wait_until(lambda: cluster.status("node2") == "Online", seconds=120)


@pytest.mark.parametrize("failure", ["killed", "cut off"])
def test_uses_the_next_address_if_the_first_member_fails(cluster, tmp_path, failure):
    cpi = cluster.director(tmp_path, url=[clusters.url("node2"), clusters.url("node3")])
    with clusters.unavailable(cluster.name, "node2", failure):
        assert cpi.call("has_vm", "vm-1") is False
        assert f"cannot connect to {clusters.url('node2')}" in cpi.last.stderr
        vm = cluster.create_vm("node3", cpi=cpi)
        assert f"{clusters.url('node2')} failed" in cpi.last.stderr
        disk = cpi.call("create_disk", 16, {}, vm)
        cpi.call("attach_disk", vm, disk)
        cpi.call("detach_disk", vm, disk)
        cpi.call("delete_disk", disk)
        cpi.call("delete_vm", vm)
        results = json.loads(cpi.run_program("doctor", "--json").stdout)
        addresses = [(result["status"], result["message"]) for result in results if result["check"] == "address"]
        assert [status for status, _ in addresses] == ["warn", "ok"] and clusters.url("node2") in addresses[0][1]
        assert "listens" in addresses[1][1]
    assert wait_until(lambda: cluster.status("node2") == "Online", seconds=120)
