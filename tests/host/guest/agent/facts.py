"""Devices and properties of this machine from the kernel and udev."""

from __future__ import annotations

import os
import pathlib
import subprocess
from typing import Any

SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def current() -> dict[str, Any]:
    """Return the properties that can change while the machine runs."""
    return {
        "nics": nics(),
        "by_id": links("/dev/disk/by-id"),
        "by_label": links("/dev/disk/by-label"),
        "block_devices": block_devices(),
        "memory_mib": memory_mib(),
        "cpus": os.cpu_count(),
        "uptime": float(text("/proc/uptime").split()[0]),
    }


def machine() -> dict[str, Any]:
    """Return the properties that are constant until the next boot."""
    uefi = pathlib.Path("/sys/firmware/efi").is_dir()
    return {
        "firmware": "uefi" if uefi else "bios",
        "secureboot": uefi and secure_boot(),
        "cmdline": text("/proc/cmdline"),
        "boot_id": text("/proc/sys/kernel/random/boot_id"),
        "kernel": os.uname().release,
    }


def text(path: str) -> str:
    """Return the stripped content of a small file, or an empty string if the file does not exist."""
    try:
        with pathlib.Path(path).open(encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def secure_boot() -> bool:
    """Return whether secure boot is on. The variable has four bytes of attributes and one byte with the value."""
    try:
        with pathlib.Path(SECURE_BOOT).open("rb") as file:
            return file.read()[-1:] == b"\1"
    except OSError:
        return False


def links(directory: str) -> dict[str, str]:
    """Return the devices of the symbolic links in a directory of udev by link name."""
    names = sorted(os.listdir(directory)) if pathlib.Path(directory).is_dir() else []
    return {name: os.path.realpath(os.path.join(directory, name)) for name in names}


def nics() -> list[dict[str, Any]]:
    """Return all interfaces except loopback with MAC, addresses ("10.0.0.2/24") and default gateway."""
    addresses, gateways = {}, {}
    for line in output("ip", "-o", "addr"):
        addresses.setdefault(line[1], []).extend([line[3]] if line[2] in ("inet", "inet6") else [])
    for line in output("ip", "route") + output("ip", "-6", "route"):
        if line[0] == "default" and "via" in line:
            gateways.setdefault(line[line.index("dev") + 1], line[line.index("via") + 1])
    return [
        {
            "ifname": ifname,
            "mac": text(f"/sys/class/net/{ifname}/address"),
            "addresses": addresses.get(ifname, []),
            "gateway": gateways.get(ifname),
        }
        for ifname in sorted(os.listdir("/sys/class/net"))
        if ifname != "lo"
    ]


def output(*command: str) -> list[list[str]]:
    """Run a command and return the words of each line of its output."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return [line.split() for line in result.stdout.splitlines() if line.strip()]


def block_devices() -> dict[str, dict[str, Any]]:
    """Return disks and CD-ROMs by device: size in bytes, whether it is read-only, and properties from udev."""
    devices = {}
    for name in sorted(os.listdir("/sys/block")):
        if pathlib.Path(f"/sys/block/{name}/device").exists():
            properties = udev_properties(text(f"/sys/block/{name}/dev"))
            devices[f"/dev/{name}"] = {
                "size": int(text(f"/sys/block/{name}/size")) * 512,
                "ro": text(f"/sys/block/{name}/ro") == "1",
                "serial": properties.get("ID_SCSI_SERIAL")
                or properties.get("ID_SERIAL_SHORT")
                or properties.get("ID_SERIAL"),
                "fstype": properties.get("ID_FS_TYPE"),
                "label": properties.get("ID_FS_LABEL"),
            }
    return devices


def udev_properties(number: str) -> dict[str, str]:
    """Return the udev properties of the block device with this "major:minor"."""
    lines = text(f"/run/udev/data/b{number}").splitlines()
    return dict(line[2:].split("=", 1) for line in lines if line.startswith("E:"))


def memory_mib() -> int:
    """Return the memory that Linux can use in MiB. It is less than the memory of the VM."""
    total = next(line for line in text("/proc/meminfo").splitlines() if line.startswith("MemTotal:"))
    return int(total.split()[1]) // 1024
