"""Sends the requests of one call in one project before one deadline. Repeats a request where that is safe.

A server can hide objects from a certificate that may not view them. With a certificate that it does not trust, or that
is restricted to other projects, it responds 404 to requests for images and aliases (docs/development/lxd-api.md §8).
BOSH treats a missing object as deleted. So a 404 counts only after the server has shown that the certificate may see
the project.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.lxd import envelope, paths
from bosh_lxd_cpi.lxd.envelope import Response
from bosh_lxd_cpi.lxd.resources import ClusterMember, several
from bosh_lxd_cpi.lxd.transport import READ_SECONDS, Transport
from bosh_lxd_cpi.runtime.clock import Deadline
from bosh_lxd_cpi.runtime.log import Log
from bosh_lxd_cpi.runtime.retry import RetryPolicy

DEFAULT_RETRY = RetryPolicy()
MAY_CONTINUE = "the server did not respond, and may still be working on it"
PROJECTS = "/1.0/projects/"
UNCHECKED_PATHS = (PROJECTS, "/1.0/operations/")
"""Starts of paths whose 404 is not checked: projects, and operations, whose 404 does not refer to an object."""


def _needs_project(path: str) -> bool:
    """Return whether a server shows this path only to a certificate that may see the project."""
    return path.startswith((PROJECTS, "/1.0/instances/")) or "/volumes/custom/" in path


def is_repeatable(method: str, failure: errors.ServerError) -> bool:
    """Return whether a request that failed this way may be sent again.

    Unreachable, Busy and MemberUnavailable: the server did nothing. NoResponse: the server may have done it. A GET,
    PUT, PATCH or DELETE has the same result when it is sent twice. A POST does not, so its caller has to look at the
    object first (see `operations.run_operation`).
    """
    if isinstance(failure, (errors.Unreachable, errors.Busy, errors.MemberUnavailable)):
        return True
    return isinstance(failure, errors.NoResponse) and method != "POST"


class Session:
    """The settings of a call, and `send`."""

    def __init__(
        self, transport: Transport, *, project: str, deadline: Deadline, log: Log, retry: RetryPolicy = DEFAULT_RETRY
    ) -> None:
        self.transport, self.project, self.deadline, self.log, self.retry = transport, project, deadline, log, retry
        self.project_is_visible = False
        """Whether the server has shown something of the project, or changed something in it, for this certificate."""

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
        ServerError, CloudError and DeadlineExceeded. Before NotFound is raised, the server has to show the project.
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
                content = envelope.parse(
                    response,
                    what=what,
                    endpoint=f"{method} {path}",
                    fields=fields or {},
                    redact=self.log.redact,
                )
                self.project_is_visible = self.project_is_visible or method != "GET" or _needs_project(path)
                return content
            except errors.NotFound:
                if not self.project_is_visible and not path.startswith(UNCHECKED_PATHS):
                    self._read_project()
                raise
            except errors.ServerError as failure:
                if isinstance(failure, errors.NoResponse) and self.deadline.has_passed:
                    raise self.deadline.exceeded(f"{what}: {MAY_CONTINUE}") from failure
                if isinstance(failure, errors.MemberUnavailable) and (named := self.name_members(failure)):
                    raise named from failure
                if is_streamed or not is_repeatable(method, failure) or attempt.is_last:
                    raise
                self.log.warn(f"{failure}; trying again")
        raise errors.NoResponse(
            f"{what}: no attempt succeeded"
        )  # the last attempt raises, so this line is for the type checker

    def name_members(self, failure: errors.MemberUnavailable) -> errors.MemberUnavailable | None:
        """Return the error with the names of the members that are not online.

        Return None if the error has them already, if the server hides them, or if all are online. Then the member may
        have restarted. A member is online until it has sent no heartbeat for `cluster.offline_threshold` seconds. After
        a healing, an offline member is listed as evacuated.
        """
        if "member" in failure.fields:
            return None
        path = "/1.0/cluster/members"
        try:
            response = self.send("GET", path, what="listing the cluster's members", query={"recursion": "1"})
        except errors.Forbidden:
            return None
        members = several(ClusterMember, response, f"GET {path}")
        names = ", ".join(member.server_name for member in members if not member.is_online)
        if not names:
            return None
        brief, fields = f"{failure.brief}; not online: {names}", {**failure.fields, "member": names}
        return errors.MemberUnavailable(brief, detail=failure.detail, code=failure.code, **fields)

    def _read_project(self) -> None:
        """Raise the error of a server that does not show the project: Forbidden, or CloudError if it is missing."""
        try:
            self.send("GET", f"{PROJECTS}{paths.segment(self.project)}", what=f"reading project {self.project}")
        except errors.NotFound:
            raise errors.CloudError(f"there is no project {self.project}", code="no_project") from None
