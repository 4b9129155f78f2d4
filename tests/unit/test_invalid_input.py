"""Thousands of requests, properties, networks, tarballs and configurations that are wrong, each in its own way.

Each gets one answer with an error that was foreseen, and nothing is made on the server. The server here is a mock that
can be read but notes every attempt to change it: what real servers say to such resources is not the question.
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
from tests.support.invalid_input import CID, CONFIG, GOOD, STEMCELL, cases, request

HOME = Path(__file__).parents[2]
CASES = 1500
LONG_CASES = 20_000
PROCESSES = 27
LONG_PROCESSES = 400
MOST_MEMORY = 64 << 10
"""KiB that a process may ever hold."""


class ReadOnly:
    """A mock: a server with an image and a network, and nothing else."""

    attempts: ClassVar[list[str]] = []

    def __init__(self, *_: Any) -> None:
        self.requests = 0

    def __enter__(self) -> ReadOnly:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def request(self, method: str, path: str, *, body: Any = None, **_: Any) -> HttpResponse:
        if "/." in path:
            self.attempts.append(f"{method} {path} leads elsewhere")
        if method != "GET":
            if body is not None and not isinstance(body, bytes):
                for _chunk in body:  # an upload that breaks off makes nothing
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
    """One line of JSON with an error that somebody thought of, and no more."""
    assert raw.count(b"\n") <= 1, case
    answer = json.loads(raw)
    assert answer.keys() == {"result", "error", "log"} and answer["error"], f"{case}: {answer}"
    assert answer["error"]["type"].startswith("Bosh::Clouds::"), case
    message = answer["error"]["message"]
    assert message and "Traceback" not in message and not message.startswith("internal error"), f"{case}: {message}"
    assert len(message) < 4000 and "sesame" not in message, case


def ask_all(directory: Path, monkeypatch: pytest.MonkeyPatch, start: int, count: int) -> None:
    monkeypatch.setattr(connection, "open_transport", ReadOnly)
    monkeypatch.setattr(ReadOnly, "attempts", [])
    for case, raw, config in cases(directory, start, count):
        check(case, cli.respond(raw, ["--config", str(config)], {}))
        assert ReadOnly.attempts == [], case


def test_rejects_invalid_requests_before_any_change(tmp_path, monkeypatch):
    ask_all(tmp_path, monkeypatch, 0, CASES)


@pytest.mark.long
def test_rejects_many_invalid_requests_before_any_change(tmp_path, monkeypatch):
    ask_all(tmp_path, monkeypatch, CASES, LONG_CASES - CASES - LONG_PROCESSES)


def test_a_valid_request_reaches_the_server(tmp_path, monkeypatch):
    """Else the tests above would pass with a CPI that refuses everything."""
    monkeypatch.setattr(connection, "open_transport", ReadOnly)
    monkeypatch.setattr(ReadOnly, "attempts", [])
    (tmp_path / "cpi.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    cli.respond(request("create_vm", GOOD["create_vm"]), ["--config", str(tmp_path / "cpi.json")], {})
    assert ReadOnly.attempts[0] == "POST /1.0/storage-pools/default/volumes/custom"


def run(raw: bytes, config: Path) -> tuple[int, bytes, int]:
    """Exit status, stdout and peak memory (KiB) of bin/cpi as a process."""
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
    done = subprocess.run(arguments, input=raw, capture_output=True, check=False)
    return done.returncode, done.stdout, int(re.findall(rb"VmHWM:\s*(\d+) kB", done.stderr)[-1])


class Handler(http.server.BaseHTTPRequestHandler):
    """The mock behind a socket."""

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        answer = ReadOnly().request(self.command, self.path.partition("?")[0], body=self.rfile.read(length))
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815  names of http.server

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def listening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The configuration's server is there."""
    monkeypatch.setattr(ReadOnly, "attempts", [])
    monkeypatch.setitem(CONFIG, "server", {**CONFIG["server"], "url": f"unix://{tmp_path}/socket"})
    with socketserver.UnixStreamServer(f"{tmp_path}/socket", Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield
        server.shutdown()
        thread.join()


def run_all(directory: Path, start: int, count: int) -> None:
    for case, raw, config in cases(directory, start, count):
        status, answer, _ = run(raw, config)
        assert status == 0, case
        check(case, answer)
        assert ReadOnly.attempts == [], case


@pytest.mark.usefixtures("listening")
def test_processes_reject_invalid_requests(tmp_path):
    run_all(tmp_path, LONG_CASES - LONG_PROCESSES, PROCESSES)


@pytest.mark.long
@pytest.mark.usefixtures("listening")
def test_many_processes_reject_invalid_requests(tmp_path):
    run_all(tmp_path, LONG_CASES - LONG_PROCESSES + PROCESSES, LONG_PROCESSES - PROCESSES)


def bomb(path: Path, *, member: str) -> None:
    """A gzip tar of 10 MB that unpacks to 10 GiB of zeros."""
    header = tarfile.TarInfo(member)
    header.size = 100 * (100 << 20)
    zeros = gzip.compress(bytes(100 << 20), 1)
    with path.open("wb") as file:
        file.write(gzip.compress(header.tobuf()))
        for _ in range(100):
            file.write(zeros)


@pytest.mark.parametrize("member", ["root.img", "something-else"])
def test_rejects_a_decompression_bomb(tmp_path, member):
    bomb(tmp_path / "image", member=member)
    (tmp_path / "cpi.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    properties = {
        key: value for key, value in STEMCELL.items() if key != "version"
    }  # so that the server is not asked first
    status, answer, peak = run(request("create_stemcell", [str(tmp_path / "image"), properties]), tmp_path / "cpi.json")
    assert status == 0
    check("bomb", answer)
    assert "root.img" in json.loads(answer)["error"]["message"]
    assert peak < MOST_MEMORY
