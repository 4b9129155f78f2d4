"""Clusters of three members, one of which is out of service: every method against its VMs and disks, and elsewhere."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.host import cluster as clusters
from tests.host import server
from tests.host.director import ROOT, UUID, CallError, Director, configuration, environment, manual_network
from tests.host.machine import wait_until
from tests.host.tiny_stemcell import STEMCELL, VM, Connection, stemcell_image

DOCUMENT, HEADING = ROOT / "docs/reliability.md", "\n## Members of a cluster\n"
ONLINE, FAILED, OTHER = clusters.names(3)
"""The CPI connects to ONLINE. FAILED is the member out of service."""
SERVERS = {"incus7": "Incus 7.0", "lxd": "LXD 5.0"}
"""The servers whose answers are in the document."""
Answer = tuple[str, float]
"""The answer of a method and the seconds that it took."""


class Cluster:
    """A cluster of three, and a director that is no member of it."""

    def __init__(self, kind: str, name: str, directory: Path) -> None:
        self.kind, self.name, self.directory = kind, name, directory
        self.members = clusters.up(kind, name=name)
        self.server = Connection(self.members[ONLINE])
        certificate = Path(self.members[ONLINE].server_cert).with_name("cluster.crt").read_text("utf-8")
        config = configuration(self.members[ONLINE], url=clusters.url(ONLINE), tls_server_cert=certificate)
        self.cpi = Director({**config, "director_uuid": UUID}, directory, prefix=clusters.netns_command(name))
        self.stemcell = self.cpi.call("create_stemcell", str(stemcell_image(directory)), STEMCELL)

    def vm_call(self, host_number: int, target: str = "") -> tuple[Any, ...]:
        """Return a call of create_vm. `host_number` is the last part of the address."""
        networks = {"n": manual_network(f"10.245.0.{host_number}")}
        return "create_vm", "agent", self.stemcell, {**VM, "target": target}, networks, [], environment()

    def status(self, member: str) -> str:
        """Return the status of a member: Online, Offline or Evacuated."""
        return str(self.server.query("GET", f"/1.0/cluster/members/{member}")["status"])

    def location(self, vm: str) -> str:
        """Return the member of a VM."""
        return str(self.server.query("GET", f"/1.0/instances/{vm}")["location"])

    def locations(self, disk: str) -> list[str]:
        """Return the members that have a disk."""
        volumes = self.server.query("GET", "/1.0/storage-pools/default/volumes/custom?recursion=1")
        return [str(volume["location"]) for volume in volumes if volume["name"] == disk]

    def wait_for_status(self, member: str, status: str) -> None:
        assert wait_until(lambda: self.status(member) == status, seconds=120)

    def wait_for_return(self, member: str) -> None:
        """Wait until the cluster forwards requests to a member again."""
        self.wait_for_status(member, "Online")
        assert wait_until(lambda: self.server.query("GET", f"/1.0?target={member}"), seconds=120)


class Objects(NamedTuple):
    """The VM of a member with an attached disk, a detached disk, and a snapshot of the attached one."""

    vm: str
    attached: str
    detached: str
    snapshot: str

    @classmethod
    def create(cls, cluster: Cluster, member: str, host_number: int) -> Objects:
        call = cluster.cpi.call
        vm, _ = call(*cluster.vm_call(host_number, member))
        attached, detached = (call("create_disk", 16, {"target": member}, None) for _ in range(2))
        call("attach_disk", vm, attached)
        return cls(vm, attached, detached, call("snapshot_disk", attached, {}))


SERVERS_OF_CLUSTERS = ("incus7", pytest.param("lxd", marks=pytest.mark.long))


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    name = f"{request.config.getoption('--hosts')}-three-{request.param}"
    try:
        yield Cluster(request.param, name, tmp_path_factory.mktemp("cluster"))
    finally:
        clusters.down(name)


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest) -> Iterator[dict[tuple[str, str], dict[str, Answer]]]:
    """The answers by call, by server and failure. Those of earlier runs are in pytest's cache."""
    rows = request.config.cache.get("member_failures", [])
    results = {(server, failure): {title: tuple(cell) for title, *cell in cells} for server, failure, cells in rows}
    yield results
    rows = [[*key, [[title, *cell] for title, cell in answers.items()]] for key, answers in results.items()]
    request.config.cache.set("member_failures", rows)


def calls(cluster: Cluster, there: Objects, here: Objects) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield a title and a call of each method, first for the member out of service, then for another one."""
    yield "has_vm", ("has_vm", there.vm)
    yield "has_disk", ("has_disk", there.attached)
    yield "get_disks", ("get_disks", there.vm)
    yield "set_vm_metadata", ("set_vm_metadata", there.vm, {"deployment": "d"})
    yield "set_disk_metadata", ("set_disk_metadata", there.attached, {"deployment": "d"})
    yield "snapshot_disk", ("snapshot_disk", there.attached, {})
    yield "delete_snapshot", ("delete_snapshot", there.snapshot)
    yield "resize_disk", ("resize_disk", there.detached, 32)
    yield "detach_disk", ("detach_disk", there.vm, there.attached)
    yield "attach_disk", ("attach_disk", there.vm, there.attached)
    yield "attach_disk, disk elsewhere", ("attach_disk", there.vm, here.detached)
    yield "attach_disk, VM elsewhere", ("attach_disk", here.vm, there.detached)
    yield "reboot_vm", ("reboot_vm", there.vm)
    yield "create_disk with this target", ("create_disk", 16, {"target": FAILED}, None)
    yield "create_vm with this target", cluster.vm_call(50, FAILED)
    yield "delete_vm", ("delete_vm", there.vm)
    yield "delete_disk", ("delete_disk", there.attached)
    yield "elsewhere: has_vm", ("has_vm", here.vm)
    yield "elsewhere: has_disk", ("has_disk", here.attached)
    yield "elsewhere: get_disks", ("get_disks", here.vm)
    yield "elsewhere: set_vm_metadata", ("set_vm_metadata", here.vm, {"deployment": "d"})
    yield "elsewhere: snapshot_disk", ("snapshot_disk", here.attached, {})
    yield "elsewhere: detach_disk", ("detach_disk", here.vm, here.attached)
    yield "elsewhere: attach_disk", ("attach_disk", here.vm, here.attached)
    yield "elsewhere: reboot_vm", ("reboot_vm", here.vm)
    yield "elsewhere: create_disk", ("create_disk", 16, {}, None)
    yield "elsewhere: create_vm", cluster.vm_call(51)
    yield "elsewhere: create_vm in a group", cluster.vm_call(52, "@default")
    yield "elsewhere: delete_vm", ("delete_vm", here.vm)
    image, properties = stemcell_image(cluster.directory, mib=17), {**STEMCELL, "version": "2"}
    yield "create_stemcell", ("create_stemcell", str(image), properties)
    yield "delete_stemcell", ("delete_stemcell", cluster.cpi.last.response["result"])


UNCHANGED = ("has_vm", "has_disk", "get_disks", "create_stemcell")
"""Methods whose answer does not depend on the member: the cluster's database has it, or the other members do it."""


def expected(title: str, failure: str) -> str:
    """Return the answer that is right while a member is out of service."""
    if title.startswith("elsewhere") or title in UNCHANGED:
        return "ok"
    if failure == "evacuated":
        return "evacuated" if title in EVACUATED_REFUSES else "ok"
    return "error, retried" if title.startswith("create_vm") else "error"


EVACUATED_REFUSES = ("create_vm with this target", "reboot_vm")


@pytest.mark.parametrize(
    "failure", ["killed", *[pytest.param(failure, marks=pytest.mark.long) for failure in ("cut off", "evacuated")]]
)
def test_each_method_while_member_is_out_of_service(cluster, results, failure):
    there, here = Objects.create(cluster, FAILED, 40), Objects.create(cluster, ONLINE, 41)
    made: list[tuple[str, str]] = []
    with clusters.unavailable(cluster.name, FAILED, failure):
        cluster.wait_for_status(FAILED, "Evacuated" if failure == "evacuated" else "Offline")
        answers = {title: answer(cluster.cpi, call, made) for title, call in calls(cluster, there, here)}
    cluster.wait_for_return(FAILED)
    for method, cid in made:
        cluster.cpi.call(method, cid)
    for vm in (there.vm, here.vm):
        cluster.cpi.call("delete_vm", vm)
    for disk in (there.attached, there.detached, here.attached, here.detached):
        cluster.cpi.call("delete_disk", disk)
    if cluster.kind in SERVERS:
        results[SERVERS[cluster.kind], failure] = answers
    assert {title: text for title, (text, _) in answers.items()} == {
        title: expected(title, failure) for title in answers
    }


@pytest.mark.long
def test_answers_match_documentation(request, results):
    if request.config.getoption("--write-docs"):
        head, _, _ = DOCUMENT.read_text("utf-8").partition(HEADING)
        DOCUMENT.write_text(head + HEADING + DESCRIPTION + table(results), "utf-8")
    section = DOCUMENT.read_text("utf-8").partition(HEADING)[2]
    without_seconds = re.compile(r", \d+ s\b")
    assert without_seconds.sub("", section) == without_seconds.sub("", DESCRIPTION + table(results))


DESCRIPTION = """
On a cluster of three members, the member with the VM and its disks is out of service: its daemon and its VMs are
killed, its network is cut off, or it is evacuated. The CPI connects to another member. `error`: the error names the
member and what the operator can do. `retried`: the director repeats the call. `evacuated`: the error says that the
member is evacuated. The seconds are those of one run on a loaded machine with two cores, after the member is listed as
offline. LXD waits for 10 seconds before it refuses a request for such a member. Until `cluster.offline_threshold` (20
seconds) after a failure, the cluster lists the member as online, and calls repeat their requests for up to 30 seconds.
`bin/test --long tests/host/test_member_failures.py --write-docs` writes this section.
"""


def table(results: dict[tuple[str, str], dict[str, Answer]]) -> str:
    """Return the answers of all servers and failures."""
    columns = sorted(results)
    text = f"\n| method | {' | '.join(', '.join(column) for column in columns)} |\n|---{'|---' * len(columns)}|\n"
    for title in results[columns[0]]:
        cells = [f"{text}, {seconds:.0f} s" for text, seconds in (results[column][title] for column in columns)]
        text += f"| {title} | {' | '.join(cells)} |\n"
    return text


def answer(cpi: Director, call: tuple[Any, ...], made: list[tuple[str, str]]) -> Answer:
    """Make a call, and return the answer and its seconds. Append a call that deletes what it created to `made`."""
    method = call[0]
    try:
        result = cpi.call(*call)
    except CallError as failure:
        if re.search("is evacuated.* cluster restore MEMBER`", failure.message):
            return "evacuated", failure.call.seconds
        assert re.search(rf"not online: {FAILED}\. .* cluster remove --force {FAILED}`", failure.message), failure
        return f"error{', retried' if failure.ok_to_retry else ''}", failure.call.seconds
    if method.startswith("has_"):
        assert result is True
    if method == "get_disks":
        assert result
    if method.startswith("create_"):
        made.append((method.replace("create", "delete"), result[0] if isinstance(result, list) else result))
    return "ok", cpi.last.seconds


@pytest.mark.long
def test_calls_fail_with_a_hint_without_quorum(cluster):
    vm, _ = cluster.cpi.call(*cluster.vm_call(40, ONLINE))
    with (
        clusters.unavailable(cluster.name, FAILED, "killed"),
        clusters.unavailable(cluster.name, OTHER, "killed"),
        pytest.raises(CallError, match=r"Start the other database members, because more than half of them have to run"),
    ):
        cluster.cpi.call("has_vm", vm)
    for member in (FAILED, OTHER):
        cluster.wait_for_return(member)
    cluster.cpi.call("delete_vm", vm)


@pytest.mark.long
@pytest.mark.parametrize("name", ["vm-", "vol-e-", "vol-c-"])
def test_create_vm_is_repeated_elsewhere_if_its_member_dies(cluster, name):
    """The member dies after the VM, the ephemeral disk or the config drive exists."""
    before = cluster.server.names()
    started = time.monotonic()
    process = cluster.cpi.start(*cluster.vm_call(40, FAILED))
    assert wait_until(lambda: [new for new in cluster.server.names() - before if new.startswith(name)], seconds=120)
    with clusters.unavailable(cluster.name, FAILED, "killed"):
        with pytest.raises(CallError) as raised:
            cluster.cpi.finish(process, "create_vm", started)
        assert raised.value.ok_to_retry, raised.value
        vm, _ = cluster.cpi.call(*cluster.vm_call(40))
        assert cluster.location(vm) != FAILED
    cluster.wait_for_return(FAILED)
    assert cluster.cpi.run_program("cleanup", "--min-age", "0").returncode == 0
    cluster.cpi.call("delete_vm", vm)
    assert cluster.server.names() == before


@pytest.mark.long
def test_next_call_attaches_a_disk_whose_member_died(cluster):
    """The member dies while its disk is copied to the member of the VM."""
    call = cluster.cpi.call
    vm, _ = call(*cluster.vm_call(40, ONLINE))
    disk = call("create_disk", 64, {"target": FAILED}, None)
    started = time.monotonic()
    process = cluster.cpi.start("attach_disk", vm, disk)
    assert wait_until(lambda: ONLINE in cluster.locations(disk) or process.poll() is not None, seconds=120)
    with clusters.unavailable(cluster.name, FAILED, "killed"):
        with contextlib.suppress(CallError):
            cluster.cpi.finish(process, "attach_disk", started)
        assert call("has_disk", disk) is True
    cluster.wait_for_return(FAILED)
    call("attach_disk", vm, disk)
    assert cluster.locations(disk) == [ONLINE] and call("get_disks", vm) == [disk]
    call("delete_vm", vm)
    call("delete_disk", disk)


@pytest.mark.long
def test_vms_of_a_lost_member_are_created_elsewhere(cluster):
    """12 VMs on three members. One member is lost and removed by the operator. BOSH creates its VMs again."""
    call = cluster.cpi.call
    vms = [call(*cluster.vm_call(40 + number))[0] for number in range(12)]
    vms_by_member = {member: [vm for vm in vms if cluster.location(vm) == member] for member in clusters.names(3)}
    assert {member: len(vms) for member, vms in vms_by_member.items()} == dict.fromkeys(clusters.names(3), 4)
    disk = call("create_disk", 16, {"target": FAILED}, None)
    call("attach_disk", vms_by_member[FAILED][0], disk)
    clusters.kill(cluster.name, FAILED)
    cluster.wait_for_status(FAILED, "Offline")
    for vm in vms_by_member[FAILED]:
        with pytest.raises(CallError, match=f"cluster remove --force {FAILED}"):
            call("delete_vm", vm)
    server.client(cluster.members[ONLINE].name, "cluster", "remove", "--force", "--yes", FAILED)
    for number, vm in enumerate(vms_by_member[FAILED]):
        assert call("has_vm", vm) is False
        call("delete_vm", vm)
        vms.remove(vm)
        vms.append(call(*cluster.vm_call(60 + number))[0])
        assert cluster.location(vms[-1]) in {ONLINE, OTHER}
    assert call("has_disk", disk) is False
    call("delete_disk", disk)
    assert "2 members: the cluster can stop if one of them fails" in cluster.cpi.run_program("doctor").stdout
    for vm in vms:
        call("delete_vm", vm)
