"""Build responses in the format of LXD and Incus (docs/development/lxd-api.md §1 and §2)."""

from __future__ import annotations

import json
from typing import Any

from bosh_lxd_cpi.lxd.transport import HttpResponse


def sync(metadata: Any = None, *, etag: str = "") -> HttpResponse:
    """Return a response to a request that the server completes at once."""
    body = {
        "type": "sync",
        "status": "Success",
        "status_code": 200,
        "operation": "",
        "error_code": 0,
        "error": "",
        "metadata": metadata,
    }
    return HttpResponse(200, {"ETag": etag} if etag else {}, json.dumps(body).encode())


def asynchronous(operation: str = "/1.0/operations/op-1") -> HttpResponse:
    """Return a response to a request that starts an operation."""
    body = {
        "type": "async",
        "status": "Operation created",
        "status_code": 100,
        "operation": operation,
        "error_code": 0,
        "error": "",
        "metadata": {"id": operation.rsplit("/", 1)[-1]},
    }
    return HttpResponse(202, {"Location": operation}, json.dumps(body).encode())


def error(message: str, code: int = 500, *, status: int | None = None) -> HttpResponse:
    """Return an error response. `status` is the HTTP status, by default the error code."""
    body = {"type": "error", "error": message, "error_code": code, "metadata": None, "status": "", "status_code": 0}
    return HttpResponse(code if status is None else status, {}, json.dumps(body).encode() + b"\n\n")


def done(**metadata: Any) -> HttpResponse:
    """Return an operation that succeeded."""
    return sync({"id": "op-1", "status": "Success", "status_code": 200, "metadata": metadata or None, "err": ""})


def running() -> HttpResponse:
    """Return an operation that is still running."""
    return sync({"id": "op-1", "status": "Running", "status_code": 103, "metadata": None, "err": ""})


def failed(message: str, code: int = 400, **fields: Any) -> HttpResponse:
    """Return an operation that failed."""
    return sync({"id": "op-1", "status": "Failure", "status_code": code, "metadata": None, "err": message, **fields})


def error_with_http_200(message: str = "context deadline exceeded") -> HttpResponse:
    """Return the error that a wait sends under HTTP 200 when it times out or the operation failed."""
    return error(message, 500, status=200)
