"""Suggestions for misspelt names in error messages."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(name: object, valid_names: Iterable[str]) -> str:
    """Return the end of an error message: the most similar valid name, or all valid names."""
    import difflib

    candidates = sorted(valid_names)
    similar = difflib.get_close_matches(str(name), candidates, n=1, cutoff=0.5)
    return f" (did you mean {similar[0]}?)" if similar else f" (valid names: {', '.join(candidates)})"
