"""Test hosts on this machine: start, configuration, restart, stop and deletion."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.host import processes, server
from tests.host.machine import run, wait_until

REASON = server.unsupported_reason()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

TESTHOST = pathlib.Path(__file__).with_name("testhost")
PRINT_AUTH = """
import json, ssl, sys, urllib.request
url, server, certificate, key = sys.argv[1:]
context = ssl.create_default_context(cafile=server)
context.load_cert_chain(certificate, key)
with urllib.request.urlopen(f"{url}/1.0", context=context) as response:
    print(json.load(response)["metadata"]["auth"])
"""


@pytest.fixture(scope="module")
def module_host() -> Iterator[server.Facts]:
    """A host for this module."""
    with server.temporary_host("incus", name=f"module-{os.getpid()}", pool="dir") as facts:
        yield facts


@pytest.fixture
def other() -> Iterator[str]:
    """The name of a second host."""
    name = f"other-{os.getpid()}"
    yield name
    server.down(name, wipe=True)


def query(name: str, path: str):
    return json.loads(server.client(name, "query", path).stdout)


def processes_of(name: str) -> set[int]:
    """Return the processes in the network and process namespaces of a host."""
    init_pid = processes.init_pid(name)
    assert init_pid
    namespace = pathlib.Path(f"/proc/{init_pid}/ns/pid").readlink()
    pids = {int(pid) for pid in run("ip", "netns", "pids", f"bosh-{name}").stdout.split()}
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if pathlib.Path(entry / "ns/pid").readlink() == namespace:
                pids.add(int(entry.name))
    return pids


def remains(name: str, pids: set[int]) -> list[str]:
    """Return the namespaces, loop devices, mounts, processes and files of a deleted host."""
    outputs = [
        run("ip", "netns", "list").stdout,
        run("losetup", "--list").stdout,
        pathlib.Path("/proc/self/mountinfo").read_text(encoding="utf-8"),
    ]
    lines = [line for output in outputs for line in output.splitlines() if name in line]
    running = [str(pid) for pid in pids if pathlib.Path(f"/proc/{pid}/exe").exists() and not is_zombie(pid)]
    return lines + running + [str(path) for path in [server.STATE / name] if path.exists()]


def is_zombie(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2].startswith("Z")
    except OSError:
        return True


def test_url_accepts_client_certificate(module_host):
    result = run(
        *server.netns_command(module_host.name),
        sys.executable,
        "-c",
        PRINT_AUTH,
        module_host.url,
        module_host.server_cert,
        module_host.client_cert,
        module_host.client_key,
    )
    assert result.stdout.strip() == "trusted"


def test_has_pool_project_and_bridges(module_host):
    assert query(module_host.name, f"/1.0/storage-pools/{module_host.pool}")["driver"] == module_host.driver == "dir"
    features = query(module_host.name, f"/1.0/projects/{module_host.project}")["config"]
    assert {key: features[f"features.{key}"] for key in ("images", "profiles", "storage.volumes")} == {
        "images": "true",
        "profiles": "true",
        "storage.volumes": "true",
    }
    assert (
        query(module_host.name, f"/1.0/profiles/{module_host.profile}?project={module_host.project}")["devices"][
            "root"
        ]["pool"]
        == module_host.pool
    )
    assert (
        query(module_host.name, f"/1.0/networks/{module_host.network}")["config"]["ipv4.address"]
        == f"{module_host.gateway}/24"
    )
    second = query(module_host.name, "/1.0/networks/boshbr1")["config"]
    assert (second["ipv4.address"], second["ipv6.address"]) == ("10.246.0.1/24", "fd42:b05b::1/64")


def test_supports_virtual_machines(module_host):
    assert "qemu" in query(module_host.name, "/1.0")["environment"]["driver"]


def test_up_is_idempotent(module_host):
    assert server.up("incus", name=module_host.name, pool="dir") == module_host == server.facts(module_host.name)
    assert module_host.name in server.names()


def test_rejects_name_of_another_kind(module_host):
    with pytest.raises(server.HostError, match="exists as incus with a dir pool"):
        server.up("lxd", name=module_host.name, pool="dir")


@pytest.mark.parametrize("hard", [False, True])
def test_vms_survive_daemon_restart(module_host, hard):
    server.client(module_host.name, "create", "--empty", "--vm", "runner", "--project", module_host.project)
    server.client(module_host.name, "start", "runner", "--project", module_host.project)
    before = query(module_host.name, f"/1.0/instances/runner/state?project={module_host.project}")
    server.restart(module_host.name, hard=hard)
    after = query(module_host.name, f"/1.0/instances/runner/state?project={module_host.project}")
    assert (after["status"], after["pid"]) == ("Running", before["pid"])
    server.client(module_host.name, "delete", "--force", "runner", "--project", module_host.project)


def test_stops_and_starts_daemon(module_host):
    server.stop_daemon(module_host.name)
    assert not server.running(module_host.name)
    assert server.client(module_host.name, "query", "/1.0", check=False).returncode != 0
    server.start_daemon(module_host.name)
    assert server.running(module_host.name)


def test_reports_daemon_log_if_start_fails(module_host):
    database = pathlib.Path(module_host.server_cert).parent / "database/local.db"
    content = database.read_bytes()
    server.stop_daemon(module_host.name)
    database.write_bytes(b"no database")
    with pytest.raises(server.HostError, match=r"the daemon ended; the end of .*/daemon\.log:\n[^$]*not a database"):
        server.start_daemon(module_host.name)
    database.write_bytes(content)
    server.start_daemon(module_host.name)


def test_keeps_data_after_down_and_up(module_host):
    server.client(module_host.name, "storage", "volume", "create", module_host.pool, "volume")
    server.down(module_host.name)
    assert not server.running(module_host.name)
    assert module_host.netns not in run("ip", "netns", "list").stdout
    assert server.up("incus", name=module_host.name, pool="dir") == module_host
    assert "volume" in server.client(module_host.name, "storage", "volume", "list", module_host.pool).stdout


def test_wipe_removes_everything_after_init_was_killed(other):
    facts = server.up("lxd", name=other)
    server.client(other, "init", "--empty", "--vm", "runner", "--project", facts.project)
    server.client(other, "start", "runner", "--project", facts.project)
    pids = processes_of(other)
    commands = {pathlib.Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() for pid in pids}
    assert commands >= {"lxd", "dnsmasq", "qemu-system-x86"}
    pool_file = server.STATE / other / "var/disks/default.img"
    assert run("losetup", "--associated", pool_file).stdout
    os.kill(processes.init_pid(other), signal.SIGKILL)
    assert wait_until(lambda: all(is_zombie(pid) for pid in pids), seconds=20)
    assert not server.running(other)
    server.down(other)
    assert not run("losetup", "--associated", pool_file).stdout
    server.down(other, wipe=True)
    assert remains(other, pids) == []


def test_wipe_ends_processes_in_namespace_except_caller(other):
    server.up("incus", name=other, pool="dir")
    pids = processes_of(other)
    with subprocess.Popen([*server.netns_command(other), "sleep", "600"]) as process:
        assert wait_until(lambda: process.pid in processes_of(other), seconds=10)
        run(*server.netns_command(other), TESTHOST, "down", other, "--wipe")
        assert process.wait(10) == -signal.SIGKILL
    assert remains(other, pids) == []


def test_start_after_killed_first_start(other):
    command = [TESTHOST, "up", "incus", "--name", other, "--pool", "dir"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        assert wait_until((server.STATE / other / "var/server.crt").exists, seconds=30)
        process.kill()
    assert server.up("incus", name=other, pool="dir").name == other


def test_temporary_host_starts_empty_and_is_removed(other):
    server.client(server.up("incus", name=other, pool="dir").name, "storage", "volume", "create", "default", "volume")
    with server.temporary_host("incus", name=other, pool="dir") as facts:
        assert "volume" not in server.client(other, "storage", "volume", "list", facts.pool).stdout
    assert remains(other, set()) == []


def test_rejects_temporary_host_in_use(module_host):
    with (
        pytest.raises(server.HostError, match="another run uses this host"),
        server.temporary_host("incus", name=module_host.name),
    ):
        pass
    assert server.running(module_host.name)
