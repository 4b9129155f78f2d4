"""What the checks share: the configuration, the connection, and what earlier checks read from the server."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

from bosh_lxd_cpi import errors, hints
from bosh_lxd_cpi.actions.connection import connection_settings, open_transport
from bosh_lxd_cpi.admin.doctor.result import CheckResult
from bosh_lxd_cpi.admin.output import FAIL, OK, SKIP, WARN
from bosh_lxd_cpi.config.schema import Config
from bosh_lxd_cpi.lxd.client import Client
from bosh_lxd_cpi.lxd.features import Features
from bosh_lxd_cpi.lxd.resources import Network, Project, Server
from bosh_lxd_cpi.lxd.transport import HttpTransport, Transport
from bosh_lxd_cpi.runtime.clock import Clock, Deadline
from bosh_lxd_cpi.runtime.log import Log
from bosh_lxd_cpi.runtime.retry import RetryPolicy

RETRY = RetryPolicy(total_seconds=3.0)
"""A problem of the server is a result, so no check waits for its end."""
SECONDS = 60.0
"""Time for each check. A server that responds needs two seconds for all of them."""


class CheckContext:
    """A configuration and its server. Each check sets the attributes that later checks need.

    Use it as a context manager, which closes the connection.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock,
        log: Log,
        progress: Callable[[str], AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> None:
        self.config, self.server, self.clock, self.log = config, config.server, clock, log
        self.progress = progress
        """Returns a context manager that shows an activity while it lasts."""
        self.transport: Transport | None = None
        """The connection, or None if the configuration does not describe one."""
        self.clock_skew = 0.0
        """Seconds that this machine's clock is ahead of the server's."""
        self.server_info = Server({}, endpoint="GET /1.0")
        """The server's properties. They are empty until the server trusts the client certificate."""
        self.features: Features | None = None
        self.restricted_projects: list[str] | None = None
        """The projects of a restricted certificate, None for an unrestricted one."""
        self.projects: dict[str, Project] = {}
        """The projects that the server shows to this client, by name."""
        self.members: list[str] = []
        """The names of the cluster's members. Empty without a cluster, or if the server hides them."""
        self.online_members: list[str] = []
        self.is_unresponsive = False
        """Whether a check failed because the server does not respond, or its database does not."""
        self.has_pool = False
        self.hides_addresses = False
        """Whether the server hides the addresses of some projects from this client."""
        self.network: Network | None = None
        self.hint_fields = {
            "server": self.server.type,
            "url": self.server.url,
            "project": self.server.project_name,
            "profile": self.server.profile_name,
            "pool": self.server.storage_pool_name,
            "network": self.server.network_name,
        }
        self._exit_stack = contextlib.ExitStack()

    def __enter__(self) -> CheckContext:
        return self

    def __exit__(self, *_: object) -> None:
        self._exit_stack.close()

    def connect(self) -> None:
        """Set the transport. Raises ConfigError. The connection is made by the first request."""
        self.transport = self._exit_stack.enter_context(open_transport(self.config, log=self.log))

    def transport_to(self, url: str) -> Transport:
        """Return a transport to one of the server's addresses."""
        assert self.transport
        if len(self.server.urls) == 1:
            return self.transport
        return self._exit_stack.enter_context(HttpTransport(connection_settings(self.server, url)))

    def client(self, *, retry: RetryPolicy = RETRY) -> Client:
        """Return a client for the configured project, or for any other project while the configured one is missing."""
        assert self.transport
        project = self.server.project_name
        if project not in self.projects:
            project = next(iter(self.projects), project)
        deadline = Deadline(self.clock, SECONDS, what="the check of the server")
        return Client(self.transport, project=project, log=self.log, deadline=deadline, retry=retry)

    def hint(self, code: str, **fields: str) -> str:
        """Return the hint for a code. `fields` override the fields of the configuration."""
        return hints.text(code, **{**self.hint_fields, **fields})

    def ok(self, check: str, message: str) -> CheckResult:
        return CheckResult(check, OK, message)

    def warn(self, check: str, message: str, code: str, **fields: str) -> CheckResult:
        return CheckResult(check, WARN, message, self.hint(code, **fields))

    def skip(self, check: str, message: str, code: str, **fields: str) -> CheckResult:
        """Return the result of a check that is not possible, because the server hides something from this client."""
        return CheckResult(check, SKIP, message, self.hint(code, **fields))

    def fail(self, check: str, message: str, code: str, **fields: str) -> CheckResult:
        return CheckResult(check, FAIL, message, self.hint(code, **fields))

    def error(self, check: str, failure: errors.CpiError, *, message: str = "") -> CheckResult:
        """Return a failure with the hint of an error. `message` replaces the brief of the error."""
        hint = hints.render(failure, **self.hint_fields) or self.hint("see_server_log")
        return CheckResult(check, FAIL, message or failure.brief, hint)
