"""Takes secrets out of documents and drives, without changing the length of anything.

Every secret becomes as many stars as it has signs in JSON. So a call that is played back with stars for secrets builds
the very bytes that were recorded, a config drive too, and its hash can be told without being a hash of secrets.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from bosh_lxd_cpi.runtime.log import SECRET_WORDS, SHORTEST_SECRET, forms_of, passwords_in, secrets_in, strings_in

PRIVATE = ("certificate", "certificate_fingerprint", "auth_user_name", "server_name", "addresses", "kernel_version")
"""What a server says about itself that is nobody else's business."""
PEM = "-----BEGIN"


class Redactor:
    """Knows the secrets of one call: those in the documents it was given, and those it is told."""

    def __init__(self, documents: Iterable[Any] = (), secrets: Iterable[str] = ()) -> None:
        documents = list(documents)
        known = {*secrets, *secrets_in(documents), *(text for text in strings_in(documents) if PEM in text)}
        pieces = {piece for secret in known for piece in _pieces(secret)}
        forms = {form: _stars(piece) for piece in pieces for form in forms_of(piece) if len(form) >= SHORTEST_SECRET}
        self._forms = sorted(forms.items(), key=lambda form: len(form[0]), reverse=True)

    def document(self, value: Any, *, private: tuple[str, ...] = ()) -> Any:
        """The document with stars for secrets: by their value anywhere, and under a key whose name says so.

        `private` are names of keys whose texts are taken out, too.
        """
        if isinstance(value, dict):
            return {
                key: self._hidden(below)
                if _is_secret(str(key)) or key in private
                else self.document(below, private=private)
                for key, below in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.document(item, private=private) for item in value]
        return self.text(value) if isinstance(value, str) else value

    def text(self, text: str) -> str:
        """The text with stars for secrets."""
        if PEM in text:
            return _stars(text)
        for form, stars in self._forms:
            text = text.replace(form, stars)
        return text

    def content(self, content: bytes) -> bytes:
        """The bytes with stars for secrets, of the same length if these stand there as JSON writes them."""
        for form, stars in self._forms:
            content = content.replace(form.encode("utf-8", "surrogatepass"), stars.encode())
        return content

    def _hidden(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._hidden(below) for key, below in value.items()}
        if isinstance(value, list):
            return [self._hidden(item) for item in value]
        return _stars(value) if isinstance(value, str) and len(value) >= SHORTEST_SECRET else value


def _is_secret(key: str) -> bool:
    return any(word in key.lower() for word in SECRET_WORDS)


def _pieces(secret: str) -> Iterator[str]:
    """The secret, its lines, and the password in it."""
    for piece in (secret, *secret.splitlines(), *passwords_in(secret)):
        if len(piece) >= SHORTEST_SECRET and (piece == secret or not piece.startswith("-----")):
            yield piece


def _stars(text: str) -> str:
    return "*" * len(json.dumps(text)[1:-1])
