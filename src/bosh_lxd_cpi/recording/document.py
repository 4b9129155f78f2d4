"""The file format of captures and fixtures: JSON in a readable layout.

A fixture can refer to values that several recordings contain. They stand in a file next to it, by their hash:

    vm.json       {"format": 1, "shared": "shared.json", ... {"metadata": {"$shared": "0123456789abcdef"}}}
    shared.json   {"0123456789abcdef": {"api_extensions": ...}}

A capture that the CPI writes contains no references.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bosh_lxd_cpi import errors

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1
REFERENCE = "$shared"
LINE_LENGTH = 120


def load(path: Path) -> dict[str, Any]:
    """Return a capture or fixture with all references replaced by the values.

    Raises ConfigError if the file cannot be read, is not a capture, or refers to a missing value.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict) or document.get("format") != FORMAT or "calls" not in document:
            raise errors.ConfigError(f"{path} is not a capture of format {FORMAT}")
        if name := document.pop("shared", ""):
            values = json.loads(path.with_name(name).read_text(encoding="utf-8"))
            document = resolve(document, values)
    except (OSError, ValueError) as error:
        raise errors.ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except KeyError as error:
        raise errors.ConfigError(f"{path} refers to a value that is missing in {name}: {error}") from None
    return dict(document)


def resolve(document: Any, values: dict[str, Any]) -> Any:
    """Return a document with a copy of the value in place of each reference. Raises KeyError for a missing value."""
    if isinstance(document, dict):
        if document.keys() == {REFERENCE}:
            return resolve(values[document[REFERENCE]], values)
        return {key: resolve(value, values) for key, value in document.items()}
    if isinstance(document, list):
        return [resolve(item, values) for item in document]
    return document


def format_document(document: Any) -> str:
    """Return a document as JSON with lines of at most 120 characters, long strings and lists of strings excepted."""
    return _format(document, indent=0, column=0) + "\n"


def _format(value: Any, *, indent: int, column: int) -> str:
    """Return a value on one line if it fits behind `column`, otherwise with as many members per line as fit.

    The brackets that close nested values at the same place stand on one line.
    """
    line = json.dumps(value, ensure_ascii=False)
    is_list_of_strings = isinstance(value, list) and all(isinstance(item, str) for item in value)
    if not isinstance(value, (dict, list)) or is_list_of_strings or column + len(line) < LINE_LENGTH:
        return line
    indent += 1
    if isinstance(value, list):
        members, brackets = [("", item) for item in value], "[]"
    else:
        members, brackets = [(f"{json.dumps(key, ensure_ascii=False)}: ", item) for key, item in value.items()], "{}"
    lines: list[str] = []
    is_open = False  # whether another member can be added to the last line
    for key, item in members:
        text = key + _format(item, indent=indent, column=indent + len(key))
        is_short = "\n" not in text
        if is_open and is_short and len(lines[-1]) + len(text) + 2 < LINE_LENGTH:
            lines[-1] += f", {text}"
        else:
            lines.append(" " * indent + text)
        is_open = is_short
    end = "" if not is_open else "\n" + " " * (indent - 1)
    return f"{brackets[0]}\n" + ",\n".join(lines) + end + brackets[1]
