"""One HTTP request over mTLS, or over a unix socket.

This is the seam of the whole program: everything above it needs only `request`, so a recording or replaying object can
stand in for it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from bosh_lxd_cpi import __version__, errors, hints
from bosh_lxd_cpi.config import schema

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
"""Longest silence of a server that has work to do for us; waits for operations are longer and say so."""


class HttpResponse(NamedTuple):
    """What came back, whatever the status."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """Carries one request. Raises Unreachable when it was not delivered, NoResponse when that is not certain."""

    requests: int
    """How many it has carried."""

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
        timeout: float = READ_SECONDS,
    ) -> HttpResponse: ...


class HttpTransport:
    """One kept-alive connection to the server that the configuration names."""

    def __init__(self, server: schema.Server) -> None:
        self.requests = 0
        self._url = server.url.rstrip("/")
        self._pool = _unix_pool(server) if server.url.startswith("unix://") else _https_pool(server)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
        timeout: float = READ_SECONDS,
    ) -> HttpResponse:
        """See `Transport`."""
        from urllib.parse import urlencode

        self.requests += 1
        url = f"{path}?{urlencode(query)}" if query else path
        streamed = not isinstance(body, (bytes, type(None)))  # urllib3 sends under the timeout for connecting
        timeouts = urllib3.Timeout(connect=timeout if streamed else min(CONNECT_SECONDS, timeout), read=timeout)
        try:
            answer = self._pool.urlopen(
                method,
                url,
                body=body,
                headers={"User-Agent": f"bosh-lxd-cpi/{__version__}", **(headers or {})},
                timeout=timeouts,
                retries=False,
                redirect=False,
            )
        except urllib3.exceptions.SSLError as failure:
            raise _tls_error(self._url, f"{method} {path}", failure) from failure
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as failure:
            raise errors.Unreachable(
                f"no connection to {self._url}: {_reason(failure)}", hint=hints.text("unreachable", url=self._url)
            ) from failure
        except (urllib3.exceptions.HTTPError, OSError) as failure:
            raise errors.NoResponse(f"{self._url} gave no answer to {method} {path}: {_reason(failure)}") from failure
        return HttpResponse(answer.status, answer.headers, answer.data)

    def close(self) -> None:
        """Drop the connection."""
        self._pool.close()


def _https_pool(server: schema.Server) -> HTTPConnectionPool:
    pin = fingerprint(server.tls_server_cert) if server.tls_server_cert else None
    verify = not server.insecure_skip_verify and not pin
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = verify
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    if verify and server.tls_ca_cert:
        _load_ca(context, schema.pem(server.tls_ca_cert))
    elif verify:
        context.load_default_certs()
    _load_client_certificate(context, schema.pem(server.tls_client_cert), schema.pem(server.tls_client_key))
    if server.insecure_skip_verify:  # the operator knows; saying it at every call would drown the log
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    host, port = _address(server.url)
    return urllib3.HTTPSConnectionPool(
        host,
        port,
        maxsize=1,
        ssl_context=context,
        assert_fingerprint=pin,
        cert_reqs="CERT_REQUIRED" if verify else "CERT_NONE",
        assert_hostname=None if verify else False,
    )


def _address(url: str) -> tuple[str, int]:
    with contextlib.suppress(urllib3.exceptions.LocationParseError, UnicodeError):
        parts = urllib3.util.parse_url(url)
        if parts.host and parts.host.encode("idna"):
            return parts.host, parts.port or 8443
    raise errors.ConfigError(f"server.url is not a URL: {url}", hint="Write https://HOST:8443")


def fingerprint(certificate: str) -> str:
    """The sha256 to pin, from PEM text, a PEM file or a fingerprint as `lxc info` and `incus info` print it."""
    plain = certificate.replace(":", "").strip().lower()
    if len(plain) == 64 and all(digit in "0123456789abcdef" for digit in plain):
        return plain
    import hashlib

    text = schema.pem(certificate)
    try:
        first = text[
            text.index(ssl.PEM_HEADER) : text.index(ssl.PEM_FOOTER)
        ]  # of a chain, with whatever stands before it
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first + ssl.PEM_FOOTER)).hexdigest()
    except ValueError as failure:
        raise errors.ConfigError(
            f"server.tls_server_cert is neither a PEM certificate nor a sha256: {failure}"
        ) from None


def _load_ca(context: ssl.SSLContext, text: str) -> None:
    try:
        context.load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as failure:
        raise errors.ConfigError(f"server.tls_ca_cert is not a PEM certificate: {failure}") from None


def _load_client_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """The ssl module reads key material from files only: give it one that has no name, or a private one for a moment."""
    try:
        if hasattr(os, "memfd_create"):
            with os.fdopen(os.memfd_create("client"), "w", encoding="utf-8") as file:
                file.write(certificate.rstrip() + "\n" + key)
                file.flush()
                context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password=_no_passphrase)
        else:
            import tempfile

            with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:  # 0600, gone when closed
                file.write(certificate.rstrip() + "\n" + key)
                file.flush()
                context.load_cert_chain(file.name, password=_no_passphrase)
    except ssl.SSLError as failure:
        raise errors.ConfigError(
            "server.tls_client_cert and server.tls_client_key are not a certificate and its key, "
            f"in PEM and without passphrase ({failure.reason or 'unreadable'})"
        ) from None


def _no_passphrase() -> str:
    """Without it OpenSSL would ask on the terminal, and wait."""
    return ""


class _UnixConnection(HTTPConnection):
    path = ""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self.path)
        except OSError as failure:
            self.sock.close()
            raise urllib3.exceptions.NewConnectionError(self, str(failure)) from failure


def _unix_pool(server: schema.Server) -> HTTPConnectionPool:
    pool = HTTPConnectionPool("localhost", maxsize=1)
    pool.ConnectionCls = type("UnixConnection", (_UnixConnection,), {"path": server.url.removeprefix("unix://")})
    return pool


NOT_DELIVERED = ("ALERT", "HANDSHAKE", "WRONG_VERSION", "UNSUPPORTED_PROTOCOL")
"""In OpenSSL's texts for connections that never came about. Any other failure may have come after the request went out."""


def _tls_error(url: str, request: str, failure: Exception) -> errors.ServerError:
    text = str(failure)
    if "Fingerprints did not match" in text:
        return errors.Untrusted(
            f"the certificate of {url} is not the pinned one", detail=text, hint=hints.text("certificate_mismatch")
        )
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return errors.Untrusted(
            f"the certificate of {url} cannot be verified: {_reason(failure)}",
            hint=hints.text("certificate_not_verified"),
        )
    if any(sign in text.upper() for sign in NOT_DELIVERED):
        return errors.Unreachable(f"no TLS connection to {url}: {_reason(failure)}", hint=hints.text("tls", url=url))
    return errors.NoResponse(f"{url} gave no answer to {request}: {_reason(failure)}")


def _reason(failure: BaseException) -> str:
    """The innermost cause: urllib3 wraps it, with object addresses in between."""
    while True:
        inner = failure.__cause__ or next((arg for arg in failure.args if isinstance(arg, BaseException)), None)
        if inner is None:
            text = failure.args[-1] if failure.args else ""
            return str(getattr(failure, "strerror", None) or text or type(failure).__name__)
        failure = inner
