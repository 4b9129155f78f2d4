"""A recorded session served over real mTLS on loopback, to a CPI that makes names of its own.

Ids, hashes, MACs and times of the live requests stand for those of the recording: the first request that has one says
which is which, and every answer is told with the live ones. Everything else in a request must be as recorded, in order;
only the bytes of the stemcell and of the config drive, which depend on these, are not compared.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import shutil
import ssl
import subprocess
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

TOKEN = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])"
    r"|(?<=p)[0-9a-f]{12}(?![0-9a-f])|(?:[0-9a-f]{2}:){5}[0-9a-f]{2}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
)
CHUNK = 1 << 16


class Served(NamedTuple):
    """What a client of the replaying server needs, by the names of the job's properties; certificates are files."""

    url: str
    tls_client_cert: str
    tls_client_key: str
    tls_server_cert: str


class Session:
    """The recording, how far it has been played, and what its names are called now."""

    def __init__(self, fixture: dict[str, Any]) -> None:
        self.fixture = fixture
        self.interactions = [one for call in fixture["calls"] for one in call["interactions"]]
        self.played = 0
        self.fault = ""
        self._names: dict[str, str] = {}

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The recorded response to the next request, or a refusal that shows how the request differs."""
        if not self.fault and self.played < len(self.interactions):
            one = self.interactions[self.played]
            recorded, live = _text(one["request"]), _text(asked)
            if self._learn(recorded, live):
                self.played += 1
                return json.loads(self.now(json.dumps(one["response"])))
            diff = difflib.unified_diff(
                self.now(recorded).splitlines(), live.splitlines(), "recorded", "asked", lineterm=""
            )
            self.fault = f"the request differs from exchange {self.played + 1} of the recording:\n" + "\n".join(diff)
        self.fault = self.fault or f"the recording is over, and was asked for {asked['method']} {asked['path']}"
        body = {"type": "error", "error": f"This is a replay: {self.fault}", "error_code": 400, "metadata": None}
        return {"status": 400, "headers": {"Content-Type": "application/json"}, "body": body}

    def now(self, text: str) -> str:
        """A text of the recording with the names of today."""
        return TOKEN.sub(lambda found: self._names.get(found[0], found[0]), text)

    def _learn(self, recorded: str, asked: str) -> bool:
        if TOKEN.sub("#", recorded) != TOKEN.sub("#", asked):
            return False
        pairs = list(zip(TOKEN.findall(recorded), TOKEN.findall(asked), strict=True))
        return all(self._names.setdefault(old, new) == new for old, new in pairs if "T" not in old)


def _text(request: dict[str, Any]) -> str:
    body = request.get("body")
    return format_sorted(
        {**request, "body": "bytes" if isinstance(body, dict) and "sha256" in body else json.dumps(body)}
    )


class Guest:
    """The guest of the recording: what it told then, with the names of today."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def stemcell(self, scratch: Path) -> tuple[str, dict[str, Any]]:
        """An empty one: nothing will boot from it."""
        return str(fixtures.DIRECTORY / "image"), self.session.fixture["calls"][0]["stdin"]["arguments"][1]

    def first_report(self, vm: str, progress: Any) -> dict[str, Any]:
        return json.loads(self.session.now(json.dumps(self.session.fixture["guest"]["report"])))

    def find(self, path: str) -> str:
        return str(self.session.fixture["guest"]["found"])


@contextlib.contextmanager
def serving(session: Session, directory: Path) -> Iterator[Served]:
    """Serve a session until the context ends, with keys that live no longer. Raises RuntimeError without openssl."""
    for name in ("server", "client"):
        create_certificate(directory / f"{name}.crt", directory / f"{name}.key")
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
        yield Served(f"https://127.0.0.1:{server.server_port}", *files)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def create_certificate(certificate: Path, key: Path) -> None:
    """A self-signed certificate for two days. Raises RuntimeError."""
    if not shutil.which("openssl"):
        raise RuntimeError("a certificate is to be made, and there is no openssl command on this machine")
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:secp384r1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=replay",
            "-keyout",
            key,
            "-out",
            certificate,
        ],
        check=True,
        capture_output=True,
    )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    session: Session

    def _serve(self) -> None:
        target = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        streamed = length > CHUNK
        body = b"" if streamed else self.rfile.read(length)
        while streamed and length > 0:
            length -= len(self.rfile.read(min(CHUNK, length)))
        asked = request_record(
            self.command,
            target.path,
            query=dict(parse_qsl(target.query)),
            headers=dict(self.headers),
            body=body if body or streamed else None,
            redactor=Redactor(),
        )
        response = self.session.answer(asked)
        content = json.dumps(response["body"]).encode()
        self.send_response(response["status"])
        for name, value in {**response["headers"], "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815  named by http.server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
