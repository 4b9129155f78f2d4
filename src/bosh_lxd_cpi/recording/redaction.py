"""Replaces secrets in documents and config drives by asterisks without a change of length.

Each secret is replaced by as many asterisks as it has characters in JSON. A replay with redacted settings therefore
builds a config drive with the same size and the same bytes as the redacted recorded drive, and the recorded hash is the
hash of the redacted drive.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from bosh_lxd_cpi.runtime.log import SECRET_KEY, SHORTEST_SECRET, forms_of, passwords_in, secrets_in, strings_in

PRIVATE_KEYS = (
    "certificate",
    "certificate_fingerprint",
    "auth_user_name",
    "server_name",
    "addresses",
    "kernel_version",
)
"""Keys in responses of the server that identify the machine."""
OPERATORS_OPTION = re.compile(r"(cloud-init|environment|user)\.(?!bosh\.)")
"""Matches options of instances and profiles whose content is up to the operator, and which the CPI does not read."""
PEM = "-----BEGIN"


class Redactor:
    """Redacts the secrets of one call: those in its documents, and further ones."""

    def __init__(self, documents: Iterable[Any] = (), secrets: Iterable[str] = ()) -> None:
        documents = list(documents)
        values = {*secrets, *secrets_in(documents), *(text for text in strings_in(documents) if PEM in text)}
        parts = {part for secret in values for part in _parts(secret)}
        forms = {form: _asterisks(part) for part in parts for form in forms_of(part) if len(form) >= SHORTEST_SECRET}
        self._forms = sorted(forms.items(), key=lambda form: len(form[0]), reverse=True)

    def redact(self, value: Any, *, private: tuple[str, ...] = ()) -> Any:
        """Return a document with asterisks for each secret value, and for each string under a secret or private key."""
        if isinstance(value, dict):
            return self.redact_mapping(value, private=private)
        if isinstance(value, (list, tuple)):
            return [self.redact(item, private=private) for item in value]
        return self.redact_string(value) if isinstance(value, str) else value

    def redact_mapping(self, mapping: dict[str, Any], *, private: tuple[str, ...] = ()) -> dict[str, Any]:
        """Return a dictionary redacted like `redact` does it."""
        return {
            key: _hide(value) if _is_secret(str(key)) or key in private else self.redact(value, private=private)
            for key, value in mapping.items()
        }

    def redact_string(self, text: str) -> str:
        """Return a string with asterisks for each secret. A string with a PEM block becomes asterisks as a whole."""
        if PEM in text:
            return _asterisks(text)
        for form, asterisks in self._forms:
            text = text.replace(form, asterisks)
        return text

    def redact_bytes(self, content: bytes) -> bytes:
        """Return bytes with asterisks for each secret. The length stays the same if the secrets are JSON-encoded."""
        for form, asterisks in self._forms:
            content = content.replace(form.encode("utf-8", "surrogatepass"), asterisks.encode())
        return content


def _hide(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _hide(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_hide(item) for item in value]
    return _asterisks(value) if isinstance(value, str) and len(value) >= SHORTEST_SECRET else value


def _is_secret(key: str) -> bool:
    return bool(SECRET_KEY.search(key) or OPERATORS_OPTION.match(key))


def _parts(secret: str) -> Iterator[str]:
    """Yield the secret, its lines, and the passwords of URLs in it."""
    for part in (secret, *secret.splitlines(), *passwords_in(secret)):
        if len(part) >= SHORTEST_SECRET and (part == secret or not part.startswith("-----")):
            yield part


def _asterisks(text: str) -> str:
    return "*" * len(json.dumps(text)[1:-1])
