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

ABSURD = [
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


@pytest.mark.parametrize(
    "read",
    [
        parse_vm_properties,
        parse_disk_properties,
        lambda given: parse_network_properties(given, "a"),
        parse_stemcell_properties,
    ],
)
def test_none_given_means_all_defaults(read):
    assert read(None) == read({})


@pytest.mark.parametrize(
    "read, what",
    [
        (parse_vm_properties, "VM"),
        (parse_disk_properties, "disk"),
        (lambda given: parse_network_properties(given, "a"), "network a"),
        (parse_stemcell_properties, "stemcell"),
    ],
)
@pytest.mark.parametrize("given", ["text", [], 5, True])
def test_properties_that_are_no_mapping_are_refused(read, what, given):
    with pytest.raises(
        InvalidProperties, match=f"^{what} cloud_properties must be a mapping, not {type(given).__name__}$"
    ):
        read(given)


def test_all_that_a_vm_may_want():
    given = {
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
    assert parse_vm_properties(given) == VmProperties(
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


def test_null_means_not_given():
    assert parse_vm_properties(dict.fromkeys(["cpu", "profiles", "config", "target", "devices"])) == VmProperties()


@pytest.mark.parametrize(
    "given, limits",
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
def test_limits_come_from_numbers_or_else_from_the_instance_type(given, limits):
    assert parse_vm_properties(given).limits() == limits


@pytest.mark.parametrize(
    "instance_type, named",
    [
        ("", ""),
        ("c2-m4", ""),
        ("c2", ""),
        ("aws:t2.micro", "aws:t2.micro"),
        ("t2.micro", "t2.micro"),
        ("c2-m4x", "c2-m4x"),
    ],
)
def test_a_named_type_is_left_to_the_server(instance_type, named):
    assert parse_vm_properties({"instance_type": instance_type}).named_type() == named


@pytest.mark.parametrize("instance_type", ["-", "c0", "m0", "c0-m0", "m0.0001"])
def test_an_instance_type_without_size_is_refused(instance_type):
    with pytest.raises(InvalidProperties, match=f"instance_type '{instance_type}' names no size"):
        parse_vm_properties({"instance_type": instance_type})


@pytest.mark.parametrize(
    "given",
    [
        {"instance_type": "c4097"},
        {"cpu": 4097},
        {"instance_type": "c99999999999999999999"},
        {"instance_type": "m1073741825"},
        {"instance_type": "m99999999999999999999"},
        {"instance_type": "m99999999999999999999.999999"},
    ],
)
def test_more_than_any_server_has_is_refused(given):
    with pytest.raises(InvalidProperties, match="no server has that much"):
        parse_vm_properties(given)


@pytest.mark.parametrize("instance_type", ["c" + "9" * 400, "m" + "9" * 400])
def test_numbers_without_end_are_at_least_no_crash(instance_type):
    assert parse_vm_properties({"instance_type": instance_type}).named_type() == instance_type


@pytest.mark.parametrize("key", ["cpu", "ram", "root_disk", "ephemeral_disk"])
@pytest.mark.parametrize("value", ABSURD)
def test_absurd_numbers_are_refused_by_name(key, value):
    with pytest.raises(
        InvalidProperties, match=f"VM cloud_properties: {key} must be a whole number from 0 to"
    ) as raised:
        parse_vm_properties({key: value})
    assert len(raised.value.message) < 200


@pytest.mark.parametrize("value", [5, "5", 5.0, "05"])
def test_numbers_may_be_written_in_several_ways(value):
    assert parse_vm_properties({"root_disk": value}).root_disk == 5


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("target", ["a"], "target must be a text, not list"),
        ("target", True, "target must be a text, not bool"),
        ("instance_type", {}, "instance_type must be a text, not dict"),
        ("profiles", "a", "profiles must be a list of texts"),
        ("profiles", {"a": "b"}, "profiles must be a list of texts"),
        ("profiles", [["a"]], "profiles must be a text, not list"),
        ("profiles", [None], "profiles must be a text, not NoneType"),
        ("config", ["a"], "config must be a mapping of texts"),
        ("config", {"a": None}, "config.a must be a text, not NoneType"),
        ("config", {"a": {}}, "config.a must be a text, not dict"),
        ("devices", [], "devices must be a mapping of mappings"),
        ("devices", {"a": "b"}, "devices.a must be a mapping of texts"),
        ("devices", {"a": {"type": ["b"]}}, "devices.a.type must be a text, not list"),
        ("tags", "a", "tags must be a mapping of texts"),
        ("tags", {"a": [1]}, "tags.a must be a text, not list"),
    ],
)
def test_wrong_types_are_refused_by_name(key, value, message):
    with pytest.raises(InvalidProperties, match=f"^VM cloud_properties: {re.escape(message)}$"):
        parse_vm_properties({key: value})


@pytest.mark.parametrize(
    "key, near", [("root-disk", "root_disk"), ("ephemeral_dsk", "ephemeral_disk"), ("instancetype", "instance_type")]
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(key, near):
    with pytest.raises(
        InvalidProperties, match=f"^VM cloud_properties: unknown key {key} \\(did you mean {near}\\?\\)$"
    ):
        parse_vm_properties({key: 1})


@pytest.mark.parametrize(
    "key",
    ["limits.cpu", "limits.memory", "volatile.uuid", "user.bosh.director", "image.os", "security.protection.delete"],
)
def test_options_that_are_not_the_operators_are_refused(key):
    with pytest.raises(InvalidProperties, match=f"VM cloud_properties: config.{key} is not for operators to set"):
        parse_vm_properties({"config": {key: "x"}})


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
def test_other_options_are_the_operators(key):
    assert parse_vm_properties({"config": {key: "x"}}).config == {key: "x"}


@pytest.mark.parametrize("name", ["root", "config", "ephemeral", "eth0", "eth12", "p0123456789ab", "persistent-1"])
def test_device_names_that_are_not_the_operators_are_refused(name):
    with pytest.raises(
        InvalidProperties, match=f"VM cloud_properties: a device called {name} is made by the CPI itself"
    ):
        parse_vm_properties({"devices": {name: {"type": "disk"}}})


@pytest.mark.parametrize("name", ["gpu", "eth", "ethx", "p0123456789abc", "root2", "my-config"])
def test_other_device_names_are_the_operators(name):
    assert list(parse_vm_properties({"devices": {name: {"type": "gpu"}}}).devices) == [name]


def test_a_device_needs_a_type():
    with pytest.raises(InvalidProperties, match="VM cloud_properties: devices.gpu has no type"):
        parse_vm_properties({"devices": {"gpu": {"id": "0"}}})


def test_all_that_a_disk_may_want():
    given = {"storage_pool": "fast", "target": "m1", "name": "d", "config": {"snapshots.expiry": "1d"}}
    assert parse_disk_properties(given) == DiskProperties(**given)


@pytest.mark.parametrize("key", ["size", "user.bosh.director"])
def test_options_of_a_disk_that_are_not_the_operators_are_refused(key):
    with pytest.raises(InvalidProperties, match=f"disk cloud_properties: config.{key} is set by the CPI itself"):
        parse_disk_properties({"config": {key: "x"}})


def test_all_that_a_network_may_want():
    given = {
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
    assert parse_network_properties(given, "a") == NetworkProperties(
        name="ovn", target="m1", mtu=65535, vlan=4094, security_groups=("a",), mac_filtering=True, ipv4_filtering=True
    )


@pytest.mark.parametrize(
    "given, message",
    [
        ({"mtu": 65536}, "mtu can be 65535 at most"),
        ({"vlan": 4095}, "vlan can be 4094 at most"),
        ({"mtu": -1}, "mtu must be a whole number"),
        ({"mac_filtering": "yes"}, "mac_filtering must be true or false"),
        ({"port_isolation": 1}, "port_isolation must be true or false"),
        ({"security_groups": "web"}, "security_groups must be a list of texts"),
    ],
)
def test_what_no_network_can_do_is_refused(given, message):
    with pytest.raises(InvalidProperties, match=f"^network a cloud_properties: {message}"):
        parse_network_properties(given, "a")


def test_a_stemcell_has_many_keys_that_are_not_for_us():
    given = {
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
    assert parse_stemcell_properties(given) == StemcellProperties(
        name="bosh-openstack-kvm-ubuntu-noble",
        version="1.25",
        disk=5120,
        disk_format="qcow2",
        os_distro="ubuntu",
        architecture="x86_64",
        root_device_name="/dev/sda1",
    )


@pytest.mark.parametrize("value", [[], {}, True])
def test_a_stemcells_version_must_be_a_text(value):
    with pytest.raises(InvalidProperties, match="stemcell cloud_properties: version must be a text"):
        parse_stemcell_properties({"version": value})


@pytest.mark.parametrize("value, size", [(1, 1), ("2048", 2048), (2048.0, 2048), (1 << 40, 1 << 40)])
def test_a_size_in_mib(value, size):
    assert parse_size(value, "disk size") == size


@pytest.mark.parametrize("value", [*ABSURD, 0, "0", None])
def test_an_absurd_size_is_refused(value: Any):
    with pytest.raises(InvalidProperties, match="^disk size must be "):
        parse_size(value, "disk size")
