"""Whether a server still answers as recorded: in shape, not in values."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

VARIABLE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}|\bp?[0-9a-f]{12,64}\b|\d{4}-\d\d-\d\dT[\d:.]+Z|\d+")

HICCUP = "unexpected end of JSON input"
"""How a creation fails when LXD 5.0 on a busy machine reads what qemu-img says too early; the CPI asks again."""


def drift(recorded: dict[str, Any], now: dict[str, Any]) -> str:
    """Where the shape of a recording differs, as a diff; empty if it does not."""
    return "\n".join(difflib.unified_diff(shape(recorded), shape(now), "recorded", "now", lineterm="", n=2))


def shape(fixture: dict[str, Any]) -> list[str]:
    """A line for every call, exchange and key: what stays the same from one recording to the next."""
    return [line for call in fixture["calls"] for line in _call(call)]


def _call(call: dict[str, Any]) -> Iterator[str]:
    error = call["stdout"]["error"]
    yield f"{call['stdin']['method']} -> {error['type'] if error else 'a result'}"
    yield from _keys(call["stdout"]["result"], "  result")
    seen: list[list[str]] = []
    for one in call["interactions"]:
        lines = list(_exchange(one))
        if (
            lines not in seen and HICCUP not in lines[0]
        ):  # how often something is looked at, or tried again, is a matter of time
            yield from lines
        seen.append(lines)


def _exchange(one: dict[str, Any]) -> Iterator[str]:
    request = one["request"]
    yield f"  {request['method']} {VARIABLE.sub('#', request['path'])} -> {_outcome(one)}"
    yield from _keys(request.get("body"), "    sent")
    metadata = _body(one).get("metadata")
    if not _is_operation(metadata):
        yield from _keys(metadata, "    got")


def _outcome(one: dict[str, Any]) -> str:
    body, status = _body(one), one.get("response", {}).get("status")
    if "error" in one:
        return str(one["error"]["type"])
    if body.get("type") == "error":
        return f"{status} error {VARIABLE.sub('#', body['error'])}"
    if _is_operation(body.get("metadata")):
        state = f"{body['metadata']['status']} {VARIABLE.sub('#', body['metadata']['err'])}"
        return f"{status} {body['type']} operation {state}".strip()
    return f"{status} {body.get('type', 'text')}"


def _body(one: dict[str, Any]) -> dict[str, Any]:
    return one.get("response", {}).get("body") or {}


def _is_operation(metadata: Any) -> bool:
    """Its own keys, the progress above all, depend on how long it took."""
    return isinstance(metadata, dict) and metadata.get("class") == "task"


def _keys(value: Any, path: str) -> list[str]:
    """A line for every key with the type of its value; a list is what its members are together."""
    if isinstance(value, dict):
        found = {line for key, below in value.items() for line in _keys(below, f"{path}.{VARIABLE.sub('#', key)}")}
    elif isinstance(value, list):
        found = {line for item in value for line in _keys(item, f"{path}[]")}
    else:
        found = {f"{path}: " + {type(None): "null", bool: "bool", str: "text"}.get(type(value), "number")}
    return sorted(found)
