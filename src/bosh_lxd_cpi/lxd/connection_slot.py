"""The place of an idle connection."""

from __future__ import annotations

import queue
from typing import Any


class ConnectionSlot:
    """Replaces the queue of a urllib3 pool that has one connection.

    queue.LifoQueue has a lock. A signal handler that raises an exception can interrupt it between acquiring the lock
    and the block that releases it. Then the next request, such as one of the rollback, would wait forever.
    """

    def __init__(self, maxsize: int) -> None:
        self._connection: Any = None

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Return the connection and forget it. Raises queue.Empty if there is none."""
        connection, self._connection = self._connection, None
        if connection is None:
            raise queue.Empty
        return connection

    def put(self, connection: Any, block: bool = True) -> None:
        """Keep a connection."""
        self._connection = connection
