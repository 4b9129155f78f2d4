"""The scenarios that are recorded on every kind of server: success, repetition and failure of every CPI method.

A scenario is a function of a `RecordingDirector` (recording.py). The VMs have no operating system. Resources that a
scenario does not delete are deleted after it. This is not recorded.
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
    from tests.replay.recording import RecordingDirector

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
MISSING_UUID = "01a2030b-da83-881f-9150-c4285a92c4e3"
MISSING_NAME = "nowhere"

RACES = ("vm_busy",)
"""Scenarios with two concurrent clients. Their recordings can differ."""

Scenario = Callable[["RecordingDirector"], None]
SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


def create_vm(
    director: RecordingDirector, properties: dict[str, Any] | None = None, networks: dict[str, Any] | None = None
) -> str:
    return director.call("create_vm", *create_vm_arguments(director, properties, networks))[0]


def create_vm_arguments(
    director: RecordingDirector, properties: dict[str, Any] | None = None, networks: dict[str, Any] | None = None
) -> list[Any]:
    """Return the arguments of create_vm."""
    networks = networks or {"default": manual_network(IP)}
    return ["agent-1", director.stemcell, properties or SMALL, networks, [], environment()]


@contextlib.contextmanager
def unrecorded(director: RecordingDirector) -> Iterator[None]:
    """Run calls within a context without recording them."""
    director.recording = False
    yield
    director.recording = True


# -- stemcells --------------------------------------------------------------------------------------------------------


@scenario
def stemcells(director: RecordingDirector) -> None:
    first = director.call("create_stemcell", IMAGE, {**JAMMY, "version": "2.1"})
    second = director.call("create_stemcell", IMAGE, {**JAMMY, "version": "2.1"}, {"tags": {"a": "b"}})
    for cid in (first, second, second):
        director.call("delete_stemcell", cid)


@scenario
def stemcell_without_name(director: RecordingDirector) -> None:
    properties = {"disk_format": "qcow2", "architecture": "x86_64"}
    cids = [director.call("create_stemcell", IMAGE, properties) for _ in range(2)]
    for cid in cids:
        director.call("delete_stemcell", cid)


@scenario
def stemcell_light(director: RecordingDirector) -> None:
    cid = director.call("create_stemcell", "", {"name": "light", "version": "1", "image_alias": director.stemcell})
    director.call("delete_stemcell", cid)
    director.call_fails("create_stemcell", "", {"image_alias": MISSING_NAME})


@scenario
def stemcell_refused(director: RecordingDirector) -> None:
    director.call_fails("create_stemcell", "tests/fixtures/nothing-here", JAMMY | {"version": "2.2"})
    director.call_fails("create_stemcell", "setup.cfg", JAMMY | {"version": "2.2"})


@scenario
def stemcell_predeployed(director: RecordingDirector) -> None:
    with director.configured("server", predeploy_stemcell=True):
        director.call("delete_stemcell", director.call("create_stemcell", IMAGE, {**JAMMY, "version": "2.3"}))


# -- virtual machines -------------------------------------------------------------------------------------------------


@scenario
def vm(director: RecordingDirector) -> None:
    cid = create_vm(director, {**SMALL, "ephemeral_disk": 64, "root_disk": 128, "tags": {"team": "a"}})
    director.call("has_vm", cid)
    for deployment in ("cf", "cf2"):
        director.call(
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
    director.call("get_disks", cid)
    director.call("reboot_vm", cid)
    director.client("stop", "--force", cid)
    director.call("reboot_vm", cid)
    for method in ("delete_vm", "has_vm", "delete_vm"):
        director.call(method, cid)


@scenario
def vm_two_networks(director: RecordingDirector) -> None:
    second = manual_network("10.246.0.22", gateway="10.246.0.1", default=[], cloud_properties={"name": "boshbr1"})
    cid = create_vm(director, {"cpu": 2, "ram": 256}, {"b": second, "a": manual_network(IP)})
    director.call("delete_vm", cid)


@scenario
def vm_by_dhcp(director: RecordingDirector) -> None:
    dynamic = {"type": "dynamic", "default": ["gateway", "dns"], "cloud_properties": {}}
    director.call("delete_vm", create_vm(director, networks={"default": dynamic}))
    with director.configured("server", managed_network_assignment="dhcp"):
        director.call("delete_vm", create_vm(director))


@scenario
def vm_fat_drive(director: RecordingDirector) -> None:
    with director.configured("agent_config", type="FAT32"):
        director.call("delete_vm", create_vm(director))


@scenario
def vm_by_uefi(director: RecordingDirector) -> None:
    with unrecorded(director):
        noble = director.call("create_stemcell", IMAGE, {**JAMMY, "name": "bosh-openstack-kvm-ubuntu-noble"})
    cid = director.call("create_vm", "agent-1", noble, SMALL, {"default": manual_network(IP)}, [], environment())[0]
    director.call("delete_vm", cid)


@scenario
def vm_refused(director: RecordingDirector) -> None:
    properties_with_disk = {**SMALL, "ephemeral_disk": 64}
    director.call_fails(
        "create_vm", "agent-1", f"img-{MISSING_UUID}", SMALL, {"default": manual_network(IP)}, [], environment()
    )
    director.client("storage", "create", "second", "dir")
    for properties in (
        {**properties_with_disk, "root_disk": 16, "storage_pool": "second"},
        {**properties_with_disk, "ephemeral_storage_pool": MISSING_NAME},
        {**properties_with_disk, "profiles": [MISSING_NAME]},
        {**properties_with_disk, "config": {"no.such.key": "1"}},
        {"instance_typ": "c1-m1"},
    ):
        director.call_fails("create_vm", *create_vm_arguments(director, properties))
    director.client("storage", "delete", "second")
    for network in (
        manual_network("192.0.2.7"),
        manual_network(IP, cloud_properties={"name": MISSING_NAME}),
        manual_network("10.245.0.1"),
    ):
        director.call_fails("create_vm", *create_vm_arguments(director, properties_with_disk, {"default": network}))


@scenario
def vm_address_taken(director: RecordingDirector) -> None:
    with unrecorded(director):
        vm = create_vm(director)
    director.call_fails("create_vm", *create_vm_arguments(director))
    with director.configured(keep_failed_vms=True):
        message = director.call_fails("create_vm", *create_vm_arguments(director)).message
        failed_vm = re.search(r"(?:creating|starting) (vm-[0-9a-f-]+)", message)[1]
    director.call("delete_vm", vm)
    director.call("delete_vm", failed_vm)


@scenario
def vm_missing(director: RecordingDirector) -> None:
    cid = f"vm-{MISSING_UUID}"
    director.call("has_vm", cid)
    director.call("delete_vm", cid)
    for method, *arguments in (
        ("reboot_vm",),
        ("set_vm_metadata", {"a": "b"}),
        ("get_disks",),
        ("detach_disk", f"vol-p-{MISSING_UUID}"),
    ):
        director.call_fails(method, cid, *arguments)
    with unrecorded(director):
        deleted, disk = create_vm(director, {**SMALL, "ephemeral_disk": 64}), director.call("create_disk", 16, {}, None)
        director.client("delete", "--force", deleted)
    director.call_fails("attach_disk", deleted, disk)
    director.call("delete_vm", deleted)


@scenario
def vm_busy(director: RecordingDirector) -> None:
    """Another client restarts a VM. The guest ignores the power button, so the restart takes four seconds."""
    with unrecorded(director):
        cid = create_vm(director)
    restart = subprocess.Popen(
        director.client_command("restart", "--timeout", "4", cid), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(1.5)
    with contextlib.suppress(CallError):
        director.call("delete_vm", cid)
    restart.wait()
    director.call("delete_vm", cid)


# -- disks ------------------------------------------------------------------------------------------------------------


@scenario
def disk(director: RecordingDirector) -> None:
    cid = director.call("create_disk", 16, {}, None)
    director.call("has_disk", cid)
    for deployment in ("cf", "cf2"):
        director.call("set_disk_metadata", cid, {"deployment": deployment, "instance_group": "db", "instance_index": 0})
    for size in (32, 32):
        director.call("resize_disk", cid, size)
    director.call_fails("resize_disk", cid, 16)
    director.call("update_disk", cid, 48, {})
    for method in ("delete_disk", "has_disk", "delete_disk"):
        director.call(method, cid)


@scenario
def disk_attached(director: RecordingDirector) -> None:
    with unrecorded(director):
        vm, other = create_vm(director), create_vm(director, networks={"default": manual_network("10.245.0.22")})
        cid = director.call("create_disk", 16, {}, vm)
    for _ in range(2):
        director.call("attach_disk", vm, cid)
    director.call("get_disks", vm)
    director.call("set_disk_metadata", cid, {"deployment": "cf"})
    for method, *arguments in (("attach_disk", other, cid), ("delete_disk", cid), ("resize_disk", cid, 32)):
        director.call_fails(method, *arguments)
    for _ in range(2):
        director.call("detach_disk", vm, cid)
    director.call("get_disks", vm)


@scenario
def disk_of_deleted_vm(director: RecordingDirector) -> None:
    with unrecorded(director):
        vm, cid = create_vm(director), director.call("create_disk", 16, {}, None)
        director.client("stop", "--force", vm)
    director.call("attach_disk", vm, cid)
    director.call("delete_vm", vm)
    director.call("has_disk", cid)


@scenario
def disk_snapshots(director: RecordingDirector) -> None:
    with unrecorded(director):
        vm, cid = create_vm(director), director.call("create_disk", 16, {}, None)
        director.call("attach_disk", vm, cid)
    snapshots = [director.call("snapshot_disk", cid, {"deployment": "cf", "job": "db", "index": 0}) for _ in range(2)]
    for snapshot in (snapshots[0], snapshots[0]):
        director.call("delete_snapshot", snapshot)
    with unrecorded(director):
        director.call("detach_disk", vm, cid)
    director.call("delete_disk", cid)
    director.call("delete_snapshot", snapshots[1])


@scenario
def disk_missing(director: RecordingDirector) -> None:
    with unrecorded(director):
        vm = create_vm(director)
    cid = f"vol-p-{MISSING_UUID}"
    director.call("has_disk", cid)
    director.call("delete_disk", cid)
    director.call("detach_disk", vm, cid)
    director.call("delete_snapshot", f"{cid}_snap-{MISSING_UUID}")
    for method, *arguments in (
        ("attach_disk", vm, cid),
        ("resize_disk", cid, 32),
        ("update_disk", cid, 32, {}),
        ("set_disk_metadata", cid, {}),
        ("snapshot_disk", cid, {}),
    ):
        director.call_fails(method, *arguments)


@scenario
def disk_in_another_pool(director: RecordingDirector) -> None:
    director.client("storage", "create", "second", "dir")
    cid = director.call("create_disk", 16, {"storage_pool": "second"}, None)
    director.call("has_disk", cid)
    director.call_fails("update_disk", cid, 16, {"storage_pool": "default"})
    director.call("delete_disk", cid)
    director.client("storage", "delete", "second")
    director.call_fails("create_disk", 16, {"storage_pool": MISSING_NAME}, None)


# -- the server -------------------------------------------------------------------------------------------------------


@scenario
def project_missing(director: RecordingDirector) -> None:
    with director.configured("server", project_name=MISSING_NAME):
        director.call_fails("create_disk", 16, {}, None)
        director.call_fails("create_vm", *create_vm_arguments(director))


@scenario
def certificate_not_trusted(director: RecordingDirector) -> None:
    certificate, key = director.untrusted_certificate()
    with director.configured("server", tls_client_cert=certificate, tls_client_key=key):
        director.call_fails("has_vm", f"vm-{MISSING_UUID}")
        director.call_fails("create_vm", *create_vm_arguments(director))


@scenario
def certificate_mismatch(director: RecordingDirector) -> None:
    with director.configured("server", tls_server_cert="00" * 32):
        director.call_fails("has_vm", f"vm-{MISSING_UUID}")


@scenario
def server_restarts(director: RecordingDirector) -> None:
    with director.daemon_stopped(seconds=1.0):
        director.call("has_vm", f"vm-{MISSING_UUID}")
