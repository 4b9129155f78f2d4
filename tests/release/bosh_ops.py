"""Apply BOSH ops files: replace and remove, with the path segments KEY, NAME=VALUE, INDEX, - and ?.

https://bosh.io/docs/cli-ops-files/
"""

from __future__ import annotations

import copy
import re
from typing import Any


class OpsError(Exception):
    """A path does not exist in the document."""


def apply(manifest: Any, operations: list[dict[str, Any]]) -> Any:
    """Return a copy of the manifest with the operations applied. Raise OpsError."""
    manifest = copy.deepcopy(manifest)
    for operation in operations:
        *parents, last = _steps(operation["path"])
        node = manifest
        for step, following in zip(parents, [*parents[1:], last], strict=True):
            node = _enter(node, step, following, operation["path"])
        if operation["type"] == "replace":
            _replace(node, last, copy.deepcopy(operation["value"]), operation["path"])
        else:
            _remove(node, last, operation["path"])
    return manifest


def variables(document: Any) -> set[str]:
    """Return the names of all ((variables)) in a document. ((name.field)) counts as name."""
    return {name.split(".")[0] for name in re.findall(r"\(\(!?([-/.\w]+)\)\)", str(document))}


def _steps(path: str) -> list[tuple[str, bool]]:
    """Return the segments of a path, each with whether it is optional. After a ?, all segments are."""
    steps, optional = [], False
    for part in path.lstrip("/").split("/"):
        optional = optional or part.endswith("?")
        steps.append((part.rstrip("?"), optional))
    return steps


def _position(node: Any, step: str) -> int | None:
    if step.lstrip("-").isdigit():
        return int(step) if abs(int(step)) < len(node) else None
    key, _, value = step.partition("=")
    positions = [position for position, item in enumerate(node) if str(item.get(key)) == value]
    if len(positions) > 1:
        raise OpsError(f"{step} matches {len(positions)} items")
    return positions[0] if positions else None


def _enter(node: Any, step: tuple[str, bool], following: tuple[str, bool], path: str) -> Any:
    name, optional = step
    empty: Any = [] if following[0] == "-" or "=" in following[0] else {}
    if isinstance(node, list):
        position = _position(node, name)
        if position is not None:
            return node[position]
        if not optional or "=" not in name:
            raise OpsError(f"{path}: no {name}")
        key, _, value = name.partition("=")
        node.append({key: value})
        return node[-1]
    if not isinstance(node, dict) or (name not in node and not optional):
        raise OpsError(f"{path}: no {name}")
    return node.setdefault(name, empty)


def _replace(node: Any, last: tuple[str, bool], value: Any, path: str) -> None:
    name, optional = last
    if name == "-":
        node.append(value)
    elif isinstance(node, list):
        position = _position(node, name)
        if position is None and not optional:
            raise OpsError(f"{path}: no {name}")
        if position is None:
            node.append(value)
        else:
            node[position] = value
    elif isinstance(node, dict) and (optional or name in node):
        node[name] = value
    else:
        raise OpsError(f"{path}: no {name}")


def _remove(node: Any, last: tuple[str, bool], path: str) -> None:
    name, optional = last
    present = (_position(node, name) is not None) if isinstance(node, list) else name in node
    if present:
        del node[_position(node, name) if isinstance(node, list) else name]
    elif not optional:
        raise OpsError(f"{path}: no {name}")
