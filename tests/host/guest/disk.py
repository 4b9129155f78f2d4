"""A raw disk that boots by BIOS (syslinux) and by UEFI (systemd-boot), both from one FAT partition."""

from __future__ import annotations

import struct
from pathlib import Path

from tests.host.guest.packages import run

DISK_MIB, PARTITION_MIB = 512, 64
MIB, SECTOR = 1 << 20, 512
START_SECTOR = 2048
EFI_SYSTEM_PARTITION, ACTIVE = 0xEF, 0x80
NO_CHS = b"\xfe\xff\xff"  # the boot code uses the sector numbers
COMMAND_LINE = "console=tty0 console=ttyS0 net.ifnames=0 quiet loglevel=1 panic=10"


def make(disk: Path, *, root: Path, initramfs: Path) -> Path:
    """Write the disk with the kernel and the boot loaders of the packages in `root`."""
    files = {
        "vmlinuz": next((root / "boot").glob("vmlinuz-*")).read_bytes(),
        "initrd": initramfs.read_bytes(),
        "syslinux.cfg": f"DEFAULT guest\nLABEL guest\nLINUX /vmlinuz\nINITRD /initrd\nAPPEND {COMMAND_LINE}\n".encode(),
        "EFI/BOOT/BOOTX64.EFI": (root / "usr/lib/systemd/boot/efi/systemd-bootx64.efi").read_bytes(),
        "loader/loader.conf": b"timeout 0\n",
        "loader/entries/guest.conf": f"title guest\nlinux /vmlinuz\ninitrd /initrd\noptions {COMMAND_LINE}\n".encode(),
    }
    contents, partition = disk.with_name("contents"), disk.with_name("partition")
    for name, content in files.items():
        (contents / name).parent.mkdir(parents=True, exist_ok=True)
        (contents / name).write_bytes(content)
    run("mkfs.vfat", "-F", 16, "-h", START_SECTOR, "-n", "GUEST", "-C", partition, PARTITION_MIB * 1024)
    run("mcopy", "-s", "-i", partition, *contents.iterdir(), "::")
    run("syslinux", "--install", partition)
    with Path(disk).open("wb") as file:
        file.write(boot_record((root / "usr/lib/syslinux/mbr/mbr.bin").read_bytes()))
        file.seek(START_SECTOR * SECTOR)
        file.write(partition.read_bytes())
        file.truncate(DISK_MIB * MIB)
    return disk


def boot_record(code: bytes) -> bytes:
    """Return the first sector: boot code that starts the active partition, and a table with this partition."""
    sectors = PARTITION_MIB * MIB // SECTOR
    entry = struct.pack("<B3sB3sII", ACTIVE, NO_CHS, EFI_SYSTEM_PARTITION, NO_CHS, START_SECTOR, sectors)
    return code[:440].ljust(446, b"\0") + entry.ljust(64, b"\0") + b"\x55\xaa"
