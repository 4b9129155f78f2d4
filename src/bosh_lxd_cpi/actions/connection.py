"""The connection that the job's properties describe."""

from __future__ import annotations

from bosh_lxd_cpi.config.schema import Server, pem
from bosh_lxd_cpi.lxd.transport import ConnectionSettings, HttpTransport, is_fingerprint


def open_transport(server: Server) -> HttpTransport:
    """Return a transport that connects at its first request. Raises ConfigError."""
    return HttpTransport(connection_settings(server))


def connection_settings(server: Server) -> ConnectionSettings:
    """Return the settings with the content of all PEM files. Raises ConfigError for a file that cannot be read."""
    if server.url.startswith("unix://"):
        return ConnectionSettings(url=server.url)
    pin = server.tls_server_cert
    return ConnectionSettings(
        url=server.url,
        client_certificate=pem(server.tls_client_cert),
        client_key=pem(server.tls_client_key),
        server_certificate=pin if not pin or is_fingerprint(pin) else pem(pin),
        ca_certificate=pem(server.tls_ca_cert) if server.tls_ca_cert and not pin else "",
        skip_verify=server.insecure_skip_verify,
    )
