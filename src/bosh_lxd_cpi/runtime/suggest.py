"""Names and values in error messages: misspelt names and their suggestions, and invalid values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

LONGEST_QUOTATION = 40
TYPES = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number", bool: "a boolean"}

LONGEST = 100
"""Characters of a name that are compared."""


def did_you_mean(name: object, valid_names: Iterable[str]) -> str:
    """Return the end of an error message: the most similar valid name, or all valid names."""
    import difflib

    candidates = sorted(valid_names)
    similar = difflib.get_close_matches(str(name)[:LONGEST], candidates, n=1, cutoff=0.5)
    return f" (did you mean {similar[0]}?)" if similar else f" (valid names: {', '.join(candidates)})"


def type_of(value: Any) -> str:
    """Return the JSON type of a value, with its article."""
    return TYPES.get(type(value), "null")


def quote(value: Any) -> str:
    """Return a short value as it is, or the type of any other one.

    A part of a value must not be quoted: `Log.redact` finds a secret only as a whole.
    """
    if isinstance(value, (dict, list)):  # its text can have any length
        return type_of(value)
    text = repr(value)
    return text if len(text) <= LONGEST_QUOTATION else type_of(value)


def is_similar(name: str, valid_names: Iterable[str]) -> bool:
    """Return whether a name is probably meant to be a valid one.

    It has a typing error such as `ulr`, or the spelling of another tool, such as `URL`, `tls-client-key`, `server.url`.
    """
    import difflib

    names, words = list(valid_names), name[-LONGEST:].rpartition(".")[2].lower().replace("-", "_")
    if any(sorted(words) == sorted(valid) for valid in names):
        return True
    return bool(difflib.get_close_matches(words, names, n=1, cutoff=0.8))
