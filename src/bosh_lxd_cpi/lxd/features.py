"""Kind, version and API extensions of a server, as features. No other module asks which server it talks to."""

from __future__ import annotations

from typing import NamedTuple

from bosh_lxd_cpi.lxd import pools
from bosh_lxd_cpi.lxd.resources import Server


class Features(NamedTuple):
    """What a server supports."""

    kind: str
    """`lxd` or `incus`. It is also the prefix of the disk serial numbers that guests see."""
    version: str
    is_clustered: bool
    has_virtual_machines: bool
    has_iso_volumes: bool
    starts_on_create: bool
    firmware: str
    """The option to select the firmware: `boot.mode`, `security.csm`, `raw.qemu` (docs/development/lxd-api.md §7)."""
    clones_images: bool
    """Whether the server has a storage pool whose driver clones the volume of an image."""
    is_trusted: bool


def features(server: Server) -> Features:
    """Return the features of a server from GET /1.0."""
    extensions = set(server.api_extensions)
    # Incus 7 hides its extensions from clients that it does not trust.
    is_hidden = "api_extensions" in server.document and server.document["api_extensions"] is None
    environment = {name: value for name, value in server.environment.items() if isinstance(value, str)}
    if "instance_boot_mode" in extensions:
        firmware = "boot.mode"
    else:
        firmware = "security.csm" if "security_csm" in extensions else "raw.qemu"
    return Features(
        kind=environment.get("server") or ("incus" if "dev_incus_events" in extensions or is_hidden else "lxd"),
        version=environment.get("server_version", ""),
        is_clustered=bool(server.environment.get("server_clustered")),
        has_virtual_machines="qemu" in environment.get("driver", ""),
        has_iso_volumes="custom_volume_iso" in extensions,
        starts_on_create="instance_create_start" in extensions,
        firmware=firmware,
        clones_images=any(driver in environment.get("storage", "") for driver in pools.CLONING_DRIVERS),
        is_trusted=server.auth == "trusted",
    )
