"""What every action receives: configuration, server, time and log of one call."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.config.schema import Config
from bosh_lxd_cpi.lxd import operations
from bosh_lxd_cpi.lxd.client import Client
from bosh_lxd_cpi.lxd.envelope import Response
from bosh_lxd_cpi.lxd.features import Features, features
from bosh_lxd_cpi.model import labels, naming
from bosh_lxd_cpi.runtime import locks, server_facts
from bosh_lxd_cpi.runtime.clock import Clock, Deadline
from bosh_lxd_cpi.runtime.log import Log
from bosh_lxd_cpi.runtime.retry import RetryPolicy
from bosh_lxd_cpi.runtime.rollback import Rollback
from bosh_lxd_cpi.runtime.suggest import quote

ROLLBACK_SECONDS = 600.0
"""Time for a rollback, in addition to the call's deadline. A creation that still runs has to end before its deletion
starts."""
CHANGE_RETRY = RetryPolicy(first_pause=0.05, max_attempts=10)
"""For a change of an object that another client changes at the same time."""


class Context:
    """One call."""

    def __init__(
        self,
        *,
        config: Config,
        client: Client,
        clock: Clock,
        log: Log,
        director: str,
        change_retry: RetryPolicy = CHANGE_RETRY,
    ) -> None:
        self.config, self.client, self.clock, self.log, self.director = config, client, clock, log, director
        self.change_retry = change_retry
        self.server_kind = config.server.type
        """`lxd` or `incus`, or empty as long as neither the configuration nor the server told."""

    def features(self) -> Features:
        """Return what the server supports: one request. Raises CertificateNotTrusted."""
        server_features = features(self.client.server())
        self.server_kind = server_features.kind
        if not server_features.is_trusted:
            raise errors.CertificateNotTrusted(
                f"the server at {self.config.server.url} does not trust the client certificate",
                code="certificate_not_trusted",
            )
        if server_features.is_clustered:
            server_facts.record(self.config.lock_directory(), server_facts.CLUSTER, self.config.server.url)
        return server_features

    def hint_fields(self) -> dict[str, str]:
        """Return the fields for hints of errors that do not have them."""
        server = self.config.server
        return {
            "server": self.server_kind,
            "url": server.url,
            "project": server.project_name,
            "profile": server.profile_name,
            "pool": server.storage_pool_name,
            "network": server.network_name,
        }

    def new_id(self) -> str:
        """Return a UUID for a new object."""
        return naming.new_id(self.clock, self.director)

    def owner_labels(self) -> dict[str, str]:
        """Return the labels that say which director created an object, and when."""
        return labels.owner_labels(self.director, self.clock.now())

    def run_operation(
        self,
        request: Callable[[], Response],
        *,
        what: str,
        name: str = "",
        pool: str = "",
        is_done: Callable[[], bool] | None = None,
        start_over: Callable[[], object] | None = None,
    ) -> dict[str, Any]:
        """See `operations.run_operation`."""
        return operations.run_operation(
            self.client, request, what=what, name=name, pool=pool, is_done=is_done, start_over=start_over
        )

    def exclusive(self, name: str, *, required: bool = False) -> AbstractContextManager[None]:
        """Keep other calls on this machine, and cleanup, from the object `name`. See `locks.exclusive`."""
        return locks.exclusive(
            self.config.lock_directory(), name, log=self.log, sleep=self.client.deadline.sleep, required=required
        )

    def rollback(self) -> Rollback[Context]:
        """Return a rollback whose steps receive this context with time of their own."""
        return Rollback(self.log, prepare=self._for_rollback)

    def _for_rollback(self) -> Context:
        return self.with_deadline(Deadline(self.clock, ROLLBACK_SECONDS, what="the rollback"))

    def with_deadline(self, deadline: Deadline) -> Context:
        """Return this context with another deadline."""
        return Context(
            config=self.config,
            client=self.client.with_deadline(deadline),
            clock=self.clock,
            log=self.log,
            director=self.director,
            change_retry=self.change_retry,
        )


CID_CHARACTERS = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


def parse_cid(value: Any, name: str) -> str:
    """Return the argument `name` if it is a string that can be a CID of this CPI. Raises BadRequest."""
    if not isinstance(value, str) or not value or is_foreign(value):
        raise errors.BadRequest(f"{name} must be a CID, not {quote(value)}")
    return value


def is_foreign(cid: Any) -> bool:
    """Return whether this is a string that no object of the server has as its name, for example a CID of another cloud.

    Such an object does not exist here. Methods that look up or delete objects return without a request.
    """
    is_name = isinstance(cid, str) and len(cid) <= 200 and set(cid) <= CID_CHARACTERS and cid[:1] != "."
    return isinstance(cid, str) and not is_name
