from __future__ import annotations

import re
from typing import Any

import pytest

from bosh_lxd_cpi.errors import CloudError, InvalidProperties
from bosh_lxd_cpi.guest import networks
from bosh_lxd_cpi.guest.networks import Nic

UUID = "01a2030b-da83-8001-9150-733ab989ac49"
BRIDGE = {
    "name": "lxdbr0",
    "managed": True,
    "type": "bridge",
    "config": {"ipv4.address": "10.0.0.1/24", "ipv6.address": "none"},
}
DUAL = {**BRIDGE, "config": {"ipv4.address": "10.0.0.1/24", "ipv6.address": "fd00::1/64", "ipv6.dhcp.stateful": "true"}}
UNMANAGED = {"name": "br0", "managed": False, "type": "bridge", "config": {}}


def manual(ip: str = "10.0.0.5", **more: Any) -> dict[str, Any]:
    return {"type": "manual", "ip": ip, "netmask": "255.255.255.0", "gateway": "10.0.0.1", **more}


def nics(given: Any, default: str = "lxdbr0", uuid: str = UUID) -> list[Nic]:
    return networks.nics(given, default=default, uuid=uuid)


def device(network: dict[str, Any], known: dict[str, Any] = BRIDGE) -> dict[str, str]:
    """The device of a VM's only network, but for what all devices have."""
    [nic] = nics({"a": network}, default=known["name"])
    found = networks.devices([nic], {known["name"]: known})["eth0"]
    assert {found.pop("type"), found.pop("name"), found.pop("hwaddr")} == {"nic", "eth0", nic.mac}
    return found


# -- NICs ----------------------------------------------------------------------------------------------------------------


def test_networks_are_taken_in_sorted_order_whatever_order_they_come_in():
    one, two, three = manual("10.0.0.1"), manual("10.0.0.2"), {"type": "dynamic"}
    found = nics({"c": three, "a": one, "b": two})
    assert [(nic.device, list(nic.networks)) for nic in found] == [("eth0", ["a"]), ("eth1", ["b"]), ("eth2", ["c"])]
    assert nics({"a": one, "b": two, "c": three}) == found


def test_macs_are_our_own_unicast_local_and_always_the_same():
    found = [nic.mac for nic in nics({"a": manual(), "b": manual("10.0.0.6")})]
    assert all(re.fullmatch(r"06(:[0-9a-f]{2}){5}", mac) for mac in found)
    assert len({*found, *(nic.mac for nic in nics({"a": manual()}, uuid="another"))}) == 3
    assert found == [nic.mac for nic in nics({"a": manual(), "b": manual("10.0.0.6")})]


def test_networks_of_one_nic_group_share_a_nic():
    found = nics(
        {
            "b": manual("fd00::5", nic_group="1", netmask="ffff:ffff:ffff:ffff::", gateway="fd00::1"),
            "a": manual(nic_group=1),
            "c": manual("10.0.0.9", nic_group="2"),
            "d": manual("10.0.0.10"),
        }
    )
    assert [list(nic.networks) for nic in found] == [["a", "b"], ["c"], ["d"]]
    assert (found[0].address(4), found[0].address(6)) == ("10.0.0.5", "fd00::5")


def test_a_nic_group_called_like_another_network_does_not_swallow_it():
    assert [list(nic.networks) for nic in nics({"a": manual(nic_group="b"), "b": manual("10.0.0.6")})] == [["a"], ["b"]]


@pytest.mark.parametrize("nic_group", [None, ""])
def test_no_nic_group_means_a_nic_of_its_own(nic_group):
    assert len(nics({"a": manual(nic_group=nic_group), "b": manual("10.0.0.6", nic_group=nic_group)})) == 2


@pytest.mark.parametrize(
    "first, second",
    [
        ({"name": "x"}, {"name": "y"}),
        ({"name": "x"}, {"name": "x", "mtu": 1400}),
        ({"target": "m1"}, {"target": "m2"}),
        ({"mac_filtering": True}, {"name": "x"}),
    ],
)
def test_networks_that_share_a_nic_must_want_the_same_of_it(first, second):
    with pytest.raises(
        InvalidProperties, match="networks a, b share a NIC, so their cloud_properties must be the same"
    ):
        nics(
            {
                "a": manual(nic_group="1", cloud_properties=first),
                "b": manual("10.0.0.6", nic_group="1", cloud_properties=second),
            }
        )


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_what_one_of_them_wants_holds_for_the_nic(order):
    given = {"name": "x", "mtu": 1400, "target": "m1"}
    [nic] = nics(
        {
            order[0]: manual(nic_group="1", cloud_properties=given),
            order[1]: manual("10.0.0.6", nic_group="1", cloud_properties={}),
        }
    )
    assert (nic.parent, nic.properties.mtu, networks.target([nic], "")) == ("x", 1400, "m1")


def test_the_network_of_the_vm_or_the_server_is_used_where_none_is_named():
    found = nics(
        {
            "a": manual(),
            "b": manual("10.0.0.6", cloud_properties={"name": "ovn1"}),
            "c": {"type": "dynamic", "cloud_properties": None},
        }
    )
    assert [nic.parent for nic in found] == ["lxdbr0", "ovn1", "lxdbr0"]


def test_a_network_that_is_named_needs_no_default():
    assert nics({"a": manual(cloud_properties={"name": "x"})}, default="")[0].parent == "x"


@pytest.mark.parametrize(
    "key, value, of",
    [
        ("dns", "8.8.8.8", "texts"),
        ("dns", [8], "texts"),
        ("default", {"a": "b"}, "texts"),
        ("default", [None], "texts"),
        ("routes", ["a"], "mappings"),
        ("routes", "a", "mappings"),
    ],
)
@pytest.mark.parametrize("kind", ["manual", "dynamic", "vip"])
def test_lists_that_are_none_are_refused(kind, key, value, of):
    with pytest.raises(InvalidProperties, match=f"^network a: {key} must be a list of {of}$"):
        nics({"a": {**(manual() if kind == "manual" else {}), "type": kind, key: value}})


@pytest.mark.parametrize("value", [None, []])
def test_empty_lists_are_fine(value):
    assert nics({"a": manual(dns=value, default=value, routes=value)})


def test_no_network_at_all_is_refused():
    with pytest.raises(InvalidProperties, match="network a: no LXD network to connect to") as raised:
        nics({"a": manual()}, default="")
    assert "server.network_name" in raised.value.hint


def test_a_vip_without_address_is_harmless_and_has_no_nic():
    assert [nic.device for nic in nics({"a": {"type": "vip"}, "b": manual()})] == ["eth0"]


def test_a_vip_with_address_would_lead_nowhere():
    with pytest.raises(
        InvalidProperties, match="network a: LXD has no floating addresses, so the vip 1.2.3.4 would lead nowhere"
    ):
        nics({"a": {"type": "vip", "ip": "1.2.3.4"}})


def test_no_networks_make_no_nics():
    assert nics({}) == []


@pytest.mark.parametrize("given", [None, [], "text", {"a": None}, {"a": "text"}, {"a": []}, 5])
def test_networks_that_are_none_are_refused(given):
    with pytest.raises(InvalidProperties, match="networks must be a mapping of mappings"):
        nics(given)


@pytest.mark.parametrize("kind", ["static", "Manual", 5, ["manual"]])
def test_an_unknown_type_is_refused(kind):
    with pytest.raises(InvalidProperties, match=f"network a: unknown type {re.escape(repr(kind))}"):
        nics({"a": {"type": kind}})


@pytest.mark.parametrize("kind", [None, ""])
def test_no_type_means_manual(kind):
    assert nics({"a": {**manual(), "type": kind}})[0].address(4) == "10.0.0.5"


@pytest.mark.parametrize("key", ["ip", "netmask", "gateway"])
@pytest.mark.parametrize(
    "value", ["10.0.0", "10.0.0.256", "10.0.0.5/24", " 10.0.0.5", "x", 42, True, 1.5, ["10.0.0.5"], {"a": "b"}]
)
def test_an_address_that_is_none_is_refused(key, value):
    with pytest.raises(InvalidProperties, match=f"network a: {key} {re.escape(repr(value))} is not an IP address"):
        nics({"a": {**manual(), key: value}})


@pytest.mark.parametrize("value", [None, "", 0])
def test_a_manual_network_needs_an_address_but_no_gateway(value):
    with pytest.raises(InvalidProperties, match="network a: ip .* is not an IP address"):
        nics({"a": manual(ip=value)})
    assert nics({"a": manual(gateway=value, netmask=value)})[0].address(4) == "10.0.0.5"


def test_a_missing_address_is_refused_in_the_same_words():
    with pytest.raises(InvalidProperties, match="network a: ip None is not an IP address"):
        nics({"a": {"type": "manual"}})


def test_the_stale_address_of_a_dynamic_network_counts_for_nothing():
    [nic] = nics({"a": {"type": "dynamic", "ip": "10.0.0.5", "netmask": "junk"}})
    assert (nic.address(4), nic.address(6)) == ("", "")


def test_unknown_cloud_properties_are_refused_by_name():
    with pytest.raises(InvalidProperties, match="network a cloud_properties: unknown key nmae"):
        nics({"a": manual(cloud_properties={"nmae": "x"})})


@pytest.mark.parametrize(
    "vm, first, second, agreed",
    [("", "", "", ""), ("m1", "", "", "m1"), ("", "m1", "", "m1"), ("m1", "m1", "m1", "m1"), ("", "m1", "m1", "m1")],
)
def test_vm_and_networks_agree_on_a_target(vm, first, second, agreed):
    found = nics(
        {"a": manual(cloud_properties={"target": first}), "b": manual("10.0.0.6", cloud_properties={"target": second})}
    )
    assert networks.target(found, vm) == agreed


@pytest.mark.parametrize(
    "vm, first, second, told",
    [("m1", "m2", "", "m1, m2"), ("", "m1", "m2", "m1, m2"), ("m3", "m1", "m2", "m1, m2, m3")],
)
def test_different_targets_are_refused(vm, first, second, told):
    found = nics(
        {"a": manual(cloud_properties={"target": first}), "b": manual("10.0.0.6", cloud_properties={"target": second})}
    )
    with pytest.raises(InvalidProperties, match=f"VM and networks name different targets: {told}$"):
        networks.target(found, vm)


# -- devices -------------------------------------------------------------------------------------------------------------


def test_a_managed_network_is_named_and_keeps_the_address():
    assert device(manual()) == {"network": "lxdbr0", "ipv4.address": "10.0.0.5"}


def test_a_dynamic_network_reserves_nothing():
    assert device({"type": "dynamic", "ip": "10.0.0.5"}) == {"network": "lxdbr0"}


def test_an_ipv6_address_is_kept_where_dhcp_gives_out_ipv6_addresses():
    assert device(manual("fd00::5"), DUAL) == {"network": "lxdbr0", "ipv6.address": "fd00::5"}
    assert device(manual("fd00::5"), {**DUAL, "config": {**DUAL["config"], "ipv6.dhcp.stateful": "false"}}) == {
        "network": "lxdbr0"
    }
    assert device(manual("fd00::5"), {**DUAL, "config": {"ipv6.address": "fd00::1/64"}}) == {"network": "lxdbr0"}


def test_both_addresses_of_a_shared_nic_are_kept():
    found = nics({"a": manual(nic_group="1"), "b": manual("fd00::5", nic_group="1")})
    kept = networks.devices(found, {"lxdbr0": DUAL})["eth0"]
    assert (kept["ipv4.address"], kept["ipv6.address"]) == ("10.0.0.5", "fd00::5")


@pytest.mark.parametrize(
    "config",
    [{}, {"ipv4.address": "none"}, {"ipv4.address": ""}, {"ipv4.address": "10.0.0.1/24", "ipv4.dhcp": "false"}, None],
)
def test_without_dhcp_the_server_cannot_keep_an_address(config):
    assert device(manual(), {**BRIDGE, "config": config}) == {"network": "lxdbr0"}


@pytest.mark.parametrize(
    "kind, kept", [("bridge", True), ("ovn", True), ("physical", False), ("macvlan", False), ("sriov", False)]
)
def test_only_bridges_and_ovn_keep_addresses(kind, kept):
    assert ("ipv4.address" in device(manual(), {**BRIDGE, "type": kind})) is kept


def test_an_unmanaged_bridge_is_a_parent_and_keeps_nothing():
    assert device(manual(), UNMANAGED) == {"nictype": "bridged", "parent": "br0"}
    assert device(manual(), {**UNMANAGED, "config": BRIDGE["config"]}) == {"nictype": "bridged", "parent": "br0"}


def test_any_other_interface_of_the_host_is_shared_by_macvlan():
    assert device(manual(), {**UNMANAGED, "type": "physical"}) == {"nictype": "macvlan", "parent": "br0"}


def test_a_bridge_of_another_project_is_a_parent_that_keeps_the_address():
    assert device(manual(), {**BRIDGE, "foreign": True}) == {
        "nictype": "bridged",
        "parent": "lxdbr0",
        "ipv4.address": "10.0.0.5",
    }


def test_a_network_that_the_server_has_not_is_an_error_that_says_what_to_do():
    with pytest.raises(CloudError, match="the server has no network lxdbr0") as raised:
        networks.devices(nics({"a": manual()}), {"other": BRIDGE})
    assert "network list" in raised.value.hint


def test_options_of_the_network_become_options_of_the_device():
    given = {
        "vlan": 7,
        "security_groups": ["web", "db"],
        "mac_filtering": True,
        "ipv4_filtering": "true",
        "ipv6_filtering": False,
        "port_isolation": True,
    }
    assert device({"type": "dynamic", "cloud_properties": given}) == {
        "network": "lxdbr0",
        "vlan": "7",
        "security.acls": "web,db",
        "security.mac_filtering": "true",
        "security.ipv4_filtering": "true",
        "security.port_isolation": "true",
    }


def test_a_nic_with_an_mtu_of_its_own_names_its_bridge_as_parent_because_one_of_a_network_inherits_it():
    given = {"type": "dynamic", "cloud_properties": {"mtu": 1400}}
    assert device(given, UNMANAGED) == {"nictype": "bridged", "parent": "br0", "mtu": "1400"}
    assert device(given) == {"nictype": "bridged", "parent": "lxdbr0", "mtu": "1400"}
    assert device(manual(cloud_properties={"mtu": 1400}))["ipv4.address"]


def test_every_value_of_a_device_is_a_text():
    given = manual(cloud_properties={"mtu": 1400, "vlan": 7, "mac_filtering": True, "security_groups": [5]})
    assert all(
        isinstance(value, str) for value in device(given, {**UNMANAGED, "managed": True, "foreign": True}).values()
    )


# -- the agent -----------------------------------------------------------------------------------------------------------


def settings(given: dict[str, Any], by_dhcp: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    return networks.for_agent(given, nics(given), set(by_dhcp))


def test_the_agent_is_told_what_it_knows_and_the_mac():
    given = manual(
        dns=["8.8.8.8"],
        default=["dns", "gateway"],
        prefix="32",
        cloud_properties={"name": "lxdbr0"},
        routes=[{"a": "b"}],
    )
    assert settings({"a": given}) == {
        "a": {
            "type": "manual",
            "ip": "10.0.0.5",
            "netmask": "255.255.255.0",
            "gateway": "10.0.0.1",
            "dns": ["8.8.8.8"],
            "default": ["dns", "gateway"],
            "routes": [{"a": "b"}],
            "mac": nics({"a": given})[0].mac,
            "preconfigured": False,
        }
    }


@pytest.mark.parametrize(
    "given, bridge, names",
    [
        ({"a": manual(), "b": manual("fd00::5")}, BRIDGE, {"a"}),
        ({"b": manual("fd00::5")}, DUAL, {"b"}),
        ({"a": manual()}, UNMANAGED, set()),
        ({"a": manual(), "b": {"type": "dynamic", "ip": "10.0.0.9"}}, BRIDGE, {"a"}),
        ({"a": manual(nic_group=1), "b": manual("10.0.0.9", nic_group=1)}, BRIDGE, {"a"}),
    ],
)
def test_dhcp_is_left_to_give_out_only_what_the_server_keeps(given, bridge, names):
    assert networks.reserved(nics(given), {"lxdbr0": bridge}) == names


def test_a_dynamic_network_asks_dhcp():
    assert settings({"a": {"type": "dynamic", "dns": None}})["a"] == {
        "type": "dynamic",
        "use_dhcp": True,
        "mac": nics({"a": {"type": "dynamic"}})[0].mac,
        "preconfigured": False,
    }


def test_a_manual_network_whose_address_the_server_hands_out_asks_dhcp_too():
    found = settings({"a": manual(), "b": manual("10.0.0.6")}, ("a",))
    assert (found["a"]["type"], found["a"]["use_dhcp"], found["a"]["ip"]) == ("dynamic", True, "10.0.0.5")
    assert (found["b"]["type"], "use_dhcp" in found["b"]) == ("manual", False)


def test_a_network_without_type_is_manual_to_the_agent():
    assert (
        settings({"a": {"ip": "10.0.0.5"}})["a"]["type"]
        == settings({"a": {**manual(), "type": None}})["a"]["type"]
        == "manual"
    )


def test_a_vip_goes_to_the_agent_without_a_mac():
    assert settings({"a": {"type": "vip"}, "b": manual()})["a"] == {"type": "vip", "preconfigured": False}


def test_of_several_static_networks_on_a_nic_the_one_with_the_gateway_has_the_mac_and_others_are_aliases():
    given = {
        "a": manual("10.0.0.5", nic_group="1"),
        "b": manual("10.0.0.6", nic_group="1", default=["dns", "gateway"]),
        "c": manual("10.0.0.7", nic_group="1"),
        "d": manual("10.0.0.8"),
    }
    found = settings(given)
    group, other = nics(given)
    assert [found[name].get("mac") for name in "abcd"] == [None, group.mac, None, other.mac]
    assert [found[name].get("alias") for name in "abcd"] == ["eth0:1", None, "eth0:2", None]


def test_dynamic_networks_on_a_shared_nic_are_no_aliases():
    found = settings({"a": {"type": "dynamic", "nic_group": "1"}, "b": manual(nic_group="1")})
    assert ("alias" in found["a"], "alias" in found["b"], found["a"]["mac"]) == (False, False, found["b"]["mac"])


def test_a_network_that_dhcp_assigns_leaves_the_mac_to_the_static_one_beside_it():
    found = settings({"a": manual(nic_group="1", default=["gateway"]), "b": manual("10.0.0.6", nic_group="1")}, ("a",))
    assert "alias" not in found["b"] and found["b"]["mac"] == found["a"]["mac"]


def test_the_answer_is_what_was_asked_for_but_dynamic_where_dhcp_assigns():
    given = {"a": manual(x="y"), "b": manual("10.0.0.6"), "v": {"type": "vip"}}
    assert networks.answer(given, {"b"}) == {"a": given["a"], "b": {**given["b"], "type": "dynamic"}, "v": given["v"]}
    assert given["b"]["type"] == "manual"
