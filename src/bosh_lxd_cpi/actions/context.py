"""What every action gets: one call's configuration, server, time and log."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from bosh_lxd_cpi import errors, hints
from bosh_lxd_cpi.config.schema import Config
from bosh_lxd_cpi.lxd import operations
from bosh_lxd_cpi.lxd.client import Client
from bosh_lxd_cpi.lxd.envelope import Response
from bosh_lxd_cpi.lxd.features import Features, features
from bosh_lxd_cpi.model import naming
from bosh_lxd_cpi.runtime.clock import Clock, Deadline
from bosh_lxd_cpi.runtime.log import Log
from bosh_lxd_cpi.runtime.rollback import Rollback

ROLLBACK_SECONDS = 600.0
"""Time to clean up after a failure, on top of the call's deadline: a creation under way has to end before."""


class Cpi:
    """One call."""

    def __init__(self, *, config: Config, client: Client, clock: Clock, log: Log, director: str) -> None:
        self.config, self.client, self.clock, self.log, self.director = config, client, clock, log, director
        client.names["pool"] = config.server.storage_pool_name
        if config.server.type:
            client.names["client"] = "incus" if config.server.type == "incus" else "lxc"

    def features(self) -> Features:
        """Ask the server what it is: one request. Raises Untrusted."""
        found = features(self.client.server().metadata)
        self.client.names["client"] = found.client
        if not found.trusted:
            raise errors.Untrusted(
                f"the server at {self.config.server.url} does not trust our client certificate",
                hint=hints.text("certificate_not_trusted", client=found.client),
            )
        return found

    def new_id(self) -> str:
        """A UUID for something new."""
        return naming.new_id(self.clock, self.director)

    def marks(self) -> dict[str, str]:
        """Configuration keys that say whose a resource is. (BOSH's own metadata has a `director`: its name.)"""
        return {"user.bosh.director_uuid": self.director, "user.bosh.created_at": self.clock.now()}

    def run_operation(
        self, request: Callable[[], Response], *, what: str, name: str = "", is_done: Callable[[], bool] | None = None
    ) -> dict[str, Any]:
        """See `operations.finish`."""
        return operations.run_operation(self.client, request, what=what, name=name, is_done=is_done)

    def exclusive(self, name: str) -> AbstractContextManager[None]:
        """Keep other calls on this machine, and cleanup, from `name`. Raises DeadlineExceeded when it is not free in time."""
        from bosh_lxd_cpi.runtime import locks

        return locks.creating(self.config.lock_directory(), name, self.log, sleep=self.client.deadline.sleep)

    def rollback(self) -> Rollback:
        """Steps to take back when this call fails, with time of their own."""
        return Rollback(self.log, before=self._allow_undoing)

    def _allow_undoing(self) -> None:
        self.client.deadline = Deadline(self.clock, ROLLBACK_SECONDS, what="cleaning up after the failure")


def identifier(value: Any, what: str) -> str:
    """A CID as BOSH sends it. Raises BadRequest for what no CID of ours can be."""
    if not isinstance(value, str) or not value or len(value) > 200 or not set(value) <= ALLOWED or value[0] == ".":
        raise errors.BadRequest(f"{what} must be a CID, not {str(value)[:60]!r}")
    return value


ALLOWED = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
