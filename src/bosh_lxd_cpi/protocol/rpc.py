"""The protocol of a CPI: one JSON request on stdin, one JSON response on stdout, exit status 0 in every case.

bosh-cli discards the response when the status is not 0, and the director cannot read a response with anything else
around it (docs/development/bosh-contract.md §1.1). So stdout moves to another descriptor before anything else happens.
"""

from __future__ import annotations

import json
import os

from bosh_lxd_cpi import errors

TYPE_CHECKING = False  # the import of typing takes as long as the start of Python, and `info` does not need it
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

INFO = b'{"result":{"stemcell_formats":["openstack-qcow2","openstack-raw"],"api_version":2},"error":null,"log":""}'
"""The response to `info`, which BOSH requests before every other method."""

MAX_MESSAGE_CHARACTERS = 2000
"""Length of an error message. It may quote values of any length, and its end is the hint."""


class Request:
    """A request of BOSH."""

    def __init__(self, method: str, arguments: list[Any], context: dict[str, Any]) -> None:
        self.method, self.arguments, self.context = method, arguments, context

    @property
    def id(self) -> str:
        """The director's name for this call. bosh-cli sends none."""
        return str(self.context.get("request_id") or "-")

    @property
    def director(self) -> str:
        """The UUID of the director, or an empty string."""
        return str(self.context.get("director_uuid") or "")


def parse(raw: bytes) -> Request:
    """Return the request. Raises BadRequest."""
    try:
        document = json.loads(raw.decode())
    except (ValueError, RecursionError) as failure:
        raise errors.BadRequest(f"the request on stdin is not JSON: {failure}") from None
    if not isinstance(document, dict):
        raise errors.BadRequest(f"the request on stdin must be a JSON object, not {type(document).__name__}")
    method, arguments, context = document.get("method"), document.get("arguments"), document.get("context")
    if not isinstance(method, str) or not method:
        raise errors.BadRequest("the request has no method")
    if not isinstance(arguments if arguments is not None else [], list):
        raise errors.BadRequest("the request's arguments must be an array")
    if not isinstance(context if context is not None else {}, dict):
        raise errors.BadRequest("the request's context must be an object")
    return Request(method, arguments or [], context or {})


def success(result: Any) -> bytes:
    """Return the response with a result."""
    return json.dumps({"result": result, "error": None, "log": ""}).encode()


def failure(
    error: BaseException, *, redact: Callable[[str], str] = str, hint_fields: Mapping[str, str] | None = None
) -> bytes:
    """Return the response with an error and its hint. `log` is empty, because the log is on stderr.

    `redact` removes secrets from the message. `hint_fields` fill the placeholders of the hint.
    """
    kind, ok_to_retry = errors.CpiError.type, False
    if isinstance(error, (errors.CpiError, errors.Interrupted)):
        from bosh_lxd_cpi import hints

        kind, message = error.type, hints.message(error, **(hint_fields or {}))
        ok_to_retry = isinstance(error, errors.CpiError) and error.ok_to_retry
    else:
        message = f"internal error of the CPI, please report it with its log: {type(error).__name__}: {error}"
    message = redact(message)
    if len(message) > MAX_MESSAGE_CHARACTERS:
        message = f"{message[: MAX_MESSAGE_CHARACTERS // 2]} ... {message[-MAX_MESSAGE_CHARACTERS // 2 :]}"
    document = {"type": kind, "message": message, "ok_to_retry": ok_to_retry}
    return json.dumps({"result": None, "log": "", "error": document}).encode()


def claim_stdout() -> int:
    """Move stdout to a new descriptor, send descriptor 1 to stderr, and return the new descriptor.

    A standard descriptor that the caller closed is opened to /dev/null. Otherwise the next file would get its number.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    stdout = os.dup(1)
    os.dup2(2, 1)
    return stdout


def write(descriptor: int, response: bytes) -> bool:
    """Write the whole response and close the descriptor. Return whether the reader received it."""
    response += b"\n"
    try:
        while response:
            response = response[os.write(descriptor, response) :]
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
