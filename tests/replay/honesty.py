"""What holds in every true recording, and is easily forgotten by whoever changes one by hand."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator
from typing import Any

from bosh_lxd_cpi.recording.redaction import PEM, PRIVATE_KEYS, Redactor

TEST_NETWORKS = [
    ipaddress.ip_network(text)
    for text in (
        "10.245.0.0/16",
        "10.246.0.0/16",
        "10.247.0.0/16",
        "127.0.0.0/8",
        "192.0.2.0/24",
        "255.255.255.0/24",
        "fd42:b05b::/64",
        "fe80::/64",
    )
]
ADDRESS = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7})(?![\w.:])")
LONG_SECRET = re.compile(r"[A-Za-z0-9+]{40,}={0,2}")
HASH = re.compile(r"[0-9a-f]{64}")
ROUNDING = 2
"""Milliseconds that two rounded times may be off."""


def faults(fixture: dict[str, Any]) -> Iterator[str]:
    """All that cannot be in a true recording."""
    yield from unredacted(fixture)
    for number, call in enumerate(fixture["calls"]):
        for check in (operations, etags, times):
            yield from (f"call {number}: {fault}" for fault in check(call))
    starts = [call["at"] for call in fixture["calls"]]
    if starts != sorted(starts):
        yield "the calls are not in the order of their times"


def operations(call: dict[str, Any]) -> Iterator[str]:
    """An operation's id is the same in body, Location and the path that is asked for, which follow each other."""
    announced: set[str] = set()
    for one in call["interactions"]:
        path = one["request"]["path"]
        body = one.get("response", {}).get("body") or {}
        if body.get("type") == "async":
            operation, metadata = body["operation"].partition("?")[0], body["metadata"]
            location = one["response"]["headers"]["Location"].partition("?")[0]
            if not operation == location == f"/1.0/operations/{metadata['id']}":
                yield f"{one['n']}: the operation has several ids"
            announced.add(operation)
        if path == "/1.0/operations":
            announced |= {f"/1.0/operations/{known['id']}" for group in body["metadata"].values() for known in group}
        elif path.startswith("/1.0/operations/"):
            asked = path.removesuffix("/wait")
            if asked not in announced:
                yield f"{one['n']}: nobody announced {asked}"
            if body["type"] == "sync" and f"/1.0/operations/{body['metadata']['id']}" != asked:
                yield f"{one['n']}: the answer is about another operation"


def etags(call: dict[str, Any]) -> Iterator[str]:
    """What is sent as If-Match was read as ETag from the same object."""
    seen: dict[str, str] = {}
    for one in call["interactions"]:
        request = one["request"]
        if request["method"] == "GET" and "response" in one:
            seen[request["path"]] = one["response"]["headers"].get("ETag", "")
        given = request["headers"].get("If-Match")
        if given is not None and given != seen.get(request["path"]):
            yield f"{one['n']}: If-Match is not the ETag of {request['path']}"


def times(call: dict[str, Any]) -> Iterator[str]:
    """Exchanges follow each other; an operation is made after the call began, and updated after it was made."""
    end = 0
    for number, one in enumerate(call["interactions"], 1):
        if one["n"] != number:
            yield f"{number} is numbered {one['n']}"
        if one["t_ms"] + ROUNDING < end:
            yield f"{number}: begins before the one before has ended"
        end = one["t_ms"] + one["ms"]
        metadata = (one.get("response", {}).get("body") or {}).get("metadata")
        is_task = isinstance(metadata, dict) and metadata.get("class") == "task"
        if is_task and not call["at"].removesuffix("Z") <= metadata["created_at"] <= metadata["updated_at"]:
            yield f"{number}: the operation's times do not follow each other"
    if end > call["duration_ms"] + ROUNDING:
        yield "the call ended before its last exchange"
    if call["clock"]["times"] != sorted(call["clock"]["times"]):
        yield "the clock went backwards"


def unredacted(fixture: dict[str, Any]) -> Iterator[str]:
    """Secrets, certificates, names and addresses of the real world."""
    for call in fixture["calls"]:
        for document, private in ((call, ()), ([one.get("response") for one in call["interactions"]], PRIVATE_KEYS)):
            if Redactor().redact(document, private=private) != document:
                yield "there is something under a name that says it is secret or private"
    text = json.dumps(fixture)
    if PEM in text:
        yield "there is a certificate or key"
    yield from (f"{found} looks like a secret" for found in set(LONG_SECRET.findall(text)) if not HASH.fullmatch(found))
    for found in set(ADDRESS.findall(text)):
        try:
            address = ipaddress.ip_address(found)
        except ValueError:
            continue  # a MAC, a time
        if not any(address in network for network in TEST_NETWORKS):
            yield f"{found} is an address outside of the tests' networks"
