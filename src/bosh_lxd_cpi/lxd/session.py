"""Sends requests of one call: in one project, before one deadline, again where that is safe."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.lxd import envelope
from bosh_lxd_cpi.lxd.envelope import Response
from bosh_lxd_cpi.lxd.transport import READ_SECONDS, Transport
from bosh_lxd_cpi.runtime.clock import Deadline
from bosh_lxd_cpi.runtime.log import Log
from bosh_lxd_cpi.runtime.retry import RetryPolicy

DEFAULT_RETRY = RetryPolicy()
MAY_CONTINUE = "the server did not respond, and may still be working on it"


def is_repeatable(method: str, failure: errors.ServerError) -> bool:
    """Return whether a request that failed this way may be sent again.

    Unreachable and Busy: the server did nothing. NoResponse: the server may have done it. A GET, PUT, PATCH or DELETE
    has the same result when it is sent twice. A POST does not, so its caller has to look at the object first (see
    `operations.run_operation`).
    """
    if isinstance(failure, (errors.Unreachable, errors.Busy)):
        return True
    return isinstance(failure, errors.NoResponse) and method != "POST"


class Session:
    """Immutable settings of a call, and `send`."""

    def __init__(
        self, transport: Transport, *, project: str, deadline: Deadline, log: Log, retry: RetryPolicy = DEFAULT_RETRY
    ) -> None:
        self.transport, self.project, self.deadline, self.log, self.retry = transport, project, deadline, log, retry

    def send(
        self,
        method: str,
        path: str,
        *,
        what: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        document: Any = None,
        body: bytes | Iterable[bytes] | None = None,
        timeout: float = READ_SECONDS,
        fields: Mapping[str, str] | None = None,
    ) -> Response:
        """Send one request, again under the retry policy, and return the content of the response.

        `what` names the request in errors, `fields` fill their hints. `document` is sent as JSON, `body` as it is; a
        body that is streamed is sent once. `timeout` is the time of the server for its response in seconds. Raises
        ServerError, CloudError and DeadlineExceeded.
        """
        if document is not None:
            body, headers = json.dumps(document).encode(), {"Content-Type": "application/json", **(headers or {})}
        is_streamed = not isinstance(body, (bytes, type(None)))
        for attempt in self.retry.attempts(self.deadline):
            started = self.deadline.clock.monotonic()
            try:
                response = self.transport.request(
                    method,
                    path,
                    query={"project": self.project, **(query or {})},
                    headers=headers,
                    body=body,
                    timeout=min(timeout, self.deadline.remaining()),
                )
                seconds = self.deadline.clock.monotonic() - started
                self.log.debug(f"{method} {path}: status {response.status} after {seconds:.3f} s")
                return envelope.parse(response, what=what, endpoint=f"{method} {path}", fields=fields or {})
            except errors.ServerError as failure:
                if isinstance(failure, errors.NoResponse) and self.deadline.has_passed:
                    raise self.deadline.exceeded(f"{what}: {MAY_CONTINUE}") from failure
                if is_streamed or not is_repeatable(method, failure) or attempt.is_last:
                    raise
                self.log.warn(f"{failure}; trying again")
        raise errors.NoResponse(f"{what}: no attempt succeeded")  # the last attempt raises, so this is for the types
