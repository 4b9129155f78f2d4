"""Build the guest: a small stemcell whose VMs report their devices and settings instead of running a BOSH agent.

    python -m tests.host.guest.build DEST [--name NAME] [--version VERSION]

DEST receives the files of a stemcell: `image` (a gzipped tar with a qcow2 `root.img`), `stemcell.MF`, and
`stemcell.tgz`, which contains both. The disk boots by BIOS and by UEFI from one initramfs. It contains the agent and
files of Debian or Ubuntu packages: kernel, udev, busybox and Python. The image is built once per version of these
sources and cached in BOSH_LXD_CPI_CACHE (default /var/cache/bosh-lxd-cpi).
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.host.guest import disk, initramfs, packages

HERE = Path(__file__).resolve().parent

NAME, VERSION = "bosh-openstack-kvm-ubuntu-noble", "0.1"
MANIFEST = """\
name: {name}
version: "{version}"
bosh_protocol: 1
api_version: 3
sha1: {sha1}
operating_system: {operating_system}
stemcell_formats: [openstack-qcow2]
cloud_properties:
  name: {name}
  version: "{version}"
  infrastructure: openstack
  hypervisor: kvm
  disk: {disk}
  disk_format: qcow2
  container_format: bare
  os_type: linux
  os_distro: ubuntu
  architecture: x86_64
  auto_disk_config: true
"""


def build(destination: Path, *, name: str = NAME, version: str = VERSION) -> Path:
    """Write the guest stemcell to the directory `destination` and return it. The first build takes about 15 s."""
    cached = image()
    destination.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination) as scratch:
        work = Path(scratch)
        shutil.copy(cached, work / "image")
        (work / "stemcell.MF").write_text(manifest(cached, name, version), encoding="utf-8")
        pack(work / "stemcell.tgz", [work / "stemcell.MF", work / "image"], compresslevel=1)
        for file in ("image", "stemcell.MF", "stemcell.tgz"):
            Path(work / file).replace(destination / file)
    return destination


def manifest(cached: Path, name: str, version: str) -> str:
    sha1 = hashlib.sha1(cached.read_bytes()).hexdigest()
    system = "ubuntu-" + re.sub(r"^.*ubuntu-|-go_agent$", "", name)
    return MANIFEST.format(name=name, version=version, sha1=sha1, operating_system=system, disk=disk.DISK_MIB)


def image() -> Path:
    """Return the path of the cached `image` of these sources. Build it if it does not exist."""
    directory = Path(os.environ.get("BOSH_LXD_CPI_CACHE", "/var/cache/bosh-lxd-cpi")) / "guest"
    cached = directory / f"image-{recipe()}"
    if not cached.exists():
        directory.mkdir(parents=True, exist_ok=True)
        packages.install_tools()
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            work = Path(scratch)
            root = packages.unpack(packages.download(work / "packages"), work / "root")
            contents = initramfs.pack(initramfs.fill(work / "tree", root, HERE), work / "initrd")
            raw = disk.make(work / "disk", root=root, initramfs=contents)
            packages.run("qemu-img", "convert", "-c", "-O", "qcow2", "-o", "compat=0.10", raw, work / "root.img")
            pack(work / "image", [work / "root.img"], compresslevel=6)
            Path(work / "image").replace(cached)
    return cached


def recipe() -> str:
    """Return 16 hexadecimal digits that identify the sources of the image, without the versions of the packages."""
    programs = sorted(set(HERE.rglob("*.py")) - {HERE / "report.py"})
    sources = [Path("/etc/os-release"), HERE / "init", HERE / "udhcpc.sh", *programs]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:16]


def pack(archive: Path, files: list[Path], *, compresslevel: int) -> None:
    """Write a gzipped tar that depends only on the names and contents of the files."""
    with (
        Path(archive).open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|") as tar,
    ):
        for path in files:
            entry = tarfile.TarInfo(path.name)
            entry.size = path.stat().st_size
            with Path(path).open("rb") as file:
                tar.addfile(entry, file)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("destination", type=Path)
    parser.add_argument("--name", default=NAME)
    parser.add_argument("--version", default=VERSION)
    args = parser.parse_args(argv)
    print(build(args.destination, name=args.name, version=args.version))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
