"""One HTTP request over mTLS or over a unix socket.

Everything above needs only the method `request`, so a recorder or a player can stand in for the server.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from bosh_lxd_cpi import __version__, errors
from bosh_lxd_cpi.lxd import bounded_sockets, keepalive
from bosh_lxd_cpi.lxd.connection_slot import ConnectionSlot
from bosh_lxd_cpi.lxd.library import urllib3

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
"""Time of a server for a request that it has received. Changes of volumes and uploads take longer."""
DEFAULT_PORT = 8443
READ_BYTES = 64 << 10


class ConnectionSettings(NamedTuple):
    """Where the server is, and how both sides prove who they are.

    `url` is https://HOST:PORT or unix:///PATH. Certificates and the key are PEM text. `server_certificate` is pinned;
    it may also be a sha256 fingerprint. Without it, the server's certificate is verified against `ca_certificate`, or
    against the CAs of the system, unless `skip_verify` is set. urllib3 compares a pin after the handshake, in which the
    client certificate, but not its key, is shown to the server.
    """

    url: str
    client_certificate: str = ""
    client_key: str = ""
    server_certificate: str = ""
    ca_certificate: str = ""
    skip_verify: bool = False


class HttpResponse(NamedTuple):
    """A response with any status."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """Carries single requests."""

    @property
    def requests(self) -> int:
        """Number of requests so far."""

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
        """Return the response. `timeout` is the number of seconds for the whole response, from the end of the request.

        It is also the longest pause of a server that receives a streamed body. Raises Unreachable if the request was
        not delivered, NoResponse if that is not certain, CertificateMismatch or CertificateNotVerified if the server is
        not the right one, UnexpectedResponse if the response is too large.
        """


class HttpTransport:
    """One kept-alive connection to a server. Use it as a context manager, or close it."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self.requests = 0
        self.url = settings.url.rstrip("/")
        self._pool = _unix_pool(settings) if settings.url.startswith("unix://") else _https_pool(settings)

    def __enter__(self) -> HttpTransport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.close()

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
        is_streamed = not isinstance(body, (bytes, type(None)))
        # urllib3 sends the body under the timeout for connecting.
        connect_timeout = timeout if is_streamed else min(CONNECT_SECONDS, timeout)
        try:
            response = self._pool.urlopen(
                method,
                url,
                body=body,
                headers={"User-Agent": f"bosh-lxd-cpi/{__version__}", "Accept-Encoding": "identity", **(headers or {})},
                timeout=urllib3.Timeout(connect=connect_timeout, read=timeout),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            chunks = response.stream(READ_BYTES, decode_content=False)  # a huge Content-Length reserves no memory
            body = b"".join(chunks)
            response.release_conn()
            return HttpResponse(response.status, response.headers, body)
        except bounded_sockets.ResponseTooLarge:
            limit = bounded_sockets.MAX_RESPONSE_BYTES >> 20
            raise errors.UnexpectedResponse(f"the response to {method} {path} is larger than {limit} MiB") from None
        except urllib3.exceptions.SSLError as failure:
            raise _tls_error(self.url, f"{method} {path}", failure) from failure
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as failure:
            raise errors.Unreachable(
                f"cannot connect to {self.url}: {_reason(failure)}", code="unreachable", url=self.url
            ) from failure
        except (urllib3.exceptions.HTTPError, OSError, OverflowError) as failure:
            raise errors.NoResponse(f"{self.url} did not respond to {method} {path}: {_reason(failure)}") from failure


def _https_pool(settings: ConnectionSettings) -> urllib3.HTTPConnectionPool:
    pin = fingerprint(settings.server_certificate) if settings.server_certificate else None
    verify = not settings.skip_verify and not pin
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = bounded_sockets.TlsSocket
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = verify
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    context.hostname_checks_common_name = False  # the host has to be a subjectAltName
    if verify and settings.ca_certificate:
        _load_ca(context, settings.ca_certificate)
    elif verify:
        context.load_default_certs()
    _load_client_certificate(context, settings.client_certificate, settings.client_key)
    if settings.skip_verify:  # an explicit setting; a warning at every call would flood the log
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    host, port = _address(settings.url)
    return _HttpsPool(
        host,
        port,
        maxsize=1,
        ssl_context=context,
        assert_fingerprint=pin,
        cert_reqs="CERT_REQUIRED" if verify else "CERT_NONE",
        assert_hostname=None if verify else False,
        socket_options=list(keepalive.socket_options()),
    )


def _address(url: str) -> tuple[str, int]:
    with contextlib.suppress(urllib3.exceptions.LocationParseError, UnicodeError):
        parts = urllib3.util.parse_url(url)
        if parts.host and parts.host.encode("idna"):
            return parts.host, parts.port or DEFAULT_PORT
    raise errors.ConfigError(f"{url} is not a URL of a server", code="invalid_url")


def is_fingerprint(text: str) -> bool:
    """Return whether this is a sha256 in hexadecimal digits, with or without colons."""
    digits = text.replace(":", "").strip().lower()
    return len(digits) == 64 and all(digit in "0123456789abcdef" for digit in digits)


def fingerprint(certificate: str) -> str:
    """Return the sha256 of a PEM certificate, or a sha256 as `lxc info` and `incus info` print it in plain form.

    Of a chain, the first certificate counts. Raises ConfigError.
    """
    if is_fingerprint(certificate):
        return certificate.replace(":", "").strip().lower()
    import hashlib

    try:
        first = certificate[certificate.index(ssl.PEM_HEADER) : certificate.index(ssl.PEM_FOOTER)]
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first + ssl.PEM_FOOTER)).hexdigest()
    except ValueError as failure:
        raise errors.ConfigError(
            f"the server certificate is neither a PEM certificate nor a sha256 fingerprint: {failure}",
            code="invalid_server_certificate",
        ) from None


def _load_ca(context: ssl.SSLContext, text: str) -> None:
    try:
        context.load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as failure:
        raise errors.ConfigError(
            f"the CA certificate is not a PEM certificate: {failure}", code="invalid_ca_certificate"
        ) from None


def _load_client_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Load certificate and key. The ssl module reads them from files only, so they get one that only we can read."""
    try:
        if hasattr(os, "memfd_create"):
            with os.fdopen(os.memfd_create("client"), "w", encoding="utf-8") as file:
                file.write(certificate.rstrip() + "\n" + key)
                file.flush()
                context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password=_no_passphrase)
        else:
            import tempfile

            with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:  # mode 0600
                file.write(certificate.rstrip() + "\n" + key)
                file.flush()
                context.load_cert_chain(file.name, password=_no_passphrase)
    except ssl.SSLError as failure:
        raise errors.ConfigError(
            f"the client certificate and the client key cannot be used: {failure.reason or 'unreadable'}",
            code="invalid_client_certificate",
        ) from None


def _no_passphrase() -> str:
    """Return an empty passphrase. Without it OpenSSL asks on the terminal and waits."""
    return ""


class _HttpsConnection(urllib3.connection.HTTPSConnection):
    def send(self, data: Any) -> None:
        """Send data. Raise BrokenPipeError if the server has closed the connection: then urllib3 reads its response."""
        try:
            super().send(data)
        except ssl.SSLEOFError as failure:
            raise BrokenPipeError from failure


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection
    QueueCls = ConnectionSlot  # type: ignore[assignment]  # urllib3 calls only get and put


class _UnixConnection(urllib3.connection.HTTPConnection):
    path = ""

    def connect(self) -> None:
        self.sock = bounded_sockets.UnixSocket()
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self.path)
        except OSError as failure:
            self.sock.close()
            raise urllib3.exceptions.NewConnectionError(self, str(failure)) from failure


class _UnixPool(urllib3.HTTPConnectionPool):
    QueueCls = ConnectionSlot  # type: ignore[assignment]  # urllib3 calls only get and put


def _unix_pool(settings: ConnectionSettings) -> urllib3.HTTPConnectionPool:
    pool = _UnixPool("localhost", maxsize=1)
    pool.ConnectionCls = type("UnixConnection", (_UnixConnection,), {"path": settings.url.removeprefix("unix://")})
    return pool


HANDSHAKE_FAILURES = ("ALERT", "HANDSHAKE", "WRONG_VERSION", "UNSUPPORTED_PROTOCOL", "HTTP_REQUEST", "NO_SHARED_CIPHER")
"""Parts of OpenSSL's errors for connections that cannot be established. Any other error may follow a request."""


def _tls_error(url: str, request: str, failure: Exception) -> errors.ServerError:
    text = str(failure)
    if "Fingerprints did not match" in text:
        return errors.CertificateMismatch(
            f"the certificate of {url} is not the pinned one", detail=text, code="certificate_mismatch"
        )
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return errors.CertificateNotVerified(
            f"the certificate of {url} cannot be verified: {_reason(failure)}", code="certificate_not_verified"
        )
    if any(part in text.upper() for part in HANDSHAKE_FAILURES):
        return errors.TlsHandshakeFailed(f"no TLS connection to {url}: {_reason(failure)}", code="tls", url=url)
    return errors.NoResponse(f"{url} did not respond to {request}: {_reason(failure)}")


def _reason(failure: BaseException) -> str:
    """Return the text of the innermost cause. urllib3 wraps it in texts with object addresses."""
    while True:
        inner = failure.__cause__ or next((arg for arg in failure.args if isinstance(arg, BaseException)), None)
        if inner is None:
            text = failure.args[-1] if failure.args else ""
            return str(getattr(failure, "strerror", None) or text or type(failure).__name__)
        failure = inner
