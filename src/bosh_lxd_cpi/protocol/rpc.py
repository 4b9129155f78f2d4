"""The wire: one JSON request on stdin, one JSON answer on stdout, exit status 0 whatever happens.

bosh-cli throws the answer away when the status is not 0, and the director cannot read an answer with anything else
around it (facts: bosh-contract 1.1); so the real stdout is moved out of reach before anything else happens.
"""

from __future__ import annotations

import os

from bosh_lxd_cpi import errors

TYPE_CHECKING = False  # importing typing would cost `info` as much as starting Python does
if TYPE_CHECKING:
    from typing import Any

INFO = b'{"result":{"stemcell_formats":["openstack-qcow2","openstack-raw"],"api_version":2},"error":null,"log":""}'
"""The one answer that is needed before every other: written out, so that nothing has to be imported for it."""

LONGEST_MESSAGE = 2000
"""Characters of an error; what it quotes may be of any length, and its end holds the hint."""


class Request:
    """What BOSH asks."""

    def __init__(self, method: str, arguments: list[Any], context: dict[str, Any]) -> None:
        self.method, self.arguments, self.context = method, arguments, context

    @property
    def id(self) -> str:
        """The director's name for this call; bosh-cli gives none."""
        return str(self.context.get("request_id") or "-")

    @property
    def director(self) -> str:
        return str(self.context.get("director_uuid") or "")


class _Plain:
    """What the C scanner of the standard library asks of a decoder."""

    strict, object_hook, object_pairs_hook, array_hook, memo = True, None, None, None, None
    parse_float, parse_int, parse_constant = float, int, float


def loads(text: str) -> Any:
    """json.loads, without the regular expressions that importing json costs: as much as starting Python.

    Raises ValueError.
    """
    text = text.strip(" \t\n\r")
    try:
        from _json import make_scanner

        value, end = make_scanner(_Plain)(text, 0)
        if end == len(text):
            return value
    except (ImportError, StopIteration, SystemError, AttributeError, TypeError):
        pass  # the scanner wants to raise what only json.decoder has, or a later Python asks for more
    import json

    return json.loads(text)


def parse(raw: bytes) -> Request:
    """Raises BadRequest."""
    try:
        document = loads(raw.decode())
    except (ValueError, RecursionError) as failure:
        raise errors.BadRequest(f"the request on stdin is not JSON: {str(failure)[:200]}") from None
    if not isinstance(document, dict):
        raise errors.BadRequest(f"the request on stdin must be a JSON object, not {type(document).__name__}")
    method, arguments, context = document.get("method"), document.get("arguments"), document.get("context")
    if not isinstance(method, str) or not method:
        raise errors.BadRequest("the request names no method")
    if not isinstance(arguments if arguments is not None else [], list):
        raise errors.BadRequest("the request's arguments must be an array")
    if not isinstance(context if context is not None else {}, dict):
        raise errors.BadRequest("the request's context must be an object")
    return Request(method, arguments or [], context or {})


def success(result: Any) -> bytes:
    """The answer of a call that went well."""
    import json

    return json.dumps({"result": result, "error": None, "log": ""}).encode()


def failure(error: BaseException, redact: Any = str) -> bytes:
    """The answer of a call that did not; `log` stays empty, since stderr has it all."""
    import json

    known = isinstance(error, errors.CpiError)
    message = redact(error.message if known else f"unexpected {type(error).__name__}: {error}")
    if len(message) > LONGEST_MESSAGE:
        message = f"{message[: LONGEST_MESSAGE // 2]} ... {message[-LONGEST_MESSAGE // 2 :]}"
    return json.dumps(
        {
            "result": None,
            "log": "",
            "error": {
                "type": error.type if known else errors.CpiError.type,
                "message": message,
                "ok_to_retry": bool(known and error.ok_to_retry),
            },
        }
    ).encode()


def claim_stdout() -> int:
    """Move stdout to a descriptor of our own and send file descriptor 1 to stderr; answers the descriptor.

    A standard descriptor that the caller closed leads to /dev/null from now on: else the next file would get its number.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    ours = os.dup(1)
    os.dup2(2, 1)
    return ours


def write(descriptor: int, answer: bytes) -> bool:
    """Write the answer whole, and close: BOSH reads to the end. Answers whether anybody is there to read it."""
    answer += b"\n"
    try:
        while answer:
            answer = answer[os.write(descriptor, answer) :]
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
