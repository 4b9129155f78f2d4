"""The storage pools to look in."""

from __future__ import annotations

from collections.abc import Iterator

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.lxd.client import Client


def names(client: Client, configured: str) -> Iterator[str]:
    """Yield the configured pool, then, after one request, all others.

    Incus 6.0 refuses the list to restricted certificates. Then only the configured pool is used.
    """
    yield configured
    try:
        pools = client.pools()
    except errors.Forbidden:
        client.log.warn(f"the server does not list its storage pools for this certificate: using only {configured}")
        return
    yield from (pool.name for pool in pools if pool.name != configured)
