from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from bosh_lxd_cpi.errors import CloudError, InvalidProperties
from bosh_lxd_cpi.guest.networks import NetworkPlan, ResolvedNetworks
from bosh_lxd_cpi.guest.nics import Nic
from tests.support.networks import BRIDGE, DUAL_STACK, UNMANAGED, manual

UUID = "01a2030b-da83-8001-9150-733ab989ac49"


def plan(networks: Any, *, default_network: str = "lxdbr0", vm_uuid: str = UUID) -> NetworkPlan:
    return NetworkPlan.build(networks, default_network=default_network, vm_uuid=vm_uuid)


def nics(networks: Any, **options: str) -> list[Nic]:
    return list(plan(networks, **options).nics)


def resolve(networks: Any, bridge: Mapping[str, Any] = BRIDGE, *, assignment: str = "static") -> ResolvedNetworks:
    return plan(networks).resolve({"lxdbr0": bridge}, assignment=assignment)


# -- NICs ----------------------------------------------------------------------------------------------------------


def test_nics_are_in_order_of_network_names():
    first, second, third = manual("10.0.0.1"), manual("10.0.0.2"), {"type": "dynamic"}
    result = nics({"c": third, "a": first, "b": second})
    assert [(nic.device, list(nic.networks)) for nic in result] == [("eth0", ["a"]), ("eth1", ["b"]), ("eth2", ["c"])]
    assert nics({"a": first, "b": second, "c": third}) == result


def test_mac_addresses_are_local_unique_and_stable():
    networks = {"a": manual(), "b": manual("10.0.0.6")}
    macs = [nic.mac for nic in nics(networks)]
    assert all(re.fullmatch(r"06(:[0-9a-f]{2}){5}", mac) for mac in macs)
    assert len({*macs, *(nic.mac for nic in nics({"a": manual()}, vm_uuid="another"))}) == 3
    assert macs == [nic.mac for nic in nics(networks)]


def test_networks_with_the_same_nic_group_share_a_nic():
    result = nics(
        {
            "b": manual("fd00::5", nic_group="1", netmask="ffff:ffff:ffff:ffff::", gateway="fd00::1"),
            "a": manual(nic_group=1),
            "c": manual("10.0.0.9", nic_group="2"),
            "d": manual("10.0.0.10"),
        }
    )
    assert [list(nic.networks) for nic in result] == [["a", "b"], ["c"], ["d"]]
    assert (result[0].address(4), result[0].address(6)) == ("10.0.0.5", "fd00::5")


def test_nic_group_may_have_the_name_of_another_network():
    assert [list(nic.networks) for nic in nics({"a": manual(nic_group="b"), "b": manual("10.0.0.6")})] == [["a"], ["b"]]


@pytest.mark.parametrize("nic_group", [None, ""])
def test_networks_without_nic_group_have_their_own_nic(nic_group):
    assert len(nics({"a": manual(nic_group=nic_group), "b": manual("10.0.0.6", nic_group=nic_group)})) == 2


@pytest.mark.parametrize(
    "first, second",
    [
        ({"name": "x"}, {"name": "y"}),
        ({"name": "x"}, {"name": "x", "mtu": 1400}),
        ({"target": "m1"}, {"target": "m2"}),
        ({"mac_filtering": True}, {"name": "x"}),
    ],
    ids=["names", "additional mtu", "targets", "different keys"],
)
def test_rejects_shared_nic_with_different_properties(first, second):
    networks = {
        "a": manual(nic_group="1", cloud_properties=first),
        "b": manual("10.0.0.6", nic_group="1", cloud_properties=second),
    }
    with pytest.raises(
        InvalidProperties, match="networks a, b share a NIC, so their cloud_properties must be the same"
    ):
        plan(networks)


def test_rejects_shared_nic_of_dynamic_and_manual_networks():
    networks = {"a": manual(nic_group="1"), "b": {"type": "dynamic", "nic_group": "1"}}
    with pytest.raises(InvalidProperties, match="networks a, b share a NIC, so all of them or none must be dynamic"):
        plan(networks)


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_properties_of_one_network_apply_to_shared_nic(order):
    result = plan(
        {
            order[0]: manual(nic_group="1", cloud_properties={"name": "x", "mtu": 1400, "target": "m1"}),
            order[1]: manual("10.0.0.6", nic_group="1", cloud_properties={}),
        }
    )
    [nic] = result.nics
    assert (nic.parent, nic.properties.mtu, result.targets("")) == ("x", 1400, {"m1"})


def test_default_network_is_used_without_name():
    result = plan(
        {
            "a": manual(),
            "b": manual("10.0.0.6", cloud_properties={"name": "ovn1"}),
            "c": {"type": "dynamic", "cloud_properties": None},
        }
    )
    assert [nic.parent for nic in result.nics] == ["lxdbr0", "ovn1", "lxdbr0"]
    assert result.parents == {"lxdbr0", "ovn1"}


def test_default_network_is_optional_with_name():
    assert nics({"a": manual(cloud_properties={"name": "x"})}, default_network="")[0].parent == "x"


def test_rejects_network_without_name_and_default():
    with pytest.raises(InvalidProperties, match="network a: no LXD network to connect to") as raised:
        plan({"a": manual()}, default_network="")
    assert raised.value.code == "no_network_name"


@pytest.mark.parametrize(
    "key, value, items",
    [
        ("dns", "8.8.8.8", "strings"),
        ("dns", [8], "strings"),
        ("default", {"a": "b"}, "strings"),
        ("default", [None], "strings"),
        ("routes", ["a"], "objects"),
        ("routes", "a", "objects"),
    ],
)
@pytest.mark.parametrize("kind", ["manual", "dynamic", "vip"])
def test_rejects_lists_of_wrong_type(kind, key, value, items):
    with pytest.raises(InvalidProperties, match=f"^network a: {key} must be a list of {items}$"):
        plan({"a": {**(manual() if kind == "manual" else {}), "type": kind, key: value}})


@pytest.mark.parametrize("value", [None, []])
def test_accepts_empty_lists(value):
    assert nics({"a": manual(dns=value, default=value, routes=value)})


def test_vip_without_address_has_no_nic():
    assert [nic.device for nic in nics({"a": {"type": "vip"}, "b": manual()})] == ["eth0"]


def test_rejects_vip_with_address():
    message = "network a: the server has no floating addresses for the vip 1.2.3.4"
    with pytest.raises(InvalidProperties, match=re.escape(message)) as raised:
        plan({"a": {"type": "vip", "ip": "1.2.3.4"}})
    assert raised.value.code == "no_vip"


def test_accepts_no_networks():
    assert nics({}) == []


@pytest.mark.parametrize("networks", [None, [], "text", {"a": None}, {"a": "text"}, {"a": []}, 5])
def test_rejects_networks_of_wrong_type(networks):
    with pytest.raises(InvalidProperties, match="networks must be an object of objects"):
        plan(networks)


@pytest.mark.parametrize("kind", ["static", "Manual", 5, ["manual"]])
def test_rejects_unknown_network_type(kind):
    with pytest.raises(InvalidProperties, match=f"network a: unknown type {re.escape(repr(kind))}") as raised:
        plan({"a": {"type": kind}})
    assert raised.value.code == "network_type"


@pytest.mark.parametrize("kind", [None, ""])
def test_default_network_type_is_manual(kind):
    assert nics({"a": {**manual(), "type": kind}})[0].address(4) == "10.0.0.5"


@pytest.mark.parametrize("key", ["ip", "netmask", "gateway"])
@pytest.mark.parametrize(
    "value", ["10.0.0", "10.0.0.256", "10.0.0.5/24", " 10.0.0.5", "x", 42, True, 1.5, ["10.0.0.5"], {"a": "b"}]
)
def test_rejects_invalid_addresses(key, value):
    with pytest.raises(InvalidProperties, match=f"network a: {key} {re.escape(repr(value))} is not an IP address"):
        plan({"a": {**manual(), key: value}})


@pytest.mark.parametrize("value", [None, "", 0])
def test_manual_network_requires_only_an_address(value):
    with pytest.raises(InvalidProperties, match=r"network a: ip .* is not an IP address"):
        plan({"a": manual(ip=value)})
    assert nics({"a": manual(gateway=value, netmask=value)})[0].address(4) == "10.0.0.5"


def test_rejects_manual_network_without_address():
    with pytest.raises(InvalidProperties, match="network a: ip None is not an IP address"):
        plan({"a": {"type": "manual"}})


def test_ignores_address_of_dynamic_network():
    [nic] = nics({"a": {"type": "dynamic", "ip": "10.0.0.5", "netmask": "junk"}})
    assert (nic.address(4), nic.address(6)) == ("", "")


def test_rejects_unknown_cloud_properties():
    with pytest.raises(InvalidProperties, match="network a cloud_properties: unknown key nmae"):
        plan({"a": manual(cloud_properties={"nmae": "x"})})


def test_shared_parents_are_networks_with_several_nics():
    networks = {"a": manual(), "b": manual("10.0.0.6"), "c": manual("10.0.0.7", cloud_properties={"name": "br1"})}
    assert plan(networks).shared_parents == ["lxdbr0"]
    shared_nic = {"a": manual(nic_group="1"), "b": manual("10.0.0.6", nic_group="1")}
    assert plan(shared_nic).shared_parents == []


# -- target --------------------------------------------------------------------------------------------------------


def targeted(first: str, second: str) -> NetworkPlan:
    return plan(
        {"a": manual(cloud_properties={"target": first}), "b": manual("10.0.0.6", cloud_properties={"target": second})}
    )


@pytest.mark.parametrize(
    "vm, first, second, targets",
    [
        ("", "", "", set()),
        ("m1", "", "", {"m1"}),
        ("", "m1", "m1", {"m1"}),
        ("m1", "@a", "@b", {"m1", "@a", "@b"}),
    ],
)
def test_returns_targets_of_vm_and_networks(vm, first, second, targets):
    assert targeted(first, second).targets(vm) == targets


@pytest.mark.parametrize(
    "vm, first, second, targets",
    [("m1", "m2", "", "m1, m2"), ("", "m1", "m2", "m1, m2"), ("m3", "m1", "m2", "m1, m2, m3")],
)
def test_rejects_different_members(vm, first, second, targets):
    with pytest.raises(InvalidProperties, match=f"VM and networks have different targets: {targets}$"):
        targeted(first, second).targets(vm)


# -- agent networks ------------------------------------------------------------------------------------------------


def test_agent_network_contains_agent_keys_and_mac():
    network = manual(
        dns=["8.8.8.8"],
        default=["dns", "gateway"],
        prefix="32",
        cloud_properties={"name": "lxdbr0"},
        routes=[{"a": "b"}],
    )
    assert resolve({"a": network}).agent_networks == {
        "a": {
            "type": "manual",
            "ip": "10.0.0.5",
            "netmask": "255.255.255.0",
            "gateway": "10.0.0.1",
            "dns": ["8.8.8.8"],
            "default": ["dns", "gateway"],
            "prefix": "32",
            "routes": [{"a": "b"}],
            "mac": nics({"a": network})[0].mac,
            "preconfigured": False,
        }
    }


GATEWAY = {"default": ["dns", "gateway"]}
SHARED = {"nic_group": "1"}


@pytest.mark.parametrize(
    "networks, bridge, names",
    [
        pytest.param({"a": manual()}, BRIDGE, {"a"}, id="only network"),
        pytest.param({"a": manual(), "v": {"type": "vip"}}, BRIDGE, {"a"}, id="only network beside vip"),
        pytest.param({"a": manual()}, UNMANAGED, set(), id="unmanaged"),
        pytest.param({"a": manual(), "b": manual("10.0.0.9", **GATEWAY)}, BRIDGE, {"b"}, id="gateway"),
        pytest.param({"a": manual(), "b": manual("10.0.0.9")}, BRIDGE, set(), id="no gateway"),
        pytest.param({"a": manual(), "b": {"type": "dynamic", "ip": "10.0.0.9"}}, BRIDGE, set(), id="dynamic"),
        pytest.param(
            {"a": manual(**GATEWAY), "b": manual("fd00::5", **GATEWAY)}, DUAL_STACK, {"a", "b"}, id="two versions"
        ),
        pytest.param({"a": manual(**GATEWAY), "b": manual("fd00::5", **GATEWAY)}, BRIDGE, {"a"}, id="ipv4 reserved"),
        pytest.param(
            {"a": manual(**GATEWAY, **SHARED), "b": manual("fd00::5", **GATEWAY, **SHARED)},
            DUAL_STACK,
            {"a", "b"},
            id="shared nic, all reserved",
        ),
        pytest.param(
            {"a": manual(**GATEWAY, **SHARED), "b": manual("fd00::5", **SHARED)}, DUAL_STACK, set(), id="shared nic"
        ),
        pytest.param(
            {"a": manual(**GATEWAY, **SHARED), "b": manual("10.0.0.9", **SHARED)}, BRIDGE, set(), id="two addresses"
        ),
    ],
)
def test_dhcp_assigns_reserved_addresses_of_gateway_networks(networks, bridge, names):
    answer = resolve(networks, bridge, assignment="dhcp").answer
    assert {name for name in networks if answer[name]["type"] == "dynamic" != networks[name]["type"]} == names


def test_rejects_dhcp_if_the_server_hides_the_network():
    """A restricted certificate does not see the settings, so the server would reserve no address."""
    hidden = {**BRIDGE, "config": {}}
    with pytest.raises(CloudError, match="hides the settings of network lxdbr0") as exc_info:
        resolve({"a": manual()}, hidden, assignment="dhcp")
    assert exc_info.value.code == "hidden_settings"
    for networks in ({"a": {"type": "dynamic"}}, {"a": manual(), "b": manual("10.0.0.6")}):
        resolve(networks, hidden, assignment="dhcp")
    resolve({"a": manual()}, hidden)


def test_dynamic_network_uses_dhcp():
    network = {"type": "dynamic", "dns": None}
    assert resolve({"a": network}).agent_networks["a"] == {
        "type": "dynamic",
        "use_dhcp": True,
        "mac": nics({"a": network})[0].mac,
        "preconfigured": False,
    }


def test_manual_network_with_reserved_address_uses_dhcp():
    agent = resolve({"a": manual(**GATEWAY), "b": manual("fd00::6")}, assignment="dhcp").agent_networks
    assert (agent["a"]["type"], agent["a"]["use_dhcp"], agent["a"]["ip"]) == ("dynamic", True, "10.0.0.5")
    assert (agent["b"]["type"], "use_dhcp" in agent["b"]) == ("manual", False)


@pytest.mark.parametrize("network", [{"ip": "10.0.0.5"}, {**manual(), "type": None}], ids=["missing", "null"])
def test_agent_network_without_type_is_manual(network):
    assert resolve({"a": network}).agent_networks["a"]["type"] == "manual"


def test_vip_has_no_mac():
    assert resolve({"a": {"type": "vip"}, "b": manual()}).agent_networks["a"] == {"type": "vip", "preconfigured": False}


def test_other_static_networks_of_a_nic_are_aliases():
    """The static network with the default gateway has the MAC address."""
    networks = {
        "a": manual("10.0.0.5", nic_group="1"),
        "b": manual("10.0.0.6", nic_group="1", default=["dns", "gateway"]),
        "c": manual("10.0.0.7", nic_group="1"),
        "d": manual("10.0.0.8"),
    }
    agent = resolve(networks).agent_networks
    shared, single = nics(networks)
    assert [agent[name].get("mac") for name in "abcd"] == [None, shared.mac, None, single.mac]
    assert [agent[name].get("alias") for name in "abcd"] == ["eth0:1", None, "eth0:2", None]


def test_ipv4_network_has_the_mac_next_to_ipv6():
    """The agent configures no gateway for an alias. An IPv6 host gets one from its router."""
    agent = resolve({"a": manual("fd00::5", **GATEWAY, **SHARED), "b": manual(**GATEWAY, **SHARED)}).agent_networks
    assert ("mac" in agent["b"], agent["a"].get("alias")) == (True, "eth0:1")


def test_dynamic_networks_of_a_nic_are_not_aliases():
    dynamic = {"type": "dynamic", "nic_group": "1"}
    agent = resolve({"a": dynamic, "b": dynamic}).agent_networks
    assert agent["a"]["mac"] == agent["b"]["mac"]
    assert "alias" not in {*agent["a"], *agent["b"]}


def test_networks_of_a_nic_are_static_if_one_of_them_is():
    networks = {"a": manual(**GATEWAY, **SHARED), "b": manual("10.0.0.6", **SHARED)}
    resolved = resolve(networks, assignment="dhcp")
    assert [resolved.agent_networks[name].get("alias") for name in "ab"] == [None, "eth0:1"]
    assert resolved.agent_networks == resolve(networks).agent_networks
    assert resolved.devices["eth0"]["ipv4.address"] == "10.0.0.5"


def test_prefix_of_agent_network_is_a_string():
    agent = resolve({"a": manual(prefix=32), "b": {"type": "dynamic", "prefix": "128"}}).agent_networks
    assert [agent[name]["prefix"] for name in "ab"] == ["32", "128"]


# -- answer --------------------------------------------------------------------------------------------------------


def test_answer_contains_networks_of_the_request():
    networks = {"a": manual("fd00::5", x="y"), "b": manual("10.0.0.6", **GATEWAY), "v": {"type": "vip"}}
    assert resolve(networks).answer == networks
    assert resolve(networks, assignment="dhcp").answer == {**networks, "b": {**networks["b"], "type": "dynamic"}}
    assert networks["b"]["type"] == "manual"
