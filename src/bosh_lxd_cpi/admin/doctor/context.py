"""What is looked at, and what is known of it so far."""

from __future__ import annotations

from typing import Any

from bosh_lxd_cpi import hints
from bosh_lxd_cpi.admin.doctor.result import FAIL, OK, WARN, CheckResult
from bosh_lxd_cpi.config.schema import Config
from bosh_lxd_cpi.lxd.client import Client
from bosh_lxd_cpi.lxd.features import Features
from bosh_lxd_cpi.lxd.transport import Transport
from bosh_lxd_cpi.runtime.clock import Clock, Deadline
from bosh_lxd_cpi.runtime.log import Log

SECONDS = 60.0
"""Time for all checks together; a server that answers at all needs two."""


class CheckContext:
    """A configuration and its server. Checks fill in what later checks need; what is not known stays None or empty."""

    def __init__(self, settings: Config, *, clock: Clock, log: Log) -> None:
        self.settings, self.server, self.clock, self.log = settings, settings.server, clock, log
        self.transport: Transport | None = None
        self.skew = 0.0
        """Seconds that this machine's clock is ahead of the server's."""
        self.metadata: dict[str, Any] = {}
        self.features: Features | None = None
        self.restricted: list[str] | None = None
        """The projects that a restricted certificate is good for."""
        self.projects: dict[str, dict[str, Any]] = {}
        """All that we may see, by name."""
        self.has_pool = False
        self.network: dict[str, Any] | None = None
        self.names = {
            "url": self.server.url,
            "project": self.server.project_name,
            "profile": self.server.profile_name,
            "pool": self.server.storage_pool_name,
            "network": self.server.network_name,
        }
        if self.server.type:
            self.names["client"] = "incus" if self.server.type == "incus" else "lxc"

    def client(self) -> Client:
        """The server as its project sees it, or any other while that is missing. Only once there is a transport."""
        assert self.transport
        project = self.server.project_name
        if project not in self.projects:
            project = next(iter(self.projects), project)
        client = Client(
            self.transport,
            project=project,
            log=self.log,
            deadline=Deadline(self.clock, SECONDS, what="looking at the server"),
        )
        client.names.update(self.names)
        return client

    def hint(self, problem: str, **names: str) -> str:
        """What to do about a problem, with all that is known filled in."""
        return hints.text(problem, **{**self.names, **names})

    def ok(self, check: str, found: str) -> CheckResult:
        return CheckResult(check, OK, found)

    def warn(self, check: str, found: str, problem: str, **names: str) -> CheckResult:
        return CheckResult(check, WARN, found, self.hint(problem, **names))

    def fail(self, check: str, found: str, problem: str, **names: str) -> CheckResult:
        return CheckResult(check, FAIL, found, self.hint(problem, **names))
