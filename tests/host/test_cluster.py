"""Clusters of three members: placement, disk migration and offline members."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from bosh_lxd_cpi.model import naming
from tests.host import cluster as clusters
from tests.host import server
from tests.host.conftest import Guests, inventory
from tests.host.director import UUID, CallError, Director, configuration, environment, manual_network
from tests.host.fault_environment import FaultEnvironment
from tests.host.kinds import volume_change
from tests.host.proxy import FAULTS, NONE, Fault, Proxy
from tests.host.tiny_stemcell import STEMCELL, VM, Connection, stemcell_image
from tests.support.clock import PastClock

NODES = clusters.names(3)
IPS = {"node1": "10.245.0.81", "node2": "10.245.0.82"}
GUEST = {"instance_type": "c1-m0.375", "ephemeral_disk": 64}
KILLED = Fault("killed", delivered=True, signal=signal.SIGKILL)


class Cluster:
    """The members, and a director that connects to the first."""

    def __init__(self, name: str, members: dict[str, server.Facts], directory: Path) -> None:
        self.name, self.members, self.first = name, members, members["node1"]
        self.guests = {node: Guests(server.netns_command(facts.name)) for node, facts in members.items()}
        self.server = Connection(self.first)
        self.cpi = self.director(directory)

    def director(self, directory: Path, **properties: str) -> Director:
        certificate = Path(self.first.server_cert).with_name("cluster.crt").read_text("utf-8")
        directory.mkdir(exist_ok=True)
        config = configuration(self.first, tls_server_cert=certificate, **properties)
        return Director({**config, "director_uuid": UUID}, directory, prefix=server.netns_command(self.first.name))

    def where(self, uuid: str = "") -> set[tuple[str, str]]:
        """Return name prefix and member of all instances and volumes whose name has this ending."""
        resources = [*self.server.query("GET", "/1.0/instances?recursion=1"), *self.volumes()]
        return {
            (resource["name"][:-36], resource["location"]) for resource in resources if resource["name"].endswith(uuid)
        }

    def volumes(self) -> list[dict]:
        volumes = self.server.query("GET", "/1.0/storage-pools/default/volumes/custom?recursion=1")
        return [volume for volume in volumes if "/" not in volume["name"]]

    def status(self, node: str) -> str:
        members = self.server.query("GET", "/1.0/cluster/members?recursion=1")
        return next(member["status"] for member in members if member["server_name"] == node)

    def make_vm(self, stemcell: str, ip: str, properties: dict, *, cpi: Director | None = None, **network: str) -> str:
        networks = {"n": manual_network(ip, cloud_properties=network)}
        return (cpi or self.cpi).call("create_vm", "agent", stemcell, properties, networks, [], environment())[0]


SERVERS_OF_CLUSTERS = ("incus", *[pytest.param(kind, marks=pytest.mark.long) for kind in ("lxd", "incus7")])


@pytest.fixture(scope="module")
def cluster(request, tmp_path_factory):
    name = f"{request.config.getoption('--hosts')}-{request.param}"
    try:
        yield Cluster(
            name, clusters.up(request.param, name=name, members=len(NODES)), tmp_path_factory.mktemp("cluster")
        )
    finally:
        clusters.down(name)


@pytest.fixture(scope="module")
def tiny(cluster, tmp_path_factory):
    """The CID of the tiny stemcell."""
    return cluster.cpi.call("create_stemcell", str(stemcell_image(tmp_path_factory.mktemp("tiny"))), STEMCELL)


@pytest.fixture(scope="module")
def guest(cluster, guest_stemcell):
    """The CID of the stemcell of the guest."""
    properties = {**guest_stemcell["properties"], "name": "bosh-openstack-kvm-ubuntu-jammy"}
    return cluster.cpi.call("create_stemcell", guest_stemcell["image"], properties)


@pytest.fixture(scope="module")
def vms(cluster, guest):
    """A VM with the guest on each of two members, by member name. The network of the second VM sets its target."""
    vms = {
        "node1": cluster.make_vm(guest, IPS["node1"], {**GUEST, "target": "node1"}),
        "node2": cluster.make_vm(guest, IPS["node2"], GUEST, target="node2"),
    }
    for node in vms:
        cluster.guests[node].wait(IPS[node])
    return vms


@pytest.fixture(autouse=True)
def unchanged_resources(request, cluster):
    """Compare the resources in the cluster before and after the test."""
    for fixture in {"tiny", "guest", "vms"} & set(request.fixturenames):
        request.getfixturevalue(fixture)
    before = inventory(cluster.first)
    yield
    assert inventory(cluster.first) == before


def test_places_vm_and_its_volumes_on_target(cluster, vms):
    for node, vm in vms.items():
        assert cluster.where(vm[-36:]) == {("vm-", node), ("vol-e-", node), ("vol-c-", node)}
        report = cluster.guests[node].report(IPS[node])
        assert report["errors"] == [] and report["vm"]["id"] == vm and report["disks"]["ephemeral"]["size"] == 64 << 20


def test_places_vm_in_cluster_group_or_by_scheduler(cluster, tiny):
    member = cluster.server.query("GET", "/1.0/cluster/members/node2")
    cluster.server.query("POST", "/1.0/cluster/groups", {"name": "rack2"})
    cluster.server.query("PUT", "/1.0/cluster/members/node2", {**member, "groups": ["default", "rack2"]})
    vm_in_group = cluster.make_vm(tiny, "10.245.0.90", {**VM, "target": "@rack2"})
    vm_without_target = cluster.make_vm(tiny, "10.245.0.91", VM)
    for vm, nodes in ((vm_in_group, {"node2"}), (vm_without_target, {"node1", "node3"})):  # node2 has more VMs
        [node] = {location for _, location in cluster.where(vm[-36:])} & nodes
        assert cluster.where(vm[-36:]) == {("vm-", node), ("vol-e-", node), ("vol-c-", node)}
        cluster.cpi.call("delete_vm", vm)
    cluster.server.query("PUT", "/1.0/cluster/members/node2", {**member, "groups": ["default"]})
    cluster.server.query("DELETE", "/1.0/cluster/groups/rack2")


def test_reports_unknown_member(cluster, tiny):
    for properties, network, message in (
        ({"target": "node9"}, {}, "on node9.*cluster list"),
        ({"target": "@nobody"}, {}, '"nobody" .*cluster group list'),
        ({"target": "node1"}, {"target": "node2"}, "targets"),
    ):
        with pytest.raises(CallError, match=message):
            cluster.make_vm(tiny, "10.245.0.90", {**VM, **properties}, **network)
    with pytest.raises(CallError, match=r"target: .*cluster list"):
        cluster.cpi.call("create_disk", 16, {"target": "node9"}, None)


def test_hint_for_member_that_accepts_no_vms(cluster, tiny):
    vm = cluster.make_vm(tiny, "10.245.0.90", {**VM, "target": "node2"})
    member = cluster.server.query("GET", "/1.0/cluster/members/node2")
    cluster.server.query("POST", "/1.0/cluster/groups", {"name": "rack2"})
    cluster.server.query("PUT", "/1.0/cluster/members/node2", {**member, "groups": ["default", "rack2"]})
    server.client(cluster.first.name, "stop", "--force", vm, "--project", cluster.first.project)
    clusters.evacuate(cluster.name, "node2")
    try:
        for target, says in (
            ("node2", "is evacuated.*cluster restore MEMBER"),
            ("@rack2", "cluster member.*scheduler"),
        ):
            with pytest.raises(CallError, match=says) as raised:
                cluster.make_vm(tiny, "10.245.0.91", {**VM, "target": target})
            assert not raised.value.ok_to_retry
        assert "evacuated: node2" in cluster.cpi.run_program("doctor").stdout
    finally:
        clusters.restore(cluster.name, "node2")
    cluster.server.query("PUT", "/1.0/cluster/members/node2", {**member, "groups": ["default"]})
    cluster.server.query("DELETE", "/1.0/cluster/groups/rack2")
    cluster.cpi.call("delete_vm", vm)


def test_disk_migrates_with_contents_and_snapshots(cluster, vms):
    cpi, guests = cluster.cpi, cluster.guests
    disk = cpi.call("create_disk", 64, {"target": "node1"}, None)
    assert cluster.where(disk[-36:]) == {("vol-p-", "node1")}
    hint = cpi.call("attach_disk", vms["node2"], disk)["path"]
    assert cluster.where(disk[-36:]) == {("vol-p-", "node2")} and cpi.call("get_disks", vms["node2"]) == [disk]
    assert hint.rsplit("/", 1)[1] in guests["node2"].report(IPS["node2"])["by_id"]
    guests["node2"].request(IPS["node2"], "mark", device=hint, text="written on node2")
    snapshot = cpi.call("snapshot_disk", disk, {"deployment": "d"})
    with pytest.raises(CallError, match=f"already attached to {vms['node2']}. Detach the disk from that VM first"):
        cpi.call("attach_disk", vms["node1"], disk)
    cpi.call("detach_disk", vms["node2"], disk)
    cpi.call("set_disk_metadata", disk, {"deployment": "d"})
    cpi.call("resize_disk", disk, 96)

    assert cpi.call("attach_disk", vms["node1"], disk)["path"] == hint
    assert cluster.where(disk[-36:]) == {("vol-p-", "node1")} and cpi.call("has_disk", disk) is True
    assert guests["node1"].request(IPS["node1"], "read", device=hint) == "written on node2"
    assert guests["node1"].request(IPS["node1"], "size", device=hint) == 96 << 20
    snapshots = cluster.server.query("GET", f"/1.0/storage-pools/default/volumes/custom/{disk}/snapshots?recursion=1")
    assert [(item["name"], json.loads(item["description"])["deployment"]) for item in snapshots] == [
        (snapshot.replace("_", "/"), "d")
    ]
    assert (
        next(volume for volume in cluster.volumes() if volume["name"] == disk)["config"]["user.bosh.deployment"] == "d"
    )
    cpi.call("delete_snapshot", snapshot)
    assert cluster.server.query("GET", f"/1.0/storage-pools/default/volumes/custom/{disk}/snapshots") == []
    cpi.call("detach_disk", vms["node1"], disk)
    cpi.call("delete_disk", disk)
    assert cpi.call("has_disk", disk) is False


def test_manages_vm_through_another_member(cluster, vms):
    cpi, guests = cluster.cpi, cluster.guests["node2"]
    assert cpi.call("has_vm", vms["node2"]) is True
    cpi.call("set_vm_metadata", vms["node2"], {"deployment": "d", "job": "db", "index": "0"})
    assert cluster.server.query("GET", f"/1.0/instances/{vms['node2']}")["description"] == "db/0"
    boot = guests.report(IPS["node2"])["boot_id"]
    cpi.call("reboot_vm", vms["node2"])
    assert guests.wait(IPS["node2"], not_boot=boot)["errors"] == []


def test_uses_the_first_address_that_accepts_a_connection(cluster, tmp_path):
    refused, missing, second = "https://10.247.0.1:1", "https://10.247.0.99:8443", clusters.url("node2")
    cpi = cluster.director(tmp_path, url=[refused, missing, second], target="node2")
    disk = cpi.call("create_disk", 16, {}, None)
    assert f"cannot connect to {refused}" in cpi.last.stderr and f"cannot connect to {missing}" in cpi.last.stderr
    assert cluster.where(disk[-36:]) == {("vol-p-", "node2")}
    cpi.call("delete_disk", disk)
    assert f"{refused} failed" in cpi.last.stderr and cpi.last.requests == volume_change(cluster.first.kind)
    results = doctor(cpi)
    assert ("address", "ok", f"{second} listens") in results and "fail" not in [status for _, status, _ in results]
    assert [(check, status) for check, status, _ in results].count(("address", "warn")) == 2
    assert cpi.run_program("cleanup", "--list").returncode == 0
    cpi.config["server"]["tls_server_cert"] = "00" * 32
    with pytest.raises(CallError, match="not the pinned one"):
        cpi.call("has_disk", disk)


@pytest.mark.parametrize("member", NODES)
def test_creates_and_deletes_vm_through_any_member(cluster, tiny, tmp_path, member):
    cpi = cluster.director(tmp_path, url=clusters.url(member))
    for node in NODES:
        vm = cluster.make_vm(tiny, "10.245.0.90", {**VM, "target": node}, cpi=cpi)
        assert cluster.where(vm[-36:]) == {("vm-", node), ("vol-e-", node), ("vol-c-", node)}
        cpi.call("delete_vm", vm)
        assert cpi.call("has_vm", vm) is False and cluster.where(vm[-36:]) == set()


def test_deletes_volumes_of_missing_vm_on_another_member(cluster, tiny):
    vm = cluster.make_vm(tiny, "10.245.0.90", {**VM, "target": "node2"})
    server.client(cluster.first.name, "--project", cluster.first.project, "delete", "--force", vm)
    assert cluster.where(vm[-36:]) == {("vol-e-", "node2"), ("vol-c-", "node2")}
    cluster.cpi.call("delete_vm", vm)
    assert cluster.where(vm[-36:]) == set()


@pytest.mark.long
def test_vms_of_all_members_share_a_lan(cluster, guest):
    lan, vms = Guests(clusters.netns_command(cluster.name)), {}
    for number, node in enumerate(NODES):
        clusters.add_lan_bridge(cluster.name, node, "br0")
        network = manual_network(f"10.247.0.10{number}", gateway="10.247.0.254", cloud_properties={"name": "br0"})
        arguments = "agent", guest, {**GUEST, "target": node}, {"n": network}, [], environment()
        vms[node], networks = cluster.cpi.call("create_vm", *arguments)
        assert networks["n"]["ip"] == network["ip"]
    for number, node in enumerate(NODES):
        assert lan.wait(f"10.247.0.10{number}")["vm"]["id"] == vms[node]
        cluster.cpi.call("delete_vm", vms[node])


def test_predeploys_stemcell_on_target(cluster, tmp_path):
    cpi = cluster.director(tmp_path / "cpi", target="node2", predeploy_stemcell=True)
    stemcell = cpi.call("create_stemcell", str(stemcell_image(tmp_path, mib=17)), {**STEMCELL, "version": "2"})
    fingerprint = cluster.server.query("GET", f"/1.0/images/aliases/{stemcell}")["target"]
    images = cluster.server.query("GET", "/1.0/storage-pools/default/volumes?recursion=1")
    assert fingerprint in {volume["name"] for volume in images if volume["location"] == "node2"}
    cpi.call("delete_stemcell", stemcell)
    assert cluster.server.query("GET", f"/1.0/images/{fingerprint}") is None


def uuid(seconds_ago: float) -> str:
    """Return the UUID part of a name that the director created this many seconds ago."""
    return naming.new_id(PastClock(seconds_ago), UUID)


def test_cleanup_covers_all_members_and_equal_names(cluster, vms):
    old, young = uuid(7200), uuid(0)
    for node in NODES:
        for name in (f"vol-c-{old}", f"vol-e-{young}"):
            cluster.server.query(
                "POST",
                f"/1.0/storage-pools/default/volumes/custom?target={node}",
                {"name": name, "content_type": "block", "config": {"size": "8MiB"}},
            )
    disk = cluster.cpi.call("create_disk", 16, {"target": "node2"}, None)
    snapshot = cluster.cpi.call("snapshot_disk", disk, {})
    on_all_members = {("vol-c-", node) for node in NODES}
    resources = json.loads(cluster.cpi.run_program("cleanup", "--list", "--json").stdout)
    locations = {(resource["cid"], resource["location"]) for resource in resources if resource["kind"] != "image"}
    assert locations >= {(f"vol-c-{old}", node) for node in NODES} | {(disk, "node2"), (vms["node2"], "node2")}
    assert snapshot in {resource["cid"] for resource in resources} or cluster.first.type == "lxd"
    output = cluster.cpi.run_program("cleanup", "--dry-run").stdout
    assert output.count(f"would remove config vol-c-{old}") == 3 and cluster.where(old) == on_all_members
    result = cluster.cpi.run_program("cleanup")
    assert result.returncode == 0 and result.stdout.count(f"removed config vol-c-{old}") == 3, result
    assert cluster.where(old) == set() and len(cluster.where(young)) == 3, "too young"
    assert cluster.cpi.run_program("cleanup", "--min-age", "0").returncode == 0
    assert cluster.cpi.run_program("cleanup", "--delete-disk", disk).returncode == 0
    assert {node for _, node in cluster.where(vms["node2"][-36:])} == {"node2"}


def doctor(cpi: Director, *arguments: str) -> list[tuple[str, str, str]]:
    """Run bin/doctor and return check, status and message of each result."""
    results = json.loads(cpi.run_program("doctor", "--json", *arguments).stdout)
    return [(result["check"], result["status"], result["message"]) for result in results]


def test_doctor_lists_members(cluster, tmp_path):
    assert [result for result in doctor(cluster.cpi) if result[1] != "ok"] == []
    results = doctor(cluster.director(tmp_path, target="node9"))
    assert [result for result in results if result[1] != "ok"] == [
        ("cluster", "fail", "server.target node9 is none of node1, node2, node3"),
    ]


@pytest.mark.long
def test_doctor_tests_member(cluster, tmp_path):
    results = doctor(cluster.director(tmp_path, target="node2"), "--deep")
    assert {status for _, status, _ in results} == {"ok"}
    assert results[-1] == ("deep", "ok", "all resources are removed")


@pytest.mark.long
def test_cleanup_reports_vms_of_offline_member(cluster, tiny):
    vm = cluster.make_vm(tiny, "10.245.0.91", {**VM, "target": "node2"})
    before = inventory(cluster.first)
    server.stop_daemon(cluster.members["node2"].name)
    try:
        listing = cluster.cpi.run_program("cleanup", "--list")
        assert vm in listing.stdout and listing.returncode == 1
        assert "1 VM on cluster member node2 cannot be read" in listing.stderr
        assert cluster.cpi.run_program("cleanup", "--min-age", "0").returncode == 1
    finally:
        server.start_daemon(cluster.members["node2"].name)
    end = time.monotonic() + 60
    while cluster.status("node2") != "Online" or cluster.cpi.call("has_vm", vm) is not True:
        assert time.monotonic() < end
        time.sleep(0.5)
    assert inventory(cluster.first) == before
    cluster.cpi.call("delete_vm", vm)


@pytest.fixture
def env(cluster, tmp_path):
    with Proxy(tmp_path, cluster.first) as proxy:
        yield FaultEnvironment(cluster.first, tmp_path, proxy)


def test_create_vm_survives_a_lost_response_to_its_attachment(env):
    """The server attaches the volumes, so the repeated PUT has an outdated ETag."""
    env.next_fault = NONE, 0
    env.director.call("delete_vm", env.call_with_fault(*env.vm_call()).result[0])
    env.next_fault = FAULTS["cut after"], env.requests.index("PUT /instances/VM") + 1
    vm = env.call_with_fault(*env.vm_call()).result[0]
    assert env.requests.count("PUT /instances/VM") == 2
    assert {"config", "ephemeral"} < env.server.query("GET", f"/1.0/instances/{vm}")["devices"].keys()
    env.director.call("delete_vm", vm)
    env.close()


def test_call_continues_at_the_next_address(cluster, env, tmp_path):
    """The connection to the first address ends when the server creates the VM, and the response is lost."""
    env.next_fault = NONE, 0
    env.director.call("delete_vm", env.call_with_fault(*env.vm_call()).result[0])
    number = env.requests.index("POST /instances") + 1
    (tmp_path / "second").mkdir()
    with Proxy(tmp_path / "second", cluster.members["node2"]) as second:
        addresses = {"url": [env.proxy.url, second.url], "tls_server_cert": "", "insecure_skip_verify": True}
        env.faulty_director.config["server"] |= addresses
        env.next_fault = FAULTS["gone"], number
        vm = env.call_with_fault(*env.vm_call()).result[0]
        assert "the next address is" in env.faulty_director.last.stderr
        [request, *others] = [exchange.line for exchange in second.exchanges]
        assert request == "GET /operations?recursion=1" and "PATCH /instances/VM" in others
        second.arm(NONE, 0)
        env.director.call("delete_vm", vm)
        assert second.exchanges, "the first address failed within the last minute"
    env.close()


@pytest.mark.long
def test_next_call_recovers_interrupted_migration(cluster, env):
    node = cluster.server.query("GET", f"/1.0/instances/{env.shared_vm}")["location"]
    other = next(name for name in NODES if name != node)
    env.power("stop")
    number, attempts, incomplete = 1, [], 0
    while number == 1 or len(env.requests) >= number - 1:
        disk = env.director.call("create_disk", 16, {"target": other}, None)
        snapshot = env.director.call("snapshot_disk", disk, {})
        env.next_fault = KILLED, number
        env.call_with_fault("attach_disk", env.shared_vm, disk)
        env.server.wait_until_idle()
        copies = [volume["location"] for volume in cluster.volumes() if volume["name"] == disk]
        incomplete += len(copies) == 2
        assert env.director.call("has_disk", disk) is True
        env.director.call("attach_disk", env.shared_vm, disk)
        assert cluster.where(disk[-36:]) == {("vol-p-", node)}, f"killed at {env.requests[-1]}"
        assert snapshot.rpartition("_")[2] in env.server.names()
        attempts.append((len(copies), env.requests[-1].partition("?")[0]))
        env.director.call("detach_disk", env.shared_vm, disk)
        env.director.call("delete_disk", disk)
        number += 1
    assert incomplete and number > 12, attempts
    env.close()


@pytest.mark.long
def test_killed_creation_blocks_no_call_and_is_cleaned_up(cluster, env):
    """A server of a cluster compares the address with those of the VMs on the same member only."""
    number = 4  # the first request that changes something
    while True:
        before, call = env.server.names(), env.vm_call()
        env.next_fault = KILLED, number
        outcome = env.call_with_fault(*call)
        if env.has_completed_vm():
            break
        vm, _ = env.director.call(*call)
        env.cleanup("--min-age", "1h")
        assert {name[-36:] for name in env.server.names() - before} == {vm[-36:]}, f"killed at {env.requests[-1]}"
        env.director.call("delete_vm", vm)
        assert env.server.names() == before, f"killed at {env.requests[-1]}"
        number += 1
    assert number > 10 and outcome.result is None
    env.server.wait_until_idle()
    [vm] = (name for name in env.server.names() - before if name.startswith("vm-"))
    env.director.call("delete_vm", vm)
    env.close()
