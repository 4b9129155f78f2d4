"""Debian or Ubuntu packages from the apt sources of this machine. They are unpacked, not installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

TOOLS = {
    "syslinux": "syslinux",
    "mcopy": "mtools",
    "mkfs.vfat": "dosfstools",
    "qemu-img": "qemu-utils",
    "cpio": "cpio",
    "depmod": "kmod",
    "zstd": "zstd",
}
KERNELS = ["linux-image-cloud-amd64", "linux-image-virtual"]  # Debian's, Ubuntu's
PACKAGES = [
    "udev",
    "mount",
    "busybox-static",
    "python3-minimal",
    "libpython3-stdlib",
    "systemd-boot-efi",
    "syslinux-common",
]
DEPENDENCIES = re.compile(r"lib|zlib|python3|linux-(image|modules)-")  # names of the dependencies to download


def run(*command: object, **options: object) -> str:
    """Run a command and return its output. Its errors appear on stderr."""
    words = [str(word) for word in command]
    return subprocess.run(words, check=True, text=True, stdout=subprocess.PIPE, **options).stdout


def install_tools() -> None:
    """Install missing build tools on this machine, which requires root."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = [package for tool, package in TOOLS.items() if not shutil.which(tool)]
    if missing:
        run("apt-get", "update")
        run(
            "apt-get",
            "install",
            "-y",
            "--no-install-recommends",
            *missing,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )


def download(directory: Path) -> list[Path]:
    """Download the packages and their dependencies."""
    directory.mkdir()
    try:
        fetch(directory)
    except (subprocess.CalledProcessError, LookupError):  # the package lists are missing or outdated
        run("apt-get", "update")
        fetch(directory)
    return sorted(directory.glob("*.deb"))


def fetch(directory: Path) -> None:
    names = set(run("apt-cache", "pkgnames").split())
    kernel = next((name for name in KERNELS if name in names), None)
    if not kernel:
        raise LookupError(f"apt knows none of the kernels {KERNELS}")
    run("apt-get", "download", "-o", "APT::Sandbox::User=root", *with_dependencies([kernel, *PACKAGES]), cwd=directory)


def with_dependencies(packages: list[str]) -> list[str]:
    """Return the packages and their direct and indirect dependencies."""
    names = dict.fromkeys(packages)
    new = list(packages)
    while new:
        dependencies = re.findall(
            r"^ +(?:Pre)?Depends: ([^<\s]+)$", run("apt-cache", "depends", "--important", *new), re.M
        )
        new = [name for name in dict.fromkeys(dependencies) if DEPENDENCIES.match(name) and name not in names]
        names.update(dict.fromkeys(new))
    return list(names)


def unpack(archives: Iterable[Path], root: Path) -> Path:
    """Unpack packages of any layout into a tree with merged /usr."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for archive in archives:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE) as process:
            run("tar", "-x", "--keep-directory-symlink", "-C", root, stdin=process.stdout)
    return root
