"""Several addresses of a cluster: the first one that accepts a connection serves the call.

An address that does not accept a connection, whose connection breaks, or whose member has lost the others, goes to the
end of the list. A file in the lock directory has its name and the time, so that the next calls try the others first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.lxd.transport import READ_SECONDS, ConnectionSettings, HttpResponse, HttpTransport
from bosh_lxd_cpi.runtime import server_facts
from bosh_lxd_cpi.runtime.clock import Clock
from bosh_lxd_cpi.runtime.log import Log

MEMORY_SECONDS = 60.0
"""Time for which other calls try the other addresses first."""
NO_DATABASE = re.compile(rb"no available (dqlite|cowsql) leader|Failed to begin transaction: context deadline exceeded")
"""Errors of a member that does not reach the majority of the cluster. It has done nothing."""
BAD_STATUS = 400
LEAST_SECONDS = 1.0
"""Time of an address for its response when the others have used up the time."""


class FailoverTransport:
    """A `Transport` to the first address that accepts a connection.

    The next request goes to another address if a connection breaks, because this address goes to the end of the list.
    The caller decides whether the same request may be sent again.
    """

    def __init__(self, addresses: Sequence[ConnectionSettings], *, directory: str, log: Log, clock: Clock) -> None:
        self._directory, self._log, self._clock = directory, log, clock
        transports = [HttpTransport(settings) for settings in addresses]
        self._transports = sorted(transports, key=lambda transport: self._has_failed(transport.url))

    def __enter__(self) -> FailoverTransport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for transport in self._transports:
            transport.__exit__(kind, error, traceback)

    @property
    def requests(self) -> int:
        """See `Transport`. An address that does not accept a connection counts, too."""
        return sum(transport.requests for transport in self._transports)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
        timeout: float = READ_SECONDS,
    ) -> HttpResponse:
        """See `Transport`. Raises Unreachable if no address accepts a connection."""
        end = self._clock.monotonic() + timeout
        is_streamed = not isinstance(body, (bytes, type(None)))
        failures, refusal = [], None
        for transport in tuple(self._transports):
            seconds = max(end - self._clock.monotonic(), LEAST_SECONDS)
            try:
                response = transport.request(method, path, query=query, headers=headers, body=body, timeout=seconds)
                if response.status < BAD_STATUS or is_streamed or not NO_DATABASE.search(response.body):
                    return response
                refusal = response
                self._set_aside(transport, f"the member at {transport.url} does not reach the database of the cluster")
            except errors.Unreachable as failure:  # nothing of the body was sent
                self._set_aside(transport, str(failure))
                failures.append(failure.brief)
            except errors.NoResponse as failure:
                self._set_aside(transport, str(failure))
                raise
        if refusal:
            return refusal
        urls = " ".join(transport.url for transport in self._transports)
        raise errors.Unreachable("; ".join(failures), code="unreachable", url=urls)

    def _set_aside(self, transport: HttpTransport, reason: str) -> None:
        self._transports.remove(transport)
        self._transports.append(transport)
        self._log.warn(f"{reason}; the next address is {self._transports[0].url}")
        server_facts.record(self._directory, server_facts.FAILED, transport.url)

    def _has_failed(self, url: str) -> bool:
        """Return whether a call failed at this address within the last minute."""
        failed_at = server_facts.recorded_at(self._directory, server_facts.FAILED, url)
        if failed_at is None:
            return False
        seconds = self._clock.time() - failed_at
        has_failed = 0 <= seconds < MEMORY_SECONDS
        if has_failed:
            self._log.info(f"{url} failed {seconds:.0f} s ago, so the other addresses come first")
        return has_failed
