"""Fixtures of the unit tests: no network, no sleeping, a manual clock and a scripted transport."""

from __future__ import annotations

import io
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from bosh_lxd_cpi.actions.context import CHANGE_RETRY, Context
from bosh_lxd_cpi.config.schema import Agent, Config, Server
from bosh_lxd_cpi.lxd.client import Client
from bosh_lxd_cpi.runtime.clock import Deadline
from bosh_lxd_cpi.runtime.log import Log
from bosh_lxd_cpi.runtime.retry import RetryPolicy
from tests.support import responses as response_builders
from tests.support.clock import ManualClock
from tests.support.wire import Wire


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forbid connections, except over UNIX sockets. A test that needs them requests the fixture `network`."""
    if "network" in request.fixturenames:
        return
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX:
            pytest.fail(f"this test connects to {address}; to allow that, request the fixture network")
        connect(self, address)  # type: ignore[arg-type]  # the type of addresses is private

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(autouse=True)
def _no_sleep(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forbid sleeping, except in subprocess. A test that needs real time requests the fixture `real_time`."""
    if "real_time" in request.fixturenames:
        return
    sleep = time.sleep

    def refuse(seconds: float) -> None:
        if sys._getframe(1).f_globals["__name__"] != "subprocess":
            pytest.fail(f"this test sleeps {seconds} s; use ManualClock or request the fixture real_time")
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", refuse)


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """Restore the signal handlers: the command line replaces them and relies on the end of the process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def network() -> None:
    """Allow connections."""


@pytest.fixture
def real_time() -> None:
    """Allow sleeping."""


@pytest.fixture
def responses() -> ModuleType:
    """The builders of server responses."""
    return response_builders


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def wire(clock: ManualClock) -> Iterator[Wire]:
    wire = Wire(clock)
    yield wire
    assert wire.remaining == [], "steps of the script remain"


@pytest.fixture
def log() -> Log:
    """A log that writes to memory; read it with `log.stream.getvalue()`."""
    log = Log("test", level="debug", stream=io.StringIO())
    log.stream = log._stream  # type: ignore[attr-defined]  # for tests only
    return log


@pytest.fixture
def client(wire: Wire, clock: ManualClock, log: Log) -> Client:
    """A client that the server has shown its project: a 404 causes no further request."""
    client = Client(wire, project="prod", deadline=Deadline(clock, 300), log=log)
    client.project_is_visible = True
    return client


DEFAULT_RETRY = RetryPolicy()


@pytest.fixture
def context(wire: Wire, client: Client, clock: ManualClock, log: Log, tmp_path: Any) -> Callable[..., Context]:
    """Return a function that creates the context of a call. Its arguments are properties of `server`."""

    def make(*, change_retry: RetryPolicy = CHANGE_RETRY, retry: RetryPolicy = DEFAULT_RETRY, **server: Any) -> Context:
        config = Config(
            server=Server(**{"url": "https://lxd:8443", "network_name": "lxdbr0", **server}),
            agent=Agent(mbus="nats://nats:pass@10.0.0.6:4222"),
        )
        config = config._replace(
            throttle_config=config.throttle_config._replace(path=str(tmp_path / "locks")),
            agent_config=config.agent_config._replace(filestore_path=str(tmp_path)),
        )
        call_client = Client(wire, project=client.project, deadline=client.deadline, log=log, retry=retry)
        call_client.project_is_visible = True
        return Context(
            config=config, client=call_client, clock=clock, log=log, director="d1r", change_retry=change_retry
        )

    return make
