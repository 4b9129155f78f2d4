"""Log lines on stderr, with the name of their call and without secrets.

BOSH appends stderr to the log of the task. It redacts neither stderr nor error messages, so both go through
`Log.redact`.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

REDACTED = "<redacted>"
LEVELS = ("debug", "info", "warn", "error")
SECRET_KEY = re.compile(
    r"passw|passphrase|passcode|pwd|secret|token|credential|authorization|cookie|mbus"
    r"|(private|client|access|account|api|json|encryption|cert)[_.-]?key|(?<!public)[_.-]key$|ssh[_.-]?private"
    r"|(^|[^a-z])(psk|pin|signature)$",
    re.IGNORECASE,
)
"""Matches the keys of secrets. The short words count at the end only: limits.cpu.pin_strategy is no secret."""
NAME_LENGTH = 120
SHORTEST_SECRET = 4
"""Characters. Shorter values such as "*" are no secrets, and to replace them would garble every line."""


def secrets_in(document: Any) -> Iterator[str]:
    """Yield every string under a key whose name marks it as secret, at any depth, and the passwords in URLs."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield from strings_in(value) if SECRET_KEY.search(str(key)) else secrets_in(value)
    elif isinstance(document, list):
        for item in document:
            yield from secrets_in(item)
    elif isinstance(document, str) and "://" in document:
        yield from passwords_in(document)


def passwords_in(url: str) -> Iterator[str]:
    """Yield the password of a URL such as nats://user:password@host."""
    user, at, _ = url.partition("://")[2].rpartition("@")
    if at and ":" in user:
        yield user.partition(":")[2]


def strings_in(document: Any) -> Iterator[str]:
    """Yield every string in a document."""
    if isinstance(document, dict):
        document = list(document.values())
    if isinstance(document, list):
        for item in document:
            yield from strings_in(item)
    elif isinstance(document, str):
        yield document


def forms_of(text: str) -> set[str]:
    """Return the forms of a string: as it is, in JSON, in a traceback, and encoded and decoded as in a URL."""
    import json
    from urllib.parse import quote, unquote

    return {
        text,
        json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
        repr(text)[1:-1],
        quote(text, safe="", errors="surrogatepass"),
        unquote(text),
    }


class Log:
    """The log of one call. `name` is its method and request id; a line has at most NAME_LENGTH characters of it."""

    def __init__(self, name: str, *, level: str = "info", stream: TextIO | None = None) -> None:
        self._name, self._stream = name, stream or sys.stderr
        self._threshold = LEVELS.index(level)
        self._secrets: set[str] = set()

    def set_level(self, level: str) -> None:
        self._threshold = LEVELS.index(level)

    def hide(self, secrets: Iterable[str]) -> None:
        """Replace these strings in all further output, in every form. Hide each line of a multi-line secret."""
        for secret in secrets:
            for piece in (secret, *secret.splitlines(), *passwords_in(secret)):
                if not piece.startswith("-----"):
                    self._secrets.update(form for form in forms_of(piece.strip()) if len(form) >= SHORTEST_SECRET)

    def redact(self, text: str) -> str:
        """Return the text without hidden secrets. The longest is replaced first."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, REDACTED)
        return text

    def excerpt(self, text: str, length: int) -> str:
        """Return the start of a text of others. `redact` finds only whole secrets, so it comes first."""
        return self.redact(text)[:length]

    def debug(self, text: str) -> None:
        self._write("debug", text)

    def info(self, text: str) -> None:
        self._write("info", text)

    def warn(self, text: str) -> None:
        self._write("warn", text)

    def error(self, text: str) -> None:
        self._write("error", text)

    def _write(self, level: str, text: str) -> None:
        if LEVELS.index(level) < self._threshold:
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        name = self.excerpt(self._name, NAME_LENGTH)
        with contextlib.suppress(OSError, ValueError):  # a closed or full stderr must not end the call
            for line in self.redact(text).splitlines():
                print(f"{now} {level:5} {name}: {line}", file=self._stream, flush=True)
