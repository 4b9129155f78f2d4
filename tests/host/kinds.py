"""The kinds of servers: Debian release, packages and commands."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """One server release as Debian packages it."""

    type: str
    suite: str
    packages: tuple[str, ...]
    daemon: tuple[str, ...]
    client: str
    init: tuple[str, ...]
    env: dict[str, str]

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


KINDS = {
    "incus": _incus("trixie"),
    "incus7": _incus("forky"),
    "lxd": Kind(
        type="lxd",
        suite="bookworm",
        packages=(*_VM_PACKAGES, "lxd", "lxd-client"),
        daemon=("/usr/bin/lxd", "--group", "root"),
        client="lxc",
        init=("lxd", "init"),
        env={"LXD_SECURITY_APPARMOR": "false"},
    ),
}
