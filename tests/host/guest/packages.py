"""Debian or Ubuntu packages from this machine's own apt sources, unpacked and never installed."""

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
WANTED = [
    "udev",
    "mount",
    "busybox-static",
    "python3-minimal",
    "libpython3-stdlib",
    "systemd-boot-efi",
    "syslinux-common",
]
FOLLOWED = re.compile(r"lib|zlib|python3|linux-(image|modules)-")  # dependencies that matter for what we take


def run(*command: object, **options: object) -> str:
    """Run a command, let its complaints through, return what it prints."""
    words = [str(word) for word in command]
    return subprocess.run(words, check=True, text=True, stdout=subprocess.PIPE, **options).stdout


def install_tools() -> None:
    """Install on this machine the build tools that it lacks; needs root then."""
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
    """Fetch the packages and the dependencies worth following."""
    directory.mkdir()
    try:
        fetch(directory)
    except (subprocess.CalledProcessError, LookupError):  # this machine's lists are missing or out of date
        run("apt-get", "update")
        fetch(directory)
    return sorted(directory.glob("*.deb"))


def fetch(directory: Path) -> None:
    known = set(run("apt-cache", "pkgnames").split())
    kernel = next((name for name in KERNELS if name in known), None)
    if not kernel:
        raise LookupError(f"apt knows none of the kernels {KERNELS}")
    run("apt-get", "download", "-o", "APT::Sandbox::User=root", *with_dependencies([kernel, *WANTED]), cwd=directory)


def with_dependencies(packages: list[str]) -> list[str]:
    found = dict.fromkeys(packages)
    fresh = list(packages)
    while fresh:
        listed = re.findall(r"^ +(?:Pre)?Depends: ([^<\s]+)$", run("apt-cache", "depends", "--important", *fresh), re.M)
        fresh = [name for name in dict.fromkeys(listed) if FOLLOWED.match(name) and name not in found]
        found.update(dict.fromkeys(fresh))
    return list(found)


def unpack(archives: Iterable[Path], root: Path) -> Path:
    """Unpack into a tree with merged /usr, whatever layout the packages have."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for archive in archives:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE) as packed:
            run("tar", "-x", "--keep-directory-symlink", "-C", root, stdin=packed.stdout)
    return root
