"""BOSH networks -> NIC devices for the server, networks for the agent, and the answer to the director.

Networks are taken in sorted order, so the same request always gives the same NICs. We choose the MACs: device and agent
settings then agree without asking the server for them.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping
from typing import Any, NamedTuple

from bosh_lxd_cpi import hints
from bosh_lxd_cpi.errors import CloudError, InvalidProperties
from bosh_lxd_cpi.guest.cloud_properties import NetworkProperties, parse_network_properties

AGENT_KEYS = ("type", "ip", "netmask", "gateway", "dns", "default", "routes")


class Nic(NamedTuple):
    """One NIC of a VM, and the BOSH networks on it: several when they share a nic_group."""

    device: str
    mac: str
    networks: Mapping[str, Mapping[str, Any]]
    parent: str
    properties: NetworkProperties

    def address(self, version: int) -> str:
        """The static address of this IP version, or an empty text."""
        for network in self.networks.values():
            ip = "" if is_dynamic(network) else network.get("ip") or ""
            if ip and ipaddress.ip_address(ip).version == version:
                return ip
        return ""


def is_dynamic(network: Mapping[str, Any]) -> bool:
    """Whether the guest is to ask DHCP. A dynamic network may still carry a stale address."""
    return network.get("type") == "dynamic"


def nics(networks: Any, *, default: str, uuid: str) -> list[Nic]:
    """The NICs that a VM with this uuid needs; `default` is the LXD network where none is named.

    Raises InvalidProperties.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name in sorted(_checked(networks)):
        network = networks[name]
        if network.get("type") != "vip":
            groups.setdefault(str(network.get("nic_group") or f" {name}"), {})[name] = network
    return [_nic(index, members, default=default, uuid=uuid) for index, members in enumerate(groups.values())]


def _nic(index: int, members: Mapping[str, Any], *, default: str, uuid: str) -> Nic:
    given = [parse_network_properties(network.get("cloud_properties"), name) for name, network in members.items()]
    wanted = {one for one in given if one != NetworkProperties()} or {NetworkProperties()}
    if len(wanted) > 1:
        raise InvalidProperties(
            f"networks {', '.join(members)} share a NIC, so their cloud_properties must be the same"
        )
    one = wanted.pop()
    if not (one.name or default):
        raise InvalidProperties(
            f"network {', '.join(members)}: no LXD network to connect to",
            hint="Set server.network_name or the network's cloud_properties.name",
        )
    octets = b"\x06" + hashlib.sha256(f"{uuid}/{index}".encode()).digest()[:5]  # 06: unicast, locally administered
    return Nic(device=f"eth{index}", mac=octets.hex(":"), networks=members, parent=one.name or default, properties=one)


def _checked(networks: Any) -> dict[str, Any]:
    if not isinstance(networks, dict) or not all(isinstance(network, dict) for network in networks.values()):
        raise InvalidProperties("networks must be a mapping of mappings")
    for name, network in networks.items():
        _check_lists(name, network)
        kind = network.get("type") or "manual"
        if kind not in ("manual", "dynamic", "vip"):
            raise InvalidProperties(f"network {name}: unknown type {kind!r}", hint="Use manual or dynamic")
        if kind == "vip" and network.get("ip"):
            raise InvalidProperties(
                f"network {name}: LXD has no floating addresses, so the vip {network['ip']} would lead nowhere",
                hint="Use a manual network, or `network forward` on the LXD network",
            )
        if kind == "manual":
            _check_addresses(name, network)
    return networks


def _check_lists(name: str, network: Mapping[str, Any]) -> None:
    for key, of in (("dns", str), ("default", str), ("routes", dict)):
        given = network.get(key) or []
        if not isinstance(given, list) or not all(isinstance(item, of) for item in given):
            raise InvalidProperties(f"network {name}: {key} must be a list of {'mappings' if of is dict else 'texts'}")


def _check_addresses(name: str, network: Mapping[str, Any]) -> None:
    for key in ("ip", "netmask", "gateway"):
        given = network.get(key) or ""
        try:
            if given or key == "ip":
                ipaddress.ip_address(given if isinstance(given, str) else "")  # it would take a number, too
        except ValueError:
            raise InvalidProperties(f"network {name}: {key} {network.get(key)!r} is not an IP address") from None


def target(nics: list[Nic], vm_target: str) -> str:
    """The cluster member that VM and networks agree on. Raises InvalidProperties when they do not."""
    targets = {target for target in (vm_target, *(nic.properties.target for nic in nics)) if target}
    if len(targets) > 1:
        raise InvalidProperties(f"VM and networks name different targets: {', '.join(sorted(targets))}")
    return targets.pop() if targets else ""


def devices(nics: list[Nic], known: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """NIC devices; `known` holds the server's networks by name. Raises CloudError for a network that is not there."""
    return {nic.device: _device(nic, known.get(nic.parent)) for nic in nics}


def _device(nic: Nic, network: Mapping[str, Any] | None) -> dict[str, str]:
    if network is None or network.get("type") == "loopback":
        raise CloudError(f"the server has no network {nic.parent} for VMs", hint=hints.text("no_network"))
    given = nic.properties
    device = {"type": "nic", "name": nic.device, "hwaddr": nic.mac}
    inherits_mtu = network.get("type") != "bridge" or not given.mtu
    if network.get("managed") and not network.get("foreign") and inherits_mtu:
        device["network"] = nic.parent
    else:
        device |= {"nictype": "bridged" if network.get("type") == "bridge" else "macvlan", "parent": nic.parent}
        device |= {"mtu": str(given.mtu)} if given.mtu else {}
    device |= {f"ipv{version}.address": nic.address(version) for version in (4, 6) if reserves(network, nic, version)}
    device |= {"vlan": str(given.vlan)} if given.vlan else {}
    device |= {"security.acls": ",".join(given.security_groups)} if given.security_groups else {}
    filters = ("mac_filtering", "ipv4_filtering", "ipv6_filtering", "port_isolation")
    return device | {f"security.{option}": "true" for option in filters if getattr(given, option)}


def reserves(network: Mapping[str, Any], nic: Nic, version: int) -> bool:
    """Whether the server can keep this NIC's address for it: it has to hand it out by DHCP (facts: lxd-api 4, NIC)."""
    config = network.get("config") or {}
    if not nic.address(version) or not network.get("managed") or network.get("type") not in ("bridge", "ovn"):
        return False
    subnet = config.get(f"ipv{version}.address", "none")
    switch = "ipv4.dhcp" if version == 4 else "ipv6.dhcp.stateful"
    return subnet not in ("", "none") and config.get(switch, "true" if version == 4 else "false") == "true"


def reserved(nics: list[Nic], known: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The BOSH networks whose address the server's DHCP gives out; of several of one IP version on a NIC only the first."""
    return {
        name
        for nic in nics
        for name, network in nic.networks.items()
        for version in (4, 6)
        if reserves(known[nic.parent], nic, version) and nic.address(version) == network.get("ip")
    }


def for_agent(
    networks: Mapping[str, Mapping[str, Any]], nics: list[Nic], by_dhcp: set[str]
) -> dict[str, dict[str, Any]]:
    """The networks in the agent settings; those in `by_dhcp` ask for the address that the server keeps for them.

    The agent finds a NIC by its MAC, and configures one static network on it. Further ones it takes as aliases
    (bosh-agent, platform/net/ubuntu_net_manager.go, collapseVirtualInterfaces); eth0 is our eth0 there, because the server
    plugs NICs in the order of their names and stemcells boot with net.ifnames=0.
    """
    places: dict[str, dict[str, str]] = {}
    for nic in nics:
        fixed = [name for name in nic.networks if name not in by_dhcp and not is_dynamic(nic.networks[name])]
        first = max(fixed, key=lambda name: "gateway" in (networks[name].get("default") or []), default="")
        others = [name for name in fixed if name != first]
        places |= {name: {"mac": nic.mac} for name in nic.networks}
        places |= {name: {"alias": f"{nic.device}:{number}"} for number, name in enumerate(others, 1)}
    settings: dict[str, dict[str, Any]] = {}
    for name in sorted(networks):
        network = networks[name]
        one = {key: network[key] for key in AGENT_KEYS if network.get(key) is not None}
        one.setdefault("type", "manual")
        if name in by_dhcp or is_dynamic(network):
            one |= {"type": "dynamic", "use_dhcp": True}
        settings[name] = {**one, **places.get(name, {}), "preconfigured": False}
    return settings


def answer(networks: Mapping[str, Mapping[str, Any]], by_dhcp: set[str]) -> dict[str, dict[str, Any]]:
    """The networks as create_vm returns them: what was asked for, dynamic where DHCP assigns."""
    return {name: {**network, **({"type": "dynamic"} if name in by_dhcp else {})} for name, network in networks.items()}
