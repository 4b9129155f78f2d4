from __future__ import annotations

import re
from typing import Any

import pytest

from bosh_lxd_cpi.errors import InvalidProperties
from bosh_lxd_cpi.guest.cloud_properties import (
    DiskProperties,
    NetworkProperties,
    StemcellProperties,
    VmProperties,
    parse_disk_properties,
    parse_network_properties,
    parse_size,
    parse_stemcell_properties,
    parse_vm_properties,
)

INVALID_NUMBERS = [
    -1,
    1.5,
    "1.5",
    "-1",
    "",
    "ten",
    "1e3",
    "0x10",
    " 5",
    "\u0663",
    "\u00b2",
    True,
    False,
    [],
    {},
    [1],
    float("nan"),
    float("inf"),
    10**400,
    "9" * 5000,
    1 << 41,
    "10GB",
]


def json_type(value: object) -> str:
    return {str: "a string", list: "a list", int: "a number", bool: "a boolean"}[type(value)]


def short(value: object) -> str:
    return repr(value)[:20]


@pytest.mark.parametrize(
    "parse",
    [
        parse_vm_properties,
        parse_disk_properties,
        lambda document: parse_network_properties(document, "a"),
        parse_stemcell_properties,
    ],
)
def test_null_means_defaults(parse):
    assert parse(None) == parse({})


@pytest.mark.parametrize(
    "parse, owner",
    [
        (parse_vm_properties, "VM"),
        (parse_disk_properties, "disk"),
        (lambda document: parse_network_properties(document, "a"), "network a"),
        (parse_stemcell_properties, "stemcell"),
    ],
)
@pytest.mark.parametrize("document", ["text", [], 5, True])
def test_rejects_properties_of_wrong_type(parse, owner, document):
    with pytest.raises(
        InvalidProperties, match=f"^{owner} cloud_properties must be an object, not {json_type(document)}$"
    ):
        parse(document)


def test_parses_all_vm_properties():
    document = {
        "instance_type": "c2-m4",
        "cpu": 3,
        "ram": "2048",
        "root_disk": 10240.0,
        "ephemeral_disk": 1024,
        "storage_pool": "fast",
        "ephemeral_storage_pool": "slow",
        "target": "@g",
        "network": "br0",
        "profiles": ["a", 5],
        "config": {"a.b": True, "c": 5, 6: "d"},
        "devices": {"gpu": {"type": "gpu", "id": 0, "x": False}},
        "tags": {"k": "v"},
    }
    assert parse_vm_properties(document) == VmProperties(
        instance_type="c2-m4",
        cpu=3,
        ram=2048,
        root_disk=10240,
        ephemeral_disk=1024,
        storage_pool="fast",
        ephemeral_storage_pool="slow",
        target="@g",
        network="br0",
        profiles=("a", "5"),
        config={"a.b": "true", "c": "5", "6": "d"},
        devices={"gpu": {"type": "gpu", "id": "0", "x": "false"}},
        tags={"k": "v"},
    )


def test_null_value_means_default():
    assert parse_vm_properties(dict.fromkeys(["cpu", "profiles", "config", "target", "devices"])) == VmProperties()


@pytest.mark.parametrize(
    "properties, limits",
    [
        ({}, {}),
        ({"instance_type": "c2-m4"}, {"limits.cpu": "2", "limits.memory": "4096MiB"}),
        ({"instance_type": "c2m4"}, {"limits.cpu": "2", "limits.memory": "4096MiB"}),
        ({"instance_type": "c2"}, {"limits.cpu": "2"}),
        ({"instance_type": "m0.5"}, {"limits.memory": "512MiB"}),
        ({"instance_type": "c0.5-m1.5"}, {"limits.cpu": "1", "limits.memory": "1536MiB"}),
        ({"instance_type": "c2-m4", "cpu": 8}, {"limits.cpu": "8", "limits.memory": "4096MiB"}),
        ({"instance_type": "c2-m4", "ram": 512}, {"limits.cpu": "2", "limits.memory": "512MiB"}),
        ({"cpu": 1, "ram": 1}, {"limits.cpu": "1", "limits.memory": "1MiB"}),
        ({"cpu": 0, "ram": 0}, {}),
        ({"instance_type": "aws:t2.micro"}, {}),
        ({"instance_type": "aws:t2.micro", "cpu": 2}, {"limits.cpu": "2"}),
        ({"instance_type": "c1-m0"}, {"limits.cpu": "1"}),
        ({"cpu": 4096, "ram": 1 << 40}, {"limits.cpu": "4096", "limits.memory": f"{1 << 40}MiB"}),
    ],
)
def test_limits_are_numbers_or_parts_of_instance_type(properties, limits):
    assert parse_vm_properties(properties).limits() == limits


@pytest.mark.parametrize(
    "instance_type, named_type",
    [
        ("", ""),
        ("c2-m4", ""),
        ("c2", ""),
        ("aws:t2.micro", "aws:t2.micro"),
        ("t2.micro", "t2.micro"),
        ("c2-m4x", "c2-m4x"),
    ],
)
def test_server_interprets_named_types(instance_type, named_type):
    assert parse_vm_properties({"instance_type": instance_type}).named_type() == named_type


@pytest.mark.parametrize("instance_type", ["-", "c0", "m0", "c0-m0", "m0.0001"])
def test_rejects_instance_type_without_size(instance_type):
    with pytest.raises(InvalidProperties, match=f"instance_type '{instance_type}' contains no size") as raised:
        parse_vm_properties({"instance_type": instance_type})
    assert raised.value.code == "instance_type"


@pytest.mark.parametrize(
    "properties",
    [
        {"instance_type": "c4097"},
        {"cpu": 4097},
        {"instance_type": "c99999999999999999999"},
        {"instance_type": "m1073741825"},
        {"instance_type": "m99999999999999999999"},
        {"instance_type": "m99999999999999999999.999999"},
    ],
)
def test_rejects_limits_beyond_maximum(properties):
    with pytest.raises(InvalidProperties, match="are more than 4096 CPUs"):
        parse_vm_properties(properties)


@pytest.mark.parametrize("instance_type", ["c" + "9" * 400, "m" + "9" * 400], ids=["cpu", "ram"])
def test_very_long_numbers_are_a_named_type(instance_type):
    assert parse_vm_properties({"instance_type": instance_type}).named_type() == instance_type


@pytest.mark.parametrize("key", ["cpu", "ram", "root_disk", "ephemeral_disk"])
@pytest.mark.parametrize("value", INVALID_NUMBERS, ids=short)
def test_rejects_invalid_numbers(key, value):
    with pytest.raises(
        InvalidProperties, match=f"VM cloud_properties: {key} must be a whole number from 0 to"
    ) as raised:
        parse_vm_properties({key: value})
    assert len(raised.value.brief) < 200


@pytest.mark.parametrize("value", [5, "5", 5.0, "05"])
def test_accepts_numbers_in_several_forms(value):
    assert parse_vm_properties({"root_disk": value}).root_disk == 5


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("target", ["a"], "target must be a string, not a list"),
        ("target", True, "target must be a string, not a boolean"),
        ("instance_type", {}, "instance_type must be a string, not an object"),
        ("profiles", "a", "profiles must be a list of strings"),
        ("profiles", {"a": "b"}, "profiles must be a list of strings"),
        ("profiles", [["a"]], "profiles must be a string, not a list"),
        ("profiles", [None], "profiles must be a string, not null"),
        ("config", ["a"], "config must be an object of strings"),
        ("config", {"a": None}, "config.a must be a string, not null"),
        ("config", {"a": {}}, "config.a must be a string, not an object"),
        ("devices", [], "devices must be an object of objects"),
        ("devices", {"a": "b"}, "devices.a must be an object of strings"),
        ("devices", {"a": {"type": ["b"]}}, "devices.a.type must be a string, not a list"),
        ("tags", "a", "tags must be an object of strings"),
        ("tags", {"a": [1]}, "tags.a must be a string, not a list"),
    ],
)
def test_rejects_values_of_wrong_type(key, value, message):
    with pytest.raises(InvalidProperties, match=f"^VM cloud_properties: {re.escape(message)}$"):
        parse_vm_properties({key: value})


@pytest.mark.parametrize(
    "key, suggestion",
    [("root-disk", "root_disk"), ("ephemeral_dsk", "ephemeral_disk"), ("instancetype", "instance_type")],
)
def test_rejects_unknown_key_with_suggestion(key, suggestion):
    with pytest.raises(
        InvalidProperties, match=f"^VM cloud_properties: unknown key {key} \\(did you mean {suggestion}\\?\\)$"
    ):
        parse_vm_properties({key: 1})


@pytest.mark.parametrize(
    "key",
    ["limits.cpu", "limits.memory", "volatile.uuid", "user.bosh.director", "image.os", "security.protection.delete"],
)
def test_rejects_options_that_the_cpi_sets(key):
    with pytest.raises(InvalidProperties, match=f"VM cloud_properties: config.{key} cannot be set") as raised:
        parse_vm_properties({"config": {key: "x"}})
    assert raised.value.code == "owned_option"


@pytest.mark.parametrize(
    "key",
    [
        "limits.disk.priority",
        "limits.memory.hugepages",
        "limits.cpu.nodes",
        "security.nesting",
        "user.owner",
        "boot.autostart",
        "raw.qemu",
    ],
)
def test_accepts_other_options(key):
    assert parse_vm_properties({"config": {key: "x"}}).config == {key: "x"}


@pytest.mark.parametrize("name", ["root", "config", "ephemeral", "eth0", "eth12", "p0123456789ab", "persistent-1"])
def test_rejects_reserved_device_names(name):
    with pytest.raises(InvalidProperties, match=f"the device name {name} is reserved for the CPI") as raised:
        parse_vm_properties({"devices": {name: {"type": "disk"}}})
    assert raised.value.code == "owned_device"


@pytest.mark.parametrize("name", ["root", "eth1", "nic0"])
def test_accepts_a_mask_of_every_device(name):
    assert parse_vm_properties({"devices": {name: {"type": "none"}}}).devices == {name: {"type": "none"}}


@pytest.mark.parametrize("name", ["gpu", "eth", "ethx", "p0123456789abc", "root2", "my-config"])
def test_accepts_other_device_names(name):
    assert list(parse_vm_properties({"devices": {name: {"type": "gpu"}}}).devices) == [name]


def test_rejects_device_without_type():
    with pytest.raises(InvalidProperties, match=r"VM cloud_properties: devices.gpu has no type"):
        parse_vm_properties({"devices": {"gpu": {"id": "0"}}})


def test_parses_all_disk_properties():
    document = {"storage_pool": "fast", "target": "m1", "name": "d", "config": {"snapshots.expiry": "1d"}}
    assert parse_disk_properties(document) == DiskProperties(**document)


@pytest.mark.parametrize("key", ["size", "user.bosh.director"])
def test_rejects_disk_options_that_the_cpi_sets(key):
    with pytest.raises(InvalidProperties, match=f"disk cloud_properties: config.{key} cannot be set"):
        parse_disk_properties({"config": {key: "x"}})


def test_parses_all_network_properties():
    document = {
        "name": "ovn",
        "target": "m1",
        "mtu": 65535,
        "vlan": 4094,
        "security_groups": ["a"],
        "mac_filtering": True,
        "ipv4_filtering": "True",
        "ipv6_filtering": "false",
        "port_isolation": False,
    }
    assert parse_network_properties(document, "a") == NetworkProperties(
        name="ovn", target="m1", mtu=65535, vlan=4094, security_groups=("a",), mac_filtering=True, ipv4_filtering=True
    )


@pytest.mark.parametrize(
    "properties, message",
    [
        ({"mtu": 65536}, "mtu must be at most 65535"),
        ({"vlan": 4095}, "vlan must be at most 4094"),
        ({"mtu": -1}, "mtu must be a whole number"),
        ({"mac_filtering": "yes"}, "mac_filtering must be true or false"),
        ({"port_isolation": 1}, "port_isolation must be true or false"),
        ({"security_groups": "web"}, "security_groups must be a list of strings"),
    ],
)
def test_rejects_invalid_network_properties(properties, message):
    with pytest.raises(InvalidProperties, match=f"^network a cloud_properties: {message}"):
        parse_network_properties(properties, "a")


def test_ignores_other_keys_of_a_stemcell():
    document = {
        "name": "bosh-openstack-kvm-ubuntu-noble",
        "version": 1.25,
        "infrastructure": "openstack",
        "hypervisor": "kvm",
        "disk": 5120,
        "disk_format": "qcow2",
        "container_format": "bare",
        "os_type": "linux",
        "os_distro": "ubuntu",
        "architecture": "x86_64",
        "auto_disk_config": True,
        "root_device_name": "/dev/sda1",
    }
    assert parse_stemcell_properties(document) == StemcellProperties(
        name="bosh-openstack-kvm-ubuntu-noble",
        version="1.25",
        disk=5120,
        disk_format="qcow2",
        os_distro="ubuntu",
        architecture="x86_64",
        root_device_name="/dev/sda1",
    )


@pytest.mark.parametrize("value", [[], {}, True])
def test_rejects_stemcell_version_of_wrong_type(value):
    with pytest.raises(InvalidProperties, match="stemcell cloud_properties: version must be a string"):
        parse_stemcell_properties({"version": value})


@pytest.mark.parametrize("value, size", [(1, 1), ("2048", 2048), (2048.0, 2048), (1 << 40, 1 << 40)])
def test_parses_sizes_in_mib(value, size):
    assert parse_size(value, "disk size") == size


@pytest.mark.parametrize("value", [*INVALID_NUMBERS, 0, "0", None], ids=short)
def test_rejects_invalid_sizes(value: Any):
    with pytest.raises(InvalidProperties, match=r"^disk size must be "):
        parse_size(value, "disk size")
