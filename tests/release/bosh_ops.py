"""BOSH's ops files, as far as this repository uses them: replace and remove, by key, name=value, index and -, with ?.

https://bosh.io/docs/cli-ops-files/
"""

from __future__ import annotations

import copy
import re
from typing import Any


class OpsError(Exception):
    """A path that leads nowhere."""


def apply(manifest: Any, operations: list[dict[str, Any]]) -> Any:
    """A copy of the manifest with the operations done. Raises OpsError."""
    manifest = copy.deepcopy(manifest)
    for operation in operations:
        *way, last = _steps(operation["path"])
        node = manifest
        for step, following in zip(way, [*way[1:], last]):
            node = _enter(node, step, following, operation["path"])
        if operation["type"] == "replace":
            _replace(node, last, copy.deepcopy(operation["value"]), operation["path"])
        else:
            _remove(node, last, operation["path"])
    return manifest


def variables(document: Any) -> set[str]:
    """The names of all ((variables)) in a document, without what follows a dot."""
    return {name.split(".")[0] for name in re.findall(r"\(\(!?([-/.\w]+)\)\)", str(document))}


def _steps(path: str) -> list[tuple[str, bool]]:
    """Each step with whether it may be missing: from the first ? on, all may."""
    steps, optional = [], False
    for part in path.lstrip("/").split("/"):
        optional = optional or part.endswith("?")
        steps.append((part.rstrip("?"), optional))
    return steps


def _position(node: Any, step: str) -> int | None:
    if step.lstrip("-").isdigit():
        return int(step) if abs(int(step)) < len(node) else None
    key, _, value = step.partition("=")
    found = [position for position, item in enumerate(node) if str(item.get(key)) == value]
    if len(found) > 1:
        raise OpsError(f"{step} is there {len(found)} times")
    return found[0] if found else None


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
