"""The seam of `transport`, recording and playing back, and the clock that belongs to it.

A recording holds every exchange with the server in order, and all that the call drew from the clock: so the same call,
played back, makes the same names and sends the same bytes. Bodies that are not JSON are kept as length and sha256.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.lxd.transport import READ_SECONDS, HttpResponse, Transport
from bosh_lxd_cpi.recording.redaction import PRIVATE, Redactor
from bosh_lxd_cpi.runtime.clock import Clock

REQUEST_HEADERS = ("content-type", "if-match", "x-lxd-", "x-incus-")
RESPONSE_HEADERS = ("Content-Type", "ETag", "Location")
FAT = b"FAT12   "
"""Stands in a FAT drive, whose serial number depends on its whole content: of such a one no hash is kept."""


class RecordingClock(Clock):
    """The machine's clock; remembers the times and the randomness that were asked for."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.times: list[float] = []
        self.random: list[str] = []

    def time(self) -> float:
        """See `Clock`."""
        self.times.append(self._clock.time())
        return self.times[-1]

    def random_hex(self, digits: int) -> str:
        """See `Clock`."""
        self.random.append(self._clock.random_hex(digits))
        return self.random[-1]

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        self._clock.sleep(seconds)


class Recorder:
    """A transport that hands every request on to another one and keeps what went to and fro."""

    def __init__(self, transport: Transport, clock: Clock) -> None:
        self._transport, self._clock = transport, clock
        self._began = clock.monotonic()
        self._exchanges: list[_Exchange] = []

    @property
    def requests(self) -> int:
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
        """See `Transport`. Nothing is made of it yet, so nothing of ours can fail here."""
        sent = body if isinstance(body, (bytes, type(None))) else Stream(body)
        request = {"method": method, "path": path, "query": query, "headers": headers, "body": sent}
        began = self._clock.monotonic()
        outcome: HttpResponse | BaseException | None = None
        try:
            outcome = self._transport.request(method, path, query=query, headers=headers, body=sent, timeout=timeout)
            return outcome
        except BaseException as failure:
            outcome = failure
            raise
        finally:
            self._exchanges.append(_Exchange(request, outcome, began - self._began, self._clock.monotonic() - began))

    def interactions(self, redactor: Redactor) -> list[dict[str, Any]]:
        """What is kept of it."""
        return [
            {
                "n": number,
                "t_ms": round(one.began * 1000),
                "ms": round(one.took * 1000),
                "request": request_record(**one.request, redactor=redactor),
                **_outcome_record(one.outcome, redactor),
            }
            for number, one in enumerate(self._exchanges, 1)
        ]


class _Exchange(NamedTuple):
    request: dict[str, Any]
    outcome: HttpResponse | BaseException | None
    began: float
    took: float


class Stream:
    """A body that is sent piece by piece, counted and hashed on the way."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces, self._hash = pieces, hashlib.sha256()
        self.length, self.complete = 0, False

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self._hash.update(piece)
            self.length += len(piece)
            yield piece
        self.complete = True

    @property
    def record(self) -> dict[str, Any]:
        """What is kept of it."""
        whole = {"length": self.length, "sha256": self._hash.hexdigest()}
        return whole if self.complete else {**whole, "complete": False}


def request_record(
    method: str,
    path: str,
    *,
    query: Mapping[str, str] | None,
    headers: Mapping[str, str] | None,
    body: bytes | Stream | None,
    redactor: Redactor,
) -> dict[str, Any]:
    """A request as it is kept and compared."""
    kept = {name: value for name, value in (headers or {}).items() if name.lower().startswith(REQUEST_HEADERS)}
    record = {"method": method, "path": path, "query": dict(query or {}), "headers": kept}
    if isinstance(body, Stream):
        return {**redactor.document(record), "body": body.record}
    if body is not None and record["headers"].get("Content-Type") == "application/json":
        return redactor.document({**record, "body": json.loads(body)})
    return {**redactor.document(record), **({"body": _content_record(body, redactor)} if body is not None else {})}


def _content_record(body: bytes, redactor: Redactor) -> dict[str, Any]:
    clean = redactor.content(body)
    if clean != body and FAT in body:
        return {"length": len(clean)}
    return {"length": len(clean), "sha256": hashlib.sha256(clean).hexdigest()}


def _outcome_record(outcome: HttpResponse | BaseException | None, redactor: Redactor) -> dict[str, Any]:
    if isinstance(outcome, HttpResponse):
        return {"response": _response_record(outcome, redactor)}
    texts = {name: text for name in ("brief", "detail", "code", "fields") if (text := getattr(outcome, name, ""))}
    return {"error": redactor.document({"type": type(outcome).__name__, "brief": str(outcome), **texts})}


def _response_record(response: HttpResponse, redactor: Redactor) -> dict[str, Any]:
    """With `body`, or `text` if it is not JSON."""
    headers = {name: response.headers[name] for name in RESPONSE_HEADERS if name in response.headers}
    record = {"status": response.status, "headers": headers}
    try:
        return redactor.document({**record, "body": json.loads(response.body)}, private=PRIVATE)
    except ValueError:
        return redactor.document({**record, "text": response.body.decode("utf-8", "replace")})


class Mismatch(Exception):
    """The call does not do what was recorded; the message shows the difference."""


class ReplayClock(Clock):
    """Gives the times and the randomness of a recording; time passes by its exchanges and by sleeping.

    What is asked beyond the recording gets the last time, and zeros: the requests will show what that changes.
    """

    def __init__(self, times: list[float], random: list[str]) -> None:
        self._times, self._random, self._passed = list(times), list(random), 0.0

    def time(self) -> float:
        return self._times.pop(0) if len(self._times) > 1 else (self._times or [0.0])[0]

    def random_hex(self, digits: int) -> str:
        return (self._random.pop(0) if self._random else "").ljust(digits, "0")[:digits]

    def monotonic(self) -> float:
        return self._passed

    def sleep(self, seconds: float) -> None:
        self._passed += max(seconds, 0.0)

    def advance(self, seconds: float) -> None:
        """Be at least so many seconds after the start."""
        self._passed = max(self._passed, seconds)


class Player:
    """A transport that answers from a recording, strictly in its order.

    Only looking at an operation again and again may be done less often than recorded, or more often: then the last
    answer is given again. Raises Mismatch for any other request, and from then on for every request.
    """

    def __init__(self, interactions: list[dict[str, Any]], clock: ReplayClock) -> None:
        self.interactions, self._clock = interactions, clock
        self.requests, self._next = 0, 0
        self.failure: Mismatch | None = None

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
        """See `Transport`."""
        self.requests += 1
        sent = body if isinstance(body, (bytes, type(None))) else Stream(body)
        try:
            for _ in sent if isinstance(sent, Stream) else ():
                pass
        finally:  # a damaged stemcell breaks off here as it did then
            asked = request_record(method, path, query=query, headers=headers, body=sent, redactor=Redactor())
            played = self._play(asked)
        self._clock.advance((played["t_ms"] + played["ms"]) / 1000)
        return _answer(played)

    def rest(self) -> list[dict[str, Any]]:
        """What was recorded and not asked for."""
        start = self._next
        while start < len(self.interactions) and self._repeats_last(self.interactions[start]["request"]):
            start += 1
        return self.interactions[start:]

    def _play(self, asked: dict[str, Any]) -> dict[str, Any]:
        if self.failure:
            raise self.failure
        for at in range(self._next, len(self.interactions)):
            recorded = self.interactions[at]["request"]
            if same(asked, recorded):
                self._next = at + 1
                return self.interactions[at]
            if not self._repeats_last(recorded):
                break
        if self._repeats_last(asked):
            return self.interactions[self._next - 1]
        self.failure = Mismatch(self._difference(asked))
        raise self.failure

    def _repeats_last(self, request: dict[str, Any]) -> bool:
        """Whether it looks once more at the operation that was looked at last."""
        last = self.interactions[self._next - 1]["request"] if self._next else {}
        return _is_poll(request) and same(request, last)

    def _difference(self, asked: dict[str, Any]) -> str:
        rest = self.rest()
        if not rest:
            return f"request {self.requests} comes after the end of the recording:\n{pretty(asked)}"
        likeness = difflib.SequenceMatcher(b=pretty(asked))

        def like(one: dict[str, Any]) -> float:
            likeness.set_seq1(pretty(one["request"]))
            return likeness.ratio()

        nearest = max(rest, key=like)
        diff = difflib.unified_diff(
            pretty(nearest["request"]).splitlines(),
            pretty(asked).splitlines(),
            lineterm="",
            fromfile=f"recorded as {nearest['n']}",
            tofile=f"asked as request {self.requests}",
        )
        order = "" if nearest is rest[0] else f"\nNext in the recording was {rest[0]['n']}: {line(rest[0]['request'])}"
        return f"request {self.requests} is not what was recorded:\n" + "\n".join(diff) + order


def same(asked: dict[str, Any], recorded: dict[str, Any]) -> bool:
    """Whether a request is the recorded one. How long to wait for an operation does not count, nor a hash not kept."""
    asked, recorded = _comparable(asked), _comparable(recorded)
    body, kept = asked.get("body"), recorded.get("body")
    if isinstance(body, dict) and isinstance(kept, dict) and "length" in kept:
        if kept.get("complete") is False:
            body = kept
        body = {key: value for key, value in body.items() if key in kept}
    return {**asked, "body": body} == {**recorded, "body": kept}


def _comparable(request: dict[str, Any]) -> dict[str, Any]:
    if not _is_poll(request):
        return request
    return {**request, "query": {key: value for key, value in request["query"].items() if key != "timeout"}}


def _is_poll(request: dict[str, Any]) -> bool:
    return request.get("method") == "GET" and request["path"].startswith("/1.0/operations/")


def _answer(played: dict[str, Any]) -> HttpResponse:
    if failure := played.get("error"):
        error = getattr(errors, failure["type"], errors.NoResponse)
        raise error(
            failure["brief"],
            detail=failure.get("detail", ""),
            code=failure.get("code", ""),
            **failure.get("fields", {}),
        )
    response = played["response"]
    body = json.dumps(response["body"]) if "body" in response else response["text"]
    return HttpResponse(response["status"], response["headers"], body.encode())


def pretty(document: Any) -> str:
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)


def line(request: dict[str, Any]) -> str:
    return f"{request['method']} {request['path']}"
