"""A transport that returns recorded responses, and a clock that returns recorded times and random numbers."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.lxd.transport import READ_SECONDS, HttpResponse
from bosh_lxd_cpi.recording.recorder import HashedStream, request_record
from bosh_lxd_cpi.recording.redaction import Redactor
from bosh_lxd_cpi.runtime.clock import Clock


class Mismatch(Exception):
    """The call sends another request than recorded. The message contains the difference."""


class ReplayClock(Clock):
    """Returns the times and random numbers of a recording. Time advances with each exchange and with `sleep`.

    After the end of the recording, `time` returns the last time again and `random_hex` returns zeros. If that matters,
    the requests differ from the recorded ones.
    """

    def __init__(self, times: list[float], random: list[str]) -> None:
        self._times, self._random, self._seconds = list(times), list(random), 0.0

    def time(self) -> float:
        """Return the next recorded Unix time in seconds."""
        return self._times.pop(0) if len(self._times) > 1 else (self._times or [0.0])[0]

    def random_hex(self, digits: int) -> str:
        """Return the next recorded random number."""
        return (self._random.pop(0) if self._random else "").ljust(digits, "0")[:digits]

    def monotonic(self) -> float:
        """Return the seconds since the start of the replay."""
        return self._seconds

    def sleep(self, seconds: float) -> None:
        """Advance the clock without waiting."""
        self._seconds += max(seconds, 0.0)

    def advance(self, seconds: float) -> None:
        """Advance the clock to this number of seconds after the start, unless it is later already."""
        self._seconds = max(self._seconds, seconds)


class Player:
    """Returns the recorded responses if the requests are the recorded ones, in the recorded order.

    Only the number of polls of an operation may differ: skipped polls are ignored, and further polls get the last
    response again. Any other request raises Mismatch, and so does every request after it.
    """

    def __init__(self, interactions: list[dict[str, Any]], clock: ReplayClock) -> None:
        self.interactions, self._clock = interactions, clock
        self.requests, self._next = 0, 0
        self.mismatch: Mismatch | None = None

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
        """Return the recorded response, or raise the recorded error: see `Transport.request`. Raises Mismatch."""
        self.requests += 1
        content = body if isinstance(body, (bytes, type(None))) else HashedStream(body)
        try:
            for _ in content if isinstance(content, HashedStream) else ():
                pass
        finally:  # reading a damaged stemcell fails here as it did in the recorded call; the request counts as played
            request = request_record(method, path, query=query, headers=headers, body=content, redactor=Redactor())
            interaction = self._play(request)
        self._clock.advance((interaction["t_ms"] + interaction["ms"]) / 1000)
        return _response(interaction)

    def remaining(self) -> list[dict[str, Any]]:
        """Return the recorded interactions that were not requested, without further polls of the same operation."""
        start = self._next
        while start < len(self.interactions) and self._repeats_last_poll(self.interactions[start]["request"]):
            start += 1
        return self.interactions[start:]

    def _play(self, request: dict[str, Any]) -> dict[str, Any]:
        if self.mismatch:
            raise self.mismatch
        for index in range(self._next, len(self.interactions)):
            recorded = self.interactions[index]["request"]
            if requests_match(request, recorded):
                self._next = index + 1
                return self.interactions[index]
            if not self._repeats_last_poll(recorded):
                break
        if self._repeats_last_poll(request):
            return self.interactions[self._next - 1]
        self.mismatch = Mismatch(self._difference(request))
        raise self.mismatch

    def _repeats_last_poll(self, request: dict[str, Any]) -> bool:
        last = self.interactions[self._next - 1]["request"] if self._next else {}
        return _is_poll(request) and requests_match(request, last)

    def _difference(self, request: dict[str, Any]) -> str:
        remaining = self.remaining()
        if not remaining:
            return f"request {self.requests} comes after the end of the recording:\n{format_sorted(request)}"
        matcher = difflib.SequenceMatcher(b=format_sorted(request))

        def similarity(interaction: dict[str, Any]) -> float:
            matcher.set_seq1(format_sorted(interaction["request"]))
            return matcher.ratio()

        nearest, following = max(remaining, key=similarity), remaining[0]
        diff = difflib.unified_diff(
            format_sorted(nearest["request"]).splitlines(),
            format_sorted(request).splitlines(),
            lineterm="",
            fromfile=f"recorded request {nearest['n']}",
            tofile=f"request {self.requests}",
        )
        message = f"request {self.requests} differs from the recording:\n" + "\n".join(diff)
        if nearest is following:
            return message
        return f"{message}\nThe next recorded request is {following['n']}: {request_line(following['request'])}"


def requests_match(request: dict[str, Any], recorded: dict[str, Any]) -> bool:
    """Return whether a request equals the recorded one.

    The timeout of a poll is not compared, nor a hash that was not recorded, nor the body of an upload that broke off.
    """
    request, recorded = _without_timeout(request), _without_timeout(recorded)
    body, recorded_body = request.get("body"), recorded.get("body")
    if isinstance(body, dict) and isinstance(recorded_body, dict) and "length" in recorded_body:
        if recorded_body.get("complete") is False:
            body = recorded_body
        body = {key: value for key, value in body.items() if key in recorded_body}
    return {**request, "body": body} == {**recorded, "body": recorded_body}


def _without_timeout(request: dict[str, Any]) -> dict[str, Any]:
    if not _is_poll(request):
        return request
    return {**request, "query": {key: value for key, value in request["query"].items() if key != "timeout"}}


def _is_poll(request: dict[str, Any]) -> bool:
    return request.get("method") == "GET" and request["path"].startswith("/1.0/operations/")


def _response(interaction: dict[str, Any]) -> HttpResponse:
    if recorded := interaction.get("error"):
        error = getattr(errors, recorded["type"], errors.NoResponse)
        arguments = {name: recorded.get(name, "") for name in ("detail", "code")}
        raise error(recorded["brief"], **arguments, **recorded.get("fields", {}))
    response = interaction["response"]
    body = json.dumps(response["body"]) if "body" in response else response["text"]
    return HttpResponse(response["status"], response["headers"], body.encode())


def format_sorted(document: Any) -> str:
    """Return a document as JSON with sorted keys and one value per line, for diffs."""
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)


def request_line(request: dict[str, Any]) -> str:
    """Return method and path of a recorded request."""
    return f"{request['method']} {request['path']}"
