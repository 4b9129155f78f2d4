"""Socket options that end a connection when the server's machine is unreachable.

A server may be silent for minutes while it works on a request (`client.STORAGE_SECONDS`). Its machine still
acknowledges packets. Without these options, a failure of the machine or of the network is detected at the deadline
only.

TCP_USER_TIMEOUT is not among them. It also ends an upload when the server does not read for that time, for instance
because its disk is slow (measured on Linux 6.18). The limit for that is `client.UPLOAD_SECONDS`.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

GONE_SECONDS = 60
"""The longest time without a packet from the server's machine."""
PROBES = 4


def socket_options() -> Iterator[tuple[int, int, int]]:
    """Yield level, name and value of each option that this system has."""
    yield socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
    yield socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1
    pause = GONE_SECONDS // PROBES
    values = {
        "TCP_KEEPIDLE": pause,
        "TCP_KEEPALIVE": pause,  # the name of TCP_KEEPIDLE on macOS
        "TCP_KEEPINTVL": pause,
        "TCP_KEEPCNT": PROBES - 1,
    }
    for name, value in values.items():
        if hasattr(socket, name):
            yield socket.IPPROTO_TCP, getattr(socket, name), value
