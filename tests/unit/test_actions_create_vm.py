"""create_vm against a scripted server: its requests, the dialects and clusters that no test server is, and its failures.

What a VM then sees is proven on real servers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import create_vm
from bosh_lxd_cpi.guest import networks
from bosh_lxd_cpi.model import naming

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


@pytest.fixture
def uuid(clock) -> str:
    """Of the VM that a call makes: the first one that is drawn."""
    return naming.new_id(type(clock)(), "d1r")


@pytest.fixture
def cid(uuid) -> str:
    return f"vm-{uuid}"


@pytest.fixture
def asking(wire, replies) -> Callable[..., None]:
    """Scripts the three questions that come before anything is made."""

    def asking(server: dict[str, Any] = INCUS, stemcell: dict[str, Any] = STEMCELL) -> None:
        wire.script(
            ("GET /1.0", replies.sync(server)),
            ("GET /1.0/images/aliases/img-1", replies.sync(stemcell)),
            ("GET /1.0/networks", replies.sync([BRIDGE])),
        )

    return asking


@pytest.fixture
def create(context) -> Callable[..., Any]:
    def create(properties: dict[str, Any] | None = None, nets: Any = NETWORKS, env: Any = None, **server: Any) -> Any:
        return create_vm.create_vm(context(**server), "agent-1", "img-1", properties or {}, nets, [], env)

    return create


def waited(line: str, replies) -> list[tuple[str, Any]]:
    return [(line, replies.asynchronous()), ("GET /1.0/operations/op-1/wait", replies.done())]


def making(cid: str, replies, *, ephemeral: bool = False) -> list[tuple[str, Any]]:
    """The happy rest on Incus."""
    first = [(f"POST {VOLUMES}", replies.sync())] if ephemeral else []
    return [
        *first,
        *waited(f"POST {VOLUMES}", replies),
        *waited("POST /1.0/instances", replies),
        (f"PATCH /1.0/instances/{cid}", replies.sync()),
    ]


def leftovers(uuid: str, replies, *, there: bool = False) -> list[tuple[str, Any]]:
    """Taking back a VM: when it is there with its drive, or when only volumes can be."""
    cid = f"vm-{uuid}"
    if there:
        devices = {"config": {"type": "disk", "pool": "default", "source": f"vol-c-{uuid}"}}
        return [
            (f"GET /1.0/instances/{cid}", replies.sync({"status": "Running", "devices": devices})),
            *waited(f"PUT /1.0/instances/{cid}/state", replies),
            *waited(f"DELETE /1.0/instances/{cid}", replies),
            (f"DELETE {VOLUMES}/vol-c-{uuid}", replies.sync()),
            (f"DELETE {VOLUMES}/vol-e-{uuid}", replies.error("Not found", 404)),
        ]
    return [
        (f"GET /1.0/instances/{cid}", replies.error("Instance not found", 404)),
        ("GET /1.0/storage-pools", replies.sync([{"name": "default"}])),
        (f"DELETE {VOLUMES}/vol-c-{uuid}", replies.error("Not found", 404)),
        (f"DELETE {VOLUMES}/vol-e-{uuid}", replies.error("Not found", 404)),
    ]


def test_takes_nine_requests_on_incus(create, wire, asking, replies, cid):
    asking()
    wire.script(*making(cid, replies, ephemeral=True))
    assert create({"ephemeral_disk": 1024}) == [cid, NETWORKS]
    assert len(wire.asked) == 9


def test_one_request_creates_and_starts_the_vm(create, wire, asking, replies, cid, uuid):
    asking()
    wire.script(*making(cid, replies, ephemeral=True))
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
    body = next(asked.body for asked in wire.asked if asked.line == "POST /1.0/instances")
    [nic] = networks.nics(NETWORKS, default="lxdbr0", uuid=uuid)
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
    assert wire.asked[-1].body == {"description": "made by BOSH", "config": {"user.bosh.state": "created"}}
    assert wire.asked[3].body["config"] == {
        "user.bosh.director_uuid": "d1r",
        "user.bosh.created_at": "2026-01-31T10:00:00Z",
        "size": "1024MiB",
    }


def test_config_drive_has_the_mac_of_the_device(create, wire, asking, replies, cid, uuid):
    asking()
    wire.script(*making(cid, replies))
    create(env={"bosh": {"group": "g"}})
    drive = next(asked for asked in wire.asked if asked.line == f"POST {VOLUMES}")
    [nic] = networks.nics(NETWORKS, default="lxdbr0", uuid=uuid)
    assert drive.headers["X-LXD-type"] == "iso" and drive.headers["X-LXD-name"] == f"vol-c-{uuid}"
    for piece in nic.mac, "agent-1", cid, "nats://nats:pass@10.0.0.6:4222", '"group": "g"', "HARDDISK_incus_root":
        assert piece.encode() in drive.body


def test_imports_a_backup_and_starts_separately_on_lxd_5_0(create, wire, asking, replies, cid):
    asking(LXD_5_0)
    wire.script(
        *waited(f"POST {VOLUMES}", replies),
        *waited("POST /1.0/instances", replies),
        *waited(f"PUT /1.0/instances/{cid}/state", replies),
        (f"PATCH /1.0/instances/{cid}", replies.sync()),
    )
    create()
    drive, instance = wire.asked[3], wire.asked[5].body
    assert "X-LXD-type" not in drive.headers and b"backup/index.yaml" in drive.body
    assert "start" not in instance
    assert instance["config"]["raw.qemu"] == "-bios bios-256k.bin"


def test_uses_boot_mode_on_lxd_6_7(create, wire, asking, replies, cid):
    asking(LXD_6_7)
    wire.script(*waited(f"POST {VOLUMES}", replies), *making(cid, replies))
    create({"ephemeral_disk": 64})
    body = next(asked.body for asked in wire.asked if asked.line == "POST /1.0/instances")
    assert (
        body["config"]["boot.mode"] == "bios"
        and not {"security.csm", "security.secureboot", "raw.qemu"} & body["config"].keys()
    )


def test_imports_fat_drives_as_backup(create, context, wire, asking, replies, cid, monkeypatch):
    asking()
    wire.script(*making(cid, replies))
    call = context()
    one.config = one.config._replace(agent_config=one.config.agent_config._replace(type="FAT32"))
    create_vm.create_vm(one, "agent-1", "img-1", {}, NETWORKS)
    assert "X-LXD-type" not in wire.asked[3].headers and b"backup/volume.img" in wire.asked[3].body


def test_creates_the_vm_before_its_volumes_on_a_cluster(create, wire, asking, replies, cid, uuid):
    asking(CLUSTER)
    instance = {
        "location": "m2",
        "devices": {"root": {}},
        "config": {"volatile.x": "y"},
        "description": "d",
        "profiles": ["default"],
    }
    wire.script(
        *waited("POST /1.0/instances", replies),
        (f"GET /1.0/instances/{cid}", replies.sync(instance, etag="e7")),
        (f"POST {VOLUMES}", replies.sync()),
        *waited(f"POST {VOLUMES}", replies),
        *waited(f"PUT /1.0/instances/{cid}", replies),
        *waited(f"PUT /1.0/instances/{cid}/state", replies),
        (f"PATCH /1.0/instances/{cid}", replies.sync()),
    )
    create({"ephemeral_disk": 64, "target": "@fast"})
    by_line = {asked.line: asked for asked in wire.asked}
    created, given = by_line["POST /1.0/instances"], by_line[f"PUT /1.0/instances/{cid}"]
    assert created.query == {"project": "prod", "target": "@fast"} and "start" not in created.body
    assert set(created.body["devices"]) == {"root", "eth0"}
    assert [asked.query for asked in wire.asked if asked.line == f"POST {VOLUMES}"] == [
        {"project": "prod", "target": "m2"}
    ] * 2
    assert given.headers["If-Match"] == "e7" and given.body["config"] == {"volatile.x": "y"}
    assert given.body["devices"]["config"]["source"] == f"vol-c-{uuid}" and "root" in given.body["devices"]


def test_target_of_network_overrides_target_of_server(create, wire, asking, replies, uuid):
    asking(CLUSTER)
    wire.script(("POST /1.0/instances", replies.error("odd")), *leftovers(uuid, replies))
    network = {"private": {**NETWORKS["private"], "cloud_properties": {"target": "m2"}}}
    with pytest.raises(errors.CloudError, match="odd"):
        create(nets=network, target="@default")
    assert next(asked for asked in wire.asked if asked.line == "POST /1.0/instances").query["target"] == "m2"


def test_sends_no_target_without_cluster(create, wire, asking, replies, cid):
    asking()
    wire.script(*making(cid, replies))
    create({"target": "m1"})
    assert all("target" not in asked.query for asked in wire.asked)


def test_reads_the_image_when_the_alias_has_no_description(create, wire, replies, cid):
    """go-lxd-cpi gave its aliases none."""
    wire.script(
        ("GET /1.0", replies.sync(INCUS)),
        ("GET /1.0/images/aliases/img-1", replies.sync({"target": "f1ng3r", "description": ""})),
        (
            "GET /1.0/images/f1ng3r",
            replies.sync({"properties": {"description": "bosh-openstack-kvm-ubuntu-jammy-1.5"}}),
        ),
        ("GET /1.0/networks", replies.sync([BRIDGE])),
        *making(cid, replies),
    )
    create()
    assert wire.asked[-3].body["config"]["security.csm"] == "true"


def test_finds_a_bridge_in_the_default_project(create, wire, replies, cid):
    wire.script(
        ("GET /1.0", replies.sync(INCUS)),
        ("GET /1.0/images/aliases/img-1", replies.sync(STEMCELL)),
        ("GET /1.0/networks", replies.sync([])),
        ("GET /1.0/networks", replies.sync([BRIDGE])),
        *making(cid, replies),
    )
    create()
    assert wire.asked[3].query["project"] == "default"
    assert wire.asked[-3].body["devices"]["eth0"]["parent"] == "lxdbr0"


def test_rejects_network_that_no_visible_project_has(create, wire, replies):
    wire.script(
        ("GET /1.0", replies.sync(INCUS)),
        ("GET /1.0/images/aliases/img-1", replies.sync(STEMCELL)),
        ("GET /1.0/networks", replies.sync([])),
        ("GET /1.0/networks", replies.error("not authorized", 403)),
    )
    with pytest.raises(errors.CloudError, match="the server has no network lxdbr0"):
        create()


@pytest.mark.parametrize("kind, managed, dhcp", [("dhcp", True, True), ("dhcp", False, False), ("static", True, False)])
def test_reserves_addresses_by_dhcp_on_managed_networks(create, wire, replies, cid, kind, managed, dhcp):
    wire.script(
        ("GET /1.0", replies.sync(INCUS)),
        ("GET /1.0/images/aliases/img-1", replies.sync(STEMCELL)),
        ("GET /1.0/networks", replies.sync([{**BRIDGE, "managed": managed}])),
        *making(cid, replies),
    )
    _, answer = create(managed_network_assignment=kind)
    assert answer["private"]["type"] == ("dynamic" if dhcp else "manual")
    assert (b'"use_dhcp": true' in wire.asked[3].body) is dhcp


# -- what goes wrong before anything is made ------------------------------------------------------------------------------


def test_rejects_server_without_virtual_machines(create, wire, replies):
    wire.script(("GET /1.0", replies.sync({**INCUS, "environment": {**INCUS["environment"], "driver": "lxc"}})))
    with pytest.raises(errors.CloudError, match="cannot run virtual machines") as raised:
        create()
    assert "vhost_vsock" in raised.value.hint


def test_raises_stemcell_not_found(create, wire, replies):
    wire.script(
        ("GET /1.0", replies.sync(INCUS)),
        ("GET /1.0/images/aliases/img-1", replies.error("Image alias not found", 404)),
    )
    with pytest.raises(errors.StemcellNotFound, match="there is no stemcell img-1 in project prod"):
        create()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((5, "img-1", {}, {}), "agent_id must be a text"),
        (("a", "img/1", {}, {}), "stemcell_cid must be a CID"),
        (("a", "img-1", {}, {}, [], "x"), "env a mapping"),
        (("a", "img-1", {"cpus": 1}, {}), "unknown key cpus"),
        (("a", "img-1", {}, []), "networks must be a mapping"),
    ],
)
def test_rejects_invalid_arguments_before_any_request(context, wire, arguments, message):
    with pytest.raises(errors.CpiError, match=message):
        create_vm.create_vm(context(), *arguments)
    assert wire.asked == []


# -- failures on the way --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", range(5))
def test_rolls_back_when_a_step_fails(create, wire, asking, replies, uuid, cid, step):
    """Volume, drive, its operation, instance, its operation."""
    asking()
    steps = making(cid, replies, ephemeral=True)[: step + 1]
    steps[-1] = (steps[-1][0], replies.failed("odd") if "operations" in steps[-1][0] else replies.error("odd"))
    wire.script(*steps, *leftovers(uuid, replies, there=step == 4))
    with pytest.raises(errors.VMCreationFailed, match=": odd$") as raised:
        create({"ephemeral_disk": 64})
    assert raised.value.ok_to_retry is False


def test_rolls_back_when_the_label_cannot_be_set(create, wire, asking, replies, uuid, cid):
    asking()
    wire.script(
        *making(cid, replies)[:-1],
        (f"PATCH /1.0/instances/{cid}", replies.error("odd")),
        *leftovers(uuid, replies, there=True),
    )
    with pytest.raises(errors.VMCreationFailed):
        create()


def test_rolls_back_after_an_unexpected_exception(create, wire, asking, replies, uuid):
    asking()
    wire.script((f"POST {VOLUMES}", lambda: KeyError("surprise")), *leftovers(uuid, replies))
    with pytest.raises(KeyError):
        create()


@pytest.mark.parametrize(
    "answer, retry",
    [
        ('Create start operation: Instance is busy running a "start" operation', True),
        ("UNIQUE constraint failed: instances.name", True),
        ("odd", False),
    ],
)
def test_director_retries_transient_failures_only(create, wire, asking, replies, uuid, cid, clock, answer, retry):
    asking()
    steps = making(cid, replies)
    failing = [steps[2], ("GET /1.0/operations/op-1/wait", replies.failed(answer))]
    wire.script(*steps[:2], *failing * (19 if "busy" in answer else 1), *leftovers(uuid, replies))
    with pytest.raises(errors.VMCreationFailed) as raised:
        create()
    assert raised.value.ok_to_retry is retry


@pytest.mark.parametrize(
    "answer, error, hint",
    [
        ("no space left on device", errors.NoDiskSpace, "storage info default"),
        ('Requested profile "x" doesn\'t exist', errors.CloudError, "profile list"),
        ("Project not found", errors.CloudError, "project create prod"),
    ],
)
def test_keeps_errors_that_have_a_hint(create, wire, asking, replies, uuid, answer, error, hint):
    asking()
    wire.script((f"POST {VOLUMES}", replies.error(answer)), *leftovers(uuid, replies))
    with pytest.raises(error) as raised:
        create()
    assert type(raised.value) is error and hint in raised.value.hint


def test_finds_the_vm_when_the_response_is_lost(create, wire, asking, replies, cid):
    asking()
    steps = making(cid, replies)
    running = replies.sync({"status": "Running"})
    wire.script(
        *steps[:2],
        ("POST /1.0/instances", errors.NoResponse("reset")),
        ("GET /1.0/operations", replies.sync({})),
        (f"GET /1.0/instances/{cid}", running),
        (f"GET /1.0/instances/{cid}", running),
        steps[-1],
    )
    assert create()[0] == cid


def test_waits_for_the_creation_when_the_response_is_lost(create, wire, asking, replies, cid):
    asking()
    steps = making(cid, replies)
    running = replies.sync({"status": "Running"})
    pending = {"running": [{"id": "op-9", "resources": {"instances": [f"/1.0/instances/{cid}?project=prod"]}}]}
    wire.script(
        *steps[:2],
        ("POST /1.0/instances", errors.NoResponse("reset")),
        ("GET /1.0/operations", replies.sync(pending)),
        ("GET /1.0/operations/op-9/wait", replies.done()),
        (f"GET /1.0/instances/{cid}", running),
        (f"GET /1.0/instances/{cid}", running),
        steps[-1],
    )
    assert create()[0] == cid


def test_accepts_the_label_when_the_agent_is_not_running(create, wire, asking, replies, cid):
    asking()
    wire.script(
        *making(cid, replies)[:-1],
        (f"PATCH /1.0/instances/{cid}", replies.error("LXD VM agent isn't currently running")),
        (f"GET /1.0/instances/{cid}", replies.sync({"config": {"user.bosh.state": "created"}})),
    )
    assert create()[0] == cid


def test_rolls_back_after_the_deadline(create, wire, asking, replies, uuid, clock):
    asking()
    wire.script((f"POST {VOLUMES}", lambda: clock.sleep(301) or replies.sync()), *leftovers(uuid, replies))
    with pytest.raises(errors.VMCreationFailed, match="the call did not finish within 300 seconds") as raised:
        create({"ephemeral_disk": 64})
    assert raised.value.ok_to_retry is True


def test_keeps_a_failed_vm_when_configured(context, wire, asking, replies, cid):
    asking()
    there = (f"GET /1.0/instances/{cid}", replies.sync({"status": "Stopped"}))
    steps = making(cid, replies)
    wire.script(
        *steps[:3],
        ("GET /1.0/operations/op-1/wait", replies.failed("odd")),
        there,
        (f"PATCH /1.0/instances/{cid}", replies.sync()),
    )
    call = context()
    one.config = one.config._replace(keep_failed_vms=True)
    with pytest.raises(errors.VMCreationFailed) as raised:
        create_vm.create_vm(one, "agent-1", "img-1", {}, NETWORKS)
    assert raised.value.ok_to_retry is False and "keep_failed_vms is set" in raised.value.hint
    assert wire.asked[-1].body["config"] == {"user.bosh.state": "failed"}


def test_keeps_no_vm_when_the_server_is_unreachable(context, wire, clock):
    wire.script(*[("GET /1.0", errors.Unreachable("no connection"))] * 19)
    call = context()
    one.config = one.config._replace(keep_failed_vms=True)
    with pytest.raises(errors.VMCreationFailed) as raised:
        create_vm.create_vm(one, "agent-1", "img-1", {}, NETWORKS)
    assert raised.value.ok_to_retry is True
