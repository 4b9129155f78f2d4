"""Checks the way to the server: address, server certificate, clock, client certificate and trust.

The client sends nothing confidential before it has verified the server's certificate.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import urllib3

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin.doctor.checks import identity, x509
from bosh_lxd_cpi.admin.doctor.context import CheckContext
from bosh_lxd_cpi.admin.doctor.result import CheckResult
from bosh_lxd_cpi.admin.output import FAIL, WARN
from bosh_lxd_cpi.config.sources import pem
from bosh_lxd_cpi.lxd import envelope
from bosh_lxd_cpi.lxd.features import features
from bosh_lxd_cpi.lxd.resources import Server
from bosh_lxd_cpi.lxd.transport import DEFAULT_PORT, HttpResponse
from bosh_lxd_cpi.lxd.transport import fingerprint as certificate_fingerprint

SECONDS = 5.0
"""Time for the connection, and for the first response."""
MAX_SKEW_SECONDS = 60.0
EXPIRY_WARNING_SECONDS = 30 * 86400.0


def connection(context: CheckContext) -> Iterator[CheckResult]:
    """Check everything up to the server's trust. Sets server_info and features of the context on success."""
    response, is_local = None, context.server.url.startswith("unix://")
    if context.transport:
        addresses = [_reach(context, url) for url in context.server.urls]
        response = next((answer for _, answer in addresses if answer), None)
        for results, _ in addresses:
            for result in results:
                is_optional = response and result.check == "address" and result.status == FAIL
                yield result._replace(status=WARN) if is_optional else result
    server: Server | CheckResult | None = None
    if response:
        yield from _clock(context, response)
        server = _server_info(context, response)
    is_valid = is_local
    if not is_local and context.server.tls_client_cert:
        certificate, is_valid = _client_certificate(context)
        yield certificate
    if isinstance(server, CheckResult):
        yield server
    elif server:
        yield from _trust(context, server, is_valid=is_valid)


def _reach(context: CheckContext, url: str) -> tuple[list[CheckResult], HttpResponse | None]:
    """Check an address and the certificate there. Also return the first response."""
    address, fingerprint = _address(context, url)
    if address.hint:
        return [address], None
    results, result = [address], _first_request(context, url)
    if not url.startswith("unix://"):
        certificate = _server_certificate(context, result, fingerprint)
        place = f"{url}: " if len(context.server.urls) > 1 else ""
        results.append(certificate._replace(message=f"{place}{certificate.message}"))
    elif isinstance(result, errors.ServerError):
        results.append(context.fail("server", result.brief, "unreachable"))
    return results, result if isinstance(result, HttpResponse) else None


def _address(context: CheckContext, url: str) -> tuple[CheckResult, str]:
    """Check whether a server listens. Also return the fingerprint of its certificate, which is not verified here."""
    if url.startswith("unix://"):
        path = url.removeprefix("unix://")
        if Path(path).exists():
            return context.ok("address", url), ""
        return context.fail("address", f"the socket {path} does not exist", "unreachable"), ""
    parts = urllib3.util.parse_url(url)
    host, port = (parts.host or "").strip("[]"), parts.port or DEFAULT_PORT
    try:
        with (
            socket.create_connection((host, port), timeout=SECONDS) as plain,
            _unverified_tls().wrap_socket(plain, server_hostname=host) as tls,
        ):
            fingerprint = hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()
            return context.ok("address", f"{url} listens"), fingerprint
    except socket.gaierror as failure:
        return context.fail("address", f"{url}: {failure.strerror}", "no_host"), ""
    except ssl.SSLError as failure:
        return context.fail("address", f"{url} does not use TLS: {failure.reason}", "tls"), ""
    except OSError as failure:
        return context.fail("address", f"no connection to {url}: {failure.strerror or failure}", "unreachable"), ""


def _unverified_tls() -> ssl.SSLContext:
    """Return a context for reading the server's certificate. Send nothing over its connections."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return tls


def _first_request(context: CheckContext, url: str) -> HttpResponse | errors.ServerError:
    """Return the response to GET /1.0, which needs no trust, or the error."""
    try:
        return context.transport_to(url).request("GET", "/1.0", timeout=SECONDS)
    except errors.ServerError as failure:
        return failure


def _server_certificate(
    context: CheckContext, result: HttpResponse | errors.ServerError, fingerprint: str
) -> CheckResult:
    server, check = context.server, "server certificate"
    if isinstance(result, errors.ServerError):
        is_certificate_error = isinstance(result, (errors.CertificateMismatch, errors.CertificateNotVerified))
        code = result.code if is_certificate_error else "tls"
        return context.fail(check, f"{result.brief}; its sha256 is {fingerprint}", code, fingerprint=fingerprint)
    if server.tls_server_cert:
        return context.ok(check, f"matches the pinned certificate, sha256 {fingerprint}")
    if server.insecure_skip_verify:
        return context.warn(
            check,
            f"not verified, so anyone in between can read and change everything; its sha256 is {fingerprint}",
            "certificate_not_checked",
            fingerprint=fingerprint,
        )
    return context.ok(check, f"signed by {'server.tls_ca_cert' if server.tls_ca_cert else 'a public CA'}")


def _clock(context: CheckContext, response: HttpResponse) -> Iterator[CheckResult]:
    """Compare the clocks, if the response has a valid Date header."""
    try:
        date = parsedate_to_datetime(response.headers["Date"]).timestamp()
    except (KeyError, TypeError, ValueError):
        yield context.skip("clock", "the server sends no time", "no_date")
        return
    skew = context.clock_skew = context.clock.time() - date
    if abs(skew) > MAX_SKEW_SECONDS:
        side = "ahead of" if skew > 0 else "behind"
        yield context.warn("clock", f"this machine is {abs(skew):.0f} s {side} the server", "wrong_clock")
    else:
        yield context.ok("clock", "agrees with the server's")


def _client_certificate(context: CheckContext) -> tuple[CheckResult, bool]:
    """Check the validity by the server's clock. Also return whether the server can accept the certificate."""
    check, now = "client certificate", context.clock.time() - context.clock_skew
    try:
        begin, end = x509.validity(pem(context.server.tls_client_cert))
    except (errors.ConfigError, ValueError) as failure:
        return context.fail(check, f"server.tls_client_cert: {failure}", "certificate_expired"), False
    if now < begin:
        return context.fail(check, f"not valid before {_date(begin)}", "wrong_clock"), False
    if now > end:
        return context.fail(check, f"expired on {_date(end)}", "certificate_expired"), False
    if end - now < EXPIRY_WARNING_SECONDS:
        return context.warn(check, f"expires on {_date(end)}", "certificate_expired"), True
    return context.ok(check, f"valid until {_date(end)}"), True


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _server_info(context: CheckContext, response: HttpResponse) -> Server | CheckResult:
    """Return the server's properties, or a failure if the response is not one of LXD or Incus."""
    try:
        what = "reading the server's properties"
        redact = context.log.redact
        document = envelope.parse(response, what=what, endpoint="GET /1.0", fields={}, redact=redact).metadata
    except errors.CloudError as failure:
        return context.fail("server", failure.brief, "unreachable" if failure.transient else "tls")
    if not isinstance(document, dict) or "api_extensions" not in document:
        return context.fail("server", "the response is neither from LXD nor from Incus", "tls")
    server = Server(document, endpoint="GET /1.0")
    context.hint_fields["server"] = features(server).kind
    return server


def _trust(context: CheckContext, server: Server, *, is_valid: bool) -> Iterator[CheckResult]:
    server_features = features(server)
    if server_features.is_trusted:
        context.server_info, context.features = server, server_features
        yield from _restrictions(context)
    elif is_valid:  # otherwise the result of the client certificate has the reason
        yield context.fail("trust", "the server does not trust the client certificate", "certificate_not_trusted")


def _restrictions(context: CheckContext) -> Iterator[CheckResult]:
    """Check what a trusted certificate may do."""
    if context.server.url.startswith("unix://"):
        yield context.ok("trust", "full access over the socket")
        return
    has_identities = identity.EXTENSION in context.server_info.api_extensions
    if has_identities:
        with contextlib.suppress(errors.ServerError):
            document = context.client().identity()
            if document.get("type") == identity.FINE_GRAINED:
                yield from identity.identity(context, document)
                return
    fingerprint = certificate_fingerprint(pem(context.server.tls_client_cert))
    try:
        entry = context.client().certificate(fingerprint)
    except errors.ServerError as failure:  # trusted by a CA, or the certificate may not read its entry
        if failure.transient:
            raise
        message = "trusted; the server hides its restrictions"
        yield context.skip("trust", message, "hidden", command="config trust list")
        return
    if not entry.get("restricted"):
        yield context.ok("trust", "trusted without restrictions")
        return
    projects = context.restricted_projects = list(entry.get("projects") or [])
    names, project = ", ".join(projects) or "none", context.server.project_name
    if project in projects and has_identities:
        message = f"trusted, restricted to projects: {names}; it may not list or delete snapshots of disks"
        yield context.warn("trust", message, "no_snapshots")
        return
    if project in projects:
        yield context.ok("trust", f"trusted, restricted to projects: {names}")
        return
    yield context.fail(
        "trust",
        f"restricted to projects: {names}; {project} is not one of them",
        "certificate_restricted",
        projects=json.dumps([*projects, project]),
        fingerprint=fingerprint,
    )
