"""Several addresses, over real unix sockets."""

from __future__ import annotations

import os
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.lxd.failover import MEMORY_SECONDS, FailoverTransport
from bosh_lxd_cpi.lxd.transport import ConnectionSettings
from bosh_lxd_cpi.runtime import lock_files
from bosh_lxd_cpi.runtime.clock import Clock

pytestmark = pytest.mark.usefixtures("network")


class Member:
    """A server at `directory/name` that responds with its name or an error, or ends the connection if `is_broken`."""

    def __init__(self, directory: Path, name: str) -> None:
        self.path, self.name, self.is_broken, self.error = directory / name, name, False, ""
        self.received: list[str] = []
        member = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                member.received.append(f"{self.command} {self.path}")
                if member.is_broken:
                    self.close_connection = True
                    return
                text = member.error or name
                self.send_response(500 if member.error else 200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            do_POST = do_GET  # noqa: N815  the name of http.server

            def log_message(self, *_: object) -> None:
                pass

        self._server = socketserver.ThreadingUnixStreamServer(str(self.path), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.path.unlink(missing_ok=True)


@pytest.fixture
def members(tmp_path: Path) -> Iterator[dict[str, Member]]:
    members = {name: Member(tmp_path, name) for name in ("a", "b", "c")}
    yield members
    for member in members.values():
        member.stop()


@pytest.fixture
def call(tmp_path: Path, log) -> Iterator[Callable[[], FailoverTransport]]:
    """Return a function that returns the transport of a new call."""
    transports = []

    def call() -> FailoverTransport:
        addresses = [ConnectionSettings(url=f"unix://{tmp_path}/{name}") for name in "abc"]
        transport = FailoverTransport(addresses, directory=str(tmp_path / "locks"), log=log, clock=Clock())
        transports.append(transport)
        return transport.__enter__()

    yield call
    for transport in transports:
        transport.__exit__(None, None, None)


def answer(transport: FailoverTransport, method: str = "GET", body: bytes | None = None) -> str:
    return transport.request(method, "/1.0", body=body).body.decode()


def mark(tmp_path: Path) -> Path:
    """Return the path of the only file of a failed address."""
    [name] = lock_files.names(str(tmp_path / "locks"), "failed-")
    return tmp_path / "locks" / name


def test_uses_the_first_address(members, call, tmp_path):
    transport = call()
    assert [answer(transport), answer(transport)] == ["a", "a"]
    assert transport.requests == 2 and not (tmp_path / "locks").exists()


def test_uses_the_next_address_if_one_accepts_no_connection(members, call, log):
    members["a"].stop()
    transport = call()
    assert [answer(transport), answer(transport, "POST", b"x")] == ["b", "b"]
    assert transport.requests == 3
    assert "a: No such file or directory; the next address is" in log.stream.getvalue()


def test_other_calls_try_a_failed_address_last_for_a_minute(members, call, tmp_path, log):
    members["a"].stop()
    answer(call())
    second = call()
    assert (answer(second), second.requests) == ("b", 1) and "the other addresses come first" in log.stream.getvalue()
    before = mark(tmp_path).stat().st_mtime - MEMORY_SECONDS
    os.utime(mark(tmp_path), (before, before))
    third = call()
    assert (answer(third), third.requests) == ("b", 2)
    for name in "bc":
        members[name].stop()
    members["a"] = Member(tmp_path, "a")
    assert answer(call()) == "a", "a failed address is better than none"


def test_ignores_a_mark_from_the_future(members, call, tmp_path):
    members["a"].stop()
    answer(call())
    after = mark(tmp_path).stat().st_mtime + 3600
    os.utime(mark(tmp_path), (after, after))
    transport = call()
    assert (answer(transport), transport.requests) == ("b", 2)


def test_next_request_goes_elsewhere_after_a_broken_connection(members, call):
    transport = call()
    assert answer(transport) == "a"
    members["a"].is_broken = True
    with pytest.raises(errors.NoResponse, match="a did not respond to POST"):
        answer(transport, "POST", b"x")
    assert answer(transport) == "b"
    assert members["a"].received[-1] == "POST /1.0" and members["b"].received == ["GET /1.0"]


NO_LEADER = "failed to create dqlite connection: no available dqlite leader server found"
"""Of LXD 5.0, when the member does not reach the others. Incus has cowsql instead of dqlite."""


@pytest.mark.parametrize(
    "error",
    [NO_LEADER, NO_LEADER.replace("dqlite", "cowsql"), "Failed to begin transaction: context deadline exceeded"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_uses_the_next_address_if_a_member_is_isolated(members, call, tmp_path, error, method):
    members["a"].error = error
    assert answer(call(), method, b"x" if method == "POST" else None) == "b" and mark(tmp_path)


def test_returns_the_error_if_all_members_are_isolated(members, call):
    for member in members.values():
        member.error = NO_LEADER
    response = call().request("GET", "/1.0")
    assert (response.status, response.body) == (500, NO_LEADER.encode())


def test_returns_other_errors_of_the_first_address(members, call, tmp_path):
    members["a"].error = "database is locked"
    assert answer(call()) == "database is locked" and not (tmp_path / "locks").exists()


def test_does_not_send_a_streamed_body_again(members, call):
    members["a"].error = NO_LEADER
    headers = {"Content-Length": "1"}
    assert call().request("POST", "/1.0", headers=headers, body=iter([b"x"])).status == 500
    assert members["b"].received == []


def test_names_all_addresses_if_none_accepts_a_connection(members, call):
    for member in members.values():
        member.stop()
    with pytest.raises(errors.Unreachable, match=r"/a: .*; .*/b: .*; .*/c: ") as exc_info:
        answer(call())
    assert exc_info.value.code == "unreachable" and exc_info.value.fields["url"].count("unix://") == 3


def test_works_without_a_lock_directory(members, call, tmp_path):
    (tmp_path / "locks").touch()
    members["a"].stop()
    assert answer(call()) == "b"
