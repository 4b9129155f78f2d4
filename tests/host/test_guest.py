"""The guest in QEMU without a server: reports, config drives, hot-plugged disks and networks."""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bosh_lxd_cpi.guest.config_drive.drive import image
from tests.host.guest import report

OVMF = Path("/usr/share/OVMF")
SYSTEM, EPHEMERAL, EXTRA = (
    f"/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_incus_{name}" for name in ("root", "ephemeral", "p0123456789ab")
)
MACS = ("00:16:3e:00:00:01", "00:16:3e:00:00:02")
MIB = 1 << 20

pytestmark = pytest.mark.skipif(
    not shutil.which("qemu-system-x86_64") or not OVMF.exists(),
    reason="needs QEMU and its UEFI firmware: install qemu-system-x86 and ovmf",
)


class Machine:
    """A QEMU machine with the disk devices of Incus. Its port 8080 is at `address` of this machine."""

    def __init__(self, directory: Path, root: Path, *options: str, uefi: bool = False) -> None:
        self.directory = directory
        (directory / "console").touch()
        self.address = ".".join(["127", *(str(random.randint(2, 254)) for _ in range(3))])
        if uefi:
            shutil.copy(OVMF / "OVMF_VARS_4M.fd", directory / "vars.fd")
            options += (
                "-drive",
                f"if=pflash,format=raw,readonly=on,file={OVMF}/OVMF_CODE_4M.fd",
                "-drive",
                f"if=pflash,format=raw,file={directory}/vars.fd",
            )
        self.process = subprocess.Popen(
            [
                "qemu-system-x86_64",
                "-machine",
                "q35",
                "-accel",
                "tcg",
                "-cpu",
                "max",
                "-m",
                "512",
                "-display",
                "none",
                "-nodefaults",
                "-device",
                "virtio-scsi-pci,id=scsi",
                *disk("root", root, image_format="qcow2,snapshot=on", order=",bootindex=0"),
                "-netdev",
                f"user,id=first,restrict=on,ipv6=off,hostfwd=tcp:{self.address}:8080-10.0.2.15:8080",
                "-device",
                f"virtio-net-pci,netdev=first,mac={MACS[0]},romfile=",
                *options,
                "-serial",
                f"file:{directory}/console",
                "-qmp",
                f"unix:{directory}/qmp,server=on,wait=off",
            ]
        )

    def command(self, name: str, **arguments: Any) -> Any:
        """Run a command of QEMU's monitor and return its result."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.directory / "qmp"))
            with connection.makefile("rw", encoding="utf-8") as monitor:
                for request in ({"execute": "qmp_capabilities"}, {"execute": name, "arguments": arguments}):
                    print(json.dumps(request), file=monitor, flush=True)
                    response: dict[str, Any] = {}
                    while "return" not in response:  # the monitor also sends a greeting and events
                        response = json.loads(monitor.readline())
                        assert "error" not in response, response
        return response["return"]

    def wait(self, *, not_boot: str = "") -> dict[str, Any]:
        return report.wait_for_report(self.address, netns_command=[], seconds=120, not_boot=not_boot)

    def request(self, command: str, **parameters: str) -> Any:
        return report.request(self.address, command, netns_command=[], **parameters)

    def console(self) -> str:
        return (self.directory / "console").read_text(encoding="utf-8", errors="replace")


def disk(name: str, path: Path, *, device: str = "scsi-hd", image_format: str = "raw", order: str = "") -> list[str]:
    """Return the QEMU options of a disk that Incus attaches as device `name`."""
    return [
        "-drive",
        f"if=none,id={name},file={path},format={image_format}",
        "-device",
        f"{device},bus=scsi.0,lun=1,drive={name},serial=incus_{name},device_id=incus_{name}{order}",
    ]


@pytest.fixture(scope="module")
def boot(guest_stemcell: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Machine]]:
    """A function that starts a machine from the guest stemcell. It runs until the end of this module."""
    stemcell = tmp_path_factory.mktemp("stemcell")
    with tarfile.open(guest_stemcell["image"]) as archive, Path(stemcell / "root.img").open("wb") as file:
        shutil.copyfileobj(archive.extractfile("root.img"), file)
    machines = []

    def start(*options: str, **keywords: Any) -> Machine:
        machines.append(Machine(tmp_path_factory.mktemp("machine"), stemcell / "root.img", *options, **keywords))
        return machines[-1]

    yield start
    for machine in machines:
        machine.process.kill()
        machine.process.wait()


def settings(networks: dict[str, Any]) -> dict[str, Any]:
    disks = {"system": SYSTEM, "ephemeral": {"path": EPHEMERAL}, "persistent": {}}
    return {"agent_id": "agent-1", "vm": {"name": "vm-1"}, "mbus": "nats://nats", "networks": networks, "disks": disks}


def write_drive(path: Path, networks: dict[str, Any], kind: str) -> Path:
    files = {"metadata_path": "ec2/latest/meta-data.json", "userdata_path": "ec2/latest/user-data"}
    path.write_bytes(image(settings(networks), kind=kind, label="config-2", **files))
    return path


def write_empty_disk(path: Path, size: int) -> Path:
    with Path(path).open("wb") as file:
        file.truncate(size)
    return path


NETWORK = {
    "default": {
        "type": "manual",
        "ip": "10.0.2.15",
        "netmask": "255.255.255.0",
        "gateway": "10.0.2.2",
        "prefix": "32",
        "default": ["dns", "gateway"],
    }
}
MASK = "ffff:ffff:ffff:ffff::"
TWO_NETWORKS = {
    "private": {"type": "dynamic", "mac": MACS[0], "default": ["dns"]},
    "public": {
        "type": "manual",
        "ip": "fd42:b05b::5",
        "netmask": MASK,
        "mac": MACS[1],
        "gateway": "fd42:b05b::1",
        "default": ["gateway"],
    },
    "second": {"type": "manual", "ip": "fd42:b05b::6", "netmask": MASK, "alias": "eth1:1"},
    "floating": {"type": "vip", "ip": "203.0.113.1"},
}


@pytest.fixture(scope="module")
def bios(boot: Callable[..., Machine], tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A machine with BIOS, an ephemeral disk and an ISO9660 config drive without MAC address."""
    files = tmp_path_factory.mktemp("bios")
    return boot(
        *disk("ephemeral", write_empty_disk(files / "ephemeral", 300 * MIB)),
        *disk("config", write_drive(files / "config", NETWORK, "CDROM"), device="scsi-cd"),
    )


@pytest.fixture(scope="module")
def uefi(boot: Callable[..., Machine], tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A machine with UEFI, two network interfaces and a FAT config drive on a hard disk, but no ephemeral disk."""
    files = tmp_path_factory.mktemp("uefi")
    return boot(
        *disk("config", write_drive(files / "config", TWO_NETWORKS, "FAT32")),
        "-smp",
        "2",
        "-netdev",
        "user,id=second,restrict=on,ipv4=off,ipv6=on,ipv6-prefix=fd42:b05b::,ipv6-host=fd42:b05b::1",
        "-device",
        f"virtio-net-pci,netdev=second,mac={MACS[1]},romfile=",
        uefi=True,
    )


def test_bios_machine_reports_settings_and_networks(bios: Machine) -> None:
    guest_report = bios.wait()
    assert guest_report["errors"] == []
    assert (guest_report["agent_id"], guest_report["user_data"], guest_report["meta_data"]) == (
        "agent-1",
        settings(NETWORK),
        {},
    )
    assert (guest_report["firmware"], guest_report["secureboot"], guest_report["cpus"]) == ("bios", False, 1)
    assert 400 < guest_report["memory_mib"] <= 512
    config_drive = guest_report["config_drive"]
    assert (config_drive["device"], config_drive["fstype"], config_drive["label"]) == (
        "/dev/sr0",
        "iso9660",
        "config-2",
    )
    assert sorted(config_drive["files"]) == ["ec2/latest/meta-data.json", "ec2/latest/user-data"]
    assert guest_report["networks"]["default"]["mac"] == MACS[0]
    assert "10.0.2.15/24" in guest_report["networks"]["default"]["addresses"]
    assert guest_report["networks"]["default"]["gateway"] == "10.0.2.2"


def test_reports_disk_size_serial_and_links(bios: Machine) -> None:
    guest_report = bios.wait()
    system, ephemeral = guest_report["disks"]["system"], guest_report["disks"]["ephemeral"]
    assert (system["path"], system["size"]) == (SYSTEM, 512 * MIB)
    assert (ephemeral["path"], ephemeral["size"]) == (EPHEMERAL, 300 * MIB)
    assert guest_report["block_devices"][ephemeral["device"]]["serial"] == "incus_ephemeral"
    assert guest_report["by_id"][Path(EPHEMERAL).name] == ephemeral["device"]
    assert guest_report["block_devices"]["/dev/sr0"]["ro"] is True
    assert guest_report["by_label"]["config-2"] == "/dev/sr0"


def test_prints_report_to_console(bios: Machine) -> None:
    guest_report = bios.wait()
    assert report.from_console(bios.console())["boot_id"] == guest_report["boot_id"]


def test_reports_hot_plugged_disk(bios: Machine, tmp_path: Path) -> None:
    bios.wait()
    path = write_empty_disk(tmp_path / "extra", 100 * MIB)
    serial = Path(EXTRA).name.removeprefix("scsi-0QEMU_QEMU_HARDDISK_")
    bios.command("blockdev-add", **{"node-name": "extra", "driver": "file", "filename": str(path)})
    bios.command(
        "device_add", driver="scsi-hd", bus="scsi.0", lun=1, id="extra", drive="extra", serial=serial, device_id=serial
    )
    hint = bios.request("resolve", path=EXTRA)
    assert hint["size"] == bios.request("size", device=EXTRA) == 100 * MIB
    assert bios.request("report")["by_id"][Path(EXTRA).name] == hint["device"]
    assert bios.request("read", device=EXTRA) == ""
    bios.request("mark", device=EXTRA, text="Inhalt für später")
    assert bios.request("read", device=hint["device"]) == "Inhalt für später"
    assert path.read_bytes().startswith("Inhalt für später".encode())
    bios.command("device_del", id="extra")
    assert Path(EXTRA).name not in bios.request("report")["by_id"]
    with pytest.raises(report.GuestError, match="no device exists"):
        bios.request("resolve", path=EXTRA)


def test_reboot_changes_boot_id(bios: Machine) -> None:
    before = bios.wait()
    assert bios.request("reboot") == "reboot"
    assert bios.wait(not_boot=before["boot_id"])["agent_id"] == "agent-1"


def test_uefi_machine_reads_fat_drive_and_uses_dhcp_and_ipv6(uefi: Machine) -> None:
    guest_report = uefi.wait()
    assert guest_report["errors"] == []
    assert (guest_report["firmware"], guest_report["secureboot"], guest_report["cpus"]) == ("uefi", False, 2)
    assert (guest_report["config_drive"]["fstype"], guest_report["config_drive"]["label"]) == ("vfat", "CONFIG-2")
    private, public = guest_report["networks"]["private"], guest_report["networks"]["public"]
    assert (private["mac"], public["mac"]) == MACS
    assert "10.0.2.15/24" in private["addresses"]
    assert {"fd42:b05b::5/64", "fd42:b05b::6/64"} < set(public["addresses"])
    assert guest_report["networks"]["second"] == public
    assert (private["gateway"], public["gateway"]) == (None, "fd42:b05b::1")
    assert "floating" not in guest_report["networks"]


def test_reports_missing_ephemeral_disk(uefi: Machine) -> None:
    assert "no device exists" in uefi.wait()["disks"]["ephemeral"]["error"]


def test_without_config_drive_reports_error_and_powers_off(boot: Callable[..., Machine]) -> None:
    machine = boot()
    guest_report = report_on_console(machine, "GUEST-REPORT-END")
    assert len(guest_report["errors"]) == 1 and guest_report["errors"][0].startswith("no config drive")
    assert (guest_report["agent_id"], guest_report["user_data"], guest_report["networks"]) == (None, None, {})
    machine.command("system_powerdown")
    assert machine.process.wait(timeout=30) == 0


def report_on_console(machine: Machine, text: str) -> dict[str, Any]:
    """Wait until the console contains a text, and return the report on the console."""
    deadline = time.monotonic() + 120
    while text not in machine.console() and time.monotonic() < deadline:
        time.sleep(0.2)
    return report.from_console(machine.console())
