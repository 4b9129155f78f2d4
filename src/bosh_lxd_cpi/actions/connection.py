"""The connection that the job's properties describe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bosh_lxd_cpi.config.schema import Config, Server
from bosh_lxd_cpi.config.sources import pem
from bosh_lxd_cpi.lxd.transport import ConnectionSettings, HttpTransport, is_fingerprint

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from bosh_lxd_cpi.lxd.transport import Transport
    from bosh_lxd_cpi.runtime.log import Log


def open_transport(config: Config, *, log: Log) -> AbstractContextManager[Transport]:
    """Return a transport that connects at its first request. Raises ConfigError."""
    addresses = [connection_settings(config.server, url) for url in config.server.urls]
    if len(addresses) == 1:
        return HttpTransport(addresses[0])
    from bosh_lxd_cpi.lxd.failover import FailoverTransport
    from bosh_lxd_cpi.runtime.clock import Clock

    return FailoverTransport(addresses, directory=config.lock_directory(), log=log, clock=Clock())


def connection_settings(server: Server, url: str) -> ConnectionSettings:
    """Return the settings for one of the server's URLs, with the content of all PEM files.

    Raises ConfigError for a file that cannot be read.
    """
    if url.startswith("unix://"):
        return ConnectionSettings(url=url)
    pin = server.tls_server_cert
    return ConnectionSettings(
        url=url,
        client_certificate=pem(server.tls_client_cert),
        client_key=pem(server.tls_client_key),
        server_certificate=pin if not pin or is_fingerprint(pin) else pem(pin),
        ca_certificate=pem(server.tls_ca_cert) if server.tls_ca_cert and not pin else "",
        skip_verify=server.insecure_skip_verify,
    )
