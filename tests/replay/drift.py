"""Whether a server still answers as recorded: in shape, not in values."""
from __future__ import annotations

import difflib
import re
from typing import Any

VARIABLE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}|\b[0-9a-f]{12,64}\b|\d{4}-\d\d-\d\dT[\d:.]+Z|\d+")


def drift(recorded: dict[str, Any], now: dict[str, Any]) -> str:
    """Where the shape of a recording differs, as a diff; empty if it does not."""
    return "\n".join(difflib.unified_diff(shape(recorded), shape(now), "recorded", "now", lineterm="", n=1))


def shape(fixture: dict[str, Any]) -> list[str]:
    """A line for every call and exchange: what stays the same from one recording to the next."""
    lines = []
    for call in fixture["calls"]:
        error = call["stdout"]["error"]
        lines.append(f"{call['stdin']['method']} -> {error['type'] if error else _keys(call['stdout']['result'])}")
        polls: set[str] = set()
        for one in call["interactions"]:
            path = VARIABLE.sub("#", one["request"]["path"])
            text = f"  {one['request']['method']} {path} {_keys(one['request'].get('body'))} -> {_outcome(one)}"
            if one["request"]["path"].startswith("/1.0/operations/"):
                if text in polls:
                    continue
                polls.add(text)
            lines.append(text)
    return lines


def _outcome(one: dict[str, Any]) -> str:
    if "error" in one:
        return str(one["error"]["type"])
    response = one["response"]
    body = response.get("body", response.get("text"))
    if not isinstance(body, dict):
        return f"{response['status']} text"
    if body.get("type") == "error":
        return f"{response['status']} error {VARIABLE.sub('#', body['error'])}"
    metadata = body.get("metadata")
    if isinstance(metadata, dict) and metadata.get("class") == "task":
        state = f"{metadata['status']} {VARIABLE.sub('#', metadata['err'])}".strip()
        return f"{response['status']} {body['type']} operation {state}"
    return f"{response['status']} {body['type']} {_keys(metadata)}"


def _keys(value: Any) -> str:
    """Types and keys, without values; a list is what its members are together."""
    if isinstance(value, dict):
        members = sorted({f"{VARIABLE.sub('#', key)}:{_keys(below)}" for key, below in value.items()})
        return "{" + " ".join(members) + "}"
    if isinstance(value, list):
        return "[" + " ".join(sorted({_keys(item) for item in value})) + "]"
    return {type(None): "null", bool: "bool", str: "text"}.get(type(value), "number")
