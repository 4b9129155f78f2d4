"""Checks of recordings. A recording of a real server passes them, a file that was edited by hand may not."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator
from typing import Any

from bosh_lxd_cpi.recording.redaction import PEM, PRIVATE_KEYS, Redactor

TEST_NETWORKS = [
    ipaddress.ip_network(network)
    for network in (
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
ROUNDING_MS = 2
"""Milliseconds by which two rounded times can differ."""


def problems(fixture: dict[str, Any]) -> Iterator[str]:
    """Yield a description of everything that cannot be in a recording of a real server."""
    yield from secret_problems(fixture)
    for number, call in enumerate(fixture["calls"]):
        for check in (operation_problems, etag_problems, time_problems):
            yield from (f"call {number}: {problem}" for problem in check(call))
    starts = [call["at"] for call in fixture["calls"]]
    if starts != sorted(starts):
        yield "the calls are not in the order of their times"


def operation_problems(call: dict[str, Any]) -> Iterator[str]:
    """Check that the id of an operation is the same in body, Location and later paths."""
    known_operations: set[str] = set()
    for interaction in call["interactions"]:
        number, path = interaction["n"], interaction["request"]["path"]
        body = interaction.get("response", {}).get("body") or {}
        if body.get("type") == "async":
            operation, metadata = body["operation"].partition("?")[0], body["metadata"]
            location = interaction["response"]["headers"]["Location"].partition("?")[0]
            if not operation == location == f"/1.0/operations/{metadata['id']}":
                yield f"{number}: the operation has several ids"
            known_operations.add(operation)
        if path == "/1.0/operations":
            groups = body["metadata"].values()
            known_operations |= {f"/1.0/operations/{operation['id']}" for group in groups for operation in group}
        elif path.startswith("/1.0/operations/"):
            operation = path.removesuffix("/wait")
            if operation not in known_operations:
                yield f"{number}: no earlier response contains {operation}"
            if body["type"] == "sync" and f"/1.0/operations/{body['metadata']['id']}" != operation:
                yield f"{number}: the response describes another operation"


def etag_problems(call: dict[str, Any]) -> Iterator[str]:
    """Check that each If-Match header is the last ETag of the same object."""
    etags: dict[str, str] = {}
    for interaction in call["interactions"]:
        request = interaction["request"]
        if request["method"] == "GET" and "response" in interaction:
            etags[request["path"]] = interaction["response"]["headers"].get("ETag", "")
        if_match = request["headers"].get("If-Match")
        if if_match is not None and if_match != etags.get(request["path"]):
            yield f"{interaction['n']}: If-Match is not the ETag of {request['path']}"


def time_problems(call: dict[str, Any]) -> Iterator[str]:
    """Check that exchanges do not overlap and that operations are created during the call."""
    end = 0
    for number, interaction in enumerate(call["interactions"], 1):
        if interaction["n"] != number:
            yield f"exchange {number} has the number {interaction['n']}"
        if interaction["t_ms"] + ROUNDING_MS < end:
            yield f"{number}: starts before the end of the previous exchange"
        end = interaction["t_ms"] + interaction["ms"]
        metadata = (interaction.get("response", {}).get("body") or {}).get("metadata")
        is_operation = isinstance(metadata, dict) and metadata.get("class") == "task"
        start = call["at"].removesuffix("Z")
        if is_operation and not start <= metadata["created_at"] <= metadata["updated_at"]:
            yield f"{number}: the times of the operation are not in order"
    if end > call["duration_ms"] + ROUNDING_MS:
        yield "the call ends before its last exchange"
    if call["clock"]["times"] != sorted(call["clock"]["times"]):
        yield "the recorded times are not in order"


def secret_problems(fixture: dict[str, Any]) -> Iterator[str]:
    """Check that there are no secrets, certificates, host names, or addresses outside of the test networks."""
    for call in fixture["calls"]:
        responses = [interaction.get("response") for interaction in call["interactions"]]
        for document, private in ((call, ()), (responses, PRIVATE_KEYS)):
            if Redactor().redact(document, private=private) != document:
                yield "there is a value under a secret or private key"
    text = json.dumps(fixture)
    if PEM in text:
        yield "there is a certificate or a key"
    yield from (f"{value} looks like a secret" for value in set(LONG_SECRET.findall(text)) if not HASH.fullmatch(value))
    for value in set(ADDRESS.findall(text)):
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            continue  # a MAC address or a time
        if not any(address in network for network in TEST_NETWORKS):
            yield f"{value} is an address outside of the test networks"
