"""A mock transport that returns scripted responses."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from bosh_lxd_cpi.lxd.transport import HttpResponse
from tests.support.clock import ManualClock


class RecordedRequest(NamedTuple):
    """A request as the transport received it. `line` is the method and the path; `timeout` is in seconds."""

    line: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    timeout: float


class Wire:
    """A mock of the transport for responses that a real server does not return on demand.

    The script is a list of (`METHOD path`, response) steps. A request that is not the next step fails the test. The
    fixture `wire` also fails the test if steps remain at its end. A response is an HttpResponse, an exception to raise,
    or a function that returns one of these.
    """

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.recorded: list[RecordedRequest] = []
        self.remaining: list[tuple[str, Any]] = []

    def script(self, *steps: tuple[str, Any]) -> None:
        """Append steps to the script."""
        self.remaining += steps

    @property
    def requests(self) -> int:
        """The number of requests, as the real transport counts them."""
        return len(self.recorded)

    @property
    def lines(self) -> list[str]:
        """The `METHOD path` of every request, in order."""
        return [request.line for request in self.recorded]

    def request_to(self, line: str) -> RecordedRequest:
        """Return the only request with this `METHOD path`. Fails the test if there is none or more than one."""
        requests = self.requests_to(line)
        if len(requests) != 1:
            listing = "".join(f"\n  {each}" for each in self.lines) or " none"
            pytest.fail(f"expected one request to {line}, got {len(requests)}; all requests:{listing}")
        return requests[0]

    def last_request_to(self, line: str) -> RecordedRequest:
        """Return the last request with this `METHOD path`, for requests that are repeated."""
        return self.requests_to(line)[-1]

    def requests_to(self, line: str) -> list[RecordedRequest]:
        """Return all requests with this `METHOD path`, in order."""
        return [request for request in self.recorded if request.line == line]

    def request(self, method, path, *, query=None, headers=None, body=None, timeout=60.0) -> HttpResponse:
        """Record the request and return or raise the next response of the script."""
        if body is not None and not isinstance(body, bytes):
            body = b"".join(body)
        is_json = (headers or {}).get("Content-Type") == "application/json"
        line = f"{method} {path}"
        self.recorded.append(
            RecordedRequest(
                line, dict(query or {}), dict(headers or {}), json.loads(body) if is_json else body, timeout
            )
        )
        if not self.remaining:
            pytest.fail(f"{line} comes after the end of the script")
        expected_line, response = self.remaining.pop(0)
        assert line == expected_line
        if callable(response) and not isinstance(response, (BaseException, type)):
            response = response()
        if isinstance(response, BaseException):
            raise response
        return response
