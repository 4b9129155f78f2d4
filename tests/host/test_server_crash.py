"""The daemon is killed while it creates a disk, a snapshot or a VM. It keeps the object, but not the content.

An object that the call returns is complete. If the call fails, no resources are left.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bosh_lxd_cpi.lxd.pools import DEFAULT_SIZE
from tests.host import server
from tests.host.conftest import inventory
from tests.host.director import CallError, Director, configuration, environment, manual_network
from tests.host.kinds import KINDS
from tests.host.paused_program import PausedProgram, file_system
from tests.host.tiny_stemcell import STEMCELL, VM, stemcell_image

MIB = 1 << 20


@pytest.fixture(scope="module")
def dir_pool(request: pytest.FixtureRequest) -> Iterator[server.Facts]:
    """LXD 5.0 with a pool of directories, where the root disk of a VM is a copy of the image."""
    with server.temporary_host("lxd", name=f"{request.config.getoption('--hosts')}-lxd-dir", pool="dir") as facts:
        yield facts


def content_size(facts: server.Facts, path: str) -> int:
    """Return the size in MiB of the disk image in a directory of the pool."""
    pool = file_system(facts.name) / KINDS[facts.kind].var.strip("/") / "storage-pools" / facts.pool
    return (pool / path / "root.img").stat().st_size // MIB


def call_with_crash(cpi: Director, facts: server.Facts, paused: PausedProgram, killed: str, *call: object) -> object:
    """Make a call and kill the daemon, or also its program, when it runs the paused program."""
    method, *arguments = call
    with paused:
        process = cpi.start(str(method), *arguments)
        paused.wait()
        server.stop_daemon(facts.name, hard=True)
        try:
            if killed == "daemon and program":
                paused.kill()
            paused.resume()
        finally:
            server.start_daemon(facts.name)
        return cpi.finish(process, str(method), 0)


def create_vm(cpi: Director, directory: Path) -> tuple[object, ...]:
    """Return a call of create_vm with a new stemcell."""
    stemcell = cpi.call("create_stemcell", str(stemcell_image(directory)), STEMCELL)
    return "create_vm", "agent", stemcell, VM, {"n": manual_network("10.245.0.20")}, [], environment()


def assert_vm_is_complete(cpi: Director, facts: server.Facts, vm: str) -> None:
    assert content_size(facts, f"virtual-machines/{facts.project}_{vm}") == DEFAULT_SIZE
    assert content_size(facts, f"custom/{facts.project}_{vm.replace('vm-', 'vol-e-')}") == VM["ephemeral_disk"]
    cpi.call("delete_vm", vm)


KILLED = pytest.mark.parametrize(
    "killed", [pytest.param("daemon", marks=pytest.mark.long), pytest.param("daemon and program")]
)


@pytest.mark.every_server
@KILLED
def test_create_disk(host, cpi, killed):
    paused = PausedProgram(host.name, "btrfs", "subvolume create */custom/*")
    disk = call_with_crash(cpi, host, paused, killed, "create_disk", 16, {})
    assert content_size(host, f"custom/{host.project}_{disk}") == 16
    cpi.call("delete_disk", disk)


@pytest.mark.every_server
@KILLED
def test_snapshot_disk(host, cpi, killed):
    disk = cpi.call("create_disk", 16, {})
    paused = PausedProgram(host.name, "btrfs", "subvolume snapshot *")
    snapshot = call_with_crash(cpi, host, paused, killed, "snapshot_disk", disk, {})
    assert content_size(host, f"custom-snapshots/{host.project}_{disk}/{snapshot.partition('_')[2]}") == 16
    cpi.call("delete_snapshot", snapshot)
    cpi.call("delete_disk", disk)


@pytest.mark.every_server
@KILLED
@pytest.mark.parametrize("volume", ["virtual-machines", "vol-c-"])
def test_create_vm(host, cpi, killed, volume, tmp_path):
    call = create_vm(cpi, tmp_path)
    paused = PausedProgram(host.name, "btrfs", f"*subvolume*{volume}*")
    vm = call_with_crash(cpi, host, paused, killed, *call)[0]
    assert_vm_is_complete(cpi, host, vm)
    cpi.call("delete_stemcell", call[2])


@pytest.mark.every_server
@KILLED
def test_create_vm_is_retryable_when_its_ephemeral_disk_is_lost(host, cpi, killed, tmp_path):
    call = create_vm(cpi, tmp_path)
    before = inventory(host)
    paused = PausedProgram(host.name, "btrfs", "subvolume create *vol-e-*")
    with pytest.raises(CallError) as raised:
        call_with_crash(cpi, host, paused, killed, *call)
    assert (raised.value.type, raised.value.ok_to_retry) == ("Bosh::Clouds::VMCreationFailed", True)
    assert inventory(host) == before
    cpi.call("delete_stemcell", call[2])


@pytest.mark.parametrize("killed", ["daemon", "daemon and program"])
def test_create_vm_in_pool_of_directories(dir_pool, killed, tmp_path):
    """LXD 5.0 cannot delete an incomplete VM after its first start."""
    before = inventory(dir_pool)
    cpi = Director(configuration(dir_pool), tmp_path, prefix=server.netns_command(dir_pool.name))
    call = create_vm(cpi, tmp_path)
    paused = PausedProgram(dir_pool.name, "qemu-img", "convert *")
    vm = call_with_crash(cpi, dir_pool, paused, killed, *call)[0]
    assert_vm_is_complete(cpi, dir_pool, vm)
    cpi.call("delete_stemcell", call[2])
    assert inventory(dir_pool) == before
