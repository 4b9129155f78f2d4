"""The time of a response on a unix socket. tests/unit/test_transport.py has the limits for TLS and HTTP."""

from __future__ import annotations

import contextlib
import socket

import pytest

from bosh_lxd_cpi.lxd.bounded_sockets import UnixSocket


@pytest.fixture
def peers(network, tmp_path):
    """Return a connected UnixSocket and the socket of its server."""
    with socket.socket(socket.AF_UNIX) as listener, UnixSocket() as client:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        client.settimeout(10)
        client.connect(str(tmp_path / "socket"))
        with contextlib.closing(listener.accept()[0]) as server:
            yield client, server


def test_the_timeout_limits_a_whole_response(peers):
    client, server = peers
    for _ in range(2):  # each request has the whole time
        client.settimeout(0.1)
        client.sendall(b"request")
        with pytest.raises(TimeoutError):
            for _ in range(1_000_000):
                server.sendall(b"x")
                assert client.recv_into(bytearray(1)) == 1
