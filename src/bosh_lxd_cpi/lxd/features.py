"""Server kind, version and API extensions, as features. No other module asks which server it is talking to."""

from __future__ import annotations

from typing import Any, NamedTuple


class Features(NamedTuple):
    """What this server can do."""

    kind: str
    """`lxd` or `incus`: also the prefix of the serial numbers that its guests see."""
    version: str
    clustered: bool
    virtual_machines: bool
    iso_volumes: bool
    start_on_create: bool
    firmware: str
    """How firmware is chosen: `boot.mode`, `security.csm`, or `raw.qemu` (facts: lxd-api 7)."""
    trusted: bool

    @property
    def client(self) -> str:
        """The server's own command-line client, for hints."""
        return "incus" if self.kind == "incus" else "lxc"


def features(server: dict[str, Any]) -> Features:
    """Read the metadata of GET /1.0."""
    extensions = set(server.get("api_extensions") or ())
    hidden = server.get("api_extensions", ()) is None  # by Incus 7, from those it does not trust
    environment = server.get("environment") or {}
    if "instance_boot_mode" in extensions:
        firmware = "boot.mode"
    else:
        firmware = "security.csm" if "security_csm" in extensions else "raw.qemu"
    return Features(
        kind=environment.get("server") or ("incus" if "dev_incus_events" in extensions or hidden else "lxd"),
        version=environment.get("server_version", ""),
        clustered=bool(environment.get("server_clustered")),
        virtual_machines="qemu" in environment.get("driver", ""),
        iso_volumes="custom_volume_iso" in extensions,
        start_on_create="instance_create_start" in extensions,
        firmware=firmware,
        trusted=server.get("auth") == "trusted",
    )
