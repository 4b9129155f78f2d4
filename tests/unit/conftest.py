"""What all unit tests share: no network, no sleeping, a clock of their own, and a server that follows a script."""

from __future__ import annotations

import io
import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from bosh_lxd_cpi.actions.context import CHANGE_RETRY, Context
from bosh_lxd_cpi.config.schema import Agent, Config, Server
from bosh_lxd_cpi.lxd.client import Client
from bosh_lxd_cpi.lxd.transport import HttpResponse
from bosh_lxd_cpi.runtime.clock import Clock, Deadline
from bosh_lxd_cpi.runtime.log import Log
from bosh_lxd_cpi.runtime.retry import RetryPolicy


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that needs connections asks for the fixture `network`; sockets in the file system are always fine."""
    if "network" in request.fixturenames:
        return
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX:
            pytest.fail(f"this test connects to {address}; let it ask for the fixture network")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(autouse=True)
def _no_sleep(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that needs time to pass asks for the fixture `real_time`; waiting for processes is always fine."""
    if "real_time" in request.fixturenames:
        return
    sleep = time.sleep

    def refuse(seconds: float) -> None:
        if sys._getframe(1).f_globals["__name__"] != "subprocess":
            pytest.fail(f"this test sleeps {seconds} s; let it use its own clock or ask for the fixture real_time")
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", refuse)


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """The command line takes these signals over and never gives them back: its process ends."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def network() -> None:
    """Ask for this to be allowed connections."""


@pytest.fixture
def real_time() -> None:
    """Ask for this to be allowed to sleep."""


class ManualClock(Clock):
    """Time passes by sleeping only; it is 2026-01-31T10:00:00Z. The randomness counts."""

    def __init__(self) -> None:
        self.now_is = 1769853600.0
        self.slept: list[float] = []
        self._drawn = 0

    def time(self) -> float:
        return self.now_is

    def monotonic(self) -> float:
        return self.now_is

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_is += seconds

    def random_hex(self, digits: int) -> str:
        self._drawn += 1
        return f"{self._drawn:0{digits}x}"


class Asked(NamedTuple):
    """A request as it reached the wire."""

    line: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    timeout: float


class Wire:
    """A mock of the transport, for what no real server can be made to do on demand.

    It plays a script of `METHOD path` and answer in order. Any other request fails the test, and so does a script that
    is not played to its end. An answer is a HttpResponse, an exception, or a function that is called.
    """

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.asked: list[Asked] = []
        self.rest: list[tuple[str, Any]] = []

    def script(self, *steps: tuple[str, Any]) -> None:
        self.rest += steps

    @property
    def requests(self) -> int:
        return len(self.asked)

    @property
    def lines(self) -> list[str]:
        return [asked.line for asked in self.asked]

    def request_to(self, line: str) -> Asked:
        """Return the only request of this line, such as `POST /1.0/instances`."""
        requests = [asked for asked in self.asked if asked.line == line]
        assert len(requests) == 1, f"{len(requests)} requests of {line} among {self.lines}"
        return requests[0]

    def last_request_to(self, line: str) -> Asked:
        """Return the last request of this line, for requests that are repeated."""
        return [asked for asked in self.asked if asked.line == line][-1]

    def request(self, method, path, *, query=None, headers=None, body=None, timeout=60.0) -> HttpResponse:
        if body is not None and not isinstance(body, bytes):
            body = b"".join(body)
        as_json = (headers or {}).get("Content-Type") == "application/json"
        line = f"{method} {path}"
        self.asked.append(
            Asked(line, dict(query or {}), dict(headers or {}), json.loads(body) if as_json else body, timeout)
        )
        if not self.rest:
            pytest.fail(f"{line} comes after the end of the script")
        wanted, answer = self.rest.pop(0)
        assert line == wanted
        if callable(answer) and not isinstance(answer, (BaseException, type)):
            answer = answer()
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Replies:
    """Answers as servers give them (facts: lxd-api 1 and 2)."""

    @staticmethod
    def sync(metadata: Any = None, *, etag: str = "") -> HttpResponse:
        body = {
            "type": "sync",
            "status": "Success",
            "status_code": 200,
            "operation": "",
            "error_code": 0,
            "error": "",
            "metadata": metadata,
        }
        return HttpResponse(200, {"ETag": etag} if etag else {}, json.dumps(body).encode())

    @staticmethod
    def asynchronous(operation: str = "/1.0/operations/op-1") -> HttpResponse:
        body = {
            "type": "async",
            "status": "Operation created",
            "status_code": 100,
            "operation": operation,
            "error_code": 0,
            "error": "",
            "metadata": {"id": operation.rsplit("/", 1)[-1]},
        }
        return HttpResponse(202, {"Location": operation}, json.dumps(body).encode())

    @staticmethod
    def error(text: str, code: int = 500, *, status: int | None = None) -> HttpResponse:
        body = {"type": "error", "error": text, "error_code": code, "metadata": None, "status": "", "status_code": 0}
        return HttpResponse(code if status is None else status, {}, json.dumps(body).encode() + b"\n\n")

    @classmethod
    def done(cls, **metadata: Any) -> HttpResponse:
        """An operation that went well."""
        return cls.sync(
            {"id": "op-1", "status": "Success", "status_code": 200, "metadata": metadata or None, "err": ""}
        )

    @classmethod
    def running(cls) -> HttpResponse:
        return cls.sync({"id": "op-1", "status": "Running", "status_code": 103, "metadata": None, "err": ""})

    @classmethod
    def failed(cls, text: str, code: int = 400, **more: Any) -> HttpResponse:
        return cls.sync({"id": "op-1", "status": "Failure", "status_code": code, "metadata": None, "err": text, **more})

    @classmethod
    def lie(cls, text: str = "context deadline exceeded") -> HttpResponse:
        """What a wait says under HTTP 200 when its time is over, or the operation failed."""
        return cls.error(text, 500, status=200)


@pytest.fixture
def replies() -> type[Replies]:
    return Replies


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def wire(clock: ManualClock) -> Iterator[Wire]:
    wire = Wire(clock)
    yield wire
    assert wire.rest == [], "the script was not played to its end"


@pytest.fixture
def log() -> Log:
    """Keeps what it is told; `log.stream.getvalue()`."""
    log = Log("test", level="debug", stream=io.StringIO())
    log.stream = log._stream  # type: ignore[attr-defined]
    return log


@pytest.fixture
def client(wire: Wire, clock: ManualClock, log: Log) -> Client:
    return Client(wire, project="prod", deadline=Deadline(clock, 300), log=log)


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
        return Context(
            config=config, client=call_client, clock=clock, log=log, director="d1r", change_retry=change_retry
        )

    return make
