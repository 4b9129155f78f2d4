"""bin/cleanup on real servers: the resources that it removes and keeps, also during calls."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bosh_lxd_cpi.model import naming
from tests.host import server
from tests.host.director import OTHER_UUID, UUID, Director, environment, manual_network
from tests.host.kinds import LXD6
from tests.host.relay import Relay
from tests.host.tiny_stemcell import STEMCELL, VM, Connection, stemcell_image
from tests.support import schema
from tests.support.clock import PastClock

HOUR = 3600
UNKNOWN_OWNER = "3f2b1c00-0000-4000-5000-00000000000"


def uuid(*, age: float = 2 * HOUR, director: str = UUID) -> str:
    """Return the UUID part of a name that a director created this many seconds ago."""
    return naming.new_id(PastClock(age), director)


class ResourceFactory:
    """Creates resources on the server without the CPI, and deletes the remaining ones at the end."""

    def __init__(self, host: server.Facts, image: str) -> None:
        self.host, self.image, self.paths = host, image, []

    def query(self, method: str, path: str, body=None, *, check=True):
        project = f"{'&' if '?' in path else '?'}project={self.host.project}"
        result = server.client(
            self.host.name,
            "query",
            "--wait",
            "-X",
            method,
            *(["-d", json.dumps(body)] if body else []),
            path + project,
            check=check,
        )
        return json.loads(result.stdout) if result.stdout.strip() else None

    def volume(self, name: str, *, pool: str = "default", **config: str) -> str:
        path = f"/1.0/storage-pools/{pool}/volumes/custom"
        self.paths.append(f"{path}/{name}")
        self.query("POST", path, {"name": name, "content_type": "block", "config": {"size": "8MiB", **config}})
        return name

    def vm(self, name: str, *, state: str, start: bool = False, volumes: bool = True, **config: str) -> set[str]:
        """Create an instance with volumes and return their names."""
        volume_names = {
            device: self.volume(f"vol-{device[0]}-{name[3:]}") for device in ("config", "ephemeral") if volumes
        }
        self.paths.append(f"/1.0/instances/{name}")
        self.query(
            "POST",
            "/1.0/instances",
            {
                "name": name,
                "type": "virtual-machine",
                "source": {"type": "image", "alias": self.image},
                "config": {
                    "user.bosh.state": state,
                    "limits.memory": "64MiB",
                    **({"boot.mode": "bios"} if self.host.kind in LXD6 else {"security.secureboot": "false"}),
                    **config,
                },
                "devices": {
                    "root": {"type": "disk", "path": "/", "pool": "default"},
                    **{
                        device: {"type": "disk", "pool": "default", "source": volume}
                        for device, volume in volume_names.items()
                    },
                },
            },
        )
        if start:
            self.query("PUT", f"/1.0/instances/{name}/state", {"action": "start"})
        return {name, *volume_names.values()}

    def delete_all(self) -> None:
        for path in reversed(self.paths):
            if "/instances/" in path:
                self.query("PATCH", path, {"config": {"security.protection.delete": ""}}, check=False)
            self.query("DELETE", path, check=False)


def names(host: server.Facts) -> set[str]:
    """Return the names of all resources of the project."""
    return Connection(host).names()


def cleanup(cpi: Director, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run bin/cleanup with the configuration of the director."""
    return cpi.run_program("cleanup", *arguments)


def output(result: subprocess.CompletedProcess[str]) -> str:
    """Return the output of a successful run. It may log that it waits for guests that restart, as they cannot boot."""
    errors = [line for line in result.stderr.splitlines() if not re.match(r"\S+Z (info|warn) +cleanup: ", line)]
    assert (result.returncode, errors) == (0, [])
    return result.stdout


@pytest.fixture
def image(cpi, tmp_path):
    """The CID of a stemcell with an empty disk."""
    cid = cpi.call("create_stemcell", str(stemcell_image(tmp_path)), STEMCELL)
    yield cid
    cpi.call("delete_stemcell", cid)


@pytest.fixture
def factory(host, image):
    factory = ResourceFactory(host, image)
    yield factory
    factory.delete_all()


@pytest.fixture
def second_pool(host, factory):
    factory.query("POST", "/1.0/storage-pools", {"name": "second", "driver": "dir"})
    yield "second"
    factory.delete_all()
    factory.query("DELETE", "/1.0/storage-pools/second")


@pytest.mark.every_server
def test_removes_unused_resources_only(host, cpi, factory, second_pool):
    stopped, running, young, complete = (f"vm-{uuid()}", f"vm-{uuid()}", f"vm-{uuid(age=0)}", f"vm-{uuid()}")
    old = {
        factory.volume(f"vol-c-{uuid()}"),
        factory.volume(f"vol-e-{uuid()}", pool=second_pool),
        *factory.vm(stopped, state="creating"),
        *factory.vm(running, state="creating", start=True),
    }
    new = {
        factory.volume(f"vol-c-{uuid(age=HOUR - 60)}"),
        factory.volume(f"vol-e-{uuid(age=0)}", pool=second_pool),
        *factory.vm(young, state="creating"),
    }
    legacy = {factory.volume(f"vol-c-{UNKNOWN_OWNER}1")}
    for name in (
        f"vol-p-{uuid()}",
        f"vol-p-{uuid(director=OTHER_UUID)}",
        f"vol-c-{uuid(director=OTHER_UUID)}",
        f"vol-e-{UNKNOWN_OWNER}2",
        f"vol-c-{uuid()}-copy",
        "vol-c-notes",
        "data",
    ):
        factory.volume(name)
    factory.vm(complete, state="created")
    factory.vm(f"vm-{UNKNOWN_OWNER}3", state="creating", volumes=False)
    factory.vm("web", state="creating", volumes=False)
    before = names(host)

    text = output(cleanup(cpi, "--director", UUID, "--dry-run"))
    assert names(host) == before
    document = json.loads(output(cleanup(cpi, "--director", UUID, "--dry-run", "--json")))
    schema.check(document, "cleanup")
    assert {resource["cid"] for resource in document if resource["action"] == "would remove"} == old
    assert output(cleanup(cpi, "--director", UUID, "--dry-run", "--quiet")) == ""
    kept = output(cleanup(cpi, "--director", UUID, "--dry-run", "--verbose"))
    assert {line.split(" (")[1] for line in kept.splitlines() if line.startswith("kept ")} >= {"persistent)", "in use)"}
    assert {line.split()[3] for line in text.splitlines() if line.startswith("would remove ")} == old
    assert "would remove 8, " in text.splitlines()[-1]

    text = output(cleanup(cpi, "--director", UUID))
    assert before - names(host) == old
    assert {line.split()[2] for line in text.splitlines() if line.startswith("removed ")} == old
    assert " cleanup: removed 8, kept " in text.splitlines()[-1] and text.endswith(", failed 0\n")

    assert "removed 0, " in output(cleanup(cpi, "--director", UUID, "--legacy"))
    output(cleanup(cpi, "--director", UUID, "--min-age", "0"))
    assert before - names(host) == old | new
    output(cleanup(cpi, "--director", UUID, "--min-age", "0", "--legacy"))
    assert before - names(host) == old | new | legacy


@pytest.mark.every_server
def test_removes_image_without_stemcell_cids(host, cpi, image, factory):
    body = {"name": f"img-{uuid()}", "target": factory.query("GET", f"/1.0/images/aliases/{image}")["target"]}
    factory.query("POST", "/1.0/images/aliases", body)
    factory.query("DELETE", f"/1.0/images/aliases/{body['name']}")
    before = names(host)
    output(cleanup(cpi, "--min-age", "0"))
    assert names(host) == before, "the image has another alias"

    factory.query("DELETE", f"/1.0/images/aliases/{image}")
    assert "1 too young" in output(cleanup(cpi))
    text = output(cleanup(cpi, "--min-age", "0"))
    [fingerprint] = before - {image} - names(host)
    assert len(fingerprint) == 64 and f"removed image {fingerprint} (no alias, " in text


@pytest.mark.every_server
def test_deletes_superseded_stemcell_by_name(host, cpi, image, factory):
    """`bosh upload-stemcell --fix` of other content overwrites the CID of a stemcell in the director's database."""
    fixed = cpi.call("create_stemcell", str(stemcell_image(cpi.directory, mib=8)), STEMCELL)
    before = names(host)

    def refusal(cid: str, *arguments: str) -> str:
        result = cleanup(cpi, "--delete-stemcell", cid, *arguments)
        assert (result.returncode, result.stdout, names(host)) == (2, "", before)
        [line] = result.stderr.splitlines()
        return line

    states = {resource["cid"]: resource["state"] for resource in json.loads(output(cleanup(cpi, "--list", "--json")))}
    assert (states[image], states[fixed]) == ("superseded", "")
    assert "1 superseded" in output(cleanup(cpi, "--min-age", "0"))
    assert names(host) == before
    assert "newest one" in refusal(fixed)
    assert "there is no stemcell" in refusal(f"img-{uuid()}")
    assert "belongs to another director" in refusal(image, "--director", OTHER_UUID)
    vm, _ = cpi.call("create_vm", "a", image, VM, {"n": manual_network("10.245.0.62")}, [], environment())
    before = names(host)
    assert f"is used by {vm}" in refusal(image)
    cpi.call("delete_vm", vm)

    before = names(host)
    output(cleanup(cpi, "--delete-stemcell", image, "--dry-run"))
    assert names(host) == before
    assert f"removed image {image} (superseded, " in output(cleanup(cpi, "--delete-stemcell", image))
    assert {name for name in before - names(host) if name.startswith("img-")} == {image}
    cpi.call("delete_stemcell", fixed)


def test_reports_failure_and_continues(host, cpi, factory):
    protected = f"vm-{uuid()}"
    factory.vm(protected, state="creating", **{"security.protection.delete": "true"})
    drive = factory.volume(f"vol-c-{uuid()}")
    before = names(host)
    result = cleanup(cpi)
    assert result.returncode == 1
    assert before - names(host) == {drive}
    [line] = result.stderr.splitlines()
    assert line.startswith("cleanup: ") and protected in line and "protected" in line
    assert "removed 1, " in result.stdout and result.stdout.endswith(", failed 1\n")


def test_requires_director_if_there_are_several(host, cpi, factory):
    own_volume, other_volume = (
        factory.volume(f"vol-c-{uuid()}"),
        factory.volume(f"vol-c-{uuid(director=OTHER_UUID)}"),
    )
    before = names(host)
    result = cleanup(cpi)
    assert (result.returncode, names(host)) == (2, before)
    [line] = result.stderr.splitlines()
    assert UUID in line and naming.director_digest(OTHER_UUID) in line and "--director" in line

    output(cleanup(cpi, "--director", naming.director_digest(OTHER_UUID), "--dry-run"))
    assert f"would remove config {other_volume}" in output(cleanup(cpi, "--director", OTHER_UUID, "--dry-run"))
    cpi.config["director_uuid"] = UUID
    output(cleanup(cpi))
    assert before - names(host) == {own_volume}
    output(cleanup(cpi, "--director", "all"))
    assert before - names(host) == {own_volume, other_volume}
    del cpi.config["director_uuid"]
    assert f"for director {UUID}\n" in output(cleanup(cpi)), "the director of the image"
    assert "which has no resources here; directors with resources: " + UUID in output(
        cleanup(cpi, "--director", OTHER_UUID)
    )
    assert f"for director {UUID}\n" in output(cleanup(cpi, "--director", UUID[:8].upper()))


def test_detects_director_of_create_env(host, cpi, image, factory):
    own_volume, _ = factory.volume(f"vol-c-{uuid()}"), factory.volume(f"vol-c-{uuid(director=OTHER_UUID)}")
    vm, _ = cpi.call("create_vm", "a", image, VM, {"n": manual_network("10.245.0.61")}, [], environment())
    cpi.call("delete_vm", vm)
    before = names(host)
    output(cleanup(cpi))
    assert before - names(host) == {own_volume}

    (cpi.directory / "lxd_cpi" / f"director-{OTHER_UUID}").touch()
    assert cleanup(cpi).returncode == 2, "calls of two directors run on this machine"


@pytest.mark.every_server
def test_lists_all_resources_and_orphan_disks(host, cpi, image, factory):
    before = names(host)
    properties = {**VM, "root_disk": 10240}
    vm, _ = cpi.call("create_vm", "a", image, properties, {"n": manual_network("10.245.0.61")}, [], environment())
    try:
        cpi.call(
            "set_vm_metadata", vm, {"director": "my-bosh", "deployment": "db", "job": "pg", "index": "0", "id": "x"}
        )
        attached, orphan = (cpi.call("create_disk", 16, {}, None) for _ in range(2))
        factory.paths += [f"/1.0/storage-pools/default/volumes/custom/{disk}" for disk in (attached, orphan)]
        cpi.call("attach_disk", vm, attached)
        cpi.call(
            "set_disk_metadata",
            orphan,
            {
                "director": "my-bosh",
                "deployment": "db",
                "instance_group": "pg",
                "instance_index": "1",
                "instance_id": "y",
            },
        )
        snapshot = cpi.call(
            "snapshot_disk", orphan, {"deployment": "db", "job": "pg", "index": 1, "director_uuid": UUID}
        )
        legacy = factory.volume(f"vol-p-{UNKNOWN_OWNER}4")
        resources = {resource["cid"]: resource for resource in json.loads(output(cleanup(cpi, "--list", "--json")))}
        *table, summary = output(cleanup(cpi, "--list")).splitlines()
        resources_of_other = json.loads(output(cleanup(cpi, "--list", "--json", "--director", OTHER_UUID)))
        cpi.call("detach_disk", vm, attached)
    finally:
        cpi.call("delete_vm", vm)

    schema.check(list(resources.values()), "cleanup-list")
    assert summary.startswith(f"{len(resources)} resources: ")

    def fields(cid: str, *columns: str) -> tuple:
        return tuple(resources[cid][column] for column in columns)

    volume_names = (f"vol-c-{vm[3:]}", f"vol-e-{vm[3:]}")
    assert resources.keys() - before == {vm, *volume_names, attached, orphan, snapshot, legacy}
    owner = ("kind", "director", "deployment", "instance")
    assert fields(vm, *owner, "size", "state", "pool") == ("vm", UUID, "db", "pg/0", 10240, "", "default")
    assert [fields(cid, *owner, "used_by") for cid in volume_names] == [
        (kind, UUID, "db", "pg/0", [vm]) for kind in ("config", "ephemeral")
    ]
    assert fields(attached, "kind", "used_by", "state") == ("disk", [vm], "")
    assert fields(orphan, *owner, "used_by", "state", "size") == ("disk", UUID, "db", "pg/1", [], "orphan", 16)
    assert fields(snapshot, *owner, "state") == ("snapshot", UUID, "db", "pg/1", "")
    assert fields(legacy, "kind", "director", "state") == ("disk", "?", "orphan")
    assert fields(image, "kind", "director", "used_by") == ("image", UUID, [vm])
    assert all(0 <= resource["age"] < HOUR for cid, resource in resources.items() if cid != legacy)
    assert [line.split()[-1] for line in table[1:]] == list(resources)
    assert [line.split()[-1] for line in table if " orphan " in line] == [
        cid for cid in resources if cid in (orphan, legacy)
    ]
    assert resources_of_other == []


def test_deletes_named_detached_disk_only(host, cpi, image, factory):
    disk = cpi.call("create_disk", 16, {}, None)
    factory.paths.append(f"/1.0/storage-pools/default/volumes/custom/{disk}")
    factory.vm(f"vm-{uuid()}", state="created", volumes=False)
    vm = factory.paths[-1]
    factory.query("PATCH", vm, {"devices": {"p": {"type": "disk", "pool": "default", "source": disk}}})
    before = names(host)

    def error_line(*arguments: str) -> str:
        result = cleanup(cpi, "--delete-disk", *arguments)
        assert (result.returncode, result.stdout, names(host)) == (2, "", before)
        [line] = result.stderr.splitlines()
        return line

    assert "is attached to vm-" in error_line(disk)
    assert "there is no persistent disk" in error_line(f"vol-p-{uuid()}")
    assert "there is no persistent disk" in error_line("default")
    factory.query("DELETE", vm)
    before = names(host)
    assert f"belongs to another director, {UUID}" in error_line(disk, "--director", OTHER_UUID)

    cpi.call("snapshot_disk", disk, {})
    snapshot = names(host) - before
    output(cleanup(cpi, "--min-age", "0"))
    output(cleanup(cpi, "--delete-disk", disk, "--dry-run"))
    assert names(host) == before | snapshot, "only --delete-disk with its name deletes a disk"
    assert f"removed disk {disk} in pool default (orphan, " in output(cleanup(cpi, "--delete-disk", disk))
    assert (before | snapshot) - names(host) == {disk, *snapshot}


@pytest.mark.every_server
def test_removes_all_resources_of_killed_create_vm(host, cpi, image, factory):
    """The call is killed during request 1, 2, 3 and so on. The server completes the request."""
    before, counts = names(host), {}
    for stop in itertools.count(1):
        requests, stdout = killed_at(stop, host, cpi, image)
        Connection(host).wait_until_idle()
        count = len(names(host) - before)
        output(cleanup(cpi, "--min-age", "0"))
        remaining = names(host) - before
        if any(request.startswith("PATCH") for request in requests):
            assert len(remaining) == 3, "the VM is complete; the server has no information that BOSH has no CID"
            cpi.call("delete_vm", min(remaining))
        else:
            counts[requests[-1]] = count
        assert names(host) == before, f"killed at {requests[-1]}"
        if stdout:
            break
    assert counts["POST /1.0/storage-pools/default/volumes/custom"] in (1, 2)
    assert counts["POST /1.0/instances"] == 3
    assert 0 in counts.values()


def killed_at(stop: int, host, cpi, image) -> tuple[list[str], bytes]:
    """Kill a create_vm at a request. Return its requests, and the response of a call with fewer requests."""
    path, url = cpi.directory / f"relay-{stop}", cpi.config["server"]["url"]
    cpi.config["server"]["url"] = f"unix://{path}"
    with Relay(path, Path(host.server_cert).parent / "unix.socket", stop=stop, stopped=lambda: process.kill()) as relay:  # noqa: PLW0108  assigned below
        process = cpi.start(
            "create_vm", "a", image, VM, {"n": manual_network(f"10.245.0.{70 + stop}")}, [], environment()
        )
        stdout, _ = process.communicate()
    cpi.config["server"]["url"] = url
    return relay.requests, stdout


def test_continuous_cleanup_does_not_break_create_vm(host, cpi, image, factory, tmp_path):
    runs, stop = [], threading.Event()
    cpi.config["throttle_config"] = {"path": str(tmp_path / "locks")}

    def clean_continuously() -> None:
        while not stop.is_set():
            runs.append(cleanup(cpi, "--min-age", "0", "--director", UUID))

    def create(number: int) -> str:
        directory = tmp_path / str(number)
        directory.mkdir()
        director = Director(cpi.config, directory, prefix=cpi.prefix)
        cid, _ = director.call(
            "create_vm",
            f"a-{number}",
            image,
            VM,
            {"n": manual_network(f"10.245.0.{100 + number}")},
            [],
            environment(),
        )
        factory.query("PUT", f"/1.0/instances/{cid}/state", {"action": "stop", "force": True})
        return cid

    before = names(host)
    cleaner = threading.Thread(target=clean_continuously)
    cleaner.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            vms = list(pool.map(create, range(20)))
    finally:
        stop.set()
        cleaner.join()
    created = names(host) - before
    for cid in vms:
        cpi.call("delete_vm", cid)
    assert created == {prefix + cid[3:] for cid in vms for prefix in ("vm-", "vol-c-", "vol-e-")}
    assert {run.returncode for run in runs} == {0}
    assert all(": removed 0, " in run.stdout for run in runs)
    assert any(" being created" in run.stdout for run in runs), "no run coincided with create_vm"


@pytest.fixture
def second_cpi(host, cpi, image, tmp_path):
    """The arguments for a cpi-config with another project of the server, in which a volume is unused."""
    server.client(host.name, "project", "create", "second", "-c", "features.networks=false")
    volume = f"vol-e-{uuid()}"
    server.client(host.name, "storage", "volume", "create", host.pool, volume, "--type=block", "--project=second")
    config = {"cpis": [{"name": "second", "type": "lxd", "properties": {"project": "second"}}]}
    (tmp_path / "cpi-config.json").write_text(json.dumps(config), encoding="utf-8")
    yield ["--cpi-config", str(tmp_path / "cpi-config.json")], volume
    server.client(host.name, "storage", "volume", "delete", host.pool, volume, "--project=second", check=False)
    server.client(host.name, "project", "delete", "second")


@pytest.mark.every_server
def test_cleans_the_servers_of_a_cpi_config(cpi, factory, second_cpi):
    arguments, volume = second_cpi
    table = output(cleanup(cpi, *arguments, "--list"))
    assert "CPI of the job, https://" in table and "CPI second, https://" in table and volume in table
    resources = json.loads(output(cleanup(cpi, *arguments, "--list", "--json")))
    assert [resource["cpi"] for resource in resources if resource["cid"] == volume] == ["second"]
    result = output(cleanup(cpi, *arguments, "--director=all", "--min-age=0"))
    summaries = [line.partition("Z ")[2].partition(",")[0] for line in result.splitlines() if "Z cleanup" in line]
    assert summaries == ["cleanup: removed 0", "cleanup second: removed 1"]
    checks = json.loads(cpi.run_program("doctor", *arguments, "--json").stdout)
    assert {check["cpi"] for check in checks} == {"", "second"}
