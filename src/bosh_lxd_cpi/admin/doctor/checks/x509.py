"""When a certificate is valid. The ssl module does not say this of a certificate that it has not verified."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import datetime, timezone

VERSION, SEQUENCE, UTC_TIME = 0xA0, 0x30, 0x17


def validity(pem: str) -> tuple[float, float]:
    """The first and the last moment, in Unix seconds. Raises ValueError for what is no certificate.

    Certificate and TBSCertificate are RFC 5280 4.1: version (optional), serial number, signature, issuer, validity.
    """
    try:
        first = pem[pem.index(ssl.PEM_HEADER) : pem.index(ssl.PEM_FOOTER)]
        ((_, certificate),) = _elements(ssl.PEM_cert_to_DER_cert(first + ssl.PEM_FOOTER))
        _, body = next(_elements(certificate))
        fields = [element for element in _elements(body) if element[0] != VERSION]
        (begin, end) = _elements(fields[3][1])
        return _seconds(*begin), _seconds(*end)
    except (IndexError, StopIteration, UnicodeDecodeError, ValueError) as failure:
        raise ValueError("not a certificate") from failure


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each DER element in a row."""
    at = 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length > 0x7F:
            count = length & 0x7F
            length, at = int.from_bytes(der[at : at + count], "big"), at + count
        if at + length > len(der):
            raise ValueError("cut off")
        yield tag, der[at : at + length]
        at += length


def _seconds(tag: int, content: bytes) -> float:
    """UTCTime has two digits for a year from 1950 to 2049, GeneralizedTime four."""
    text = content.decode("ascii")
    if tag == UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc).timestamp()
