"""Changes to recorded requests and responses, by a random number generator, and a server that sends the responses."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.lxd.transport import READ_SECONDS, HttpResponse
from bosh_lxd_cpi.recording.player import ReplayClock

SECONDS = 20.0
"""Time of each request, so that no call polls for long."""
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    10**30,
    float("nan"),
    "",
    "x",
    "\0",
    "\ud800",
    "x" * 5000,
    "/1.0/instances/",
    [],
    [None],
    [[]],
    [{}],
    ["x"],
    {},
    {"": None},
    {"a": {"b": []}},
    {"type": "disk"},
)
KEYS = ("", "x", "name", "type", "\ud800", "x" * 300)
STATUSES = (200, 202, 204, 301, 400, 401, 403, 404, 409, 412, 500, 502, 503, 504, 599)


def mutate(rng: random.Random, response: dict[str, Any]) -> dict[str, Any]:
    """Return a changed copy of a recorded response."""
    response = copy.deepcopy(response)
    kind = rng.randrange(8)
    if kind == 0:
        response["status"] = rng.choice(STATUSES)
    elif kind == 1:
        response["headers"] = {}
    elif kind == 2:
        response["raw"] = _damage(rng, json.dumps(response.get("body", "")).encode())
    elif "body" in response:
        change(rng, response["body"])
    return response


def change(rng: random.Random, document: Any) -> None:
    """Remove or replace a random value in an object or array."""
    slots = list(_slots(document))
    if not slots:
        return
    container, key = rng.choice(slots)
    kind = rng.randrange(10)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        container[rng.choice(KEYS)] = container.pop(key)
    elif kind == 2 and isinstance(container[key], str):
        container[key] = rng.choice(
            [container[key] * 300, container[key][:-1], f"{container[key]}\n", container[key].upper()]
        )
    else:
        container[key] = rng.choice(VALUES)


def _slots(document: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every object or array with each of its keys or indexes."""
    keys = list(document) if isinstance(document, dict) else range(len(document))
    for key in keys:
        yield document, key
        if isinstance(document[key], (dict, list)):
            yield from _slots(document[key])


def _damage(rng: random.Random, body: bytes) -> bytes:
    start = rng.randrange(len(body) + 1)
    return rng.choice(
        [
            body[:start],
            body[:start] + rng.randbytes(4) + body[start:],
            body + body,
            b"",
            b"[]",
            b"null",
            b'"type"',
            b'{"type":"sync"}',
            b'{"type":"error"}',
            b'{"type":[]}',
            b'{"type":"async","operation":7}',
            b"[" * 100_000,
            b"<html>",
            b"1" * 5000,
        ]
    )


class MutatedServer:
    """Sends recorded responses with a few changes, whatever the order of the requests is.

    A request that was not recorded gets the error 404, because after a change a call can take another way.
    """

    def __init__(
        self, rng: random.Random, interactions: list[dict[str, Any]], clock: ReplayClock, *, changes: int
    ) -> None:
        self.requests, self._clock = 0, clock
        self._responses: dict[tuple[str, str], list[dict[str, Any]]] = {}
        answered = [each for each in interactions if "response" in each]
        changed = {id(each) for each in rng.sample(answered, min(len(answered), changes))}
        for each in answered:
            response = mutate(rng, each["response"]) if id(each) in changed else each["response"]
            self._responses.setdefault((each["request"]["method"], each["request"]["path"]), []).append(response)

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
        """See `Transport.request`. The last recorded response to a request is sent again and again."""
        self.requests += 1
        self._clock.sleep(SECONDS)
        for _ in body if body is not None and not isinstance(body, bytes) else ():
            pass
        responses = self._responses.get((method, path))
        if not responses:
            if self.requests % 7 == 0:
                raise errors.NoResponse(f"no response to {method} {path}")
            return HttpResponse(
                404, {}, json.dumps({"type": "error", "error": "not found", "error_code": 404}).encode()
            )
        response = responses.pop(0) if len(responses) > 1 else responses[0]
        content = response.get("raw")
        if content is None:
            content = json.dumps(response["body"]).encode() if "body" in response else response["text"].encode()
        return HttpResponse(response["status"], response["headers"], content)
