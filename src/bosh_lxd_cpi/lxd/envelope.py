"""The envelope around every answer, and the one place that turns the server's refusals into our exceptions.

The server answers many permanent refusals with 500 and some failures under HTTP 200, so the body's `type` and the text
decide, not the status alone (facts: lxd-api 1, 2 and 11).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from bosh_lxd_cpi import errors, hints
from bosh_lxd_cpi.lxd.transport import HttpResponse


class Response(NamedTuple):
    """A success: what was asked for, or the operation that will bring it about."""

    metadata: Any
    operation: str
    """Path of the operation without its query, or empty when everything is done already."""
    etag: str


class ErrorPattern(NamedTuple):
    """A text that servers use, the class it means, and the hint."""

    pattern: str
    error: Callable[..., errors.CloudError]
    hint: str = ""


ERROR_PATTERNS = tuple(
    ErrorPattern(*row)
    for row in (
        (
            r"^not authorized|^Forbidden|Certificate is restricted|User does not have permission",
            errors.Untrusted,
            "forbidden",
        ),
        (r"No entitlements can be granted against entities of type", errors.Untrusted, "no_snapshots"),
        (
            r"Project not found|project \"?[^\" :]*\"? (not found|doesn't exist)|Failed (to )?fetch(ing)? project",
            errors.CloudError,
            "no_project",
        ),
        (
            r"Storage pool not found|Failed (to )?load(ing)? storage pool|(No|Can't find a|Cannot find a) storage pool",
            errors.CloudError,
            "no_pool",
        ),
        (r"Requested profile .* doesn't exist|Profile (\".*\" )?not found", errors.CloudError, "no_profile"),
        (
            r"Failed loading (managed )?network|Failed to load network|network .* not found|Parent device .* (doesn't|does not) exist",
            errors.CloudError,
            "no_network",
        ),
        (
            r"Missing event connection with target cluster member|cluster member (\".*\" )?is (offline|unavailable)"
            r"|Server isn't ready yet|Unable to connect to: ",
            errors.Busy,
            "member_offline",
        ),
        (r"Cluster member (\".*\" )?not found", errors.CloudError, "no_target"),
        (r"More than one cluster member has a volume", errors.Ambiguous),
        (
            r"Image not provided for instance creation|Image alias not found|Image not found",
            errors.NotFound,
            "no_image",
        ),
        (r"^Storage volume .* does not exist on pool|No such entity", errors.NotFound),
        (r"Instance type \"virtual-machine\" is not supported", errors.CloudError, "no_vms"),
        (r"required (UEFI|EDK2|BIOS|CSM|VM)? ?firmware files", errors.CloudError, "no_bios"),
        (
            r"no space left on device|disk quota exceeded|not enough (free )?space|out of space|insufficient free",
            errors.NoDiskSpace,
            "no_space",
        ),
        (r"not within network .* subnet", errors.CloudError, "address_outside"),
        (r"is assigned to parent managed network", errors.CloudError, "address_of_bridge"),
        (r"already defined on another NIC", errors.AddressTaken, "address_taken"),
        (r"Instance is protected|has delete protection enabled", errors.CloudError, "protected"),
        (
            r"agent is(n't| not) currently running|Failed (to )?connect(ing)? to (the |lxd-|incus-)?agent",
            errors.AgentNotRunning,
        ),
        (r"already (running|stopped)|^Instance is running$", errors.AlreadyInState),
        (
            r"is busy running a|matching non-reusable operation|Create \w+ operation:|database is locked|bad connection"
            r"|cannot start a transaction within|checkpoint in progress|Failed (to )?begin(ning)? transaction|is shutting down"
            r"|no available dqlite leader|is starting up|setup in progress|Shutting down|Failed delet(e|ing) .*No such file"
            r"|creating instance from image: unexpected end of JSON input",
            errors.Busy,
        ),  # LXD 5.0 reads what qemu-img says too early
        (
            r"still in use|currently in use|more than one instance|more than one VM|^In use$|: In use$"
            r"|already attached to an instance",
            errors.InUse,
        ),
        (r"UNIQUE constraint failed|already exists|already in use|same fingerprint", errors.AlreadyExists),
    )
)
BY_STATUS = {
    403: errors.Untrusted,
    404: errors.NotFound,
    409: errors.AlreadyExists,
    412: errors.PreconditionFailed,
    503: errors.Busy,
}
BY_PROXY_STATUS = {502: errors.NoResponse, 503: errors.Busy, 504: errors.NoResponse}


class WaitEnded(errors.ServerError):
    """An error under HTTP 200: a wait for an operation ended, and its headers had been sent before that was known."""


def parse(response: HttpResponse, *, what: str, names: dict[str, str]) -> Response:
    """Open an envelope. `what` says in errors which request it answers, `names` fills in the hints.

    Raises the ServerError (or CloudError) that fits the refusal.
    """
    try:
        body = json.loads(response.body)
        kind = body["type"]
    except (ValueError, TypeError, KeyError):
        text = response.body[:200].decode("utf-8", "replace").strip() or "an empty answer"
        error = BY_PROXY_STATUS.get(response.status, errors.ServerError)  # a proxy's 404 says nothing about LXD
        raise error(f"{what}: the answer, HTTP {response.status}, is not LXD's: {text}") from None
    if kind == "error" and response.status == 200:
        raise WaitEnded(body.get("error") or "no reason given")
    if kind == "error":
        status = body.get("error_code") or response.status
        raise error_for(body.get("error") or "no reason given", status=status, what=what, names=names)
    operation = body.get("operation") or "" if kind == "async" else ""
    return Response(body.get("metadata"), operation.partition("?")[0], response.headers.get("ETag") or "")


def error_for(text: str, *, status: int, what: str, names: dict[str, str]) -> errors.CloudError:
    """The exception for a refusal of a request or for the failure of an operation."""
    fault = next((fault for fault in ERROR_PATTERNS if re.search(fault.pattern, text, re.IGNORECASE)), None)
    error = fault.error if fault else BY_STATUS.get(status, errors.ServerError)
    hint = hints.text(fault.hint, **names) if fault and fault.hint else ""
    return error(f"{what}: {text}", hint=hint)
