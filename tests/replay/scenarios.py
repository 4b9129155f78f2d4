"""The scenarios that are recorded on every kind of server: success, repetition and failure of every CPI method.

A scenario is a function of a `World` (recording.py). The VMs have no operating system. Objects that a scenario does not
delete are deleted after it, unrecorded.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tests.host.director import CallError, environment, manual_network

if TYPE_CHECKING:
    from tests.replay.recording import World

IMAGE = "tests/fixtures/image"
JAMMY = {
    "name": "bosh-openstack-kvm-ubuntu-jammy",
    "version": "1.1",
    "disk": 64,
    "disk_format": "qcow2",
    "architecture": "x86_64",
    "os_distro": "ubuntu",
    "root_device_name": "/dev/sda1",
}
SMALL = {"instance_type": "c1-m0.25"}
IP = "10.245.0.21"
GONE = "01a2030b-da83-881f-9150-c4285a92c4e3"
NOWHERE = "nowhere"

RACES = ("vm_busy",)
"""Scenarios with two concurrent clients. Their recordings can differ."""

Scenario = Callable[["World"], None]
SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


def create_vm(world: World, properties: dict[str, Any] | None = None, networks: dict[str, Any] | None = None) -> str:
    return world.call("create_vm", *create_vm_arguments(world, properties, networks))[0]


def create_vm_arguments(
    world: World, properties: dict[str, Any] | None = None, networks: dict[str, Any] | None = None
) -> list[Any]:
    """Return the arguments of create_vm."""
    networks = networks or {"default": manual_network(IP)}
    return ["agent-1", world.stemcell, properties or SMALL, networks, [], environment()]


@contextlib.contextmanager
def unrecorded(world: World) -> Iterator[None]:
    """Run calls within a context without recording them."""
    world.recording = False
    yield
    world.recording = True


# -- stemcells --------------------------------------------------------------------------------------------------------


@scenario
def stemcells(world: World) -> None:
    first = world.call("create_stemcell", IMAGE, {**JAMMY, "version": "2.1"})
    second = world.call("create_stemcell", IMAGE, {**JAMMY, "version": "2.1"}, {"tags": {"a": "b"}})
    for cid in (first, second, second):
        world.call("delete_stemcell", cid)


@scenario
def stemcell_without_name(world: World) -> None:
    without_name = {"disk_format": "qcow2", "architecture": "x86_64"}
    cids = [world.call("create_stemcell", IMAGE, without_name) for _ in range(2)]
    for cid in cids:
        world.call("delete_stemcell", cid)


@scenario
def stemcell_light(world: World) -> None:
    cid = world.call("create_stemcell", "", {"name": "light", "version": "1", "image_alias": world.stemcell})
    world.call("delete_stemcell", cid)
    world.call_fails("create_stemcell", "", {"image_alias": NOWHERE})


@scenario
def stemcell_refused(world: World) -> None:
    world.call_fails("create_stemcell", "tests/fixtures/nothing-here", JAMMY | {"version": "2.2"})
    world.call_fails("create_stemcell", "setup.cfg", JAMMY | {"version": "2.2"})


@scenario
def stemcell_predeployed(world: World) -> None:
    with world.configured("server", predeploy_stemcell=True):
        world.call("delete_stemcell", world.call("create_stemcell", IMAGE, {**JAMMY, "version": "2.3"}))


# -- virtual machines -------------------------------------------------------------------------------------------------


@scenario
def vm(world: World) -> None:
    cid = create_vm(world, {**SMALL, "ephemeral_disk": 64, "root_disk": 128, "tags": {"team": "a"}})
    world.call("has_vm", cid)
    for deployment in ("cf", "cf2"):
        world.call(
            "set_vm_metadata",
            cid,
            {
                "director": "d",
                "deployment": deployment,
                "instance_group": "web",
                "index": 3,
                "name": "web/uuid",
                "list": [1, {"a": None}],
                "odd key!": "é",
                "null": None,
            },
        )
    world.call("get_disks", cid)
    world.call("reboot_vm", cid)
    world.client("stop", "--force", cid)
    world.call("reboot_vm", cid)
    for method in ("delete_vm", "has_vm", "delete_vm"):
        world.call(method, cid)


@scenario
def vm_two_networks(world: World) -> None:
    second = manual_network("10.246.0.22", gateway="10.246.0.1", default=[], cloud_properties={"name": "boshbr1"})
    cid = create_vm(world, {"cpu": 2, "ram": 256}, {"b": second, "a": manual_network(IP)})
    world.call("delete_vm", cid)


@scenario
def vm_by_dhcp(world: World) -> None:
    dynamic = {"type": "dynamic", "default": ["gateway", "dns"], "cloud_properties": {}}
    world.call("delete_vm", create_vm(world, networks={"default": dynamic}))
    with world.configured("server", managed_network_assignment="dhcp"):
        world.call("delete_vm", create_vm(world))


@scenario
def vm_fat_drive(world: World) -> None:
    with world.configured("agent_config", type="FAT32"):
        world.call("delete_vm", create_vm(world))


@scenario
def vm_by_uefi(world: World) -> None:
    with unrecorded(world):
        noble = world.call("create_stemcell", IMAGE, {**JAMMY, "name": "bosh-openstack-kvm-ubuntu-noble"})
    cid = world.call("create_vm", "agent-1", noble, SMALL, {"default": manual_network(IP)}, [], environment())[0]
    world.call("delete_vm", cid)


@scenario
def vm_refused(world: World) -> None:
    more = {**SMALL, "ephemeral_disk": 64}
    world.call_fails("create_vm", "agent-1", f"img-{GONE}", SMALL, {"default": manual_network(IP)}, [], environment())
    for properties in (
        {**more, "root_disk": 16},
        {**more, "ephemeral_storage_pool": NOWHERE},
        {**more, "profiles": [NOWHERE]},
        {**more, "config": {"no.such.key": "1"}},
        {"instance_typ": "c1-m1"},
    ):
        world.call_fails("create_vm", *create_vm_arguments(world, properties))
    for network in (
        manual_network("192.0.2.7"),
        manual_network(IP, cloud_properties={"name": NOWHERE}),
        manual_network("10.245.0.1"),
    ):
        world.call_fails("create_vm", *create_vm_arguments(world, more, {"default": network}))


@scenario
def vm_address_taken(world: World) -> None:
    with unrecorded(world):
        taken = create_vm(world)
    world.call_fails("create_vm", *create_vm_arguments(world))
    with world.configured(keep_failed_vms=True):
        message = world.call_fails("create_vm", *create_vm_arguments(world)).message
        failed_vm = re.search(r"(?:creating|starting) (vm-[0-9a-f-]+)", message)[1]
    world.call("delete_vm", taken)
    world.call("delete_vm", failed_vm)


@scenario
def vm_missing(world: World) -> None:
    cid = f"vm-{GONE}"
    world.call("has_vm", cid)
    world.call("delete_vm", cid)
    for method, *arguments in (
        ("reboot_vm",),
        ("set_vm_metadata", {"a": "b"}),
        ("get_disks",),
        ("detach_disk", f"vol-p-{GONE}"),
    ):
        world.call_fails(method, cid, *arguments)
    with unrecorded(world):
        deleted, disk = create_vm(world, {**SMALL, "ephemeral_disk": 64}), world.call("create_disk", 16, {}, None)
        world.client("delete", "--force", deleted)
    world.call_fails("attach_disk", deleted, disk)
    world.call("delete_vm", deleted)


@scenario
def vm_busy(world: World) -> None:
    """Another client restarts a VM whose guest ignores the power button, which takes the server four seconds."""
    with unrecorded(world):
        cid = create_vm(world)
    restart = subprocess.Popen(
        world.client_command("restart", "--timeout", "4", cid), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(1.5)
    with contextlib.suppress(CallError):
        world.call("delete_vm", cid)
    restart.wait()
    world.call("delete_vm", cid)


# -- disks ------------------------------------------------------------------------------------------------------------


@scenario
def disk(world: World) -> None:
    cid = world.call("create_disk", 16, {}, None)
    world.call("has_disk", cid)
    for deployment in ("cf", "cf2"):
        world.call("set_disk_metadata", cid, {"deployment": deployment, "instance_group": "db", "instance_index": 0})
    for size in (32, 32):
        world.call("resize_disk", cid, size)
    world.call_fails("resize_disk", cid, 16)
    world.call("update_disk", cid, 48, {})
    for method in ("delete_disk", "has_disk", "delete_disk"):
        world.call(method, cid)


@scenario
def disk_attached(world: World) -> None:
    with unrecorded(world):
        vm, other = create_vm(world), create_vm(world, networks={"default": manual_network("10.245.0.22")})
        cid = world.call("create_disk", 16, {}, vm)
    for _ in range(2):
        world.call("attach_disk", vm, cid)
    world.call("get_disks", vm)
    world.call("set_disk_metadata", cid, {"deployment": "cf"})
    for method, *arguments in (("attach_disk", other, cid), ("delete_disk", cid), ("resize_disk", cid, 32)):
        world.call_fails(method, *arguments)
    for _ in range(2):
        world.call("detach_disk", vm, cid)
    world.call("get_disks", vm)


@scenario
def disk_of_deleted_vm(world: World) -> None:
    with unrecorded(world):
        vm, cid = create_vm(world), world.call("create_disk", 16, {}, None)
        world.client("stop", "--force", vm)
    world.call("attach_disk", vm, cid)
    world.call("delete_vm", vm)
    world.call("has_disk", cid)


@scenario
def disk_snapshots(world: World) -> None:
    with unrecorded(world):
        vm, cid = create_vm(world), world.call("create_disk", 16, {}, None)
        world.call("attach_disk", vm, cid)
    snapshots = [world.call("snapshot_disk", cid, {"deployment": "cf", "job": "db", "index": 0}) for _ in range(2)]
    for snapshot in (snapshots[0], snapshots[0]):
        world.call("delete_snapshot", snapshot)
    with unrecorded(world):
        world.call("detach_disk", vm, cid)
    world.call("delete_disk", cid)
    world.call("delete_snapshot", snapshots[1])


@scenario
def disk_missing(world: World) -> None:
    with unrecorded(world):
        vm = create_vm(world)
    cid = f"vol-p-{GONE}"
    world.call("has_disk", cid)
    world.call("delete_disk", cid)
    world.call("detach_disk", vm, cid)
    world.call("delete_snapshot", f"{cid}_snap-{GONE}")
    for method, *arguments in (
        ("attach_disk", vm, cid),
        ("resize_disk", cid, 32),
        ("update_disk", cid, 32, {}),
        ("set_disk_metadata", cid, {}),
        ("snapshot_disk", cid, {}),
    ):
        world.call_fails(method, *arguments)


@scenario
def disk_in_another_pool(world: World) -> None:
    world.client("storage", "create", "second", "dir")
    cid = world.call("create_disk", 16, {"storage_pool": "second"}, None)
    world.call("has_disk", cid)
    world.call_fails("update_disk", cid, 16, {"storage_pool": "default"})
    world.call("delete_disk", cid)
    world.client("storage", "delete", "second")
    world.call_fails("create_disk", 16, {"storage_pool": NOWHERE}, None)


# -- the server -------------------------------------------------------------------------------------------------------


@scenario
def project_missing(world: World) -> None:
    with world.configured("server", project_name=NOWHERE):
        world.call_fails("create_disk", 16, {}, None)
        world.call_fails("create_vm", *create_vm_arguments(world))


@scenario
def certificate_not_trusted(world: World) -> None:
    certificate, key = world.untrusted_certificate()
    with world.configured("server", tls_client_cert=certificate, tls_client_key=key):
        world.call_fails("has_vm", f"vm-{GONE}")
        world.call_fails("create_vm", *create_vm_arguments(world))


@scenario
def certificate_mismatch(world: World) -> None:
    with world.configured("server", tls_server_cert="00" * 32):
        world.call_fails("has_vm", f"vm-{GONE}")


@scenario
def server_restarts(world: World) -> None:
    with world.daemon_stopped(seconds=1.0):
        world.call("has_vm", f"vm-{GONE}")
