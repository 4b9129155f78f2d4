"""From here to a server that answers and trusts us. Nothing is told to a server that is not the right one."""

from __future__ import annotations

import hashlib
import json
import pathlib
import socket
import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import urllib3

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin.doctor.checks import x509
from bosh_lxd_cpi.admin.doctor.context import CheckContext
from bosh_lxd_cpi.admin.doctor.result import CheckResult
from bosh_lxd_cpi.config import schema
from bosh_lxd_cpi.lxd.envelope import parse
from bosh_lxd_cpi.lxd.features import features
from bosh_lxd_cpi.lxd.transport import HttpResponse
from bosh_lxd_cpi.lxd.transport import fingerprint as certificates_fingerprint

SECONDS = 5.0
"""For connecting, and for the first answer."""
MOST_SKEW = 60.0
SOON = 30 * 86400.0


def examine(patient: CheckContext) -> Iterator[CheckResult]:
    """Address, server certificate, clock, client certificate and trust; the patient then has metadata and features."""
    response, local = None, patient.server.url.startswith("unix://")
    if patient.transport:
        reached, fingerprint = _reach(patient)
        yield reached
        if not reached.hint:
            answer = _ask(patient)
            if isinstance(answer, HttpResponse):
                response = answer
            if not local:
                yield _server_certificate(patient, answer, fingerprint)
            elif response is None:
                yield patient.fail("server", str(answer), "unreachable")
    metadata: dict[str, Any] | CheckResult | None = None
    if response:
        yield from _clock(patient, response)
        metadata = _metadata(patient, response)
    valid = local
    if not local and patient.server.tls_client_cert:
        finding, valid = _client_certificate(patient)
        yield finding
    if isinstance(metadata, CheckResult):
        yield metadata
    elif metadata:
        yield from _trust(patient, metadata, valid=valid)


def _reach(patient: CheckContext) -> tuple[CheckResult, str]:
    """Whether somebody listens there, and the fingerprint of the certificate that he shows, whoever he is."""
    url = patient.server.url
    if url.startswith("unix://"):
        path = url.removeprefix("unix://")
        if pathlib.Path(path).exists():
            return patient.ok("address", url), ""
        return patient.fail("address", f"there is no socket {path}", "unreachable"), ""
    parts = urllib3.util.parse_url(url)
    host, port = (parts.host or "").strip("[]"), parts.port or 8443
    try:
        with socket.create_connection((host, port), timeout=SECONDS) as plain:
            listening = patient.ok("address", f"{url} listens")
            with _believing_everybody().wrap_socket(plain, server_hostname=host) as tls:
                return listening, hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()
    except socket.gaierror as failure:
        return patient.fail("address", f"{url}: {failure.strerror}", "no_host"), ""
    except ssl.SSLError as failure:
        return patient.fail("address", f"{url} speaks no TLS: {failure.reason}", "tls"), ""
    except OSError as failure:
        return patient.fail("address", f"no connection to {url}: {failure.strerror or failure}", "unreachable"), ""


def _believing_everybody() -> ssl.SSLContext:
    """Only good for looking at a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _ask(patient: CheckContext) -> HttpResponse | errors.ServerError:
    """The answer to the one request that everybody may make."""
    assert patient.transport
    try:
        return patient.transport.request("GET", "/1.0", timeout=SECONDS)
    except errors.ServerError as failure:
        return failure


def _server_certificate(
    patient: CheckContext, answer: HttpResponse | errors.ServerError, fingerprint: str
) -> CheckResult:
    server, check = patient.server, "server certificate"
    if isinstance(answer, errors.ServerError):
        pinned = "pinned" in answer.brief
        problem = (
            "certificate_mismatch" if pinned else "certificate_not_verified" if "verified" in answer.brief else "tls"
        )
        return patient.fail(check, f"{answer.brief}; it is sha256 {fingerprint}", problem, fingerprint=fingerprint)
    if server.tls_server_cert:
        return patient.ok(check, f"the pinned one, sha256 {fingerprint}")
    if server.insecure_skip_verify:
        return patient.warn(
            check,
            f"not verified: whoever sits in between reads and changes everything; it is sha256 {fingerprint}",
            "certificate_not_checked",
            fingerprint=fingerprint,
        )
    return patient.ok(check, f"signed by {'server.tls_ca_cert' if server.tls_ca_cert else 'a public authority'}")


def _clock(patient: CheckContext, response: HttpResponse) -> Iterator[CheckResult]:
    """Nothing is found without a Date header, which every HTTP server sends."""
    try:
        patient.skew = patient.clock.time() - parsedate_to_datetime(response.headers["Date"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return
    if abs(patient.skew) > MOST_SKEW:
        side = "ahead of" if patient.skew > 0 else "behind"
        yield patient.warn("clock", f"this machine is {abs(patient.skew):.0f} s {side} the server", "wrong_clock")
    else:
        yield patient.ok("clock", "the same as the server's")


def _client_certificate(patient: CheckContext) -> tuple[CheckResult, bool]:
    """Also answers whether the server can accept it; it goes by its own clock."""
    check, now = "client certificate", patient.clock.time() - patient.skew
    try:
        pem = schema.pem(patient.server.tls_client_cert)
        begin, end = x509.validity(pem)
    except (errors.ConfigError, ValueError) as failure:
        return patient.fail(check, f"server.tls_client_cert: {failure}", "certificate_expired"), False
    if now < begin:
        return patient.fail(check, f"valid only from {_day(begin)} on", "wrong_clock"), False
    if now > end:
        return patient.fail(check, f"expired on {_day(end)}", "certificate_expired"), False
    if end - now < SOON:
        return patient.warn(check, f"expires on {_day(end)}", "certificate_expired"), True
    return patient.ok(check, f"valid until {_day(end)}"), True


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _metadata(patient: CheckContext, response: HttpResponse) -> dict[str, Any] | CheckResult:
    """What the server says of itself, by which the patient knows its client's name, or what is wrong with the answer."""
    try:
        metadata = parse(response, what="asking the server what it is", names=patient.names).metadata
    except errors.CloudError as failure:
        return patient.fail("server", failure.brief, "unreachable" if failure.transient else "tls")
    if not isinstance(metadata, dict) or "api_extensions" not in metadata:
        return patient.fail("server", "what answers is neither LXD nor Incus", "tls")
    patient.names["client"] = features(metadata).client
    return metadata


def _trust(patient: CheckContext, metadata: dict[str, Any], *, valid: bool) -> Iterator[CheckResult]:
    found = features(metadata)
    if not found.trusted:
        if valid:  # else the reason has been told
            yield patient.fail("trust", "the server does not know the client certificate", "certificate_not_trusted")
        return
    patient.metadata, patient.features = metadata, found
    yield _scope(patient, metadata)


def _scope(patient: CheckContext, metadata: dict[str, Any]) -> CheckResult:
    """What a trusted certificate is trusted with."""
    if patient.server.url.startswith("unix://"):
        return patient.ok("trust", "all, by the socket")
    fingerprint = certificates_fingerprint(patient.server.tls_client_cert)
    try:
        entry = patient.client().certificate(fingerprint).metadata
    except errors.ServerError:
        return patient.ok("trust", "trusted")  # by an authority, or by rules that we may not read
    if not entry.get("restricted"):
        return patient.ok("trust", "trusted with everything")
    patient.restricted = list(entry.get("projects") or [])
    names, project = ", ".join(patient.restricted) or "none", patient.server.project_name
    if project in patient.restricted:
        return patient.ok("trust", f"trusted, restricted to projects: {names}")
    return patient.fail(
        "trust",
        f"restricted to projects: {names}; {project} is not one of them",
        "certificate_restricted",
        projects=json.dumps([*patient.restricted, project]),
        fingerprint=fingerprint,
    )
