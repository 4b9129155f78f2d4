"""The kinds of servers: Debian release, packages and commands.

Debian has no packages of LXD 5.21 and 6, and none of the feature releases of Incus. A host of these kinds needs a
directory with the files of the server (see README.md).
"""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """One server release."""

    type: str
    suite: str
    packages: tuple[str, ...]
    daemon: tuple[str, ...]
    client: str
    init: tuple[str, ...]
    env: dict[str, str]
    has_package: bool = True
    """Whether Debian has a package of this server."""

    @property
    def var(self) -> str:
        """The data directory of the server."""
        return f"/var/lib/{self.type}"

    @property
    def log(self) -> str:
        """The log directory of the server and its virtual machines."""
        return f"/var/log/{self.type}"


_VM_PACKAGES = (
    "attr",
    "btrfs-progs",
    "ca-certificates",
    "dnsmasq-base",
    "e2fsprogs",
    "gdisk",
    "genisoimage",
    "iproute2",
    "kmod",
    "nftables",
    "ovmf",
    "qemu-system-x86",
    "qemu-utils",
    "rsync",
    "seabios",
    "squashfs-tools",
    "xz-utils",
)


def _incus(suite: str) -> Kind:
    return Kind(
        type="incus",
        suite=suite,
        packages=(*_VM_PACKAGES, "incus", "incus-client", "qemu-system-modules-spice", "virtiofsd"),
        daemon=("/usr/libexec/incus/incusd", "--group", "root"),
        client="incus",
        init=("incus", "admin", "init"),
        env={"INCUS_SKIP_INSTANCE_TYPES": "1", "INCUS_SECURITY_APPARMOR": "false"},
    )


def _lxd(suite: str, *packages: str, has_package: bool = True) -> Kind:
    return Kind(
        type="lxd",
        suite=suite,
        packages=(*_VM_PACKAGES, *packages),
        daemon=("/usr/bin/lxd", "--group", "root"),
        client="lxc",
        init=("lxd", "init"),
        env={"LXD_SECURITY_APPARMOR": "false"},
        has_package=has_package,
    )


_LXD_LIBRARIES = (
    "acl",
    "liblxc1t64",
    "liblz4-1",
    "libsqlite3-0",
    "libuv1t64",
    "qemu-system-modules-spice",
    "virtiofsd",
)
KINDS = {
    "incus": _incus("trixie"),
    "incus7": _incus("forky"),
    "lxd": _lxd("bookworm", "lxd", "lxd-client"),
    "lxd521": _lxd("trixie", *_LXD_LIBRARIES, has_package=False),
    "lxd6": _lxd("trixie", *_LXD_LIBRARIES, has_package=False),
    "lxdmain": _lxd("trixie", *_LXD_LIBRARIES, has_package=False),
    "incus75": _incus("forky")._replace(has_package=False),
}
PACKAGED = tuple(name for name, kind in KINDS.items() if kind.has_package)
"""The kinds that every machine can build."""
LIKE = {"lxd521": "lxd", "lxd6": "lxd", "lxdmain": "lxd", "incus75": "incus7"}
"""For kinds without package, the kind with the same behaviour in most tests."""
LXD6 = ("lxd6", "lxdmain")
"""Kinds that have the option boot.mode, and whose changes of volumes are operations, which the CPI waits for."""
IDENTITIES = ("lxd521", *LXD6)
"""Kinds with fine-grained identities. Their restricted certificates may not list and delete snapshots."""


def volume_change(kind: str) -> int:
    """Return the number of requests that change a volume."""
    return 2 if kind in LXD6 else 1
