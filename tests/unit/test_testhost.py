"""The parts of test hosts that require neither root nor a server."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.host import configuration, kinds, machine, rootfs, vsock_emulation

HOST = Path(__file__).resolve().parents[1] / "host"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n"


def filter_action(number: int, *arguments: int, architecture: int = 0xC000003E) -> str:
    """Run the seccomp filter for a system call, as the kernel does, and return its action."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("<iIQ6Q", number, architecture, 0, *padded)
    rows = list(struct.iter_unpack("HBBI", vsock_emulation.FILTER))
    index = accumulator = 0
    while True:
        operation, true, false, operand = rows[index]
        index += 1
        if operation == vsock_emulation.LOAD:
            accumulator = struct.unpack_from("<I", data, operand)[0]
        elif operation == vsock_emulation.JUMP_IF_EQUAL:
            index += true if accumulator == operand else false
        else:
            return {
                vsock_emulation.ALLOW: "allow",
                vsock_emulation.SUCCEED: "succeed",
                vsock_emulation.NOTIFY: "notify",
            }[operand]


IOCTL, BIND, SETRLIMIT, PRLIMIT64, READ = 16, 49, 160, 302, 0


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ((IOCTL, 7, 0x4008AF60), "succeed"),
        ((IOCTL, 7, 0x7B9), "succeed"),
        ((IOCTL, 7, 0x5401), "allow"),
        ((BIND, 7, 0x7FFF0000, 16), "notify"),
        ((BIND, 7, 0x7FFF0000, 110), "allow"),
        ((PRLIMIT64, 0, 7, 0x7FFF0000), "succeed"),
        ((PRLIMIT64, 0, 7, 0, 0x7FFF0000), "allow"),
        ((SETRLIMIT, 7, 0x7FFF0000), "succeed"),
        ((READ, 7, 0x7FFF0000, 16), "allow"),
    ],
)
def test_filter_actions(call, expected):
    assert filter_action(*call) == expected


def test_filter_allows_other_architectures():
    assert filter_action(IOCTL, 7, 0x4008AF60, architecture=0x40000003) == "allow"


def test_sends_certificate_as_der():
    method, path, body = configuration.requests("dir", CERTIFICATE)[-1]
    assert (method, path, body["certificate"]) == ("POST", "/1.0/certificates", "AAEC")


def test_sets_pool_size_for_btrfs_only():
    sizes = {driver: configuration.requests(driver, CERTIFICATE)[1][2]["config"] for driver in ("btrfs", "dir")}
    assert sizes == {"btrfs": {"size": "20GiB"}, "dir": {}}


def test_recipes_differ_by_kind(tmp_path):
    assert len({rootfs.recipe_hash(kinds.KINDS[name], tmp_path) for name in kinds.PACKAGED}) == len(kinds.PACKAGED) == 3


@pytest.mark.parametrize(("name", "differs"), [("lxd6", True), ("lxd", False)])
def test_recipe_of_a_server_without_package_depends_on_its_files(tmp_path, name, differs):
    before = rootfs.recipe_hash(kinds.KINDS[name], tmp_path)
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/lxd").write_text("program", encoding="utf-8")
    assert (rootfs.recipe_hash(kinds.KINDS[name], tmp_path) != before) == differs


def test_server_without_package_needs_its_files(tmp_path, monkeypatch):
    monkeypatch.setattr(rootfs, "SERVERS", tmp_path)
    with pytest.raises(machine.HostError, match="lxd6: Debian has no package; put the files of the server into"):
        rootfs.build("lxd6")


def test_requires_root(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    assert machine.unsupported_reason() == "a test host needs root"


def test_requires_linux(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert machine.unsupported_reason() == "a test host needs Linux on x86-64"


def test_qemu_shim_selects_tcg_and_removes_devices(tmp_path):
    shim = (HOST / "shims/qemu-system-x86_64").read_text(encoding="utf-8")
    program = tmp_path / "qemu"
    program.write_text(shim.replace("exec /usr/bin/qemu-system-x86_64", "printf '%s\\n'"), encoding="utf-8")
    config = tmp_path / "qemu.conf"
    config.write_text(
        '[machine]\ntype = "q35"\naccel = "kvm"\n\n[device "qemu_vsock"]\ndriver = "vhost-vsock-pci"\n'
        '[device "qemu_gpu"]\ndriver = "virtio-vga"\n\n[device "qemu_scsi"]\ndriver = "virtio-scsi-pci"\n',
        encoding="utf-8",
    )
    arguments = ["-accel", "kvm", "-cpu", "host,migratable=no", "-readconfig", config, "-name", "a b"]
    output = subprocess.run(["bash", program, *arguments], capture_output=True, text=True, check=True).stdout
    assert output.splitlines() == ["-accel", "tcg", "-cpu", "max", "-readconfig", str(config), "-name", "a b"]
    assert config.read_text(encoding="utf-8") == (
        '[machine]\ntype = "q35"\naccel = "tcg"\n\n[device "qemu_scsi"]\ndriver = "virtio-scsi-pci"\n'
    )
