"""The programs for operators on clusters of three members: bin/doctor, bin/cleanup and `util init_lxd`."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bosh_lxd_cpi.model import naming
from tests.host import cluster as clusters
from tests.host import server
from tests.host.director import UUID, Director, configuration
from tests.host.kinds import LXD6
from tests.host.machine import wait_until
from tests.host.processes import enter_command
from tests.host.tiny_stemcell import Connection
from tests.host.util_program import run_util
from tests.support.certificates import create_certificate
from tests.support.clock import PastClock
from tests.support.lab import VARIABLES

FIRST, SECOND, THIRD = clusters.names(3)


class Cluster:
    """A cluster of three. The programs run on the first member."""

    def __init__(self, kind: str, name: str) -> None:
        self.name, self.members = name, clusters.up(kind, name=name)
        self.first = self.members[FIRST]
        self.server = Connection(self.first)

    def client(self, *words: str) -> subprocess.CompletedProcess[str]:
        return server.client(self.first.name, *words)

    def cpi(self, directory: Path, **properties: str) -> Director:
        certificate = Path(self.first.server_cert).with_name("cluster.crt").read_text("utf-8")
        config = configuration(self.first, tls_server_cert=certificate, **properties)
        return Director({**config, "director_uuid": UUID}, directory, prefix=server.netns_command(self.first.name))

    def status(self, member: str) -> str:
        return str(self.server.query("GET", f"/1.0/cluster/members/{member}")["status"])

    def create(self, member: str) -> str:
        """Create a VM without disk image, and an unused config drive and a disk, on a member. Return the UUID."""
        uuid = naming.new_id(PastClock(7200), UUID)
        root = {"type": "disk", "path": "/", "pool": "default", "size": "16MiB"}
        vm = {"name": f"vm-{uuid}", "type": "virtual-machine", "source": {"type": "none"}, "devices": {"root": root}}
        self.server.run_operation("POST", f"/1.0/instances?target={member}", vm)
        for prefix in ("vol-c-", "vol-p-"):
            volume = {"name": f"{prefix}{uuid}", "content_type": "block", "config": {"size": "8MiB"}}
            self.server.run_operation("POST", f"/1.0/storage-pools/default/volumes/custom?target={member}", volume)
        return uuid

    def delete(self, uuid: str, member: str) -> None:
        self.server.run_operation("DELETE", f"/1.0/instances/vm-{uuid}")
        for prefix in ("vol-c-", "vol-p-"):
            path = f"/1.0/storage-pools/default/volumes/custom/{prefix}{uuid}?target={member}"
            self.server.run_operation("DELETE", path)


SERVERS_OF_CLUSTERS = ("incus7", pytest.param("lxd", marks=pytest.mark.long))


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    name = f"{request.config.getoption('--hosts')}-admin-{request.param}"
    try:
        yield Cluster(request.param, name)
    finally:
        clusters.down(name)


def problems(cpi: Director) -> list[tuple[str, str, str]]:
    """Return check, status and message of the warnings and failures of bin/doctor."""
    results = json.loads(cpi.run_program("doctor", "--json").stdout)
    ignored = ("ok", "skip")
    return [
        (result["check"], result["status"], result["message"]) for result in results if result["status"] not in ignored
    ]


def test_doctor_checks_members_and_groups(cluster: Cluster, tmp_path: Path) -> None:
    cpi = cluster.cpi(tmp_path)
    assert problems(cpi) == []
    lines = cpi.run_program("doctor").stdout
    assert "3 members online: node1, node2, node3; groups: default" in lines
    assert re.search(r"pool +default, btrfs, .* GiB free on node\d", lines)
    cluster.server.query("POST", "/1.0/cluster/groups", {"name": "rack1"})
    assert problems(cluster.cpi(tmp_path, target="@rack1")) == [
        ("cluster", "fail", "server.target @rack1 is no group with members; groups: default")
    ]
    member = cluster.server.query("GET", f"/1.0/cluster/members/{THIRD}")
    cluster.server.query("PUT", f"/1.0/cluster/members/{THIRD}", {**member, "groups": ["default", "rack1"]})
    assert problems(cluster.cpi(tmp_path, target="@rack1")) == []
    cluster.server.query("PUT", f"/1.0/cluster/members/{THIRD}", {**member, "groups": ["default"]})
    cluster.server.query("DELETE", "/1.0/cluster/groups/rack1")


def test_hint_completes_a_pending_pool(cluster: Cluster, tmp_path: Path) -> None:
    cluster.client("storage", "create", "pending", "dir", f"--target={FIRST}")
    cluster.client("storage", "create", "pending", "dir", f"--target={SECOND}")
    cpi = cluster.cpi(tmp_path, storage_pool_name="pending")
    try:
        results = json.loads(cpi.run_program("doctor", "--json").stdout)
        [problem] = [result for result in results if result["status"] == "fail"]
        assert (problem["check"], problem["message"]) == ("pool", "pending is missing on node3")
        for command in re.findall(r"`([^`]+)`", problem["hint"]):
            subprocess.run(enter_command(cluster.first.name, *shlex.split(command)), check=True, capture_output=True)
        assert [row for row in problems(cpi) if row[1] == "fail"] == []
    finally:
        cluster.client("storage", "delete", "pending")


def test_init_lxd_prepares_all_members(cluster: Cluster, tmp_path: Path) -> None:
    create_certificate(tmp_path / "client.crt", tmp_path / "client.key", name="init", curve="prime256v1")
    (tmp_path / "bosh-vars.yml").write_text(VARIABLES, encoding="utf-8")
    settings = {"SERVER_CLIENT_CERT": str(tmp_path / "client.crt"), "SERVER_STORAGE": "btrfs size=1GiB"}
    cluster.client("storage", "create", "devpool", "btrfs", "size=1GiB", f"--target={SECOND}")  # an earlier attempt
    try:
        for number in (1, 2):
            done = run_util(cluster.first, tmp_path, "init_lxd", **settings)
            assert done.returncode == 0, done.stdout + done.stderr
            assert ("+ " in done.stdout) == (number == 1), "the second run changes nothing"
        for path in ("storage-pools/devpool", "networks/boshdevbr0"):
            document = cluster.server.query("GET", f"/1.0/{path}")
            assert (document["status"], sorted(document["locations"])) == ("Created", [FIRST, SECOND, THIRD])
        for member in (FIRST, SECOND, THIRD):
            pool = cluster.server.query("GET", f"/1.0/storage-pools/devpool?target={member}")
            assert pool["config"]["size"] == "1GiB"
    finally:
        for words in (
            ("profile", "delete", "bosh", "--project=boshdev"),
            ("project", "delete", "boshdev"),
            ("network", "delete", "boshdevbr0"),
            ("storage", "delete", "devpool"),
        ):
            server.client(cluster.first.name, *words, check=False)


def test_reports_a_dead_member_once(cluster: Cluster, tmp_path: Path) -> None:
    here, there = cluster.create(SECOND), [cluster.create(THIRD) for _ in range(3)]
    cpi = cluster.cpi(tmp_path)
    clusters.kill(cluster.name, THIRD)
    try:
        assert wait_until(lambda: cluster.status(THIRD) == "Offline", seconds=120)
        messages = [message for _, _, message in problems(cpi)]
        # LXD 6 withdraws the role of the member that is offline.
        voters = "[23]" if cluster.first.kind in LXD6 else "3"
        assert messages[0] == "not online: node3"
        text = f"2 of {voters} database members are online: the cluster stops if another one fails"
        assert re.fullmatch(text, messages[1])
        assert "3 VMs on cluster member node3 cannot be read" in messages

        listing = cpi.run_program("cleanup", "--list")
        [error] = [line for line in listing.stderr.splitlines() if line.startswith("cleanup: ")]
        assert error.startswith("cleanup: 3 VMs on cluster member node3 cannot be read. ")
        assert listing.returncode == 1 and all(f"vm-{uuid}" in listing.stdout for uuid in (here, *there))

        result = cpi.run_program("cleanup", "--min-age", "0")
        assert len([line for line in result.stderr.splitlines() if line.startswith("cleanup: ")]) == 1
        assert f"removed config vol-c-{here} " in result.stdout
        assert "3 on an unavailable cluster member" in result.stdout.splitlines()[-1]
        assert result.returncode == 1
    finally:
        clusters.start(cluster.name, THIRD)
        assert wait_until(lambda: cluster.status(THIRD) == "Online", seconds=120)
        for uuid in there:
            cluster.delete(uuid, THIRD)
        cluster.delete(here, SECOND)
