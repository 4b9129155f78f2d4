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
ASK_WHO_I_AM = """
import json, ssl, sys, urllib.request
url, server, certificate, key = sys.argv[1:]
context = ssl.create_default_context(cafile=server)
context.load_cert_chain(certificate, key)
with urllib.request.urlopen(f"{url}/1.0", context=context) as response:
    print(json.load(response)["metadata"]["auth"])
"""


@pytest.fixture(scope="module")
def own() -> Iterator[server.Facts]:
    """A host for this module."""
    with server.temporary_host("incus", name=f"own-{os.getpid()}", pool="dir") as facts:
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
    home = pathlib.Path(f"/proc/{init_pid}/ns/pid").readlink()
    found = {int(pid) for pid in run("ip", "netns", "pids", f"bosh-{name}").stdout.split()}
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if pathlib.Path(entry / "ns/pid").readlink() == home:
                found.add(int(entry.name))
    return found


def leftovers(name: str, pids: set[int]) -> list[str]:
    """Return what remains of a wiped host on this machine."""
    texts = [
        run("ip", "netns", "list").stdout,
        run("losetup", "--list").stdout,
        pathlib.Path("/proc/self/mountinfo").read_text(encoding="utf-8"),
    ]
    found = [line for text in texts for line in text.splitlines() if name in line]
    found += [str(pid) for pid in pids if pathlib.Path(f"/proc/{pid}/exe").exists() and not is_zombie(pid)]
    return found + [str(path) for path in [server.STATE / name] if path.exists()]


def is_zombie(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2].startswith("Z")
    except OSError:
        return True


def test_url_accepts_client_certificate(own):
    result = run(
        *server.netns_command(own.name),
        sys.executable,
        "-c",
        ASK_WHO_I_AM,
        own.url,
        own.server_cert,
        own.client_cert,
        own.client_key,
    )
    assert result.stdout.strip() == "trusted"


def test_has_pool_project_and_bridges(own):
    assert query(own.name, f"/1.0/storage-pools/{own.pool}")["driver"] == own.driver == "dir"
    features = query(own.name, f"/1.0/projects/{own.project}")["config"]
    assert {key: features[f"features.{key}"] for key in ("images", "profiles", "storage.volumes")} == {
        "images": "true",
        "profiles": "true",
        "storage.volumes": "true",
    }
    assert query(own.name, f"/1.0/profiles/{own.profile}?project={own.project}")["devices"]["root"]["pool"] == own.pool
    assert query(own.name, f"/1.0/networks/{own.network}")["config"]["ipv4.address"] == f"{own.gateway}/24"
    second = query(own.name, "/1.0/networks/boshbr1")["config"]
    assert (second["ipv4.address"], second["ipv6.address"]) == ("10.246.0.1/24", "fd42:b05b::1/64")


def test_supports_virtual_machines(own):
    assert "qemu" in query(own.name, "/1.0")["environment"]["driver"]


def test_up_is_idempotent(own):
    assert server.up("incus", name=own.name, pool="dir") == own == server.facts(own.name)
    assert own.name in server.names()


def test_rejects_name_of_another_kind(own):
    with pytest.raises(server.HostError, match="exists as incus with a dir pool"):
        server.up("lxd", name=own.name, pool="dir")


@pytest.mark.parametrize("hard", [False, True])
def test_vms_survive_daemon_restart(own, hard):
    server.client(own.name, "create", "--empty", "--vm", "runner", "--project", own.project)
    server.client(own.name, "start", "runner", "--project", own.project)
    before = query(own.name, f"/1.0/instances/runner/state?project={own.project}")
    server.restart(own.name, hard=hard)
    after = query(own.name, f"/1.0/instances/runner/state?project={own.project}")
    assert (after["status"], after["pid"]) == ("Running", before["pid"])
    server.client(own.name, "delete", "--force", "runner", "--project", own.project)


def test_stops_and_starts_daemon(own):
    server.stop_daemon(own.name)
    assert not server.running(own.name)
    assert server.client(own.name, "query", "/1.0", check=False).returncode != 0
    server.start_daemon(own.name)
    assert server.running(own.name)


def test_reports_daemon_log_if_start_fails(own):
    database = pathlib.Path(own.server_cert).parent / "database/local.db"
    intact = database.read_bytes()
    server.stop_daemon(own.name)
    database.write_bytes(b"no database")
    with pytest.raises(server.HostError, match=r"the daemon ended; the end of .*/daemon\.log:\n[^$]*not a database"):
        server.start_daemon(own.name)
    database.write_bytes(intact)
    server.start_daemon(own.name)


def test_keeps_data_after_down_and_up(own):
    server.client(own.name, "storage", "volume", "create", own.pool, "kept")
    server.down(own.name)
    assert not server.running(own.name)
    assert own.netns not in run("ip", "netns", "list").stdout
    assert server.up("incus", name=own.name, pool="dir") == own
    assert "kept" in server.client(own.name, "storage", "volume", "list", own.pool).stdout


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
    assert leftovers(other, pids) == []


def test_wipe_ends_processes_in_namespace_except_caller(other):
    server.up("incus", name=other, pool="dir")
    pids = processes_of(other)
    with subprocess.Popen([*server.netns_command(other), "sleep", "600"]) as command:
        assert wait_until(lambda: command.pid in processes_of(other), seconds=10)
        run(*server.netns_command(other), TESTHOST, "down", other, "--wipe")
        assert command.wait(10) == -signal.SIGKILL
    assert leftovers(other, pids) == []


def test_start_after_killed_first_start(other):
    command = [TESTHOST, "up", "incus", "--name", other, "--pool", "dir"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as begun:
        assert wait_until((server.STATE / other / "var/server.crt").exists, seconds=30)
        begun.kill()
    assert server.up("incus", name=other, pool="dir").name == other


def test_temporary_host_starts_empty_and_is_removed(other):
    server.client(server.up("incus", name=other, pool="dir").name, "storage", "volume", "create", "default", "left")
    with server.temporary_host("incus", name=other, pool="dir") as facts:
        assert "left" not in server.client(other, "storage", "volume", "list", facts.pool).stdout
    assert leftovers(other, set()) == []


def test_rejects_temporary_host_in_use(own):
    with (
        pytest.raises(server.HostError, match="another run uses this host"),
        server.temporary_host("incus", name=own.name),
    ):
        pass
    assert server.running(own.name)
