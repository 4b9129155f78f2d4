"""The Debian root file systems of test hosts: built once per recipe, then shared read-only by all hosts."""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import subprocess
import time

from tests.host.kinds import KINDS, Kind
from tests.host.machine import HostError, exclusive_directory, install_packages, print_progress, run, tail

CACHE = pathlib.Path(os.environ.get("BOSH_LXD_CPI_CACHE", "/var/cache/bosh-lxd-cpi"))
TREES, SERVERS = CACHE / "trees", CACHE / "servers"
DEBIAN = "http://deb.debian.org/debian"
# These files are half of a root file system. They are libraries of QEMU's display modules, agents and documentation.
UNUSED = (
    "/usr/bin/qemu-system-i386",
    "/usr/lib/cni/*",
    "/usr/lib/x86_64-linux-gnu/libLLVM*",
    "/usr/lib/x86_64-linux-gnu/libgallium*",
    "/usr/lib/x86_64-linux-gnu/libz3*",
    "/usr/libexec/incus/incus-agent*",
    "/usr/share/doc/*",
    "/usr/share/iso-codes/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
)
# debootstrap's script for sid works for every recent release, including one newer than the machine's debootstrap.
# Check-Valid-Until: a mirror may serve a snapshot of Debian testing with an expired index.
RECIPE = r"""
debootstrap --variant=minbase --include=ca-certificates "$SUITE" "$TREE" "$MIRROR" /usr/share/debootstrap/scripts/sid
cd "$TREE"
printf '#!/bin/sh\nexit 101\n' > usr/sbin/policy-rc.d
chmod 755 usr/sbin/policy-rc.d
set -f
for unused in $UNUSED; do echo "path-exclude=$unused"; done > etc/dpkg/dpkg.cfg.d/testhost
set +f
echo force-unsafe-io >> etc/dpkg/dpkg.cfg.d/testhost
echo 'APT::Install-Recommends "false"; Acquire::Check-Valid-Until "false";' > etc/apt/apt.conf.d/testhost
cp /etc/resolv.conf etc/resolv.conf
mount -t proc proc proc
mount --rbind /dev dev
export DEBIAN_FRONTEND=noninteractive
chroot . apt-get -q update
chroot . apt-get -q install -y $PACKAGES
rm -rf var/cache/apt var/lib/apt/lists usr/share/doc usr/share/man usr/share/locale
"""


def recipe_hash(kind: Kind, server_files: pathlib.Path) -> str:
    """Return 12 hexadecimal digits that identify the recipe of a kind, with the files of a server without package."""
    words = [kind.suite, *kind.packages, *UNUSED, RECIPE]
    if not kind.has_package:
        files = sorted(file for file in server_files.rglob("*") if file.is_file())
        words += [f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:12]


def path(name: str) -> pathlib.Path:
    """Return the path of the root file system of a kind. It may not exist yet."""
    return TREES / f"{name}-{recipe_hash(KINDS[name], SERVERS / name)}"


def build(name: str) -> pathlib.Path:
    """Return the path of the root file system of a kind; build it if it does not exist. Raises HostError."""
    if not KINDS[name].has_package and not (SERVERS / name).is_dir():
        raise HostError(f"{name}: Debian has no package; put the files of the server into {SERVERS / name}/usr")
    tree = path(name)
    if tree.exists():
        return tree
    with exclusive_directory(TREES / f"{name}.building"):
        if not tree.exists():
            _build(name, tree)
            _remove_outdated(name, tree)
    return tree


def _build(name: str, tree: pathlib.Path) -> None:
    install_packages("debootstrap", "/usr/share/keyrings/debian-archive-keyring.gpg")
    kind, incomplete, log = KINDS[name], TREES / f"{name}.part", TREES / f"{name}.log"
    mirror = _mirror()
    print_progress(
        f"building the {name} tree (Debian {kind.suite} from {mirror}); this takes up to two minutes; log: {log}"
    )
    start = time.monotonic()
    shutil.rmtree(incomplete, ignore_errors=True)
    environment = {
        **os.environ,
        "SUITE": kind.suite,
        "TREE": str(incomplete),
        "MIRROR": mirror,
        "PACKAGES": " ".join(kind.packages),
        "UNUSED": " ".join(UNUSED),
    }
    # The build runs in namespaces that end with this process: an interrupted build leaves no processes and no mounts.
    bind = ["setpriv", "--pdeathsig", "KILL"]
    isolate = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with pathlib.Path(log).open("w", encoding="utf-8") as output:
        result = subprocess.run(
            [*bind, *isolate, "sh", "-ec", RECIPE],
            env=environment,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    if result.returncode:
        raise HostError(f"building the {name} tree failed; the end of {log}:\n{tail(log)}")
    if not kind.has_package:
        run("cp", "--archive", f"{SERVERS / name}/.", incomplete)
        run("chroot", incomplete, "ldconfig")
    incomplete.rename(tree)
    size = run("du", "-sm", tree).stdout.split()[0]
    print_progress(f"built {tree}: {size} MB in {time.monotonic() - start:.0f} s")


def _mirror() -> str:
    """Return the Debian mirror that this machine uses, else deb.debian.org."""
    if not shutil.which("apt-get"):
        return DEBIAN
    fields = "$(ORIGIN) $(LABEL) $(REPO_URI)"
    sources = run("apt-get", "indextargets", "--format", fields, "Created-By: Packages", check=False).stdout
    uris = [line.split()[-1] for line in sources.splitlines() if line.startswith("Debian Debian ")]
    return next((uri.rstrip("/") for uri in uris), DEBIAN)


def _remove_outdated(name: str, tree: pathlib.Path) -> None:
    """Delete root file systems of older recipes that no running host has mounted."""
    for outdated in set(TREES.glob(f"{name}-????????????")) - {tree}:
        if not any(str(outdated) in _read(mounts) for mounts in pathlib.Path("/proc").glob("[0-9]*/mountinfo")):
            shutil.rmtree(outdated)


def _read(file: pathlib.Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
