"""Error texts from the source code of the servers, with the exception and the hint code that each maps to."""

from __future__ import annotations

import json
import re

import pytest

from bosh_lxd_cpi import errors, hints
from bosh_lxd_cpi.lxd import envelope
from bosh_lxd_cpi.lxd.envelope import Response, WaitEnded, error_for, parse
from bosh_lxd_cpi.lxd.transport import HttpResponse


def read(response: HttpResponse, redact=str) -> Response:
    return parse(response, what="reading x", endpoint="GET /1.0/x", fields={"pool": "fast"}, redact=redact)


def refusal(text: str, status: int = 500) -> errors.CloudError:
    return error_for(text, status=status, what="making x", fields={"pool": "fast"})


def test_redacts_a_foreign_body_before_its_start_is_quoted():
    secret = "s3cret-password"
    body = b"x" * 190 + secret.encode()
    with pytest.raises(errors.UnexpectedResponse) as raised:
        read(HttpResponse(200, {}, body), lambda text: text.replace(secret, "***"))
    assert raised.value.brief.endswith("xxx***")


def test_returns_metadata_and_etag(responses):
    assert read(responses.sync({"a": 1}, etag='"e1"')) == Response({"a": 1}, "", '"e1"')


@pytest.mark.parametrize(
    "body, problem",
    [
        ({"type": "error", "error": {}}, "error of the response is an object, not a string"),
        ({"type": "error", "error": "x", "error_code": "404"}, "error_code of the response is a string, not a number"),
        ({"type": "async", "operation": 7}, "operation of the response is a number, not a string"),
    ],
)
def test_names_the_endpoint_when_a_field_has_another_type(body, problem):
    with pytest.raises(errors.UnexpectedResponse) as raised:
        read(HttpResponse(400, {}, json.dumps(body).encode()))
    assert raised.value.brief == f"GET /1.0/x: the field {problem}"


def test_returns_null_metadata(responses):
    assert read(responses.sync(None)) == Response(None, "", "")


def test_returns_the_path_of_the_operation(responses):
    reply = read(responses.asynchronous("/1.0/operations/op-1?project=prod"))
    assert (reply.operation, reply.etag) == ("/1.0/operations/op-1", "")


def test_goes_by_the_type_not_by_the_status(responses):
    asynchronous = HttpResponse(200, {}, b'{"type":"async","operation":"/1.0/operations/a","metadata":null}')
    assert read(asynchronous).operation == "/1.0/operations/a"
    assert (
        read(
            HttpResponse(201, {"ETag": ""}, b'{"type":"sync","operation":"/1.0/operations/a","metadata":{}}')
        ).operation
        == ""
    )
    with pytest.raises(errors.NotFound):
        read(HttpResponse(202, {}, b'{"type":"error","error":"not found","error_code":404}'))


def test_raises_wait_ended_for_an_error_under_200(responses):
    with pytest.raises(WaitEnded, match=r"^context deadline exceeded$"):
        read(responses.error_with_http_200())
    with pytest.raises(WaitEnded, match=r"^no error message$"):
        read(responses.error_with_http_200(""))


@pytest.mark.parametrize(
    "status, error",
    [
        (400, errors.ServerError),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (409, errors.AlreadyExists),
        (412, errors.PreconditionFailed),
        (500, errors.ServerError),
        (501, errors.ServerError),
        (503, errors.Busy),
    ],
)
def test_maps_the_status_of_an_unknown_text(responses, status, error):
    with pytest.raises(errors.ServerError, match=r"^reading x: odd$") as raised:
        read(responses.error("odd", status))
    assert type(raised.value) is error


def test_prefers_the_code_in_the_body(responses):
    with pytest.raises(errors.NotFound):
        read(responses.error("odd", 404, status=500))


def test_uses_the_status_without_a_code_in_the_body():
    with pytest.raises(errors.NotFound, match="reading x: no error message"):
        read(HttpResponse(404, {}, b'{"type":"error"}'))


@pytest.mark.parametrize(
    "body", [b"", b"<html>404 Not Found</html>", b"not found", b"[]", b"null", b'"x"', b'{"error":"x"}', b"\xff\xfe"]
)
@pytest.mark.parametrize(
    "status, error",
    [
        (200, errors.UnexpectedResponse),
        (404, errors.UnexpectedResponse),
        (403, errors.UnexpectedResponse),
        (409, errors.UnexpectedResponse),
        (500, errors.UnexpectedResponse),
        (502, errors.NoResponse),
        (503, errors.Busy),
        (504, errors.NoResponse),
    ],
)
def test_never_maps_a_foreign_response_to_not_found(body, status, error):
    """A 404 of a proxy must not make a VM count as missing. Behind a 502 or 504 the server may have done the work."""
    with pytest.raises(errors.ServerError) as raised:
        read(HttpResponse(status, {}, body))
    assert type(raised.value) is error
    assert f"reading x: the response to GET /1.0/x (HTTP {status}) is not from LXD or Incus: " in raised.value.brief


@pytest.mark.parametrize("bracket", [b"[", b'{"a":'], ids=["arrays", "objects"])
def test_reports_a_body_nested_too_deeply(bracket):
    with pytest.raises(errors.UnexpectedResponse, match=r"^reading x: "):
        read(HttpResponse(200, {}, bracket * 200_000))


def test_reports_an_empty_body():
    with pytest.raises(
        errors.ServerError,
        match=r"reading x: the response to GET /1.0/x .HTTP 200. is not from LXD or Incus: an empty body$",
    ):
        read(HttpResponse(200, {}, b" \n"))


def test_accepts_an_async_response_without_operation():
    assert read(HttpResponse(202, {}, b'{"type":"async","operation":null,"metadata":null}')) == Response(None, "", "")


def test_shortens_a_foreign_response():
    with pytest.raises(errors.ServerError) as raised:
        read(HttpResponse(200, {}, b"<" * 100_000))
    assert len(raised.value.brief) < 300


DEVICE = 'Invalid device "eth0" on virtual-machine "vm-1" of project "bosh"'
TEXTS = [
    ("Missing event connection with target cluster member", errors.MemberUnavailable, "member_offline"),
    ("Target cluster member is unavailable", errors.MemberUnavailable, "member_offline"),
    ('Cluster member "m2" is offline', errors.MemberUnavailable, "member_offline"),
    (
        'Put "https://10.0.0.2:8443/1.0/instances/vm-1/state?project=bosh": read tcp 10.0.0.1:5->10.0.0.2:8443: read:'
        " connection reset by peer",
        errors.NoResponse,
        "",
    ),
    ('Get "https://10.0.0.2:8443/1.0/instances/vm-1?project=bosh": EOF', errors.NoResponse, ""),
    ("peer node 10.0.0.2:8443 is down", errors.MemberUnavailable, "member_offline"),
    ("Peer cluster member m2 at 10.0.0.2:8443 is down", errors.MemberUnavailable, "member_offline"),
    (
        "Failed syncing image between nodes: Failed to request https://10.0.0.3:8443/1.0/images: EOF",
        errors.CloudError,
        "image_sync",
    ),
    (
        'Post "https://10.0.0.2:8443/1.0/instances": Unable to connect to: 10.0.0.2:8443'
        " ([dial tcp: connection refused])",
        errors.MemberUnavailable,
        "member_offline",
    ),
    (
        'Post "https://10.0.0.2:8443/1.0/instances": Cannot connect to: 10.0.0.2:8443'
        " (dial tcp 10.0.0.2:8443: connect: connection refused)",
        errors.MemberUnavailable,
        "member_offline",
    ),
    ('More than one cluster member has a volume named "v". Please target a specific member', errors.Ambiguous, ""),
    ("not authorized", errors.Forbidden, "forbidden"),
    ("Forbidden", errors.Forbidden, "forbidden"),
    ("Certificate is restricted", errors.Forbidden, "forbidden"),
    ('User does not have permission for project "p"', errors.Forbidden, "forbidden"),
    (
        'Cannot check permissions for entity type "storage_volume_snapshot" and entitlement "can_edit": No'
        ' entitlements can be granted against entities of type "storage_volume_snapshot"',
        errors.Forbidden,
        "no_snapshots",
    ),
    ("Not Found", errors.NotFound, "no_entitlement"),
    (
        'Failed checking if volume creation allowed: Reached maximum aggregate value "40MiB" for "limits.disk" in'
        ' project "bosh"',
        errors.NoDiskSpace,
        "project_limit",
    ),
    (
        'Failed checking if instance creation allowed: Reached maximum aggregate value "32MiB" for "limits.memory" in'
        ' project "bosh"',
        errors.CloudError,
        "project_limit",
    ),
    (
        'Reached maximum number of instances of type "virtual-machine" in project "bosh"',
        errors.CloudError,
        "project_limit",
    ),
    ('Reached maximum number of instances in project "bosh"', errors.CloudError, "project_limit"),
    (f"{DEVICE}: Only managed network devices are allowed", errors.CloudError, "network_not_allowed"),
    (f"{DEVICE}: Network not allowed in project", errors.CloudError, "network_not_allowed"),
    (f"{DEVICE}: Network devices are forbidden", errors.CloudError, "project_setting"),
    (f"{DEVICE}: Disk devices are forbidden", errors.CloudError, "project_setting"),
    (f"{DEVICE}: PCI devices are forbidden", errors.CloudError, "device_not_allowed"),
    (
        'Use of low-level config "raw.qemu" on virtual-machine "vm-1" of project "bosh" is forbidden',
        errors.CloudError,
        "project_setting",
    ),
    ('Project "bosh" doesn\'t allow for snapshot creation', errors.CloudError, "project_setting"),
    ("This project doesn't allow cluster member targeting", errors.CloudError, "project_setting"),
    ("This project does not allow cluster member targeting", errors.CloudError, "project_setting"),
    ('Project isn\'t allowed to use this cluster member: "node1"', errors.CloudError, "target_not_allowed"),
    ('Project is not allowed to use this cluster group: "default"', errors.CloudError, "target_not_allowed"),
    ('Cluster group "nogroup" doesn\'t exist', errors.CloudError, "no_cluster_group"),
    ('Cluster group "nogroup" does not exist', errors.CloudError, "no_cluster_group"),
    ("Couldn't find a cluster member for the instance", errors.CloudError, "no_member"),
    ("No suitable cluster member could be found", errors.CloudError, "no_member"),
    ("Cluster member is evacuated", errors.CloudError, "member_evacuated"),
    ("Failed to add CPUs: Cannot allocate more CPUs than available", errors.CloudError, "too_many_cpus"),
    (
        "Failed to add CPUs: Requested CPU count of 512 exceeds instance current maximum of 2, restart required",
        errors.CloudError,
        "too_many_cpus",
    ),
    ("Instance storage pool not found", errors.CloudError, "no_root_volume"),
    ("Storage pool is unavailable on this server", errors.CloudError, "pool_unavailable"),
    ('Storage pool "fast" unavailable on this server', errors.CloudError, "pool_unavailable"),
    ('Network "boshbr0" unavailable on this server', errors.CloudError, "network_broken"),
    (
        "write /var/lib/lxd/images/lxd_build_2196333891/lxd_post_1137712684: no space left on device",
        errors.NoDiskSpace,
        "no_image_space",
    ),
    (
        'Invalid devices: Device validation failed for "eth0": Network ACL "nope" does not exist',
        errors.CloudError,
        "no_acl",
    ),
    ("Network ACL not found", errors.CloudError, "no_acl"),
    (
        'Invalid devices: Device validation failed for "eth0": Invalid device option "security.acls"',
        errors.CloudError,
        "no_acl_support",
    ),
    (
        'Invalid devices: Device validation failed for "eth0": Invalid device option "queue.disc"',
        errors.CloudError,
        "unknown_device_option",
    ),
    ('Unknown configuration key: "x"', errors.CloudError, "unknown_option"),
    ('"no.such.key" isn\'t supported for "virtual-machine"', errors.CloudError, "unknown_option"),
    ("Invalid config: Unknown configuration key: boot.mode", errors.CloudError, "unknown_option"),
    ('Invalid option for volume "vol-p-1" option "zfs.blocksize"', errors.ServerError, "unknown_volume_option"),
    (
        "Operation exited uncleanly or was unable to report its status",
        errors.OperationNotFound,
        "",
    ),
    ("Project not found", errors.CloudError, "no_project"),
    ('Failed to fetch project "prod": Project not found', errors.CloudError, "no_project"),
    ('project "prod" not found', errors.CloudError, "no_project"),
    ("Failed fetching project", errors.CloudError, "no_project"),
    ("No storage pool available", errors.CloudError, "no_pool"),
    ("Can't find a storage pool", errors.CloudError, "no_pool"),
    ("Cannot find a storage pool for the instance to use", errors.CloudError, "no_pool"),
    ("Image not found", errors.NotFound, "no_image"),
    ("not enough free space", errors.NoDiskSpace, "no_space"),
    ("out of space", errors.NoDiskSpace, "no_space"),
    ("volume group has insufficient free space", errors.NoDiskSpace, "no_space"),
    ('IP address "10.0.0.1" is assigned to parent managed network device', errors.CloudError, "address_of_bridge"),
    ("Instance is protected", errors.CloudError, "protected"),
    ("Instance has delete protection enabled", errors.CloudError, "protected"),
    ("Custom volume is already attached to an instance", errors.InUse, ""),
    ("The volume is currently in use", errors.InUse, ""),
    ("Cannot attach to more than one VM", errors.InUse, ""),
    ('Address "10.0.0.1" already in use', errors.AlreadyExists, ""),
    ('Failed to load network "x"', errors.CloudError, "no_network"),
    ('The network "x" was not found', errors.CloudError, "no_network"),
    ("Storage pool not found", errors.CloudError, "no_pool"),
    ("Failed loading storage pool: Storage pool not found", errors.CloudError, "no_pool"),
    ('Requested profile "web" doesn\'t exist', errors.CloudError, "no_profile"),
    ("Profile not found", errors.CloudError, "no_profile"),
    ('Profile "web" not found in project "prod"', errors.CloudError, "no_profile"),
    ('Failed loading managed network "x": Network not found', errors.CloudError, "no_network"),
    (
        'Invalid devices: Device validation failed for "eth0": Parent device "br9" doesn\'t exist',
        errors.CloudError,
        "no_network",
    ),
    ('Parent device "br9" does not exist', errors.CloudError, "no_network"),
    ("Cluster member not found", errors.CloudError, "no_target"),
    ('Cluster member "node2" not found', errors.CloudError, "no_target"),
    ("Image alias not found", errors.NotFound, "no_image"),
    ("Image not provided for instance creation", errors.NotFound, "no_image"),
    (
        'Storage volume "v/s" in project "p" of type "custom" does not exist on pool "f": Storage volume not found',
        errors.NotFound,
        "",
    ),
    (
        'Failed creating "Deleting x" operation record: Failed fetching entity reference: No such entity "/1.0/x"',
        errors.NotFound,
        "",
    ),
    (
        'Instance type "virtual-machine" is not supported on this server: vhost_vsock kernel module not loaded',
        errors.CloudError,
        "no_vms",
    ),
    ("Couldn't find one of the required UEFI firmware files: []", errors.CloudError, "no_bios"),
    ("Could not find one of the required VM firmware files: []", errors.CloudError, "no_bios"),
    ("write /var/lib/lxd/x: no space left on device", errors.NoDiskSpace, "no_space"),
    ("disk quota exceeded", errors.NoDiskSpace, "no_space"),
    ('Device IP address "10.9.9.9" not within network "lxdbr0" subnet', errors.CloudError, "address_outside"),
    (
        'Instance DNS name "vm-1" conflict between "eth0" and "eth1" because both are connected to same network',
        errors.CloudError,
        "dns_name_taken",
    ),
    ('Instance DNS name "vm-1" already used on network', errors.CloudError, "dns_name_taken"),
    (
        "Invalid devices: Failed detecting root disk device: More than one root device found",
        errors.CloudError,
        "two_root_disks",
    ),
    (
        "Invalid devices: Failed detecting root disk device: More than one root disk device found",
        errors.CloudError,
        "two_root_disks",
    ),
    (
        "Only additional disks coming from a shared storage pool are supported with migration.stateful=true",
        errors.CloudError,
        "stateful_vm",
    ),
    (
        "Stateful start requires that the instance limits.memory is less than size.state on the root disk device",
        errors.CloudError,
        "stateful_vm",
    ),
    ('IP address "10.0.0.5" already defined on another NIC', errors.AddressTaken, "address_taken"),
    ("The instance is already running", errors.AlreadyInState, ""),
    ("Instance is running", errors.AlreadyInState, ""),
    ("The instance is already stopped", errors.AlreadyInState, ""),
    ("Create restart operation: The instance is already stopped", errors.AlreadyInState, ""),
    ('Instance is busy running a "stop" operation', errors.Busy, ""),
    (
        'Failed deleting subvolume "/a.iso": Failed to run: btrfs: exit status 1 (ERROR: Could not statfs:'
        " No such file or directory)",
        errors.Busy,
        "",
    ),
    (
        "Failed to create instance delete operation: A matching non-reusable operation has now succeeded",
        errors.Busy,
        "",
    ),
    ("Failed to create instance update operation: Create update operation: Instance is busy", errors.Busy, ""),
    ("database is locked", errors.Busy, ""),
    ("cannot start a transaction within a transaction", errors.Busy, ""),
    ("driver: bad connection", errors.Busy, ""),
    ("checkpoint in progress", errors.Busy, ""),
    ("Failed to begin transaction: context deadline exceeded", errors.Busy, "no_quorum"),
    ("Failed beginning transaction: context deadline exceeded", errors.Busy, "no_quorum"),
    ("no available dqlite leader server found", errors.Busy, "no_quorum"),
    ("no available cowsql leader server found", errors.Busy, "no_quorum"),
    ("Server isn't ready yet", errors.Busy, ""),
    ("Incus is shutting down", errors.Busy, ""),
    ("LXD is shutting down", errors.Busy, ""),
    ("Shutting down", errors.Busy, ""),
    ("Daemon is starting up", errors.Busy, ""),
    ("LXD daemon setup in progress", errors.Busy, ""),
    ("Failed creating instance from image: unexpected end of JSON input", errors.Busy, ""),
    ("In use", errors.InUse, ""),
    ("Failed to delete volume: In use", errors.InUse, ""),
    ("The storage volume is still in use", errors.InUse, ""),
    ("Volume is still in use by running instances", errors.InUse, ""),
    ("Cannot add block volume to more than one instance if sharing is disabled", errors.InUse, ""),
    ("UNIQUE constraint failed: instances.name", errors.AlreadyExists, ""),
    ('Instance "vm-1" already exists', errors.AlreadyExists, ""),
    ('Snapshot "s1" already in use', errors.AlreadyExists, ""),
    ("Image with same fingerprint already exists", errors.AlreadyExists, ""),
    ("LXD VM agent isn't currently running", errors.AgentNotRunning, ""),
    ("Failed connecting to agent: timeout", errors.AgentNotRunning, ""),
]


@pytest.mark.parametrize("text, error, code", TEXTS)
@pytest.mark.parametrize("status", [400, 404, 500])
def test_maps_a_known_text_under_any_status(text, error, code, status):
    failure = refusal(text, status)
    assert type(failure) is error
    assert failure.brief == f"making x: {text}"
    assert (failure.code, failure.fields["pool"]) == (code, "fast")


@pytest.mark.parametrize(
    "text, fields",
    [
        (
            'Reached maximum aggregate value "1" for "limits.disk.pool.fast" in project "p"',
            {"key": "limits.disk.pool.fast"},
        ),
        ("Reached maximum number of instances in project", {"key": "limits.instances"}),
        ("Network devices are forbidden", {"key": "restricted.devices.nic", "value": "managed"}),
        ('Network "boshbr0" unavailable on this server', {"network": "boshbr0"}),
    ],
    ids=["limit", "instances", "restriction", "network"],
)
def test_fields_of_the_hint_follow_from_the_text(text, fields):
    assert refusal(text).fields == {"pool": "fast", **fields}


@pytest.mark.parametrize(
    "text",
    [
        "Network not found",
        "Operation not found",
        'Failed to fetch instance "x" in project "p": Instance not found',
        "Instance not found",
        "Storage volume not found",
        "not found",
    ],
)
def test_maps_a_missing_object_to_not_found(text):
    assert type(refusal(text, 404)) is errors.NotFound


@pytest.mark.parametrize(
    "text",
    [
        "Block volumes cannot be shrunk",
        "Invalid devices: x",
        "Source image size (1) exceeds specified volume size (2)",
        "Target only allowed when clustered",
    ],
)
def test_maps_an_unknown_text_to_a_permanent_error(text):
    failure = refusal(text, 500)
    assert type(failure) is errors.ServerError and not failure.transient


def test_every_alternative_of_a_pattern_has_a_text():
    for pattern in envelope.ERROR_PATTERNS:
        for alternative in re.split(r"\|(?![^(]*\))", pattern.pattern):
            assert any(re.search(alternative, text, re.IGNORECASE) for text, _, _ in TEXTS), alternative


def test_every_code_has_a_hint():
    assert {pattern.code for pattern in envelope.ERROR_PATTERNS if pattern.code} <= hints.HINTS.keys()
