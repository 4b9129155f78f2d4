"""Parts of error messages: suggestions for misspelt names, and invalid values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

LONGEST_QUOTATION = 40
TYPES = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number", bool: "a boolean"}


def did_you_mean(name: object, valid_names: Iterable[str]) -> str:
    """Return the end of an error message: the most similar valid name, or all valid names."""
    import difflib

    candidates = sorted(valid_names)
    similar = difflib.get_close_matches(str(name), candidates, n=1, cutoff=0.5)
    return f" (did you mean {similar[0]}?)" if similar else f" (valid names: {', '.join(candidates)})"


def type_of(value: Any) -> str:
    """Return the JSON type of a value, with its article."""
    return TYPES.get(type(value), "null")


def quote(value: Any) -> str:
    """Return a short value as it is, or the type of any other one.

    A part of a value must not be quoted: `Log.redact` finds a secret only as a whole.
    """
    text = repr(value)
    return text if len(text) <= LONGEST_QUOTATION and not isinstance(value, (dict, list)) else type_of(value)
