"""The validity of a certificate. The ssl module tells it only for certificates that it has verified."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import datetime, timezone

VERSION, UTC_TIME = 0xA0, 0x17
"""DER tags."""
LONGEST_SHORT_FORM = 0x7F
"""The largest first byte of a DER length that is the length itself. A larger one holds the number of its bytes."""
VALIDITY = 3
"""Position of the validity among the fields of a TBSCertificate after its version."""


def validity(pem: str) -> tuple[float, float]:
    """Return begin and end of the validity in Unix seconds. Raises ValueError if the text is not a certificate.

    RFC 5280 4.1 defines the fields: version (optional), serial number, signature, issuer, validity.
    """
    try:
        first = pem[pem.index(ssl.PEM_HEADER) : pem.index(ssl.PEM_FOOTER)]
        ((_, certificate),) = _elements(ssl.PEM_cert_to_DER_cert(first + ssl.PEM_FOOTER))
        _, body = next(_elements(certificate))
        fields = [content for tag, content in _elements(body) if tag != VERSION]
        (begin, end) = _elements(fields[VALIDITY])
        return _seconds(*begin), _seconds(*end)
    except (IndexError, StopIteration, UnicodeDecodeError, ValueError) as failure:
        raise ValueError("not a certificate") from failure


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of consecutive DER elements."""
    position = 0
    while position < len(der):
        tag, length, position = der[position], der[position + 1], position + 2
        if length > LONGEST_SHORT_FORM:
            count = length & LONGEST_SHORT_FORM
            length, position = int.from_bytes(der[position : position + count], "big"), position + count
        if position + length > len(der):
            raise ValueError("the last element is incomplete")
        yield tag, der[position : position + length]
        position += length


def _seconds(tag: int, content: bytes) -> float:
    """Return Unix seconds. UTCTime has two digits for a year from 1950 to 2049, GeneralizedTime four."""
    text = content.decode("ascii")
    if tag == UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc).timestamp()
