"""Create the initramfs of the guest from the files of unpacked packages.

It is not compressed, because an emulated machine needs more time to decompress it than to read it.
"""

from __future__ import annotations

import lzma
import re
import shutil
import subprocess
from pathlib import Path

from tests.host.guest.packages import run

MODULES = [
    "virtio_pci",
    "virtio_scsi",
    "virtio_blk",
    "virtio_net",
    "nvme",
    "sd_mod",
    "sr_mod",
    "isofs",
    "vfat",
    "button",
    "evdev",
    "efivarfs",
]
CHARACTER_SETS = ["nls_ascii", "nls_cp437", "nls_iso8859_1", "nls_utf8"]  # some kernels have them built in
PROGRAMS = ["usr/bin/udevadm", "usr/bin/mount", "usr/lib/udev/scsi_id", "usr/lib/udev/cdrom_id"]
RULES = ["60-block.rules", "60-cdrom_id.rules", "60-persistent-storage.rules", "80-drivers.rules"]
APPLETS = ["ip", "modprobe", "poweroff", "reboot", "sh", "sleep", "sync", "udhcpc", "umount"]
LIBRARIES = "usr/lib/x86_64-linux-gnu"
LOADED_ON_DEMAND = [
    "libkmod.so.2",
    "libblkid.so.1",
    "libacl.so.1",
    "libmount.so.1",
]  # newer systemd loads these with dlopen
LOADER = "usr/lib64/ld-linux-x86-64.so.2"
LINKS = {
    "bin": "usr/bin",
    "sbin": "usr/bin",
    "usr/sbin": "bin",
    "lib": "usr/lib",
    "lib64": "usr/lib64",
    "usr/lib/systemd/systemd-udevd": "../../bin/udevadm",
    **{f"usr/bin/{applet}": "busybox" for applet in APPLETS},
}
MOUNT_POINTS = ["dev", "proc", "sys", "run"]


def fill(tree: Path, root: Path, sources: Path) -> Path:
    """Create the file system of the guest in `tree` from the packages in `root` and the agent in `sources`."""
    for name in MOUNT_POINTS:
        (tree / name).mkdir(parents=True)
    for name, target in LINKS.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).symlink_to(target)
    for name in [*PROGRAMS, "usr/bin/busybox", *(f"usr/lib/udev/rules.d/{rule}" for rule in RULES)]:
        copy(root, tree, name)
    copy_modules(tree, root)
    python = (root / "usr/bin/python3").readlink().name
    copy(root, tree, f"usr/bin/{python}")
    (tree / "usr/bin/python3").symlink_to(python)
    copy_libraries(tree, root, [*PROGRAMS, f"usr/bin/{python}"])
    shutil.copytree(sources / "agent", root / "usr/lib" / python / "agent")
    run(*loader(root), root / "usr/bin" / python, "-I", "-S", sources / "freeze.py", root, tree, env={})
    shutil.copy(sources / "init", tree / "init")
    shutil.copy(sources / "udhcpc.sh", tree / "usr/lib/udhcpc.sh")
    return tree


def copy(root: Path, tree: Path, name: str) -> None:
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(root / name, tree / name)


def copy_modules(tree: Path, root: Path) -> None:
    """Copy the kernel modules and their dependencies without compression, which modprobe of busybox may not support."""
    source = next((root / "usr/lib/modules").iterdir())
    target = tree / "usr/lib/modules" / source.name
    run("depmod", "-b", root, source.name)
    depends = {}
    for line in (source / "modules.dep").read_text(encoding="utf-8").splitlines():
        path, others = line.split(":")
        depends[module_name(path)] = [path, *others.split()]
    builtin = {module_name(path) for path in (source / "modules.builtin").read_text(encoding="utf-8").split()}
    for name in [*MODULES, *(name for name in CHARACTER_SETS if name in depends)]:
        for path in [] if name in builtin else depends[name]:
            uncompressed = target / re.sub(r"\.(xz|zst)$", "", path)
            uncompressed.parent.mkdir(parents=True, exist_ok=True)
            uncompressed.write_bytes(decompress(source / path))
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copy(source / name, target)
    run("depmod", "-b", tree, source.name)


def module_name(path: str) -> str:
    return Path(path).name.split(".ko")[0].replace("-", "_")


def decompress(path: Path) -> bytes:
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dc", path], check=True, stdout=subprocess.PIPE).stdout
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def copy_libraries(tree: Path, root: Path, programs: list[str]) -> None:
    loaded = [f"{LIBRARIES}/{name}" for name in LOADED_ON_DEMAND if (root / LIBRARIES / name).exists()]
    libraries = {LOADER, *loaded}
    for name in [*programs, *loaded]:
        paths = re.findall(r"=> (.+) \(0x|=> (not found)", run(*loader(root), "--list", root / name))
        libraries.update(str(Path(path).relative_to(root)) for path, _ in paths if Path(path).name != Path(LOADER).name)
    for name in sorted(libraries):
        copy(root, tree, name)


def loader(root: Path) -> list[Path | str]:
    """Return the command prefix that runs a program of the unpacked packages with the libraries of these packages."""
    return [root / LOADER, "--library-path", f"{root / LIBRARIES}:{root / LIBRARIES / 'systemd'}"]


def pack(tree: Path, target: Path) -> Path:
    """Write the tree as a cpio archive and return its path."""
    names = "\0".join(sorted(str(path.relative_to(tree)) for path in tree.rglob("*")))
    with Path(target).open("wb") as file:
        subprocess.run(
            ["cpio", "--null", "--create", "--format=newc", "--owner=0:0", "--reproducible", "--quiet"],
            input=names.encode(),
            cwd=tree,
            stdout=file,
            check=True,
        )
    return target
