"""The envelope around every response, and the one place that maps refusals of the server to exceptions.

The server answers many permanent refusals with status 500, and some failures with status 200. So the `type` of the body
and the text of the error decide, and the HTTP status only where these say nothing (docs/development/lxd-api.md §1, §2
and §11).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.lxd.transport import HttpResponse

Value = TypeVar("Value")


class Response(NamedTuple):
    """A success: the requested document, or the operation that works on the request."""

    metadata: Any
    operation: str
    """Path of the operation without query, or empty when the request is complete."""
    etag: str


class ErrorPattern(NamedTuple):
    """An error text of the servers, the exception for it, and the code and the fields of its hint.

    Named groups of the pattern are further fields.
    """

    pattern: str
    error: Callable[..., errors.CloudError]
    code: str = ""
    fields: Mapping[str, str] = {}


def _setting(pattern: str, key: str, value: str) -> ErrorPattern:
    """Return the pattern for something that a restricted project does not allow, unless `key` has this value."""
    return ErrorPattern(pattern, errors.CloudError, "project_setting", {"key": key, "value": value})


ERROR_PATTERNS = (
    ErrorPattern(
        r"^not authorized|^Forbidden|Certificate is restricted|User does not have permission",
        errors.Forbidden,
        "forbidden",
    ),
    ErrorPattern(
        r"No entitlements can be granted against entities of type",
        errors.Forbidden,
        "no_snapshots",
    ),
    # LXD returns only this text for objects that a fine-grained identity may not view (lxd/auth/drivers/openfga.go).
    ErrorPattern(r"(?-i:^Not Found$)", errors.NotFound, "no_entitlement"),
    ErrorPattern(r"for \"(?P<key>limits\.disk[^\"]*)\" in project", errors.NoDiskSpace, "project_limit"),
    ErrorPattern(r"for \"(?P<key>limits\.[^\"]+)\" in project", errors.CloudError, "project_limit"),
    ErrorPattern(
        r"Reached maximum number of instances of type",
        errors.CloudError,
        "project_limit",
        {"key": "limits.virtual-machines"},
    ),
    ErrorPattern(
        r"Reached maximum number of instances in", errors.CloudError, "project_limit", {"key": "limits.instances"}
    ),
    ErrorPattern(
        r"Only managed network devices are allowed|Network not allowed in project",
        errors.CloudError,
        "network_not_allowed",
    ),
    _setting(r"Network devices are forbidden", "restricted.devices.nic", "managed"),
    _setting(r"Disk devices are forbidden", "restricted.devices.disk", "managed"),
    ErrorPattern(r"devices are forbidden", errors.CloudError, "device_not_allowed"),
    _setting(r"Use of low-level config", "restricted.virtual-machines.lowlevel", "allow"),
    _setting(r"(doesn't|does not) allow for snapshot creation", "restricted.snapshots", "allow"),
    _setting(r"(doesn't|does not) allow cluster member targeting", "restricted.cluster.target", "allow"),
    ErrorPattern(r"(isn't|is not) allowed to use this cluster", errors.CloudError, "target_not_allowed"),
    ErrorPattern(r"Instance storage pool not found", errors.CloudError, "no_root_volume"),
    ErrorPattern(r"Storage pool .*unavailable on this server", errors.CloudError, "pool_unavailable"),
    ErrorPattern(r"Network \"(?P<network>[^\"]+)\" unavailable on this server", errors.CloudError, "network_broken"),
    ErrorPattern(
        r"Project not found|project \"?[^\" :]*\"? (not found|doesn't exist)|Failed (to )?fetch(ing)? project",
        errors.CloudError,
        "no_project",
    ),
    ErrorPattern(
        r"Storage pool not found|Failed (to )?load(ing)? storage pool|(No|Can't find a|Cannot find a) storage pool",
        errors.CloudError,
        "no_pool",
    ),
    ErrorPattern(
        r"Requested profile .* doesn't exist|Profile (\".*\" )?not found",
        errors.CloudError,
        "no_profile",
    ),
    ErrorPattern(r"Network ACL .*(not found|not exist|doesn't exist)", errors.CloudError, "no_acl"),
    ErrorPattern(r"Invalid device option \"security\.acls\"", errors.CloudError, "no_acl_support"),
    ErrorPattern(
        r"validation failed for \"(?P<device>[^\"]+)\": Invalid device option \"(?P<key>[^\"]+)\"",
        errors.CloudError,
        "unknown_device_option",
    ),
    ErrorPattern(r"Unknown configuration key: \"?(?P<key>[^\" ]+)", errors.CloudError, "unknown_option"),
    # LXD 6.8 and later
    ErrorPattern(
        r"\"(?P<key>[^\"]+)\" (isn't|is not) supported for \"virtual-machine\"", errors.CloudError, "unknown_option"
    ),
    ErrorPattern(
        r"Invalid option for volume .* option \"(?P<key>[^\"]+)\"", errors.ServerError, "unknown_volume_option"
    ),
    ErrorPattern(
        r"Failed loading (managed )?network|Failed to load network|network .* not found"
        r"|Parent device .* (doesn't|does not) exist",
        errors.CloudError,
        "no_network",
    ),
    ErrorPattern(
        r"Missing event connection with target cluster member|cluster member (\".*\" )?is (offline|unavailable)"
        r"|(Unable to|Cannot) connect to: |peer (node|cluster member) .* is down",
        errors.MemberUnavailable,
        "member_offline",
    ),
    ErrorPattern(
        r"no available (dqlite|cowsql) leader|Failed (to )?begin(ning)? transaction: context deadline exceeded",
        errors.Busy,
        "no_quorum",
    ),
    ErrorPattern(r"Failed syncing image between nodes.*EOF", errors.CloudError, "image_sync"),
    ErrorPattern(r"Cluster member (\".*\" )?not found", errors.CloudError, "no_target"),
    ErrorPattern(r"Cluster group .*(not found|not exist|doesn't exist)", errors.CloudError, "no_cluster_group"),
    ErrorPattern(r"Couldn't find a cluster member|No suitable cluster member", errors.CloudError, "no_member"),
    ErrorPattern(r"Cluster member is evacuated", errors.CloudError, "member_evacuated"),
    ErrorPattern(r"More than one cluster member has a volume", errors.Ambiguous),
    ErrorPattern(
        r"Image not provided for instance creation|Image alias not found|Image not found",
        errors.NotFound,
        "no_image",
    ),
    ErrorPattern(r"^Storage volume .* does not exist on pool|No such entity", errors.NotFound),
    ErrorPattern(r"Instance type \"virtual-machine\" is not supported", errors.CloudError, "no_vms"),
    ErrorPattern(r"required (UEFI|EDK2|BIOS|CSM|VM)? ?firmware files", errors.CloudError, "no_bios"),
    ErrorPattern(r"Cannot allocate more CPUs|Requested CPU count of", errors.CloudError, "too_many_cpus"),
    ErrorPattern(r"/(lxd|incus)/images/.*no space left on device", errors.NoDiskSpace, "no_image_space"),
    ErrorPattern(
        r"no space left on device|disk quota exceeded|not enough (free )?space|out of space|insufficient free",
        errors.NoDiskSpace,
        "no_space",
    ),
    ErrorPattern(r"not within network .* subnet", errors.CloudError, "address_outside"),
    ErrorPattern(r"is assigned to parent managed network", errors.CloudError, "address_of_bridge"),
    ErrorPattern(r"Instance DNS name .* (conflict|already used)", errors.CloudError, "dns_name_taken"),
    ErrorPattern(r"already defined on another NIC", errors.AddressTaken, "address_taken"),
    ErrorPattern(r"More than one root (disk )?device found", errors.CloudError, "two_root_disks"),
    ErrorPattern(r"migration\.stateful=true|Stateful start requires", errors.CloudError, "stateful_vm"),
    ErrorPattern(r"Instance is protected|has delete protection enabled", errors.CloudError, "protected"),
    ErrorPattern(
        r"agent is(n't| not) currently running|Failed (to )?connect(ing)? to (the |lxd-|incus-)?agent",
        errors.AgentNotRunning,
    ),
    # LXD with durable operations, after a crash: the operation has succeeded or failed.
    ErrorPattern(r"Operation exited uncleanly", errors.OperationNotFound),
    ErrorPattern(r"already (running|stopped)|^Instance is running$", errors.AlreadyInState),
    ErrorPattern(
        r"is busy running a|matching non-reusable operation|Create \w+ operation:|database is locked|bad connection"
        r"|cannot start a transaction within|checkpoint in progress|Failed (to )?begin(ning)? transaction"
        r"|is shutting down|is starting up|setup in progress|Shutting down|Server isn't ready yet"
        r"|Failed delet(e|ing) .*No such file"
        # LXD 5.0 reads the output of qemu-img before it is complete.
        r"|creating instance from image: unexpected end of JSON input",
        errors.Busy,
    ),
    ErrorPattern(
        r"still in use|currently in use|more than one instance|more than one VM|^In use$|: In use$"
        r"|already attached to an instance",
        errors.InUse,
    ),
    ErrorPattern(
        r"UNIQUE constraint failed|already exists|already in use|same fingerprint",
        errors.AlreadyExists,
    ),
    # The cluster member that the request was forwarded to ended during the request.
    ErrorPattern(
        r"(Get|Post|Put|Patch|Delete) \"https://[^\"]+/1\.0/[^\"]+\": .*(EOF|connection reset by peer|broken pipe)",
        errors.NoResponse,
    ),
)
"""The first pattern that matches decides."""

BY_STATUS = {
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.AlreadyExists,
    412: errors.PreconditionFailed,
    503: errors.Busy,
}
BY_PROXY_STATUS = {502: errors.NoResponse, 503: errors.Busy, 504: errors.NoResponse}
"""For responses without an envelope. Only a proxy sends them, so its 404 says nothing about the object."""


class WaitEnded(errors.ServerError):
    """An error under status 200: the wait for an operation ended after its headers had been sent."""


def parse(
    response: HttpResponse, *, what: str, endpoint: str, fields: Mapping[str, str], redact: Callable[[str], str]
) -> Response:
    """Return the content of an envelope.

    `what` and `endpoint` name the request in errors, `fields` fill their hints. `redact` removes secrets from a body
    without envelope, before its start is quoted. Raises the ServerError or CloudError that fits the refusal,
    UnexpectedResponse for a body without envelope or with fields of other types.
    """
    try:
        body = json.loads(response.body)
        kind = body["type"]
    except (ValueError, TypeError, KeyError, RecursionError):
        text = redact(response.body.decode("utf-8", "replace"))[:200].strip() or "an empty body"
        error = BY_PROXY_STATUS.get(response.status, errors.UnexpectedResponse)
        source = f"the response to {endpoint} (HTTP {response.status}) is not from LXD or Incus"
        raise error(f"{what}: {source}: {text}") from None
    if kind == "error":
        text = _field(body, "error", str, endpoint) or "no error message"
        if response.status == 200:
            raise WaitEnded(text)
        status = _field(body, "error_code", int, endpoint) or response.status
        raise error_for(text, status=status, what=what, fields=fields)
    operation = _field(body, "operation", str, endpoint) if kind == "async" else ""
    return Response(body.get("metadata"), operation.partition("?")[0], response.headers.get("ETag") or "")


def _field(body: dict[str, Any], name: str, kind: type[Value], endpoint: str) -> Value:
    """Return a field of an envelope, or the empty value of its type if it is null or missing."""
    value = kind() if body.get(name) is None else body[name]
    if not isinstance(value, kind):
        raise errors.UnexpectedResponse(
            f"{endpoint}: the field {name} of the response is {shape(value)}, not {shape(kind())}"
        )
    return value


def shape(value: object) -> str:
    """Return the type of a JSON value with its article."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "a number"}
    return "missing" if value is None else names.get(type(value), "a number")


def error_for(text: str, *, status: int, what: str, fields: Mapping[str, str]) -> errors.CloudError:
    """Return the exception for a refused request or a failed operation."""
    for pattern in ERROR_PATTERNS:
        if match := re.search(pattern.pattern, text, re.IGNORECASE):
            hint_fields = {**fields, **pattern.fields, **match.groupdict()}
            return pattern.error(f"{what}: {text}", code=pattern.code, **hint_fields)
    return BY_STATUS.get(status, errors.ServerError)(f"{what}: {text}", **fields)
