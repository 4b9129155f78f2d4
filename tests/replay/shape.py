"""Compares the shapes of recorded and current responses: keys and types, not values."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

VARIABLE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}|\bp?[0-9a-f]{12,64}\b|\d{4}-\d\d-\d\dT[\d:.]+Z|\d+")

TRANSIENT_ERROR = "unexpected end of JSON input"
"""LXD 5.0 on a loaded machine sometimes reads the output of qemu-img before it is complete. The CPI then retries."""


def shape_diff(recording: dict[str, Any], current: dict[str, Any]) -> str:
    """Return the difference between the shapes of two fixtures as a diff, or an empty string."""
    return "\n".join(difflib.unified_diff(shape(recording), shape(current), "recorded", "current", lineterm="", n=2))


def shape(fixture: dict[str, Any]) -> list[str]:
    """Return a line for every call, exchange and key, without values that differ between two recordings."""
    return [line for call in fixture["calls"] for line in _call(call)]


def _call(call: dict[str, Any]) -> Iterator[str]:
    error = call["stdout"]["error"]
    yield f"{call['stdin']['method']} -> {error['type'] if error else 'a result'}"
    yield from _keys(call["stdout"]["result"], "  result")
    previous: list[list[str]] = []
    for interaction in call["interactions"]:
        lines = list(_exchange(interaction))
        # The number of polls and of retries depends on the load of the machine.
        if lines not in previous and TRANSIENT_ERROR not in lines[0]:
            yield from lines
        previous.append(lines)


def _exchange(interaction: dict[str, Any]) -> Iterator[str]:
    request = interaction["request"]
    yield f"  {request['method']} {VARIABLE.sub('#', request['path'])} -> {_outcome(interaction)}"
    yield from _keys(request.get("body"), "    sent")
    metadata = _body(interaction).get("metadata")
    if not _is_operation(metadata):
        yield from _keys(metadata, "    received")


def _outcome(interaction: dict[str, Any]) -> str:
    body, status = _body(interaction), interaction.get("response", {}).get("status")
    if "error" in interaction:
        return str(interaction["error"]["type"])
    if body.get("type") == "error":
        return f"{status} error {VARIABLE.sub('#', body['error'])}"
    if _is_operation(body.get("metadata")):
        state = f"{body['metadata']['status']} {VARIABLE.sub('#', body['metadata']['err'])}"
        return f"{status} {body['type']} operation {state}".strip()
    return f"{status} {body.get('type', 'text')}"


def _body(interaction: dict[str, Any]) -> dict[str, Any]:
    return interaction.get("response", {}).get("body") or {}


def _is_operation(metadata: Any) -> bool:
    """Return whether the metadata is an operation. Its keys, such as the progress, depend on its duration."""
    return isinstance(metadata, dict) and metadata.get("class") == "task"


def _keys(value: Any, path: str) -> list[str]:
    """Return a line for every key with the type of its value. The members of a list are merged."""
    if isinstance(value, dict):
        lines = {line for key, item in value.items() for line in _keys(item, f"{path}.{VARIABLE.sub('#', key)}")}
    elif isinstance(value, list):
        lines = {line for item in value for line in _keys(item, f"{path}[]")}
    else:
        lines = {f"{path}: " + {type(None): "null", bool: "bool", str: "string"}.get(type(value), "number")}
    return sorted(lines)
