"""Imports urllib3 without importlib.metadata.

Only urllib3.http2 imports importlib.metadata, for the version of the package h2. The CPI uses HTTP/1.1, and the import
takes a tenth of the time of a look-up.
"""

from __future__ import annotations

import sys
from types import ModuleType

_stub = ModuleType("importlib.metadata")
_stub.version = None  # type: ignore[attr-defined]  # the name that urllib3.http2 imports
_is_missing = sys.modules.setdefault("importlib.metadata", _stub) is _stub
try:
    import urllib3
finally:
    if _is_missing:
        del sys.modules["importlib.metadata"]  # a later import gets the real module

__all__ = ["urllib3"]
