"""A transport that records every request and response, and a clock that records times and random numbers.

Together they make a call repeatable: a replay with the recorded times and random numbers builds the same names and
sends the same bytes. A body that is not JSON is recorded as its length and SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from bosh_lxd_cpi.lxd.transport import READ_SECONDS, HttpResponse, Transport
from bosh_lxd_cpi.recording.redaction import PRIVATE_KEYS, Redactor
from bosh_lxd_cpi.runtime.clock import Clock

REQUEST_HEADERS = ("content-type", "if-match", "x-lxd-", "x-incus-")
RESPONSE_HEADERS = ("Content-Type", "ETag", "Location")
FAT_SIGNATURE = b"FAT12   "
"""Part of the boot sector of a FAT config drive (guest/config_drive/fat.py)."""


class RecordingClock(Clock):
    """Delegates to another clock and records the times and random numbers that it returned."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.times: list[float] = []
        self.random: list[str] = []

    def time(self) -> float:
        """Return the Unix time in seconds, and record it."""
        self.times.append(self._clock.time())
        return self.times[-1]

    def random_hex(self, digits: int) -> str:
        """Return random hexadecimal digits, and record them."""
        self.random.append(self._clock.random_hex(digits))
        return self.random[-1]

    def monotonic(self) -> float:
        """Return the monotonic time in seconds. It is not recorded."""
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep. The time is not recorded."""
        self._clock.sleep(seconds)


class Recorder:
    """Delegates to another transport and records every request with its response or error."""

    def __init__(self, transport: Transport, clock: Clock) -> None:
        self._transport, self._clock = transport, clock
        self._start = clock.monotonic()
        self._exchanges: list[_Exchange] = []

    @property
    def requests(self) -> int:
        """The number of requests so far."""
        return len(self._exchanges)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
        timeout: float = READ_SECONDS,
    ) -> HttpResponse:
        """Send the request and return the response: see `Transport.request`.

        The exchange is converted to JSON only in `interactions`, so that a defect there cannot fail the call.
        """
        content = body if isinstance(body, (bytes, type(None))) else HashedStream(body)
        request = {"method": method, "path": path, "query": query, "headers": headers, "body": content}
        start = self._clock.monotonic()
        outcome: HttpResponse | BaseException | None = None
        try:
            outcome = self._transport.request(method, path, query=query, headers=headers, body=content, timeout=timeout)
            return outcome
        except BaseException as error:
            outcome = error
            raise
        finally:
            duration = self._clock.monotonic() - start
            self._exchanges.append(_Exchange(request, outcome, start - self._start, duration))

    def interactions(self, redactor: Redactor) -> list[dict[str, Any]]:
        """Return the recorded exchanges as JSON documents without secrets."""
        return [
            {
                "n": number,
                "t_ms": round(exchange.start * 1000),
                "ms": round(exchange.duration * 1000),
                "request": request_record(**exchange.request, redactor=redactor),
                **_outcome_record(exchange.outcome, redactor),
            }
            for number, exchange in enumerate(self._exchanges, 1)
        ]


class _Exchange(NamedTuple):
    request: dict[str, Any]
    outcome: HttpResponse | BaseException | None
    start: float
    """Seconds after the recorder was created."""
    duration: float
    """Seconds."""


class HashedStream:
    """A request body in chunks. Counts and hashes the chunks while they are sent."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self._hash = chunks, hashlib.sha256()
        self.length, self.complete = 0, False

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._hash.update(chunk)
            self.length += len(chunk)
            yield chunk
        self.complete = True

    @property
    def record(self) -> dict[str, Any]:
        """Length and SHA-256 as a JSON document, marked as incomplete if reading the chunks failed."""
        record = {"length": self.length, "sha256": self._hash.hexdigest()}
        return record if self.complete else {**record, "complete": False}


def request_record(
    method: str,
    path: str,
    *,
    query: Mapping[str, str] | None,
    headers: Mapping[str, str] | None,
    body: bytes | HashedStream | None,
    redactor: Redactor,
) -> dict[str, Any]:
    """Return a request as the JSON document that is recorded and compared, without secrets."""
    relevant = {name: value for name, value in (headers or {}).items() if name.lower().startswith(REQUEST_HEADERS)}
    record: dict[str, Any] = {"method": method, "path": path, "query": dict(query or {}), "headers": relevant}
    if body is None:
        return redactor.redact_mapping(record)
    if isinstance(body, HashedStream):
        return {**redactor.redact_mapping(record), "body": body.record}
    if relevant.get("Content-Type") == "application/json":
        return redactor.redact_mapping({**record, "body": json.loads(body)})
    return {**redactor.redact_mapping(record), "body": _bytes_record(body, redactor)}


def _bytes_record(content: bytes, redactor: Redactor) -> dict[str, Any]:
    redacted = redactor.redact_bytes(content)
    if redacted != content and FAT_SIGNATURE in content:
        # The serial number of a FAT drive is computed from the whole content, secrets included. It differs between the
        # recorded drive and the replayed one, so that a hash would differ too.
        return {"length": len(redacted)}
    return {"length": len(redacted), "sha256": hashlib.sha256(redacted).hexdigest()}


def _outcome_record(outcome: HttpResponse | BaseException | None, redactor: Redactor) -> dict[str, Any]:
    if isinstance(outcome, HttpResponse):
        return {"response": _response_record(outcome, redactor)}
    attributes = {
        name: value for name in ("brief", "detail", "code", "fields") if (value := getattr(outcome, name, ""))
    }
    return {"error": redactor.redact({"type": type(outcome).__name__, "brief": str(outcome), **attributes})}


def _response_record(response: HttpResponse, redactor: Redactor) -> dict[str, Any]:
    """Return a response with `body` if it is JSON, and with `text` if it is not."""
    headers = {name: response.headers[name] for name in RESPONSE_HEADERS if name in response.headers}
    record = {"status": response.status, "headers": headers}
    try:
        return redactor.redact_mapping({**record, "body": json.loads(response.body)}, private=PRIVATE_KEYS)
    except ValueError:
        return redactor.redact_mapping({**record, "text": response.body.decode("utf-8", "replace")})
