"""A UNIX socket in front of the socket of the server that stops at a request with a given number, or pauses."""

from __future__ import annotations

import re
import select
import socket
import threading
from collections.abc import Callable
from pathlib import Path

REQUEST = re.compile(rb"(GET|POST|PUT|PATCH|DELETE) (/[^? ]+)")
QUIET_SECONDS = 0.05
"""Seconds without data after which a request is complete."""


class Relay:
    """A context manager that relays all data until request number `stop`.

    That request is delivered, then `stopped` is called, and its response is discarded. `requests` lists method and path
    of the requests. `before` is called with this list before each request is delivered.
    """

    def __init__(
        self,
        path: Path,
        server: Path,
        *,
        stop: int = 0,
        stopped: Callable[[], object] = lambda: None,
        before: Callable[[list[str]], object] = lambda _: None,
    ) -> None:
        self.requests: list[str] = []
        self._server, self._stop, self._stopped, self._before = server, stop, stopped, before
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed by __exit__
            with client, socket.socket(socket.AF_UNIX) as server:
                server.connect(str(self._server))
                self._relay(client, server)

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        """Relay a connection. The client sends a request only after the previous response."""
        while True:
            is_last = 0 < self._stop == len(self.requests)
            senders, timeout = ([client], QUIET_SECONDS) if is_last else ([client, server], None)
            ready, _, _ = select.select(senders, [], [], timeout)
            if not ready:
                self._stopped()
                return
            for sender in ready:
                if not (data := sender.recv(1 << 16)):
                    return
                if sender is client and (request := REQUEST.match(data)):
                    self.requests.append(b" ".join(request.groups()).decode())
                    self._before(self.requests)
                (server if sender is client else client).sendall(data)
