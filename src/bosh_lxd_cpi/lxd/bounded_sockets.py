"""Sockets that bound a whole response in time and size.

The timeout of an ordinary socket starts again with every byte, and http.client reads lines and informational responses
without end. So a server that sends a byte every few seconds could delay a call far beyond its deadline.
"""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any

MAX_RESPONSE_BYTES = 64 << 20
"""Limits the memory of a call. Lists of servers that are in use stay far below."""


class ResponseTooLarge(Exception):
    """A response has more than MAX_RESPONSE_BYTES with its headers. Not an OSError: urllib3 would wrap it."""


class _BoundedSocket(socket.socket):
    """The first read after a request starts the time of its response, which is the socket's timeout at that moment."""

    _end = 0.0
    _received = 0

    def sendall(self, *arguments: Any) -> None:
        self._end = 0.0
        super().sendall(*arguments)

    def recv_into(self, *arguments: Any) -> int:
        """Return the number of bytes. Raises TimeoutError and ResponseTooLarge."""
        if not self._end:
            self._end, self._received = time.monotonic() + (self.gettimeout() or 0.0), 0
        remaining = self._end - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("timed out")
        self.settimeout(remaining)
        number = super().recv_into(*arguments)
        self._received += number
        if self._received > MAX_RESPONSE_BYTES:
            raise ResponseTooLarge
        return number


class TlsSocket(_BoundedSocket, ssl.SSLSocket):
    """For `SSLContext.sslsocket_class`."""


class UnixSocket(_BoundedSocket):
    """A unix socket."""

    def __init__(self) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
