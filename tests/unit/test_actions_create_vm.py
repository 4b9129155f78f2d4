"""create_vm: its requests, servers and clusters that no test server is, and failures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import create_vm
from bosh_lxd_cpi.guest.networks import NetworkPlan
from bosh_lxd_cpi.model import naming
from bosh_lxd_cpi.runtime import locks
from bosh_lxd_cpi.runtime.retry import RetryPolicy

INCUS = {
    "auth": "trusted",
    "api_extensions": ["custom_volume_iso", "security_csm", "instance_create_start"],
    "environment": {"server": "incus", "server_version": "6.0.4", "server_clustered": False, "driver": "lxc | qemu"},
}
LXD_5_0 = {
    "auth": "trusted",
    "api_extensions": [],
    "environment": {"server": "lxd", "server_version": "5.0.2", "server_clustered": False, "driver": "lxc | qemu"},
}
LXD_6_7 = {
    "auth": "trusted",
    "api_extensions": ["custom_volume_iso", "instance_boot_mode", "instance_create_start"],
    "environment": {"server": "lxd", "server_version": "6.7", "server_clustered": False, "driver": "lxc | qemu"},
}
CLUSTER = {**INCUS, "environment": {**INCUS["environment"], "server_clustered": True}}
BRIDGE = {"name": "lxdbr0", "managed": True, "type": "bridge", "config": {"ipv4.address": "10.0.0.1/24"}}
NETWORKS = {"private": {"type": "manual", "ip": "10.0.0.5", "netmask": "255.255.255.0", "gateway": "10.0.0.1"}}
STEMCELL = {"name": "img-1", "target": "f1ng3r", "description": "bosh-openstack-kvm-ubuntu-jammy 1.5"}
VOLUMES = "/1.0/storage-pools/default/volumes/custom"
TWO_ATTEMPTS = RetryPolicy(max_attempts=2)


@pytest.fixture
def uuid(clock) -> str:
    """Return the UUID of the VM that the call creates: the first new ID."""
    return naming.new_id(type(clock)(), "d1r")


@pytest.fixture
def cid(uuid) -> str:
    return f"vm-{uuid}"


@pytest.fixture
def script_look_ups(wire, responses) -> Callable[..., None]:
    """Return a function that scripts the three requests before the first change."""

    def script_look_ups(server: dict[str, Any] = INCUS, stemcell: dict[str, Any] = STEMCELL) -> None:
        wire.script(
            ("GET /1.0", responses.sync(server)),
            ("GET /1.0/images/aliases/img-1", responses.sync(stemcell)),
            ("GET /1.0/networks/lxdbr0", responses.sync(BRIDGE)),
        )

    return script_look_ups


@pytest.fixture
def create(context) -> Callable[..., Any]:
    """Return a function that calls create_vm. Further keywords are properties of `server`."""

    def create(
        properties: dict[str, Any] | None = None, networks: Any = NETWORKS, env: Any = None, **server: Any
    ) -> Any:
        return create_vm.create_vm(context(**server), "agent-1", "img-1", properties or {}, networks, [], env)

    return create


def with_operation(line: str, responses) -> list[tuple[str, Any]]:
    """A request and the wait for its operation."""
    return [(line, responses.asynchronous()), ("GET /1.0/operations/op-1/wait", responses.done())]


def changes(cid: str, responses, *, ephemeral: bool = False) -> list[tuple[str, Any]]:
    """The requests that create a VM on Incus."""
    first = [(f"POST {VOLUMES}", responses.sync())] if ephemeral else []
    return [
        *first,
        *with_operation(f"POST {VOLUMES}", responses),
        *with_operation("POST /1.0/instances", responses),
        (f"PATCH /1.0/instances/{cid}", responses.sync()),
    ]


def rollback(uuid: str, responses, *, vm_exists: bool = False) -> list[tuple[str, Any]]:
    """The requests that delete a VM with its config drive, or look for its volumes if there is no VM."""
    cid = f"vm-{uuid}"
    if vm_exists:
        devices = {"config": {"type": "disk", "pool": "default", "source": f"vol-c-{uuid}"}}
        return [
            (f"GET /1.0/instances/{cid}", responses.sync({"status": "Running", "devices": devices})),
            *with_operation(f"PUT /1.0/instances/{cid}/state", responses),
            *with_operation(f"DELETE /1.0/instances/{cid}", responses),
            (f"DELETE {VOLUMES}/vol-c-{uuid}", responses.sync()),
            (f"DELETE {VOLUMES}/vol-e-{uuid}", responses.error("Not found", 404)),
        ]
    return [
        (f"GET /1.0/instances/{cid}", responses.error("Instance not found", 404)),
        ("GET /1.0/storage-pools", responses.sync([{"name": "default"}])),
        (f"DELETE {VOLUMES}/vol-c-{uuid}", responses.error("Not found", 404)),
        (f"DELETE {VOLUMES}/vol-e-{uuid}", responses.error("Not found", 404)),
    ]


def test_takes_nine_requests_on_incus(create, wire, script_look_ups, responses, cid):
    script_look_ups()
    wire.script(*changes(cid, responses, ephemeral=True))
    assert create({"ephemeral_disk": 1024}) == [cid, NETWORKS]
    assert wire.requests == 9


def test_one_request_creates_and_starts_the_vm(create, wire, script_look_ups, responses, cid, uuid):
    script_look_ups()
    wire.script(*changes(cid, responses, ephemeral=True))
    create(
        {
            "cpu": 2,
            "ram": 512,
            "root_disk": 10240,
            "ephemeral_disk": 1024,
            "ephemeral_storage_pool": "default",
            "tags": {"team": "a"},
            "config": {"boot.autostart": False},
            "devices": {"gpu": {"type": "gpu"}},
        }
    )
    body = wire.request_to("POST /1.0/instances").body
    [nic] = NetworkPlan.build(NETWORKS, default_network="lxdbr0", vm_uuid=uuid).nics
    assert body == {
        "name": cid,
        "type": "virtual-machine",
        "source": {"type": "image", "fingerprint": "f1ng3r"},
        "profiles": ["default"],
        "description": "being created by BOSH",
        "start": True,
        "config": {
            "security.csm": "true",
            "security.secureboot": "false",
            "limits.cpu": "2",
            "limits.memory": "512MiB",
            "boot.autostart": "false",
            "user.bosh.team": "a",
            "user.bosh.director_uuid": "d1r",
            "user.bosh.created_at": "2026-01-31T10:00:00Z",
            "user.bosh.state": "creating",
        },
        "devices": {
            "root": {"type": "disk", "path": "/", "pool": "default", "size": "10240MiB"},
            "gpu": {"type": "gpu"},
            "eth0": {"type": "nic", "name": "eth0", "hwaddr": nic.mac, "network": "lxdbr0", "ipv4.address": "10.0.0.5"},
            "config": {"type": "disk", "pool": "default", "source": f"vol-c-{uuid}"},
            "ephemeral": {"type": "disk", "pool": "default", "source": f"vol-e-{uuid}"},
        },
    }
    label = wire.request_to(f"PATCH /1.0/instances/{cid}")
    assert label.body == {"description": "made by BOSH", "config": {"user.bosh.state": "created"}}
    ephemeral = wire.requests_to(f"POST {VOLUMES}")[0]
    assert ephemeral.body["config"] == {
        "user.bosh.director_uuid": "d1r",
        "user.bosh.created_at": "2026-01-31T10:00:00Z",
        "size": "1024MiB",
    }


def test_config_drive_has_the_mac_of_the_device(create, wire, script_look_ups, responses, cid, uuid):
    script_look_ups()
    wire.script(*changes(cid, responses))
    create(env={"bosh": {"group": "g"}})
    drive = wire.request_to(f"POST {VOLUMES}")
    [nic] = NetworkPlan.build(NETWORKS, default_network="lxdbr0", vm_uuid=uuid).nics
    assert drive.headers["X-LXD-type"] == "iso" and drive.headers["X-LXD-name"] == f"vol-c-{uuid}"
    for value in nic.mac, "agent-1", cid, "nats://nats:pass@10.0.0.6:4222", '"group": "g"', "HARDDISK_incus_root":
        assert value.encode() in drive.body


def test_imports_a_backup_and_starts_separately_on_lxd_5_0(create, wire, script_look_ups, responses, cid):
    script_look_ups(LXD_5_0)
    wire.script(
        *with_operation(f"POST {VOLUMES}", responses),
        *with_operation("POST /1.0/instances", responses),
        *with_operation(f"PUT /1.0/instances/{cid}/state", responses),
        (f"PATCH /1.0/instances/{cid}", responses.sync()),
    )
    create()
    drive, instance = wire.request_to(f"POST {VOLUMES}"), wire.request_to("POST /1.0/instances").body
    assert "X-LXD-type" not in drive.headers and b"backup/index.yaml" in drive.body
    assert "start" not in instance
    assert instance["config"]["raw.qemu"] == "-bios bios-256k.bin"


def test_uses_boot_mode_on_lxd_6_7(create, wire, script_look_ups, responses, cid):
    script_look_ups(LXD_6_7)
    wire.script(*with_operation(f"POST {VOLUMES}", responses), *changes(cid, responses))
    create({"ephemeral_disk": 64})
    body = wire.request_to("POST /1.0/instances").body
    assert body["config"]["boot.mode"] == "bios"
    assert not {"security.csm", "security.secureboot", "raw.qemu"} & body["config"].keys()


def test_imports_fat_drives_as_backup(context, wire, script_look_ups, responses, cid):
    script_look_ups()
    wire.script(*changes(cid, responses))
    call = context()
    call.config = call.config._replace(agent_config=call.config.agent_config._replace(type="FAT32"))
    create_vm.create_vm(call, "agent-1", "img-1", {}, NETWORKS)
    drive = wire.request_to(f"POST {VOLUMES}")
    assert "X-LXD-type" not in drive.headers and b"backup/volume.img" in drive.body


def test_creates_the_vm_before_its_volumes_on_a_cluster(create, wire, script_look_ups, responses, cid, uuid):
    script_look_ups(CLUSTER)
    instance = {
        "location": "m2",
        "devices": {"root": {}},
        "config": {"volatile.x": "y"},
        "description": "d",
        "profiles": ["default"],
    }
    wire.script(
        *with_operation("POST /1.0/instances", responses),
        (f"GET /1.0/instances/{cid}", responses.sync(instance, etag="e7")),
        (f"POST {VOLUMES}", responses.sync()),
        *with_operation(f"POST {VOLUMES}", responses),
        *with_operation(f"PUT /1.0/instances/{cid}", responses),
        *with_operation(f"PUT /1.0/instances/{cid}/state", responses),
        (f"PATCH /1.0/instances/{cid}", responses.sync()),
    )
    create({"ephemeral_disk": 64, "target": "@fast"})
    creation, change = wire.request_to("POST /1.0/instances"), wire.request_to(f"PUT /1.0/instances/{cid}")
    assert creation.query == {"project": "prod", "target": "@fast"} and "start" not in creation.body
    assert set(creation.body["devices"]) == {"root", "eth0"}
    assert [request.query for request in wire.requests_to(f"POST {VOLUMES}")] == [
        {"project": "prod", "target": "m2"}
    ] * 2
    assert change.headers["If-Match"] == "e7" and change.body["config"] == {"volatile.x": "y"}
    assert change.body["devices"]["config"]["source"] == f"vol-c-{uuid}" and "root" in change.body["devices"]


def test_accepts_the_volumes_when_the_response_is_lost(create, wire, script_look_ups, responses, cid, uuid):
    """The server made the change, so the repeated request has an outdated ETag."""
    script_look_ups(CLUSTER)
    instance = {"location": "m2", "devices": {"root": {}}}
    config = {"type": "disk", "pool": "default", "source": f"vol-c-{uuid}"}
    wire.script(
        *with_operation("POST /1.0/instances", responses),
        (f"GET /1.0/instances/{cid}", responses.sync(instance, etag="e7")),
        *with_operation(f"POST {VOLUMES}", responses),
        (f"PUT /1.0/instances/{cid}", errors.NoResponse("reset")),
        (f"PUT /1.0/instances/{cid}", responses.error("ETag doesn't match", 412)),
        (f"GET /1.0/instances/{cid}", responses.sync({**instance, "devices": {"root": {}, "config": config}})),
        *with_operation(f"PUT /1.0/instances/{cid}/state", responses),
        (f"PATCH /1.0/instances/{cid}", responses.sync()),
    )
    assert create()[0] == cid


def test_target_of_network_overrides_target_of_server(create, wire, script_look_ups, responses, uuid):
    script_look_ups(CLUSTER)
    wire.script(("POST /1.0/instances", responses.error("odd")), *rollback(uuid, responses))
    network = {"private": {**NETWORKS["private"], "cloud_properties": {"target": "m2"}}}
    with pytest.raises(errors.CloudError, match="odd"):
        create(networks=network, target="@default")
    assert wire.request_to("POST /1.0/instances").query["target"] == "m2"


def test_sends_no_target_without_cluster(create, wire, script_look_ups, responses, cid):
    script_look_ups()
    wire.script(*changes(cid, responses))
    create({"target": "m1"})
    assert all("target" not in request.query for request in wire.recorded)


def test_reads_the_image_when_the_alias_has_no_description(create, wire, responses, cid):
    """Aliases of the Go CPI have no description."""
    wire.script(
        ("GET /1.0", responses.sync(INCUS)),
        ("GET /1.0/images/aliases/img-1", responses.sync({"target": "f1ng3r", "description": ""})),
        (
            "GET /1.0/images/f1ng3r",
            responses.sync({"properties": {"description": "bosh-openstack-kvm-ubuntu-jammy-1.5"}}),
        ),
        ("GET /1.0/networks/lxdbr0", responses.sync(BRIDGE)),
        *changes(cid, responses),
    )
    create()
    assert wire.request_to("POST /1.0/instances").body["config"]["security.csm"] == "true"


def test_finds_a_bridge_in_the_default_project(create, wire, responses, cid):
    wire.script(
        ("GET /1.0", responses.sync(INCUS)),
        ("GET /1.0/images/aliases/img-1", responses.sync(STEMCELL)),
        ("GET /1.0/networks/lxdbr0", responses.error("Network not found", 404)),
        ("GET /1.0/networks/lxdbr0", responses.sync(BRIDGE)),
        *changes(cid, responses),
    )
    create()
    assert wire.last_request_to("GET /1.0/networks/lxdbr0").query["project"] == "default"
    assert wire.request_to("POST /1.0/instances").body["devices"]["eth0"]["parent"] == "lxdbr0"


def test_rejects_network_that_no_visible_project_has(create, wire, responses):
    wire.script(
        ("GET /1.0", responses.sync(INCUS)),
        ("GET /1.0/images/aliases/img-1", responses.sync(STEMCELL)),
        ("GET /1.0/networks/lxdbr0", responses.error("Network not found", 404)),
        ("GET /1.0/networks/lxdbr0", responses.error("not authorized", 403)),
    )
    with pytest.raises(errors.CloudError, match="the server has no network lxdbr0"):
        create()


@pytest.mark.parametrize(
    "assignment, managed, dhcp",
    [("dhcp", True, True), ("dhcp", False, False), ("static", True, False)],
    ids=["dhcp", "dhcp on unmanaged network", "static"],
)
def test_reserves_addresses_by_dhcp_on_managed_networks(create, wire, responses, cid, assignment, managed, dhcp):
    wire.script(
        ("GET /1.0", responses.sync(INCUS)),
        ("GET /1.0/images/aliases/img-1", responses.sync(STEMCELL)),
        ("GET /1.0/networks/lxdbr0", responses.sync({**BRIDGE, "managed": managed})),
        *changes(cid, responses),
    )
    _, bosh_networks = create(managed_network_assignment=assignment)
    assert bosh_networks["private"]["type"] == ("dynamic" if dhcp else "manual")
    assert (b'"use_dhcp": true' in wire.request_to(f"POST {VOLUMES}").body) is dhcp


def test_masks_the_root_disk_of_the_profile(create, wire, script_look_ups, responses, cid):
    script_look_ups()
    refusal = responses.error(
        "Invalid devices: Failed detecting root disk device: More than one root device found", 500
    )
    disk = {"type": "disk", "path": "/"}
    profiles = [
        {"name": "default", "devices": {"disk0": disk, "gpu0": {"type": "gpu"}}},
        {"name": "other", "devices": {"disk1": disk}},
    ]
    drive, instance = changes(cid, responses)[:2], changes(cid, responses)[2:]
    wire.script(*drive, (instance[0][0], refusal), ("GET /1.0/profiles", responses.sync(profiles)), *instance)
    create()
    devices = wire.last_request_to("POST /1.0/instances").body["devices"]
    assert devices["disk0"] == {"type": "none"} and devices["root"]["path"] == "/"
    assert not {"gpu0", "disk1"} & devices.keys()


# -- failures before the first change ---------------------------------------------------------------------------------


def test_rejects_server_without_virtual_machines(create, wire, responses):
    wire.script(("GET /1.0", responses.sync({**INCUS, "environment": {**INCUS["environment"], "driver": "lxc"}})))
    with pytest.raises(errors.CloudError, match="cannot run virtual machines") as raised:
        create()
    assert raised.value.code == "no_vms"


def test_raises_stemcell_not_found(create, wire, responses):
    wire.script(
        ("GET /1.0", responses.sync(INCUS)),
        ("GET /1.0/images/aliases/img-1", responses.error("Image alias not found", 404)),
    )
    with pytest.raises(errors.StemcellNotFound, match="there is no stemcell img-1 in project prod") as raised:
        create()
    assert raised.value.code == "no_image"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((5, "img-1", {}, {}), "agent_id must be a string"),
        (("a", "img/1", {}, {}), "stemcell_cid must be a CID"),
        (("a", "img-1", {}, {}, [], "x"), "env an object"),
        (("a", "img-1", {"cpus": 1}, {}), "unknown key cpus"),
        (("a", "img-1", {}, []), "networks must be"),
    ],
    ids=["agent_id", "stemcell_cid", "env", "cloud_properties", "networks"],
)
def test_rejects_invalid_arguments_before_any_request(context, wire, arguments, message):
    with pytest.raises(errors.CpiError, match=message):
        create_vm.create_vm(context(), *arguments)
    assert wire.lines == []


# -- failures afterwards ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step", range(5), ids=["ephemeral disk", "drive", "operation of drive", "VM", "operation of VM"]
)
def test_rolls_back_when_a_step_fails(create, wire, script_look_ups, responses, uuid, cid, step):
    script_look_ups()
    steps = changes(cid, responses, ephemeral=True)[: step + 1]
    steps[-1] = (steps[-1][0], responses.failed("odd") if "operations" in steps[-1][0] else responses.error("odd"))
    wire.script(*steps, *rollback(uuid, responses, vm_exists=step == 4))
    with pytest.raises(errors.VMCreationFailed, match=r": odd$") as raised:
        create({"ephemeral_disk": 64})
    assert raised.value.ok_to_retry is False


def test_rolls_back_when_the_label_cannot_be_set(create, wire, script_look_ups, responses, uuid, cid):
    script_look_ups()
    wire.script(
        *changes(cid, responses)[:-1],
        (f"PATCH /1.0/instances/{cid}", responses.error("odd")),
        *rollback(uuid, responses, vm_exists=True),
    )
    with pytest.raises(errors.VMCreationFailed):
        create()


def test_rolls_back_after_an_unexpected_exception(create, wire, script_look_ups, responses, uuid):
    script_look_ups()
    wire.script((f"POST {VOLUMES}", lambda: KeyError("surprise")), *rollback(uuid, responses))
    with pytest.raises(KeyError):
        create()


@pytest.mark.parametrize(
    "text, ok_to_retry",
    [
        ('Create start operation: Instance is busy running a "start" operation', True),
        ("UNIQUE constraint failed: instances.name", True),
        ("odd", False),
    ],
    ids=["busy", "name is taken", "unknown error"],
)
def test_director_retries_transient_failures_only(
    create, wire, script_look_ups, responses, uuid, cid, text, ok_to_retry
):
    script_look_ups()
    steps = changes(cid, responses)
    failing = [steps[2], ("GET /1.0/operations/op-1/wait", responses.failed(text))]
    wire.script(*steps[:2], *failing * (2 if "busy" in text else 1), *rollback(uuid, responses))
    with pytest.raises(errors.VMCreationFailed) as raised:
        create(retry=TWO_ATTEMPTS)
    assert raised.value.ok_to_retry is ok_to_retry


@pytest.mark.parametrize(
    "text, error, code",
    [
        ("no space left on device", errors.NoDiskSpace, "no_space"),
        ('Requested profile "x" doesn\'t exist', errors.CloudError, "no_profile"),
        ("Project not found", errors.CloudError, "no_project"),
    ],
    ids=["no space", "no profile", "no project"],
)
def test_keeps_errors_that_have_a_hint(create, wire, script_look_ups, responses, uuid, text, error, code):
    script_look_ups()
    wire.script((f"POST {VOLUMES}", responses.error(text)), *rollback(uuid, responses))
    with pytest.raises(error) as raised:
        create()
    assert type(raised.value) is error and raised.value.code == code


@pytest.mark.parametrize("status", ["Running", "Stopped"])
def test_creates_the_vm_again_when_the_response_is_lost(create, wire, script_look_ups, responses, cid, status):
    """The instance may lack its root disk, whatever its status."""
    script_look_ups()
    steps = changes(cid, responses)
    stop = [(f"PUT /1.0/instances/{cid}/state", responses.sync())] if status == "Running" else []
    wire.script(
        *steps[:2],
        ("POST /1.0/instances", errors.NoResponse("reset")),
        ("GET /1.0/operations", responses.sync({})),
        (f"GET /1.0/instances/{cid}", responses.sync({"name": cid, "status": status})),
        *stop,
        (f"DELETE /1.0/instances/{cid}", responses.sync()),
        *steps[2:],
    )
    assert create()[0] == cid


def test_names_an_incomplete_vm_that_cannot_be_deleted(create, wire, script_look_ups, responses, cid):
    script_look_ups()
    look = (f"GET /1.0/instances/{cid}", responses.sync({"name": cid, "status": "Stopped"}))
    delete = (f"DELETE /1.0/instances/{cid}", responses.error("Failed to remove symlink: directory not empty"))
    wire.script(
        *changes(cid, responses)[:2],
        ("POST /1.0/instances", errors.NoResponse("reset")),
        ("GET /1.0/operations", responses.sync({})),
        *[look, delete] * 2,  # the rollback tries again
    )
    with pytest.raises(errors.ServerError, match=f"the server may have created {cid} in part and cannot") as raised:
        create()
    assert raised.value.code == "incomplete"


def test_fails_retryable_when_a_volumes_response_is_lost(create, wire, script_look_ups, responses, uuid):
    script_look_ups()
    wire.script((f"POST {VOLUMES}", errors.NoResponse("reset")), *rollback(uuid, responses))
    with pytest.raises(errors.VMCreationFailed) as raised:
        create({"ephemeral_disk": 1024})
    assert raised.value.ok_to_retry


def test_waits_for_the_creation_when_the_response_is_lost(create, wire, script_look_ups, responses, cid):
    script_look_ups()
    steps = changes(cid, responses)
    pending = {"running": [{"id": "op-9", "resources": {"instances": [f"/1.0/instances/{cid}?project=prod"]}}]}
    wire.script(
        *steps[:2],
        ("POST /1.0/instances", errors.NoResponse("reset")),
        ("GET /1.0/operations", responses.sync(pending)),
        ("GET /1.0/operations/op-9/wait", responses.done()),
        steps[-1],
    )
    assert create()[0] == cid


def test_accepts_the_label_when_the_agent_is_not_running(create, wire, script_look_ups, responses, cid):
    script_look_ups()
    wire.script(
        *changes(cid, responses)[:-1],
        (f"PATCH /1.0/instances/{cid}", responses.error("LXD VM agent isn't currently running")),
        (f"GET /1.0/instances/{cid}", responses.sync({"config": {"user.bosh.state": "created"}})),
    )
    assert create()[0] == cid


@pytest.mark.parametrize("step", [1, 3], ids=["config drive", "VM"])
def test_interrupted_call_rolls_back_and_may_be_retried(create, wire, script_look_ups, responses, uuid, cid, step):
    script_look_ups()
    steps = changes(cid, responses)[: step + 1]
    steps[-1] = (steps[-1][0], errors.Interrupted("SIGTERM"))
    wire.script(*steps, *rollback(uuid, responses, vm_exists=step == 3))
    with pytest.raises(errors.VMCreationFailed, match=r"^the call was stopped by SIGTERM$") as raised:
        create()
    assert raised.value.ok_to_retry is True


def test_interrupted_before_the_first_change_may_be_retried(create, wire):
    wire.script(("GET /1.0", errors.Interrupted("SIGINT")))
    with pytest.raises(errors.VMCreationFailed, match=r"^the call was stopped by SIGINT$") as raised:
        create()
    assert raised.value.ok_to_retry is True


@pytest.mark.parametrize(
    "look_up, document, problem",
    [
        (0, {"api_extensions": {}}, "GET /1.0: the field api_extensions of the response is an object, not an array"),
        (
            1,
            {"name": "img-1"},
            "GET /1.0/images/aliases/img-1: the field target of the response is missing, not a string",
        ),
        (2, [BRIDGE], "GET /1.0/networks/lxdbr0: the response is an array, not an object"),
    ],
    ids=["server", "alias", "network"],
)
def test_unexpected_response_names_endpoint_and_field(create, wire, responses, look_up, document, problem):
    lines = ["GET /1.0", "GET /1.0/images/aliases/img-1", "GET /1.0/networks/lxdbr0"]
    documents: list[Any] = [INCUS, STEMCELL, BRIDGE]
    documents[look_up] = document
    wire.script(
        *[(line, responses.sync(metadata)) for line, metadata in zip(lines, documents, strict=True)][: look_up + 1]
    )
    with pytest.raises(errors.VMCreationFailed, match=f"^{problem}$") as raised:
        create()
    assert raised.value.ok_to_retry is False
    assert isinstance(raised.value.__cause__, errors.UnexpectedResponse)


def test_rolls_back_after_the_deadline(create, wire, script_look_ups, responses, uuid, clock):
    script_look_ups()
    wire.script((f"POST {VOLUMES}", lambda: clock.sleep(301) or responses.sync()), *rollback(uuid, responses))
    with pytest.raises(errors.VMCreationFailed, match="the call did not finish within 300 seconds") as raised:
        create({"ephemeral_disk": 64})
    assert raised.value.ok_to_retry is True


def test_keeps_a_failed_vm_when_configured(context, wire, script_look_ups, responses, cid):
    script_look_ups()
    vm = (f"GET /1.0/instances/{cid}", responses.sync({"status": "Stopped"}))
    steps = changes(cid, responses)
    wire.script(
        *steps[:3],
        ("GET /1.0/operations/op-1/wait", responses.failed("odd")),
        vm,
        (f"PATCH /1.0/instances/{cid}", responses.sync()),
    )
    call = context()
    call.config = call.config._replace(keep_failed_vms=True)
    with pytest.raises(errors.VMCreationFailed) as raised:
        create_vm.create_vm(call, "agent-1", "img-1", {}, NETWORKS)
    assert raised.value.ok_to_retry is False
    assert (raised.value.code, raised.value.fields) == ("vm_kept", {"vm": cid})
    assert wire.request_to(f"PATCH /1.0/instances/{cid}").body["config"] == {"user.bosh.state": "failed"}


def test_keeps_no_vm_when_the_server_is_unreachable(context, wire):
    wire.script(*[("GET /1.0", errors.Unreachable("no connection"))] * 2)
    call = context(retry=TWO_ATTEMPTS)
    call.config = call.config._replace(keep_failed_vms=True)
    with pytest.raises(errors.VMCreationFailed) as raised:
        create_vm.create_vm(call, "agent-1", "img-1", {}, NETWORKS)
    assert raised.value.ok_to_retry is True


def test_keeps_a_failed_vm_although_it_cannot_be_labelled(context, wire, script_look_ups, responses, cid, log):
    script_look_ups()
    wire.script(
        *changes(cid, responses)[:3],
        ("GET /1.0/operations/op-1/wait", responses.failed("UNIQUE constraint failed: instances.name")),
        (f"GET /1.0/instances/{cid}", responses.sync({"status": "Stopped"})),
        (f"PATCH /1.0/instances/{cid}", responses.error("odd")),
    )
    call = context()
    call.config = call.config._replace(keep_failed_vms=True)
    with pytest.raises(errors.VMCreationFailed) as raised:
        create_vm.create_vm(call, "agent-1", "img-1", {}, NETWORKS)
    assert (raised.value.code, raised.value.ok_to_retry) == ("vm_kept", False)
    assert f"could not roll back VM {cid}" in log.stream.getvalue()


def test_holds_the_lock_of_the_vm_during_its_creation(create, wire, script_look_ups, responses, cid, tmp_path):
    held = []

    def create_volume():
        held.append(locks.is_held(str(tmp_path / "locks"), cid))
        return responses.asynchronous()

    script_look_ups()
    first, *others = changes(cid, responses)
    wire.script((first[0], create_volume), *others)
    create()
    assert held == [True]
    assert not locks.is_held(str(tmp_path / "locks"), cid)
