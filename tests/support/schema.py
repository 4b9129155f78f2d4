"""Checks the JSON output of the programs against docs/reference/output.schema.json.

This supports the keywords of JSON Schema that the file uses, and fails for others.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[2] / "docs/reference/output.schema.json"
TYPES = {"array": list, "object": dict, "string": str, "integer": int, "number": (int, float), "null": type(None)}
KEYWORDS = {"type", "enum", "pattern", "items", "properties", "required", "additionalProperties", "description", "$ref"}


def check(document: Any, program: str) -> None:
    """Fail if the document is not what a program prints: the definition with this name."""
    definitions = json.loads(FILE.read_text(encoding="utf-8"))["$defs"]
    _check(document, definitions[program], definitions, program)


def _check(value: Any, schema: dict[str, Any], definitions: dict[str, Any], path: str) -> None:
    assert schema.keys() <= KEYWORDS, schema.keys() - KEYWORDS
    if "$ref" in schema:
        return _check(value, definitions[schema["$ref"].removeprefix("#/$defs/")], definitions, path)
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    assert any(isinstance(value, TYPES[name]) for name in types), f"{path} is {value!r}, not {types}"
    assert "enum" not in schema or value in schema["enum"], f"{path} is {value!r}"
    assert "pattern" not in schema or value is None or re.search(schema["pattern"], value), f"{path} is {value!r}"
    if isinstance(value, list):
        for number, item in enumerate(value):
            _check(item, schema["items"], definitions, f"{path}[{number}]")
    elif isinstance(value, dict):
        properties = schema["properties"]
        assert set(schema["required"]) <= value.keys(), f"{path} lacks {set(schema['required']) - value.keys()}"
        if schema["additionalProperties"] is False:
            assert value.keys() <= properties.keys(), f"{path} has {value.keys() - properties.keys()}"
        for key, item in value.items():
            _check(item, properties[key], definitions, f"{path}.{key}")
    return None
