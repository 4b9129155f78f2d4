"""A server for bin/demo --replay: serves a recorded session over mTLS on the loopback interface.

The CPI generates other ids, MAC addresses and times than the recorded ones. The server maps each recorded value to the
value at the same place of the request, and replaces it in later responses. All other parts of a request must equal
the recorded ones, in the same order. Stemcells and config drives are not compared, because they contain ids.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import shutil
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from bosh_lxd_cpi.recording.player import format_sorted
from bosh_lxd_cpi.recording.recorder import request_record
from bosh_lxd_cpi.recording.redaction import Redactor
from tests.replay import fixtures
from tests.support.certificates import create_certificate

TOKEN = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])"
    r"|(?<=p)[0-9a-f]{12}(?![0-9a-f])|(?:[0-9a-f]{2}:){5}[0-9a-f]{2}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
)
CHUNK = 1 << 16


class ServerSettings(NamedTuple):
    """Properties of the CPI for this server. The certificates are paths."""

    url: str
    tls_client_cert: str
    tls_client_key: str
    tls_server_cert: str


class Session:
    """The recording, the number of replayed exchanges, and the values that replace the recorded ones."""

    def __init__(self, fixture: dict[str, Any]) -> None:
        self.fixture = fixture
        self.interactions = [interaction for call in fixture["calls"] for interaction in call["interactions"]]
        self.played = 0
        self.mismatch = ""
        self._values: dict[str, str] = {}

    def respond(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the recorded response to the next request, or an error response that shows the difference."""
        if not self.mismatch and self.played < len(self.interactions):
            interaction = self.interactions[self.played]
            recorded, current = _text(interaction["request"]), _text(request)
            if self._map_values(recorded, current):
                self.played += 1
                return json.loads(self.with_current_values(json.dumps(interaction["response"])))
            diff = difflib.unified_diff(
                self.with_current_values(recorded).splitlines(),
                current.splitlines(),
                "recorded",
                "current",
                lineterm="",
            )
            self.mismatch = f"the request differs from exchange {self.played + 1} of the recording:\n" + "\n".join(diff)
        self.mismatch = (
            self.mismatch or f"{request['method']} {request['path']} is not in the recording, which ends before it"
        )
        body = {"type": "error", "error": f"This is a replay: {self.mismatch}", "error_code": 400, "metadata": None}
        return {"status": 400, "headers": {"Content-Type": "application/json"}, "body": body}

    def with_current_values(self, text: str) -> str:
        """Return recorded text with the current values."""
        return TOKEN.sub(lambda match: self._values.get(match[0], match[0]), text)

    def _map_values(self, recorded: str, current: str) -> bool:
        if TOKEN.sub("#", recorded) != TOKEN.sub("#", current):
            return False
        pairs = list(zip(TOKEN.findall(recorded), TOKEN.findall(current), strict=True))
        return all(self._values.setdefault(old, new) == new for old, new in pairs if "T" not in old)


def _text(request: dict[str, Any]) -> str:
    body = request.get("body")
    return format_sorted(
        {**request, "body": "bytes" if isinstance(body, dict) and "sha256" in body else json.dumps(body)}
    )


class Guest:
    """The guest of the recording. Returns the recorded reports with the current values."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def stemcell(self, scratch: Path) -> tuple[str, dict[str, Any]]:
        """Return the path of a disk image without a system, and the recorded stemcell properties."""
        return str(fixtures.DIRECTORY / "image"), self.session.fixture["calls"][0]["stdin"]["arguments"][1]

    def first_report(self, vm: str, progress: Any) -> dict[str, Any]:
        return json.loads(self.session.with_current_values(json.dumps(self.session.fixture["guest"]["report"])))

    def find(self, path: str) -> str:
        return str(self.session.fixture["guest"]["found"])


@contextlib.contextmanager
def serving(session: Session, directory: Path) -> Iterator[ServerSettings]:
    """Serve a session within a context, with temporary keys. Raises RuntimeError if openssl is missing."""
    for name in ("server", "client"):
        create_server_certificate(directory / f"{name}.crt", directory / f"{name}.key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(directory / "server.crt", directory / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(directory / "client.crt")
    server = HTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"session": session}))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        files = (str(directory / name) for name in ("client.crt", "client.key", "server.crt"))
        yield ServerSettings(f"https://127.0.0.1:{server.server_port}", *files)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def create_server_certificate(certificate: Path, key: Path) -> None:
    """Create a self-signed certificate for two days. Raises RuntimeError if openssl is missing."""
    if not shutil.which("openssl"):
        raise RuntimeError("cannot create a certificate: this machine has no openssl command")
    create_certificate(certificate, key, name="replay")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    session: Session

    def _serve(self) -> None:
        target = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        is_large = length > CHUNK
        body = b"" if is_large else self.rfile.read(length)
        while is_large and length > 0:
            length -= len(self.rfile.read(min(CHUNK, length)))
        request = request_record(
            self.command,
            target.path,
            query=dict(parse_qsl(target.query)),
            headers=dict(self.headers),
            body=body if body or is_large else None,
            redactor=Redactor(),
        )
        response = self.session.respond(request)
        content = json.dumps(response["body"]).encode()
        self.send_response(response["status"])
        for name, value in {**response["headers"], "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815  named by http.server

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""
