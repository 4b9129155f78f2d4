"""The API requests that configure a new server. They are the same for LXD and Incus."""

from __future__ import annotations

import base64
import ssl

ADDRESS, PROJECT, PROFILE, POOL = "127.0.0.1:8443", "bosh", "default", "default"
NETWORK, CIDR, GATEWAY = "boshbr0", "10.245.0.0/24", "10.245.0.1"

Request = tuple[str, str, dict]


def requests(driver: str, certificate: str) -> list[Request]:
    """Return method, path and body of each request: pool, two bridges, project, and the trusted PEM certificate."""
    size = {"size": "20GiB"} if driver == "btrfs" else {}
    features = {f"features.{name}": "true" for name in ("images", "profiles", "storage.volumes")}
    der = base64.b64encode(ssl.PEM_cert_to_DER_cert(certificate)).decode()
    return [
        ("PATCH", "/1.0", {"config": {"core.https_address": ADDRESS}}),
        ("POST", "/1.0/storage-pools", {"name": POOL, "driver": driver, "config": size}),
        ("POST", "/1.0/networks", _bridge(NETWORK, ipv4=f"{GATEWAY}/24", ipv6="none")),
        ("POST", "/1.0/networks", _bridge("boshbr1", ipv4="10.246.0.1/24", ipv6="fd42:b05b::1/64")),
        ("POST", "/1.0/projects", {"name": PROJECT, "config": features}),
        (
            "PATCH",
            f"/1.0/profiles/{PROFILE}?project={PROJECT}",
            {"devices": {"root": {"type": "disk", "path": "/", "pool": POOL}}},
        ),
        ("POST", "/1.0/certificates", {"type": "client", "name": "bosh", "certificate": der}),
    ]


def _bridge(name: str, *, ipv4: str, ipv6: str) -> dict:
    config = {"ipv4.address": ipv4, "ipv4.nat": "false", "ipv6.address": ipv6, "dns.mode": "none"}
    return {"name": name, "type": "bridge", "config": config}
