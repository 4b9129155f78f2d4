"""The socket options of a connection to a server."""

from __future__ import annotations

import socket

from bosh_lxd_cpi.lxd.keepalive import GONE_SECONDS, socket_options


def test_a_connection_has_the_options():
    with socket.socket() as connection:
        for level, name, value in socket_options():
            connection.setsockopt(level, name, value)
            assert connection.getsockopt(level, name) == value


def test_probes_end_when_the_machine_counts_as_gone():
    options = {name: value for _, name, value in socket_options()}
    probes = options[socket.TCP_KEEPCNT] * options[socket.TCP_KEEPINTVL]
    assert options[socket.TCP_KEEPIDLE] + probes == GONE_SECONDS


def test_the_kernel_does_not_end_an_upload_that_stalls():
    assert socket.TCP_USER_TIMEOUT not in {name for _, name, _ in socket_options()}
