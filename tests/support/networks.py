"""Networks of a server, as create_vm reads them, and networks of BOSH."""

from __future__ import annotations

from typing import Any

BRIDGE: dict[str, Any] = {
    "name": "br0",
    "managed": True,
    "type": "bridge",
    "config": {"ipv4.address": "10.0.0.1/24", "ipv6.address": "none"},
}
DUAL_STACK: dict[str, Any] = {
    **BRIDGE,
    "config": {"ipv4.address": "10.0.0.1/24", "ipv6.address": "fd00::1/64", "ipv6.dhcp.stateful": "true"},
}
UNMANAGED: dict[str, Any] = {"name": "br0", "managed": False, "type": "bridge", "config": {}}


def manual(ip: Any = "10.0.0.5", **more: Any) -> dict[str, Any]:
    """Return a manual network of BOSH."""
    return {"type": "manual", "ip": ip, "netmask": "255.255.255.0", "gateway": "10.0.0.1", **more}
