"""A TLS proxy in front of the socket of a test host that counts requests and injects a fault at a given request.

It listens on 127.0.0.1 of this machine, outside the namespaces of the host, and has its own certificate.
"""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.host import server
from tests.support.certificates import create_certificate

REFUSED_SECONDS = 0.5
"""Seconds for which connections are refused."""


class Fault(NamedTuple):
    """A fault at a request."""

    name: str
    delivered: bool = False
    """Whether the server receives the request."""
    response: str = "none"
    """The response: `none` (closed connection), `partial`, `timeout` (the connection stays open), `complete`,
    `error`, or `refused` (no process listens)."""
    status: int = 0
    message: str = ""
    """Message of an `error`."""
    reset: bool = False
    """Whether the connection is closed with RST instead of FIN."""
    restart: bool = False
    """Whether the daemon is killed after its response, and started again."""
    permanent: bool = False
    """Whether the fault continues until `disarm`."""
    signal: int = 0
    """The signal that the CPI process receives after the response of the server."""


NONE = Fault("none", delivered=True, response="complete")
FAULTS = {
    fault.name: fault
    for fault in (
        Fault("refused", response="refused"),
        Fault("cut before", reset=True),
        Fault("cut after", delivered=True),
        Fault("cut amid", delivered=True, response="partial"),
        Fault("stalled", delivered=True, response="timeout"),
        Fault("503", response="error", status=503, message="Daemon is starting up"),
        Fault("locked", response="error", status=500, message="Failed to begin transaction: database is locked"),
        Fault("412", response="error", status=412, message="Precondition failed"),
        Fault("500", response="error", status=500, message="unknown error of the server"),
        Fault("crash", delivered=True, restart=True),
        Fault("gone", delivered=True, permanent=True),  # later requests are not delivered
    )
}


class Exchange(NamedTuple):
    """A request to the proxy. The status is 0 if the server did not receive it or did not respond."""

    method: str
    path: str
    """Path with query."""
    status: int
    sent: int
    received: int
    """`sent` and `received` are sizes of the bodies in bytes."""

    @property
    def line(self) -> str:
        """Method and path, with placeholders for names. Repeated calls have equal lines."""
        line = f"{self.method} {self.path}"
        for pattern, name in NAMES:
            line = re.sub(pattern, name, line)
        return line


NAMES = (
    (r"/operations/[0-9a-f-]{36}", "/operations/OPERATION"),
    (r"vm-[0-9a-f-]{36}", "VM"),
    (r"vol-p-[0-9a-f-]{36}", "DISK"),
    (r"vol-e-[0-9a-f-]{36}", "EPHEMERAL"),
    (r"deleting-[0-9a-f-]{36}", "ANNOUNCEMENT"),
    (r"vol-c-[0-9a-f-]{36}", "DRIVE"),
    (r"snap-[0-9a-f-]{36}", "SNAPSHOT"),
    (r"img-[0-9a-f-]{36}", "STEMCELL"),
    (r"[0-9a-f]{64}", "IMAGE"),
    (r"[?&]project=[^&]*", ""),
    (r"^([^?&]*)&", r"\1?"),
    (r"\?timeout=\d+", ""),
    (r"filter=[^&]*", "filter=NAME"),
    (r"^(\w+) /1\.0/?", r"\1 /"),
)


class Proxy:
    """A context manager. `url` and `certificate` are for the CPI. `exchanges` are the requests since `arm`."""

    def __init__(self, directory: Path, host: server.Facts) -> None:
        """The certificate is written to `directory`."""
        self.exchanges: list[Exchange] = []
        self._host, self._backend = host, str(Path(host.server_cert).parent / "unix.socket")
        self._fault, self._fault_number, self._signal = NONE, 0, lambda: None
        key, certificate = directory / "proxy.key", directory / "proxy.crt"
        create_certificate(certificate, key, name="proxy", curve="prime256v1")
        self.certificate = certificate.read_text("utf-8")
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate, key)
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._port = 0

    def __enter__(self) -> Proxy:
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_listening()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    def settings(self) -> dict[str, str]:
        """Return the properties under `server` that connect a CPI to the proxy."""
        return {"url": self.url, "tls_server_cert": self.certificate}

    def arm(self, fault: Fault, number: int, *, then: Callable[[], object] = lambda: None) -> None:
        """Reset the count and inject the fault at a request, counted from 1. `then` sends the signal of the fault."""
        self.exchanges, self._fault, self._fault_number, self._signal = [], fault, number, then
        if number == 1:
            self._refuse()

    def disarm(self) -> None:
        """End the fault."""
        self._fault_number = 0
        self._listen()

    # -- listener ----------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        with self._lock:
            if self._listener:
                return
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self._port))
            listener.listen(64)
            self._port, self._listener = listener.getsockname()[1], listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _stop_listening(self) -> None:
        with self._lock:
            if self._listener:
                self._listener.shutdown(socket.SHUT_RDWR)
                self._listener.close()
                self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _refuse(self) -> bool:
        """Close the listener if the fault refuses the next request, and return whether it does."""
        if self._fault.response != "refused" or len(self.exchanges) + 1 != self._fault_number:
            return False
        self._stop_listening()
        threading.Timer(REFUSED_SECONDS, self._listen).start()
        return True

    # -- connections --------------------------------------------------------------------------------------------------

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, self._tls.wrap_socket(connection, server_side=True) as client:
                stream = client.makefile("rb")
                while request := _Request.read(stream):
                    if not self._exchange(client, request) or self._refuse():
                        return
        except OSError:
            pass  # the client or the fault closed the connection

    def _exchange(self, client: ssl.SSLSocket, request: _Request) -> bool:
        """Handle a request. Return whether the connection stays open."""
        number = len(self.exchanges) + 1
        affected = bool(self._fault_number) and (
            number >= self._fault_number if self._fault.permanent else number == self._fault_number
        )
        fault = self._fault if affected and self._fault.response != "refused" else NONE
        if fault.permanent and number > self._fault_number:
            fault = fault._replace(delivered=False)
        try:
            status, headers, body = self._forward(request) if fault.delivered else (0, [], b"")
        except OSError:
            status, headers, body, fault = 0, [], b"", Fault("daemon down")
        self.exchanges.append(Exchange(request.method, request.path, status, len(request.body), len(body)))
        if affected and fault.signal:
            self._signal()
        if fault.restart:
            self._stop_listening()
            server.restart(self._host.name, hard=True)
            self._listen()
        if fault.response == "error":
            document = {"type": "error", "error": fault.message, "error_code": fault.status, "metadata": None}
            status, headers, body = fault.status, [("Content-Type", "application/json")], json.dumps(document).encode()
        if fault.response == "timeout":
            client.recv(1)  # returns when the client closes the connection
        if fault.reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if fault.response in ("none", "timeout"):
            return False
        head = f"HTTP/1.1 {status} {http.client.responses.get(status, '')}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers) + f"Content-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + (body[: len(body) // 2] if fault.response == "partial" else body))
        return fault.response != "partial"

    def _forward(self, request: _Request) -> tuple[int, list[tuple[str, str]], bytes]:
        with socket.socket(socket.AF_UNIX) as daemon:
            daemon.connect(self._backend)
            daemon.sendall(request.head + request.body)
            response = http.client.HTTPResponse(daemon, method=request.method)
            try:
                response.begin()
                body = response.read()
            except http.client.HTTPException as failure:
                raise OSError("the daemon closed the connection") from failure
        hop_by_hop = ("content-length", "transfer-encoding", "connection")
        return (
            response.status,
            [(name, value) for name, value in response.getheaders() if name.lower() not in hop_by_hop],
            body,
        )


class _Request(NamedTuple):
    method: str
    path: str
    head: bytes
    body: bytes

    @classmethod
    def read(cls, stream: io.BufferedReader) -> _Request | None:
        """Return the next request, or None at the end of the stream. A body has a Content-Length."""
        lines = [stream.readline()]
        while lines[-1] not in (b"\r\n", b""):
            lines.append(stream.readline())
        if not lines[-1]:
            return None
        method, path, _ = lines[0].decode().split(" ", 2)
        lengths = [int(line.partition(b":")[2]) for line in lines if line.lower().startswith(b"content-length:")]
        return cls(method, path, b"".join(lines), stream.read(lengths[0]) if lengths else b"")
