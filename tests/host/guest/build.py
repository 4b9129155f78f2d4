#!/usr/bin/env python3
"""Build the guest: a small stemcell whose VMs report what they see instead of running a BOSH agent.

    build.py DEST [--name NAME] [--version VERSION]

DEST gets what a stemcell has: `image` (a gzipped tar with a qcow2 `root.img`), `stemcell.MF`, and the two packed as
`stemcell.tgz`.  The disk boots by BIOS (syslinux) and by UEFI (systemd-boot) into one initramfs made of Debian or
Ubuntu packages: kernel, udev, busybox, Python, and the programs beside this file.  Packages come from this machine's
own apt sources and are only unpacked; the tools named in TOOLS are installed when they are missing.  The image is
built once for each state of these sources and kept in BOSH_LXD_CPI_CACHE (default /var/cache/bosh-lxd-cpi).
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import lzma
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAME, VERSION = "bosh-openstack-kvm-ubuntu-noble", "0.1"

TOOLS = {"syslinux": "syslinux", "mcopy": "mtools", "mkfs.vfat": "dosfstools", "qemu-img": "qemu-utils", "cpio": "cpio",
         "depmod": "kmod", "zstd": "zstd"}
KERNELS = ["linux-image-cloud-amd64", "linux-image-virtual"]  # Debian's, Ubuntu's
PACKAGES = ["udev", "mount", "busybox-static", "python3-minimal", "libpython3-stdlib", "systemd-boot-efi"]
FOLLOWED = re.compile(r"lib|zlib|python3|linux-(image|modules)-")  # dependencies that matter for files we take

MODULES = ["virtio_pci", "virtio_scsi", "virtio_blk", "virtio_net", "nvme", "sd_mod", "sr_mod", "isofs", "vfat", "nls_ascii",
           "nls_cp437", "nls_iso8859_1", "nls_utf8", "button", "evdev", "efivarfs"]
RULES = ["60-block.rules", "60-cdrom_id.rules", "60-persistent-storage.rules", "80-drivers.rules"]
APPLETS = ["ip", "modprobe", "poweroff", "reboot", "sh", "sleep", "sync", "udhcpc", "umount"]
LOADED_ON_DEMAND = ["libkmod.so.2", "libblkid.so.1", "libacl.so.1"]  # newer udev opens them itself
LIBRARIES = "usr/lib/x86_64-linux-gnu"

COMMAND_LINE = "console=tty0 console=ttyS0 net.ifnames=0 quiet loglevel=1 panic=10"
DISK_MIB, PARTITION_MIB, PARTITION_START = 512, 64, 2048  # the start is in sectors
MIB, SECTOR, ESP_TYPE = 1 << 20, 512, 0xEF

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
    """Put the guest stemcell into the directory `destination` and return that.  Takes about 20 s the first time."""
    cached = image()
    destination.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination) as scratch:
        work = Path(scratch)
        shutil.copy(cached, work / "image")
        sha1 = hashlib.sha1(cached.read_bytes()).hexdigest()
        system = "ubuntu-" + re.sub(r"^.*ubuntu-|-go_agent$", "", name)
        (work / "stemcell.MF").write_text(
            MANIFEST.format(name=name, version=version, sha1=sha1, operating_system=system, disk=DISK_MIB), encoding="utf-8")
        pack(work / "stemcell.tgz", [work / "stemcell.MF", work / "image"], compresslevel=1)
        for file in ("image", "stemcell.MF", "stemcell.tgz"):
            os.replace(work / file, destination / file)
    return destination


def image() -> Path:
    """The stemcell's `image`, built if no cached one is of these very sources."""
    sources = [HERE / "build.py", HERE / "init", HERE / "udhcpc.sh", *sorted((HERE / "agent").glob("*.py"))]
    recipe = hashlib.sha256(b"\0".join(path.read_bytes() for path in [Path("/etc/os-release"), *sources]))
    directory = Path(os.environ.get("BOSH_LXD_CPI_CACHE", "/var/cache/bosh-lxd-cpi")) / "guest"
    cached = directory / f"image-{recipe.hexdigest()[:16]}"
    if not cached.exists():
        directory.mkdir(parents=True, exist_ok=True)
        install_tools()
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            work = Path(scratch)
            root, tree = unpack(download(work / "packages"), work / "root"), work / "tree"
            kernel = fill(tree, root)
            disk = make_disk(work, root=root, kernel=kernel, initramfs=pack_initramfs(tree, work / "initrd"))
            run("qemu-img", "convert", "-c", "-O", "qcow2", "-o", "compat=0.10", disk, work / "root.img")
            pack(work / "image", [work / "root.img"])
            os.replace(work / "image", cached)
    return cached


def run(*command: object, **options: object) -> str:
    """Run a command, let its complaints through, return what it prints."""
    words = [str(word) for word in command]
    return subprocess.run(words, check=True, text=True, stdout=subprocess.PIPE, **options).stdout


def install_tools() -> None:
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = [package for tool, package in TOOLS.items() if not shutil.which(tool)]
    if missing:
        run("apt-get", "update")
        run("apt-get", "install", "-y", "--no-install-recommends", *missing,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


def download(directory: Path) -> list[Path]:
    """Fetch the packages and the dependencies worth following."""
    directory.mkdir()
    try:
        names = dependencies([available_kernel(), *PACKAGES])
        run("apt-get", "download", "-o", "APT::Sandbox::User=root", *names, cwd=directory)
    except (subprocess.CalledProcessError, LookupError):  # this machine's lists are missing or out of date
        run("apt-get", "update")
        names = dependencies([available_kernel(), *PACKAGES])
        run("apt-get", "download", "-o", "APT::Sandbox::User=root", *names, cwd=directory)
    return sorted(directory.glob("*.deb"))


def available_kernel() -> str:
    known = set(run("apt-cache", "pkgnames").split())
    for name in KERNELS:
        if name in known:
            return name
    raise LookupError(f"apt knows none of the kernels {KERNELS}")


def dependencies(packages: list[str]) -> list[str]:
    found = dict.fromkeys(packages)
    fresh = list(packages)
    while fresh:
        listed = re.findall(r"^ +(?:Pre)?Depends: ([^<\s]+)$", run("apt-cache", "depends", "--important", *fresh), re.M)
        fresh = [name for name in dict.fromkeys(listed) if FOLLOWED.match(name) and name not in found]
        found.update(dict.fromkeys(fresh))
    return list(found)


def unpack(packages: Iterable[Path], root: Path) -> Path:
    """Unpack into a tree with merged /usr, whatever layout the packages have."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for package in packages:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as archive:
            run("tar", "-x", "--keep-directory-symlink", "-C", root, stdin=archive.stdout)
    return root


def fill(tree: Path, root: Path) -> Path:
    """Take from the unpacked packages what the guest needs; return the kernel."""
    for name in ("usr/bin", "usr/lib", "usr/lib64", "etc", "dev", "proc", "sys", "run", "tmp"):
        (tree / name).mkdir(parents=True)
    for link, target in {"bin": "usr/bin", "sbin": "usr/bin", "usr/sbin": "bin", "lib": "usr/lib", "lib64": "usr/lib64"}.items():
        (tree / link).symlink_to(target)
    kernel = next((root / "boot").glob("vmlinuz-*"))
    copy_modules(tree, root, kernel.name.removeprefix("vmlinuz-"))
    python = max((root / "usr/bin").glob("python3.*"), key=lambda path: len(path.name))
    programs = ["usr/bin/mount", "usr/bin/udevadm", "usr/lib/udev/scsi_id", "usr/lib/udev/cdrom_id", f"usr/bin/{python.name}"]
    for name in [*programs, *(f"usr/lib/udev/rules.d/{rule}" for rule in RULES)]:
        copy(root, tree, name)
    copy_libraries(tree, root, programs)
    copy_python(tree, root, python)
    (tree / "usr/lib/systemd").mkdir()
    (tree / "usr/lib/systemd/systemd-udevd").symlink_to("../../bin/udevadm")
    shutil.copy(next(root.glob("usr/bin/busybox")), tree / "usr/bin/busybox")
    for applet in APPLETS:
        (tree / "usr/bin" / applet).symlink_to("busybox")
    shutil.copy(HERE / "init", tree / "init")
    shutil.copy(HERE / "udhcpc.sh", tree / "usr/lib/udhcpc.sh")
    return kernel


def copy(root: Path, tree: Path, name: str) -> None:
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(root / name, tree / name)


def copy_modules(tree: Path, root: Path, version: str) -> None:
    """Copy MODULES and what they depend on, unpacked so that nothing in the guest has to be able to do that."""
    source, target = root / "usr/lib/modules" / version, tree / "usr/lib/modules" / version
    run("depmod", "-b", root, version)
    depends = {module_name(path): (path, rest.split()) for path, rest in
               (line.split(":") for line in (source / "modules.dep").read_text(encoding="utf-8").splitlines())}
    builtin = {module_name(path) for path in (source / "modules.builtin").read_text(encoding="utf-8").split()}
    for name in MODULES:
        if name not in builtin:
            path, others = depends[name]
            for file in [path, *others]:
                plain = target / re.sub(r"\.(xz|zst)$", "", file)
                plain.parent.mkdir(parents=True, exist_ok=True)
                plain.write_bytes(decompressed(source / file))
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copy(source / name, target)
    run("depmod", "-b", tree, version)


def module_name(path: str) -> str:
    return Path(path).name.split(".ko")[0].replace("-", "_")


def decompressed(path: Path) -> bytes:
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dc", path], check=True, stdout=subprocess.PIPE).stdout
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def loader(root: Path) -> list[object]:
    """The words that run a program of the unpacked packages here, with their own libraries."""
    return [root / "usr/lib64/ld-linux-x86-64.so.2", "--library-path", root / LIBRARIES]


def copy_libraries(tree: Path, root: Path, programs: list[str]) -> None:
    wanted = [*programs, *(f"{LIBRARIES}/{name}" for name in LOADED_ON_DEMAND if (root / LIBRARIES / name).exists())]
    listed = "\n".join(run(*loader(root), "--list", root / name) for name in wanted)
    for name in {Path(name).name for name in re.findall(r"=> (\S+)", listed)} | {Path(name).name for name in wanted[len(programs):]}:
        if not name.startswith("ld-linux"):
            copy(root, tree, f"{LIBRARIES}/{name}")
    copy(root, tree, "usr/lib64/ld-linux-x86-64.so.2")


def copy_python(tree: Path, root: Path, python: Path) -> None:
    """Install the agent and the modules it loads, compiled: compiling them in the guest would take seconds."""
    library = root / "usr/lib" / python.name
    shutil.copytree(HERE / "agent", library / "agent")
    interpreter = [*loader(root), python, "-I", "-S"]
    run(*interpreter, "-m", "compileall", "-q", "-b", library / "agent", env={})
    loaded = run(*interpreter, "-c", "import sys, runpy, encodings.idna, agent.__main__\n"
                 "print(*(m.__file__ for m in sys.modules.values() if getattr(m, '__file__', None)), sep='\\n')").split()
    for path in map(Path, loaded):
        relative = path.relative_to(root)
        if path.suffix == ".so":
            copy(root, tree, str(relative))
        else:
            target = tree / relative.with_suffix(".pyc")
            target.parent.mkdir(parents=True, exist_ok=True)
            run(*interpreter, "-c", "import py_compile, sys; py_compile.compile(*sys.argv[1:], doraise=True)", path.with_suffix(".py"), target)
    (tree / "usr/lib" / python.name / "lib-dynload").mkdir(exist_ok=True)
    (tree / "usr/bin/python3").symlink_to(python.name)


def pack_initramfs(tree: Path, target: Path) -> Path:
    names = "\0".join(sorted(str(path.relative_to(tree)) for path in tree.rglob("*")))
    with open(target, "wb") as file:
        subprocess.run(["cpio", "--null", "--create", "--format=newc", "--owner=0:0", "--reproducible", "--quiet"],
                       input=names.encode(), cwd=tree, stdout=file, check=True)
    return target


def make_disk(work: Path, *, root: Path, kernel: Path, initramfs: Path) -> Path:
    """A raw disk: MBR, one active EFI system partition with two boot loaders, and room behind it."""
    disk = work / "disk"
    with open(disk, "wb") as file:
        file.truncate(DISK_MIB * MIB)
        file.write(Path("/usr/lib/syslinux/mbr/mbr.bin").read_bytes()[:440])
        file.seek(446)
        file.write(struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", ESP_TYPE, b"\xfe\xff\xff", PARTITION_START,
                               PARTITION_MIB * MIB // SECTOR))
        file.seek(510)
        file.write(b"\x55\xaa")
    run("mkfs.vfat", "-F", 16, "--offset", PARTITION_START, "-h", PARTITION_START, "-n", "GUEST", disk, PARTITION_MIB * 1024)
    files = {
        "vmlinuz": kernel,
        "initrd": initramfs,
        "syslinux.cfg": f"DEFAULT guest\nLABEL guest\n LINUX /vmlinuz\n INITRD /initrd\n APPEND {COMMAND_LINE}\n",
        "EFI/BOOT/BOOTX64.EFI": root / "usr/lib/systemd/boot/efi/systemd-bootx64.efi",
        "loader/loader.conf": "timeout 0\n",
        "loader/entries/guest.conf": f"title guest\nlinux /vmlinuz\ninitrd /initrd\noptions {COMMAND_LINE}\n",
    }
    partition = work / "partition"
    for name, content in files.items():
        (partition / name).parent.mkdir(parents=True, exist_ok=True)
        (partition / name).write_bytes(content.read_bytes() if isinstance(content, Path) else content.encode())
    start = PARTITION_START * SECTOR
    run("mcopy", "-s", "-i", f"{disk}@@{start}", *partition.iterdir(), "::")
    run("syslinux", "--install", "--offset", start, disk)
    return disk


def pack(archive: Path, files: list[Path], *, compresslevel: int = 6) -> None:
    """A gzipped tar that depends on nothing but the files' names and contents."""
    with open(archive, "wb") as raw, gzip.GzipFile("", "wb", compresslevel, raw, mtime=0) as packed, \
            tarfile.open(fileobj=packed, mode="w|") as tar:
        for path in files:
            entry = tarfile.TarInfo(path.name)
            entry.size = path.stat().st_size
            with open(path, "rb") as file:
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
