"""The page of the CPI methods, from protocol/methods.py, the docstrings of the actions, and requests.md."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.protocol import methods
from tools.docs.markdown import table

REQUESTS = Path(__file__).resolve().parents[2] / "docs/reference/requests.md"

HEAD = """\
# CPI methods

`bin/docs` generates this page from the code and from [the requests of each call](requests.md).

BOSH calls these methods with JSON on stdin. An argument in brackets is optional. Every method can also fail because the
server cannot be reached, does not respond in time, or does not allow the request: see [errors](errors.md). The deadline
is the time for the whole call, without the wait for a slot. A throttled method waits for a slot if
[throttling](job-properties.md#throttling) is enabled. The requests are those of a single server, by its version.
"""

WITHOUT_SERVER = ("info", "calculate_vm_cloud_properties")
RESULTS = {
    "str": "string",
    "bool": "boolean",
    "None": "null",
    "list[str]": "array of strings",
    "list[Any]": "array",
    "dict[str, str]": "object",
    "dict[str, Any]": "object",
}


def page() -> str:
    """Return the page."""
    counts = _request_counts(REQUESTS.read_text("utf-8"))
    parts = [HEAD]
    for name in sorted([*methods.METHODS, *WITHOUT_SERVER]):
        parts.append(_section(name, counts.get(name, {})))
    return "\n".join(parts)


def _section(name: str, counts: dict[str, str]) -> str:
    method = methods.METHODS.get(name)
    function = getattr(methods, name) if method is None else _action(method.action)
    documentation = inspect.getdoc(function) or ""
    facts = [("Arguments", _arguments(function)), ("Result", RESULTS[inspect.signature(function).return_annotation])]
    if raised := [word for word in _raised(documentation) if hasattr(errors, word)]:
        facts.append(("Errors", ", ".join(f"[{word}](errors.md#types)" for word in raised)))
    if method:
        facts += [("Deadline", f"{method.deadline / 60:.0f} min"), ("Throttled", "yes" if method.throttled else "no")]
    facts.append(("Requests", "<br>".join(number + case for case, number in counts.items()) or "0"))
    return f"## {name}\n\n{documentation}\n\n{table(('', ''), facts)}"


def _action(path: str) -> Any:
    module, _, function = path.partition(".")
    return getattr(importlib.import_module(f"bosh_lxd_cpi.actions.{module}"), function)


def _arguments(function: Any) -> str:
    parameters = [item for item in inspect.signature(function).parameters.values() if item.name != "context"]
    names = [f"`{item.name}`" if item.default is item.empty else f"[`{item.name}`]" for item in parameters]
    return ", ".join(names) or "none"


def _raised(documentation: str) -> list[str]:
    """Return the capitalised words of the sentences that start with Raises, in order."""
    sentences = re.findall(r"\bRaises? ([^.]*)", documentation)
    return list(dict.fromkeys(word for sentence in sentences for word in re.findall(r"\b[A-Z]\w+[a-z]\b", sentence)))


def _request_counts(text: str) -> dict[str, dict[str, str]]:
    """Return the number of requests of each method and case, with the servers that differ from Incus 6.0."""
    counts: dict[str, dict[str, str]] = {}
    for part in text.split("\n## ")[1:]:
        server = part.partition("\n")[0]
        for title, number in re.findall(r"^\| (\w[^|]*) \| (\d+) \|", part, re.MULTILINE):
            method, _, case = re.sub(r"^(\w+),? ?", r"\1\n", title).partition("\n")
            cases = counts.setdefault(method, {})
            key = f", {case}" if case else ""
            cases[key] = f"{cases[key]} ({number} on {server})" if key in cases else number
    return counts
