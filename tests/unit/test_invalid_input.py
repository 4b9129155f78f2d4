"""Thousands of invalid requests, properties, networks, tarballs and configurations.

The CPI responds to each with an error that is not an internal error, and changes nothing on the server. The server is a
mock that records and rejects all changes.
"""

from __future__ import annotations

import gzip
import http.server
import json
import re
import socketserver
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bosh_lxd_cpi.actions import connection
from bosh_lxd_cpi.lxd.transport import HttpResponse
from bosh_lxd_cpi.protocol import cli
from tests.support.invalid_input import CID, CONFIG, STEMCELL, VALID_ARGUMENTS, cases, request

HOME = Path(__file__).parents[2]
CASES = 1500
LONG_CASES = 20_000
PROCESSES = 27
LONG_PROCESSES = 400
MAX_MEMORY = 64 << 10
"""Limit of the peak memory of a process in KiB."""


class ReadOnly:
    """A mock of the transport to a server with an image and a network. It records and rejects changes."""

    attempts: ClassVar[list[str]] = []

    def __init__(self, *_: Any, **__: Any) -> None:
        self.requests = 0

    def __enter__(self) -> ReadOnly:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def request(self, method: str, path: str, *, body: Any = None, **_: Any) -> HttpResponse:
        if "/." in path:
            self.attempts.append(f"{method} {path} is outside of the API")
        if method != "GET":
            if body is not None and not isinstance(body, bytes):
                for _ in body:  # an interrupted upload creates nothing
                    pass
            self.attempts.append(f"{method} {path}")
            return self._error(403, "read-only")
        metadata: Any = {
            "/1.0": {
                "auth": "trusted",
                "api_extensions": ["custom_volume_iso", "instance_create_start"],
                "environment": {"server": "incus", "driver": "qemu", "server_clustered": False},
            },
            f"/1.0/images/aliases/img-{CID}": {"target": "f" * 64, "description": STEMCELL["name"]},
            "/1.0/images": [],
            "/1.0/storage-pools": [{"name": "default"}],
            "/1.0/networks/br0": {
                "name": "br0",
                "type": "bridge",
                "managed": True,
                "config": {"ipv4.address": "10.0.0.1/24"},
            },
        }.get(path)
        if metadata is None:
            return self._error(404, "not found")
        return HttpResponse(200, {}, json.dumps({"type": "sync", "status_code": 200, "metadata": metadata}).encode())

    @staticmethod
    def _error(code: int, text: str) -> HttpResponse:
        return HttpResponse(code, {}, json.dumps({"type": "error", "error": text, "error_code": code}).encode())


def check(case: str, raw: bytes) -> None:
    """Check that a response is a line of JSON with an error that is not an internal error."""
    assert raw.count(b"\n") <= 1, case
    response = json.loads(raw)
    assert response.keys() == {"result", "error", "log"} and response["error"], f"{case}: {response}"
    assert response["error"]["type"].startswith("Bosh::Clouds::"), case
    message = response["error"]["message"]
    assert message and "Traceback" not in message and not message.startswith("internal error"), f"{case}: {message}"
    assert len(message) < 4000 and "sesame" not in message, case


def check_all(directory: Path, monkeypatch: pytest.MonkeyPatch, start: int, count: int) -> None:
    monkeypatch.setattr(connection, "open_transport", ReadOnly)
    monkeypatch.setattr(ReadOnly, "attempts", [])
    for case, raw, config in cases(directory, start, count):
        check(case, cli.respond(raw, ["--config", str(config)], {}))
        assert ReadOnly.attempts == [], case


def test_rejects_invalid_requests_before_any_change(tmp_path, monkeypatch):
    check_all(tmp_path, monkeypatch, 0, CASES)


@pytest.mark.long
def test_rejects_many_invalid_requests_before_any_change(tmp_path, monkeypatch):
    check_all(tmp_path, monkeypatch, CASES, LONG_CASES - CASES - LONG_PROCESSES)


def test_a_valid_request_reaches_the_server(tmp_path, monkeypatch):
    """The tests above would also pass if the CPI rejected all requests."""
    monkeypatch.setattr(connection, "open_transport", ReadOnly)
    monkeypatch.setattr(ReadOnly, "attempts", [])
    (tmp_path / "cpi.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    cli.respond(request("create_vm", VALID_ARGUMENTS["create_vm"]), ["--config", str(tmp_path / "cpi.json")], {})
    assert ReadOnly.attempts[0] == "POST /1.0/storage-pools/default/volumes/custom"


def run(raw: bytes, config: Path) -> tuple[int, bytes, int]:
    """Run bin/cpi as a process. Return its exit status, stdout and peak memory in KiB."""
    arguments = [
        sys.executable,
        "-BIS",
        "-c",
        "import gc, os, sys; gc.set_threshold(100000);"
        " sys.path.insert(0, sys.argv[1]); from bosh_lxd_cpi.protocol.cli import main;"
        " status = main(sys.argv[2:], os.environ);"
        " print(open('/proc/self/status').read(), file=sys.stderr); sys.exit(status)",
        str(HOME),
        "--config",
        str(config),
    ]
    process = subprocess.run(arguments, input=raw, capture_output=True, check=False)
    return process.returncode, process.stdout, int(re.findall(rb"VmHWM:\s*(\d+) kB", process.stderr)[-1])


class Handler(http.server.BaseHTTPRequestHandler):
    """The mock as an HTTP server."""

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        response = ReadOnly().request(self.command, self.path.partition("?")[0], body=self.rfile.read(length))
        self.send_response(response.status)
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        self.wfile.write(response.body)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815  names of http.server

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def mock_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run the mock as the server of the configuration."""
    monkeypatch.setattr(ReadOnly, "attempts", [])
    monkeypatch.setitem(CONFIG, "server", {**CONFIG["server"], "url": f"unix://{tmp_path}/socket"})
    with socketserver.UnixStreamServer(f"{tmp_path}/socket", Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield
        server.shutdown()
        thread.join()


def check_all_processes(directory: Path, start: int, count: int) -> None:
    for case, raw, config in cases(directory, start, count):
        status, response, _ = run(raw, config)
        assert status == 0, case
        check(case, response)
        assert ReadOnly.attempts == [], case


@pytest.mark.usefixtures("mock_server")
def test_processes_reject_invalid_requests(tmp_path):
    check_all_processes(tmp_path, LONG_CASES - LONG_PROCESSES, PROCESSES)


@pytest.mark.long
@pytest.mark.usefixtures("mock_server")
def test_many_processes_reject_invalid_requests(tmp_path):
    check_all_processes(tmp_path, LONG_CASES - LONG_PROCESSES + PROCESSES, LONG_PROCESSES - PROCESSES)


def decompression_bomb(path: Path, *, member: str) -> None:
    """Write a gzip tar of 10 MB with 10 GiB of zeros."""
    header = tarfile.TarInfo(member)
    header.size = 100 * (100 << 20)
    zeros = gzip.compress(bytes(100 << 20), 1)
    with path.open("wb") as file:
        file.write(gzip.compress(header.tobuf()))
        for _ in range(100):
            file.write(zeros)


@pytest.mark.parametrize("member", ["root.img", "other-member"])
def test_rejects_a_decompression_bomb(tmp_path, member):
    decompression_bomb(tmp_path / "image", member=member)
    (tmp_path / "cpi.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    properties = {
        key: value for key, value in STEMCELL.items() if key != "version"
    }  # without version, the CPI does not read the images first
    status, response, peak = run(
        request("create_stemcell", [str(tmp_path / "image"), properties]), tmp_path / "cpi.json"
    )
    assert status == 0
    check("decompression bomb", response)
    assert "root.img" in json.loads(response)["error"]["message"]
    assert peak < MAX_MEMORY
