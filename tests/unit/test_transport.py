"""One request over a real TLS connection, or a real unix socket, to a server that behaves as each test wants."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from bosh_lxd_cpi import __version__, errors
from bosh_lxd_cpi.actions.connection import connection_settings
from bosh_lxd_cpi.config import schema
from bosh_lxd_cpi.lxd import bounded_sockets, keepalive, transport
from bosh_lxd_cpi.lxd.transport import ConnectionSettings, HttpTransport
from tests.support.certificates import create_certificate

Behaviour = Callable[[ssl.SSLSocket], object]
OK = b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: "e1"\r\n\r\n{}'


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with certificates and keys: of the server, a client, somebody else, and a key with a passphrase."""
    directory = tmp_path_factory.mktemp("pki")
    for name in ("server", "client", "other"):
        files = directory / f"{name}.crt", directory / f"{name}.key"
        create_certificate(*files, name=name, curve="prime256v1", hosts="IP:127.0.0.1,IP:::1")
    encrypt = ["openssl", "ec", "-in", "client.key", "-aes256", "-passout", "pass:sesame", "-out", "locked.key"]
    subprocess.run(encrypt, cwd=directory, check=True, capture_output=True)
    return directory


class Server:
    """Accepts connections one after the other and treats each as told; remembers what it read."""

    def __init__(self, pki: Path, host: str = "127.0.0.1") -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pki / "server.crt", pki / "server.key")
        self._context.verify_mode = ssl.CERT_OPTIONAL
        self._context.load_verify_locations(pki / "client.crt")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self.port = self._listener.getsockname()[1]
        self.behaviour: Behaviour = self.answer
        self.raw: Callable[[socket.socket], object] | None = None
        self.requests: list[bytes] = []
        self.certificates: list[bytes | None] = []
        self.connections = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            peer.settimeout(10)
            with contextlib.suppress(OSError), peer:
                if self.raw:
                    self.raw(peer)
                else:
                    with self._context.wrap_socket(peer, server_side=True) as tls:
                        self.certificates.append(tls.getpeercert(binary_form=True))
                        while self.read(tls) and self.behaviour(tls):
                            pass

    def read(self, tls: ssl.SSLSocket) -> bool:
        """Read one request whose body ends with a full stop or that has none."""
        data = b""
        while b"\r\n\r\n" not in data or (b"Content-Length" in data and not data.endswith(b".")):
            piece = tls.recv(65536)
            if not piece:
                return False
            data += piece
        self.requests.append(data)
        return True

    @staticmethod
    def answer(tls: ssl.SSLSocket) -> bool:
        tls.sendall(OK)
        return True

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(15)


@pytest.fixture
def server(network: None, pki: Path) -> Iterator[Server]:
    server = Server(pki)
    yield server
    server.close()


@pytest.fixture
def reach(pki: Path, server: Server) -> Iterator[Callable[..., HttpTransport]]:
    """A transport to the server; named arguments are server properties."""
    opened = contextlib.ExitStack()

    def reach(**properties: Any) -> HttpTransport:
        given = {
            "url": f"https://127.0.0.1:{server.port}",
            "tls_client_cert": str(pki / "client.crt"),
            "tls_client_key": str(pki / "client.key"),
            "tls_server_cert": str(pki / "server.crt"),
            **properties,
        }
        return opened.enter_context(HttpTransport(connection_settings(schema.Server(**given), given["url"])))

    with opened:
        yield reach


def der(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text(encoding="utf-8"))


def test_sends_a_request_and_returns_the_response(server, reach, pki):
    carrier = reach()
    answer = carrier.request(
        "POST", "/1.0/x", query={"project": "a b", "target": "@g"}, headers={"If-Match": "e"}, body=b"body."
    )
    assert (answer.status, answer.headers["etag"], answer.body) == (200, '"e1"', b"{}")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /1.0/x?project=a+b&target=%40g HTTP/1.1"
    assert {f"User-Agent: bosh-lxd-cpi/{__version__}", "If-Match: e", "Content-Length: 5"} <= set(lines)
    assert body == b"body."
    assert server.certificates == [der(pki / "client.crt")]


def test_keeps_the_connection(server, reach):
    carrier = reach()
    for _ in range(3):
        carrier.request("GET", "/1.0")
    assert (carrier.requests, len(server.requests), server.connections) == (3, 3, 1)


def test_replaces_a_connection_that_the_server_closed(server, reach):
    server.behaviour = lambda tls: tls.sendall(OK)
    carrier = reach()
    assert carrier.request("POST", "/1.0", body=b".").status == 200
    while True:  # until the end of the first connection has arrived
        with contextlib.suppress(errors.NoResponse):
            assert carrier.request("GET", "/1.0").status == 200
            break
    assert server.connections >= 2


@pytest.mark.parametrize("status", [301, 404, 500])
def test_returns_every_status_and_follows_no_redirect(server, reach, status):
    server.behaviour = lambda tls: tls.sendall(
        b"HTTP/1.1 %d X\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n" % status
    )
    assert reach().request("GET", "/1.0").status == status
    assert len(server.requests) == 1


def test_sends_a_stream_with_content_length(server, reach):
    reach().request("POST", "/1.0/images", headers={"Content-Length": "5"}, body=iter([b"ab", b"cd."]))
    assert server.requests[0].endswith(b"\r\n\r\nabcd.")
    assert b"chunked" not in server.requests[0]


def test_raises_the_exception_of_a_stream(reach):
    def broken() -> Iterator[bytes]:
        yield b"ab"
        raise errors.CloudError("damaged")

    with pytest.raises(errors.CloudError, match=r"^damaged$"):
        reach().request("POST", "/1.0/images", headers={"Content-Length": "5"}, body=broken())


def test_reads_the_response_to_an_unfinished_upload(server, reach):
    """The server does what net/http of Go does: it stops reading, responds, and closes in two steps."""
    half_closed, sending = threading.Event(), threading.Event()

    def refuse(peer: socket.socket) -> None:
        tls = server._context.wrap_socket(peer, server_side=True)
        tls.recv(65536)
        tls.sendall(b"HTTP/1.1 500 X\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfull")
        tls.shutdown(socket.SHUT_WR)
        half_closed.set()
        sending.wait(10)
        os.close(tls.detach())

    def endless() -> Iterator[bytes]:
        yield b"first"
        half_closed.wait(10)
        yield b"second"
        sending.set()
        while True:
            yield b"x" * 65536

    server.raw = refuse
    response = reach().request("POST", "/1.0/images", headers={"Content-Length": str(1 << 40)}, body=endless())
    assert (response.status, response.body) == (500, b"full")


def reset(tls: ssl.SSLSocket) -> None:
    """What the kernel of a killed daemon does with unread data."""
    tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(tls.detach())


def garbage(tls: ssl.SSLSocket) -> None:
    descriptor = tls.detach()
    os.write(descriptor, b"\x17\x03\x03\x00\x20" + b"x" * 32)
    os.close(descriptor)


@pytest.mark.parametrize(
    "behaviour",
    [
        lambda tls: os.close(tls.detach()),
        lambda tls: tls.unwrap() and None,
        reset,
        garbage,
        lambda tls: tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"),
        lambda tls: tls.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        lambda tls: tls.sendall(b"nonsense\r\n\r\n"),
    ],
)
def test_a_broken_connection_is_no_response(server, reach, behaviour):
    """Never Unreachable, which would let a POST be sent twice."""
    server.behaviour = behaviour
    with pytest.raises(errors.NoResponse, match=r"did not respond to POST /1.0/instances: "):
        reach().request("POST", "/1.0/instances", body=b".")


def test_a_read_timeout_is_no_response(server, reach):
    done = threading.Event()
    server.behaviour = lambda tls: done.wait(10) and None
    with pytest.raises(errors.NoResponse, match="timed out"):
        reach().request("GET", "/1.0", timeout=0.2)
    done.set()


def test_a_refused_connection_is_unreachable(reach, server):
    carrier = reach()
    server.close()
    with pytest.raises(
        errors.Unreachable, match=r"^cannot connect to https://127.0.0.1:.*Connection refused"
    ) as raised:
        carrier.request("GET", "/1.0")
    assert raised.value.code == "unreachable"


def test_an_unknown_host_is_unreachable(network, reach):
    with pytest.raises(errors.Unreachable, match=r"cannot connect to https://no-such-host.invalid:8443: "):
        reach(url="https://no-such-host.invalid:8443").request("GET", "/1.0", timeout=5)


def test_plain_http_is_a_failed_handshake(server, reach):
    server.raw = lambda peer: peer.recv(100) and peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(errors.TlsHandshakeFailed, match=r"^no TLS connection to https://127.0.0.1") as raised:
        reach().request("GET", "/1.0")
    assert raised.value.code == "tls"


@pytest.mark.parametrize(
    "response, error",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n" + b"x" * 2000, errors.UnexpectedResponse),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 2000, errors.UnexpectedResponse),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 200, errors.UnexpectedResponse),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 50 + b"B" * 2000, errors.UnexpectedResponse),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", errors.NoResponse),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", errors.NoResponse),
    ],
    ids=["content length", "chunk line", "informational", "header", "chunk size", "invalid chunk"],
)
def test_limits_what_it_reads(server, reach, monkeypatch, response, error):
    monkeypatch.setattr(bounded_sockets, "MAX_RESPONSE_BYTES", 1000)
    server.behaviour = lambda tls: tls.sendall(response) or False
    with pytest.raises(error) as raised:
        reach().request("GET", "/1.0")
    assert "GET /1.0" in raised.value.brief


SLOW = {
    "status line": (b"", b"H"),
    "header": (b"HTTP/1.1 200 OK\r\nA: ", b"b"),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n", b"b"),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "informational": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.parametrize("start, piece", SLOW.values(), ids=SLOW)
def test_timeout_limits_a_slow_response(server, reach, start, piece):
    """The timeout of a socket alone begins again with every piece."""
    is_done = threading.Event()

    def respond(tls: ssl.SSLSocket) -> None:
        tls.sendall(start)
        for _ in range(300):
            tls.sendall(piece)
            is_done.wait(0.02)

    server.behaviour = respond
    with pytest.raises(errors.NoResponse, match=r"did not respond to GET /1.0: .*timed out"):
        reach().request("GET", "/1.0", timeout=0.5)
    is_done.set()


def test_each_response_has_its_own_time_and_size(server, reach, monkeypatch):
    monkeypatch.setattr(bounded_sockets, "MAX_RESPONSE_BYTES", 100)
    carrier = reach()
    for _ in range(5):
        assert carrier.request("GET", "/1.0", timeout=10).status == 200
    assert server.connections == 1


def test_does_not_decode_a_compressed_body(server, reach):
    response = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"
    server.behaviour = lambda tls: tls.sendall(response) or True
    assert reach().request("GET", "/1.0").body == b"{}"
    assert b"Accept-Encoding: identity" in server.requests[0]


def test_rejects_a_host_in_the_common_name_only(network, reach, tmp_path):
    create_certificate(tmp_path / "server.crt", tmp_path / "server.key", name="localhost", curve="prime256v1")
    (tmp_path / "client.crt").write_bytes((tmp_path / "server.crt").read_bytes())
    server = Server(tmp_path)
    with contextlib.closing(server), pytest.raises(errors.CertificateNotVerified):
        reach(
            url=f"https://localhost:{server.port}", tls_server_cert="", tls_ca_cert=str(tmp_path / "server.crt")
        ).request("GET", "/1.0")


def test_requires_tls_1_2(reach):
    assert reach()._pool.conn_kw["ssl_context"].minimum_version is ssl.TLSVersion.TLSv1_2


def test_notices_when_the_machine_of_the_server_is_gone(reach):
    assert reach()._pool.conn_kw["socket_options"] == list(keepalive.socket_options())


# -- whom we trust -----------------------------------------------------------------------------------------------------


def sha256(pki: Path, name: str = "server") -> str:
    import hashlib

    return hashlib.sha256(der(pki / f"{name}.crt")).hexdigest()


@pytest.mark.parametrize("form", ["path", "PEM", "hex", "upper case with colons"])
def test_accepts_every_form_of_a_pin(server, reach, pki, form):
    text = (pki / "server.crt").read_text(encoding="utf-8")
    digest = sha256(pki)
    colons = ":".join(digest[at : at + 2] for at in range(0, 64, 2)).upper()
    pin = {"path": str(pki / "server.crt"), "PEM": text, "hex": digest, "upper case with colons": colons}[form]
    assert reach(tls_server_cert=pin).request("GET", "/1.0").status == 200


def test_pins_the_first_certificate_of_a_chain(pki):
    first, second = ((pki / f"{name}.crt").read_text(encoding="utf-8") for name in ("server", "other"))
    assert transport.fingerprint(f"Bag Attributes\n  friendlyName: x\n{first}\n{second}") == sha256(pki)


def test_sends_nothing_to_a_server_with_another_certificate(server, reach, pki):
    with pytest.raises(
        errors.CertificateMismatch, match=r"^the certificate of https://127.0.0.1:.* is not the pinned one$"
    ) as raised:
        reach(tls_server_cert=sha256(pki, "other")).request("GET", "/1.0")
    assert raised.value.code == "certificate_mismatch" and sha256(pki) in raised.value.detail
    assert server.requests == []


@pytest.mark.parametrize("pin", ["nonsense\n-----BEGIN", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"])
def test_rejects_an_invalid_pin(pin):
    with pytest.raises(errors.ConfigError, match="the server certificate is neither a PEM certificate nor a sha256"):
        transport.fingerprint(pin)


@pytest.mark.parametrize("pin", ["ab" * 31, "ab" * 33, "zz" * 32, "/no/such/file"])
def test_reads_a_pin_from_a_file(pin, pki):
    with pytest.raises(errors.ConfigError, match="neither PEM nor the path of a PEM file"):
        connection_settings(
            schema.Server(
                url="https://lxd",
                tls_server_cert=pin,
                tls_client_cert=str(pki / "client.crt"),
                tls_client_key=str(pki / "client.key"),
            ),
            "https://lxd",
        )


def test_sends_nothing_to_an_unverified_server(server, reach):
    with pytest.raises(errors.CertificateNotVerified, match=r"cannot be verified: .*self-signed certificate") as raised:
        reach(tls_server_cert="").request("GET", "/1.0")
    assert raised.value.code == "certificate_not_verified"
    assert server.requests == []


def test_verifies_the_certificate_with_a_ca(server, reach, pki):
    assert reach(tls_server_cert="", tls_ca_cert=str(pki / "server.crt")).request("GET", "/1.0").status == 200


def test_verifies_the_host_name(server, reach, pki):
    with pytest.raises(errors.CertificateNotVerified, match=r"cannot be verified: .*Hostname mismatch"):
        reach(url=f"https://localhost:{server.port}", tls_server_cert="", tls_ca_cert=str(pki / "server.crt")).request(
            "GET", "/1.0"
        )


def test_can_skip_verification(server, reach):
    assert reach(tls_server_cert="", insecure_skip_verify=True).request("GET", "/1.0").status == 200


def test_checks_the_pin_without_verification(server, reach, pki):
    with pytest.raises(errors.CertificateMismatch):
        reach(tls_server_cert=sha256(pki, "other"), insecure_skip_verify=True).request("GET", "/1.0")


def test_accepts_ipv6_addresses_in_brackets(network, pki, reach):
    try:
        server = Server(pki, "::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    for trust in {}, {"tls_server_cert": "", "tls_ca_cert": str(pki / "server.crt")}:
        carrier = reach(url=f"https://[::1]:{server.port}", **trust)
        assert carrier.request("GET", "/1.0").status == 200
        carrier.__exit__(None, None, None)
    server.close()


@pytest.mark.parametrize(
    "url", ["https://", "https://host:port", "https://host:99999", "https:// host", "https://lxd..example:8443"]
)
def test_rejects_an_invalid_url(reach, url):
    with pytest.raises(errors.ConfigError, match="is not a URL of a server"):
        reach(url=url)


def test_default_port_is_8443(reach):
    assert reach(url="https://lxd")._pool.port == 8443


@pytest.mark.parametrize(
    "properties",
    [
        {"tls_client_cert": "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"},
        {"tls_client_key": "-----BEGIN nothing"},
    ],
)
def test_rejects_an_invalid_client_certificate(reach, properties):
    with pytest.raises(errors.ConfigError, match="the client certificate and the client key cannot be used"):
        reach(**properties)


def test_rejects_the_key_of_another_certificate(reach, pki):
    with pytest.raises(errors.ConfigError, match="KEY_VALUES_MISMATCH"):
        reach(tls_client_key=str(pki / "other.key"))


def test_rejects_a_key_with_passphrase(reach, pki):
    with pytest.raises(errors.ConfigError, match="the client certificate and the client key cannot be used"):
        reach(tls_client_key=str(pki / "locked.key"))


def test_rejects_an_invalid_ca(reach):
    with pytest.raises(errors.ConfigError, match="the CA certificate is not a PEM certificate"):
        reach(tls_server_cert="", tls_ca_cert="-----BEGIN nothing")


def test_keeps_the_key_out_of_the_file_system(reach, monkeypatch, tmp_path):
    seen = []
    load = ssl.SSLContext.load_cert_chain
    monkeypatch.setattr(
        ssl.SSLContext,
        "load_cert_chain",
        lambda self, path, **more: seen.append((path, str(Path(path).readlink()))) or load(self, path, **more),
    )
    reach()
    assert [(path.startswith("/proc/self/fd/"), link.startswith("/memfd:")) for path, link in seen] == [(True, True)]


def test_key_file_is_private_without_memfd(reach, monkeypatch, tmp_path):
    seen = []
    load = ssl.SSLContext.load_cert_chain
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(
        ssl.SSLContext,
        "load_cert_chain",
        lambda self, path, **more: seen.append((path, Path(path).stat().st_mode & 0o777)) or load(self, path, **more),
    )
    reach()
    [(path, mode)] = seen
    assert mode == 0o600 and path.startswith(str(tmp_path)) and not Path(path).exists()


# -- the unix socket ---------------------------------------------------------------------------------------------------


@pytest.fixture
def local(tmp_path: Path) -> Iterator[tuple[HttpTransport, socket.socket]]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "unix.socket"))
    listener.listen()
    listener.settimeout(10)
    carrier = HttpTransport(ConnectionSettings(url=f"unix://{tmp_path}/unix.socket"))
    yield carrier, listener
    carrier.__exit__(None, None, None)
    listener.close()


def test_sends_requests_over_a_unix_socket(local):
    carrier, listener = local
    heads = []

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            for _ in range(2):
                heads.append(peer.recv(65536))
                peer.sendall(OK)

    thread = threading.Thread(target=serve)
    thread.start()
    assert [carrier.request("GET", "/1.0", query={"a": "b"}).body for _ in range(2)] == [b"{}", b"{}"]
    thread.join(10)
    assert [head.partition(b"\r\n")[0] for head in heads] == [b"GET /1.0?a=b HTTP/1.1"] * 2


def test_a_unix_socket_timeout_is_no_response(local):
    carrier, _ = local
    with pytest.raises(errors.NoResponse, match="timed out"):
        carrier.request("GET", "/1.0", timeout=0.2)


@pytest.mark.parametrize("path, reason", [("missing", "No such file or directory"), ("x" * 200, "too long")])
def test_a_missing_unix_socket_is_unreachable(tmp_path, path, reason):
    with pytest.raises(errors.Unreachable, match=f"cannot connect to unix://.*{reason}"):
        HttpTransport(ConnectionSettings(url=f"unix://{tmp_path}/{path}")).request("GET", "/1.0")


class Responder(socketserver.StreamRequestHandler):
    """Responds to every request of a connection."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while self.rfile.readline():
                while self.rfile.readline().strip():
                    pass
                self.wfile.write(OK)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sockets that nobody closes
def test_a_signal_at_any_point_leaves_it_usable(tmp_path):
    """As a signal handler does, a trace function raises an exception in a function of urllib3 or of its queue."""
    files = ("connectionpool.py", "queue.py", "threading.py", "connection_slot.py")

    def requests(point: int) -> None:
        """Make a request that is interrupted at this point, and another one."""
        carrier, events = HttpTransport(ConnectionSettings(url=f"unix://{tmp_path}/socket")), 0

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal events
            if frame.f_code.co_filename.endswith(files):
                events += 1
                if events == point:
                    raise errors.Interrupted("SIGTERM")
            return trace

        sys.settrace(trace)
        try:
            carrier.request("GET", "/1.0")
            last.append(point)
        except errors.Interrupted:
            pass
        finally:
            sys.settrace(None)
        assert carrier.request("GET", "/1.0").status == 200
        finished.append(point)

    last: list[int] = []
    finished: list[int] = []
    with socketserver.ThreadingUnixStreamServer(str(tmp_path / "socket"), Responder) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for point in itertools.count(1):
            thread = threading.Thread(target=requests, args=[point], daemon=True)
            thread.start()
            thread.join(10)
            assert finished[-1:] == [point], "the second request did not finish"
            if last:
                break
        server.shutdown()
    assert len(finished) > 50
