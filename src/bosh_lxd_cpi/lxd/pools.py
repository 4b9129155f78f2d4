"""Which storage pools to look in."""

from __future__ import annotations

from collections.abc import Iterator

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.lxd.client import Client


def names(client: Client, configured: str) -> Iterator[str]:
    """The configured pool, then, with a request, all others.

    Incus 6.0 refuses the list to restricted certificates, of which it says nothing but "not authorized". They see the
    configured pool alone then.
    """
    yield configured
    try:
        pools = client.pools().metadata
    except errors.Untrusted:
        client.log.warn(f"the server does not show this certificate its storage pools: only {configured} is looked at")
        return
    yield from (pool["name"] for pool in pools if pool["name"] != configured)
