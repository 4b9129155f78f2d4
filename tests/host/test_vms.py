"""VMs, checked in the report of the guest and on the server."""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from tests.host import server
from tests.host.director import MBUS, CallError, environment, manual_network
from tests.host.kinds import IDENTITIES, KINDS
from tests.host.processes import enter_command

IP = "10.245.0.21"
SMALL = {"instance_type": "c1-m0.375"}


def create(cpi, stemcell, properties=None, networks=None, **env):
    return cpi.call(
        "create_vm",
        "agent-1",
        stemcell,
        properties or SMALL,
        networks or {"default": manual_network(IP)},
        [],
        environment(**env),
    )


def instance_on_server(host, cid):
    """Return the instance from the client of the server."""
    return json.loads(server.client(host.name, "query", f"/1.0/instances/{cid}?project={host.project}").stdout)


@pytest.mark.every_server
def test_masks_devices_of_the_profile(host, cpi, stemcell_cids):
    """A root disk that is not called root is masked by the CPI, an additional NIC by the cloud_properties."""
    profile = ("--project", host.project, "profile")
    server.client(host.name, *profile, "create", "masked")
    try:
        server.client(host.name, *profile, "device", "add", "masked", "disk0", "disk", "path=/", "pool=default")
        server.client(host.name, *profile, "device", "add", "masked", "nic0", "nic", "network=boshbr0")
        properties = {**SMALL, "profiles": ["masked"], "devices": {"nic0": {"type": "none"}}}
        cid, _ = create(cpi, stemcell_cids["jammy"], properties)
        instance = instance_on_server(host, cid)
        cpi.call("delete_vm", cid)
    finally:
        server.client(host.name, *profile, "delete", "masked")
    devices = {name: device for name, device in instance["expanded_devices"].items() if device["type"] != "none"}
    assert instance["status"] == "Running" and sorted(devices) == ["config", "eth0", "root"]


@pytest.mark.every_server
def test_stateful_vm_is_refused_with_a_hint(cpi, stemcell_cids):
    with pytest.raises(CallError, match=r"profile unset \w+ migration\.stateful"):
        create(cpi, stemcell_cids["jammy"], {**SMALL, "config": {"migration.stateful": "true"}})


@pytest.mark.every_server
def test_bios_vm_gets_its_resources_and_settings(host, cpi, stemcell_cids, guests):
    properties = {"instance_type": "c2-m0.5", "ephemeral_disk": 256, "root_disk": 1024}
    cid, networks = create(cpi, stemcell_cids["jammy"], properties)
    if host.type == "incus":
        assert cpi.last.requests <= 10
    instance = instance_on_server(host, cid)
    report = guests.wait(IP)
    cpi.call("delete_vm", cid)

    assert networks == {"default": manual_network(IP)}
    assert (report["errors"], report["firmware"], report["cpus"]) == ([], "bios", 2)
    assert 400 <= report["memory_mib"] <= 512
    assert report["config_drive"]["label"] == "config-2"
    settings = report["user_data"]
    assert (settings["agent_id"], settings["mbus"], settings["ntp"]) == ("agent-1", MBUS, ["10.245.0.1"])
    assert settings["vm"] == {"name": cid, "id": cid}
    assert settings["env"] == environment()
    assert settings["disks"]["persistent"] == {}
    assert report["meta_data"] == {}
    [nic] = report["nics"]
    assert nic["mac"] == instance["devices"]["eth0"]["hwaddr"] == report["networks"]["default"]["mac"]
    assert f"{IP}/24" in nic["addresses"] and nic["gateway"] == "10.245.0.1"
    assert report["disks"]["system"]["size"] == 10 << 30, "a clone has the size of the image's volume"
    assert report["disks"]["ephemeral"]["size"] == 256 << 20
    assert report["disks"]["ephemeral"]["path"].endswith(f"_{host.type}_ephemeral")
    assert instance["config"]["user.bosh.state"] == "created"


@pytest.mark.every_server
def test_small_root_disk_is_a_clone_of_the_image(host, cpi, stemcell_cids):
    cid, _ = create(cpi, stemcell_cids["jammy"], {**SMALL, "root_disk": 1024})
    assert "instead of 1024" in cpi.last.stderr
    directory = f"{KINDS[host.kind].var}/storage-pools/{host.pool}/virtual-machines/{host.project}_{cid}"
    command = ("btrfs", "filesystem", "du", "--summarize", "--raw", f"{directory}/root.img")
    du = subprocess.run(enter_command(host.name, *command), stdout=subprocess.PIPE, text=True, check=True)
    size = instance_on_server(host, cid)["devices"]["root"]["size"]
    cpi.call("delete_vm", cid)
    total, exclusive = (int(number) for number in du.stdout.splitlines()[-1].split()[:2])
    assert size == "10240MiB" and exclusive < total / 2


@pytest.mark.every_server
@pytest.mark.parametrize(
    ("pool", "size"),
    [("default", "3072MiB"), ("second", "1024MiB")],
    ids=["volume.size is 3GiB", "pool of directories"],
)
def test_size_of_a_small_root_disk_depends_on_the_pool(host, cpi, stemcell_cids, pool, size):
    server.client(host.name, "storage", "set", "default", "volume.size", "3GiB")
    server.client(host.name, "storage", "create", "second", "dir")
    try:
        cid, _ = create(cpi, stemcell_cids["jammy"], {**SMALL, "root_disk": 1024, "storage_pool": pool})
        assert instance_on_server(host, cid)["devices"]["root"]["size"] == size
        cpi.call("delete_vm", cid)
    finally:
        server.client(host.name, "storage", "unset", "default", "volume.size")
        server.client(host.name, "storage", "delete", "second")


@pytest.mark.every_server
@pytest.mark.only("incus", "incus7", *IDENTITIES)
def test_noble_stemcell_boots_by_uefi_without_secure_boot(cpi, stemcell_cids, guests):
    cid, _ = create(cpi, stemcell_cids["noble"], {"cpu": 1, "ram": 512})
    report = guests.wait(IP)
    cpi.call("delete_vm", cid)
    assert (report["firmware"], report["secureboot"], report["errors"]) == ("uefi", False, [])
    assert 300 <= report["memory_mib"] <= 512
    assert report["user_data"]["disks"]["ephemeral"] is None


@pytest.mark.every_server
@pytest.mark.only("incus", "lxd")
def test_fat_config_drive(cpi, stemcell_cids, guests):
    cpi.config["agent_config"] = {"type": "FAT32"}
    cid, _ = create(cpi, stemcell_cids["jammy"])
    report = guests.wait(IP)
    cpi.call("delete_vm", cid)
    assert (report["config_drive"]["fstype"], report["config_drive"]["label"]) == ("vfat", "CONFIG-2")
    assert (report["errors"], report["vm"]["id"]) == ([], cid)


def test_instance_config_overrides_firmware(cpi, stemcell_cids, guests):
    cpi.config["server"]["instance_config"] = {
        "jammy": {"security.secureboot": False},
        "default": {"security.csm": "true"},
    }
    cid, _ = create(cpi, stemcell_cids["jammy"])
    report = guests.wait(IP)
    cpi.call("delete_vm", cid)
    assert report["firmware"] == "uefi"


@pytest.mark.every_server
def test_reboots_running_and_stopped_vm_and_deletes_twice(host, cpi, stemcell_cids, guests):
    cid, _ = create(cpi, stemcell_cids["jammy"], {**SMALL, "ephemeral_disk": 64})
    disk = cpi.call("create_disk", 64, {}, cid)
    first_boot = guests.wait(IP)["boot_id"]
    assert cpi.call("reboot_vm", cid) is None
    second_boot = guests.wait(IP, not_boot=first_boot)["boot_id"]
    server.client(host.name, "stop", "--force", "--project", host.project, cid)
    cpi.call("reboot_vm", cid)
    assert guests.wait(IP, not_boot=second_boot)["user_data"]["vm"]["id"] == cid

    assert cpi.call("has_vm", cid) is True
    cpi.call("attach_disk", cid, disk)
    assert cpi.call("delete_vm", cid) is None
    assert cpi.last.requests <= 10
    assert cpi.call("has_vm", cid) is False
    assert cpi.call("delete_vm", cid) is None
    assert cpi.call("has_disk", disk) is True, "delete_vm keeps persistent disks"
    cpi.call("delete_disk", disk)


@pytest.mark.every_server
def test_concurrent_delete_vm(cpi, stemcell_cids):
    cid, _ = create(cpi, stemcell_cids["jammy"])
    start = time.monotonic()
    for process in [cpi.start("delete_vm", cid) for _ in range(4)]:
        assert cpi.finish(process, "delete_vm", start) is None
    assert cpi.call("has_vm", cid) is False


@pytest.mark.every_server
def test_deletes_vm_if_caller_is_gone(host, cpi, stemcell_cids):
    before = server.client(host.name, "list", "--project", host.project, "--format", "csv").stdout
    process = cpi.start(
        "create_vm", "agent", stemcell_cids["jammy"], SMALL, {"private": manual_network(IP)}, [], environment()
    )
    process.stdout.close()
    assert process.wait(120) == 0
    process.stderr.close()
    assert server.client(host.name, "list", "--project", host.project, "--format", "csv").stdout == before


@pytest.mark.every_server
def test_delete_vm_removes_volumes_of_missing_vm(host, cpi, stemcell_cids):
    cid, _ = create(cpi, stemcell_cids["jammy"], {**SMALL, "ephemeral_disk": 64})
    server.client(host.name, "delete", "--force", "--project", host.project, cid)
    assert cpi.call("has_vm", cid) is False
    cpi.call("delete_vm", cid)  # `unchanged_resources` checks the volumes


@pytest.mark.every_server
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"properties": {**SMALL, "ephemeral_disk": 64, "ephemeral_storage_pool": "nope"}}, "CloudError", "pool"),
        ({"properties": {**SMALL, "ephemeral_disk": 64, "profiles": ["nope"]}}, "CloudError", "profile"),
        (
            {"properties": {**SMALL, "ephemeral_disk": 64, "config": {"no.such.key": "1"}}},
            "CloudError",
            "no.such.key",
        ),
        ({"networks": {"default": manual_network("192.0.2.7")}}, "CloudError", "subnet"),
        (
            {"networks": {"default": manual_network(IP, cloud_properties={"name": "nope"})}},
            "CloudError",
            "no network nope",
        ),
        ({"properties": {"instance_typ": "c1-m1"}}, "CloudError", "instance_type"),
        ({"properties": {**SMALL, "ephemeral_disk": -1}}, "CloudError", "ephemeral_disk"),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_failed_create_vm_leaves_nothing(host, cpi, stemcell_cids, change, error, message):
    with pytest.raises(CallError) as exc_info:
        create(cpi, stemcell_cids["jammy"], **{"properties": {**SMALL, "ephemeral_disk": 64}, **change})
    assert exc_info.value.type == f"Bosh::Clouds::{error}"
    assert message in exc_info.value.message
    assert exc_info.value.ok_to_retry is False


@pytest.mark.every_server
def test_rejects_second_vm_with_same_address(host, cpi, stemcell_cids):
    cid, _ = create(cpi, stemcell_cids["jammy"])
    with pytest.raises(CallError) as exc_info:
        create(cpi, stemcell_cids["jammy"])
    cpi.call("delete_vm", cid)
    assert IP in exc_info.value.message and "Look for the instance with this address" in exc_info.value.message


def test_missing_stemcell(cpi):
    with pytest.raises(CallError, match=r"there is no stemcell img-1.*upload-stemcell"):
        create(cpi, "img-1")


@pytest.mark.every_server
def test_sets_metadata_of_any_json_type(host, cpi, stemcell_cids):
    cid, _ = create(cpi, stemcell_cids["jammy"])
    metadata = {
        "director": "d",
        "deployment": "cf",
        "instance_group": "web",
        "index": 3,
        "name": "web/uuid",
        "tag": True,
        "list": [1, {"a": None}],
        "odd key!": "é",
        "null": None,
    }
    assert cpi.call("set_vm_metadata", cid, metadata) is None
    assert cpi.last.requests <= 2
    cpi.call("set_vm_metadata", cid, {**metadata, "deployment": "cf2"})
    instance = instance_on_server(host, cid)
    cpi.call("delete_vm", cid)
    tags = {
        key.removeprefix("user.bosh."): value
        for key, value in instance["config"].items()
        if key.startswith("user.bosh.")
    }
    assert instance["description"] == "web/3"
    assert (tags["deployment"], tags["index"], tags["tag"], tags["list"], tags["odd_key_"]) == (
        "cf2",
        "3",
        "true",
        '[1, {"a": null}]',
        "é",
    )


def test_missing_vm_raises_vm_not_found(cpi):
    for method, *arguments in (("reboot_vm",), ("set_vm_metadata", {}), ("get_disks",)):
        with pytest.raises(CallError) as exc_info:
            cpi.call(method, "vm-01a2030b-da83-881f-9150-000000000000", *arguments)
        assert exc_info.value.type == "Bosh::Clouds::VMNotFound"


@pytest.mark.every_server
@pytest.mark.only("incus", "lxd")
def test_keeps_failed_vm_if_configured(host, cpi, stemcell_cids):
    vm, _ = create(cpi, stemcell_cids["jammy"])
    cpi.config["keep_failed_vms"] = True
    with pytest.raises(CallError, match=r"Look at vm-[0-9a-f-]+, which still exists") as exc_info:
        create(cpi, stemcell_cids["jammy"])
    failed = exc_info.value.message.partition("Look at ")[2].partition(",")[0]
    assert instance_on_server(host, failed)["config"]["user.bosh.state"] == "failed"
    for cid in (vm, failed):
        cpi.call("delete_vm", cid)
