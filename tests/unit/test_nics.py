from __future__ import annotations

from typing import Any

import pytest

from bosh_lxd_cpi.errors import CloudError, InvalidProperties
from bosh_lxd_cpi.guest.nics import Nic, build_nic, nic_device
from tests.support.networks import BRIDGE, DUAL_STACK, UNMANAGED, manual


def nic(**networks: dict[str, Any]) -> Nic:
    return build_nic(0, networks, default_network="br0", vm_uuid="01a2030b-da83-8001-9150-733ab989ac49")


def device(network: dict[str, Any], server_network: dict[str, Any] = BRIDGE, **more: dict[str, Any]) -> dict[str, str]:
    """Return the device of a NIC, without the keys that all devices have."""
    only = nic(a=network, **more)
    eth0 = nic_device(only, server_network)
    assert {eth0.pop("type"), eth0.pop("name"), eth0.pop("hwaddr")} == {"nic", "eth0", only.mac}
    return eth0


def test_managed_bridge_reserves_the_address():
    assert device(manual()) == {"network": "br0", "ipv4.address": "10.0.0.5"}


def test_dynamic_network_reserves_no_address():
    assert device({"type": "dynamic", "ip": "10.0.0.5"}) == {"network": "br0"}


def test_ipv6_address_is_reserved_with_stateful_dhcp():
    stateless = {**DUAL_STACK, "config": {**DUAL_STACK["config"], "ipv6.dhcp.stateful": "false"}}
    assert device(manual("fd00::5"), DUAL_STACK) == {"network": "br0", "ipv6.address": "fd00::5"}
    assert device(manual("fd00::5"), stateless) == {"network": "br0"}
    assert device(manual("fd00::5"), {**DUAL_STACK, "config": {"ipv6.address": "fd00::1/64"}}) == {"network": "br0"}


def test_shared_nic_reserves_addresses_of_both_versions():
    eth0 = device(manual(), DUAL_STACK, b=manual("fd00::5"))
    assert (eth0["ipv4.address"], eth0["ipv6.address"]) == ("10.0.0.5", "fd00::5")


@pytest.mark.parametrize(
    "config",
    [{}, {"ipv4.address": "none"}, {"ipv4.address": ""}, {"ipv4.address": "10.0.0.1/24", "ipv4.dhcp": "false"}, None],
    ids=["empty", "none", "empty address", "dhcp off", "null"],
)
def test_no_address_is_reserved_without_dhcp(config):
    assert device(manual(), {**BRIDGE, "config": config}) == {"network": "br0"}


@pytest.mark.parametrize(
    "kind, is_reserved", [("bridge", True), ("ovn", True), ("physical", False), ("macvlan", False), ("sriov", False)]
)
def test_only_bridge_and_ovn_reserve_addresses(kind, is_reserved):
    assert ("ipv4.address" in device(manual(), {**BRIDGE, "type": kind})) is is_reserved


def test_unmanaged_bridge_is_a_parent_without_reservation():
    assert device(manual(), UNMANAGED) == {"nictype": "bridged", "parent": "br0"}
    assert device(manual(), {**UNMANAGED, "config": BRIDGE["config"]}) == {"nictype": "bridged", "parent": "br0"}


def test_other_interfaces_of_the_host_use_macvlan():
    assert device(manual(), {**UNMANAGED, "type": "physical"}) == {"nictype": "macvlan", "parent": "br0"}


def test_bridge_of_default_project_is_a_parent_with_reservation():
    assert device(manual(), {**BRIDGE, "foreign": True}) == {
        "nictype": "bridged",
        "parent": "br0",
        "ipv4.address": "10.0.0.5",
    }


@pytest.mark.parametrize("server_network", [None, {**BRIDGE, "type": "loopback"}], ids=["missing", "loopback"])
def test_rejects_network_that_the_server_does_not_have(server_network):
    with pytest.raises(CloudError, match="the server has no network br0 for VMs") as raised:
        nic_device(nic(a=manual()), server_network)
    assert raised.value.code == "no_network"


def test_properties_become_options_of_the_device():
    properties = {
        "vlan": 7,
        "security_groups": ["web", "db"],
        "mac_filtering": True,
        "ipv4_filtering": False,
        "ipv6_filtering": None,
        "port_isolation": True,
    }
    assert device({"type": "dynamic", "cloud_properties": properties}) == {
        "network": "br0",
        "vlan": "7",
        "security.acls": "web,db",
        "security.mac_filtering": "true",
        "security.port_isolation": "true",
    }


def test_nic_with_mtu_uses_the_bridge_as_parent():
    """A NIC with the key `network` inherits the MTU of the network."""
    network = {"type": "dynamic", "cloud_properties": {"mtu": 1400}}
    assert device(network, UNMANAGED) == {"nictype": "bridged", "parent": "br0", "mtu": "1400"}
    assert device(network) == {"nictype": "bridged", "parent": "br0", "mtu": "1400"}
    assert device(manual(cloud_properties={"mtu": 1400}))["ipv4.address"]


def test_values_of_devices_are_strings():
    properties = {"mtu": 1400, "vlan": 7, "mac_filtering": True, "security_groups": [5]}
    values = device(manual(cloud_properties=properties), {**UNMANAGED, "managed": True, "foreign": True}).values()
    assert all(isinstance(value, str) for value in values)


# -- filters -------------------------------------------------------------------------------------------------------

IPV4_FILTER = {"cloud_properties": {"ipv4_filtering": "true"}}
IPV6_FILTER = {"cloud_properties": {"ipv6_filtering": True}}
WITHOUT_DHCP: dict[str, Any] = {**BRIDGE, "config": {"ipv4.address": "10.0.0.1/24", "ipv4.dhcp": "false"}}
HIDDEN: dict[str, Any] = {**BRIDGE, "config": {}}
"""A restricted certificate does not see the configuration of a network."""


@pytest.mark.parametrize("server_network", [BRIDGE, UNMANAGED, WITHOUT_DHCP, HIDDEN])
def test_filter_allows_the_static_address(server_network):
    ipv4, ipv6 = device(manual(**IPV4_FILTER), server_network), device(manual("fd00::5", **IPV6_FILTER), server_network)
    assert (ipv4["security.ipv4_filtering"], ipv4["ipv4.address"]) == ("true", "10.0.0.5")
    assert (ipv6["security.ipv6_filtering"], ipv6["ipv6.address"]) == ("true", "fd00::5")


def test_filter_allows_no_address_of_an_unused_ip_version():
    assert device(manual(**IPV6_FILTER))["ipv6.address"] == "none"


def test_rejects_filter_for_two_addresses_of_a_nic():
    message = "networks a, b share a NIC, but ipv4_filtering allows one IPv4 address on it"
    with pytest.raises(InvalidProperties, match=message):
        nic(a=manual(**IPV4_FILTER), b=manual("10.0.0.6"))
    assert nic(a=manual(**IPV4_FILTER), b=manual("fd00::5")).address(6)


@pytest.mark.parametrize("server_network", [BRIDGE, HIDDEN])
def test_server_assigns_filtered_address_of_dynamic_network(server_network):
    assert "ipv4.address" not in device({"type": "dynamic", **IPV4_FILTER}, server_network)


@pytest.mark.parametrize(
    "properties, server_network",
    [(IPV4_FILTER, UNMANAGED), (IPV4_FILTER, WITHOUT_DHCP), (IPV6_FILTER, UNMANAGED), (IPV6_FILTER, BRIDGE)],
)
def test_rejects_filter_of_dynamic_network_without_dhcp(properties, server_network):
    with pytest.raises(InvalidProperties, match="filtering needs an address, but the network is dynamic") as raised:
        device({"type": "dynamic", **properties}, server_network)
    assert raised.value.code == "no_filter_address"
