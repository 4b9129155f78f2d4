"""The NICs of a VM: BOSH networks become devices for the server, networks for the agent, and create_vm's result.

Networks are processed in the order of their names, so that the same request always gives the same NICs. The CPI chooses
the MAC addresses, so that devices and agent settings agree without another request.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from bosh_lxd_cpi.errors import CloudError, InvalidProperties
from bosh_lxd_cpi.guest.cloud_properties import NetworkProperties, parse_network_properties

BoshNetwork = Mapping[str, Any]
ServerNetwork = Mapping[str, Any]
"""A network as the server describes it: `type`, `managed`, `config`; `foreign` if it belongs to the default project."""

AGENT_KEYS = ("type", "ip", "netmask", "gateway", "dns", "default", "routes")
"""The keys of a BOSH network that the agent reads (docs/development/bosh-contract.md §3.6)."""
FILTERS = ("mac_filtering", "ipv4_filtering", "ipv6_filtering", "port_isolation")
IP_VERSIONS = (4, 6)


class Nic(NamedTuple):
    """One NIC of a VM, and the BOSH networks on it: several if they have the same nic_group.

    `parent` is the name of the server's network or bridge.
    """

    device: str
    mac: str
    networks: Mapping[str, BoshNetwork]
    parent: str
    properties: NetworkProperties

    def address(self, version: int) -> str:
        """Return the first static address of this IP version, or an empty string."""
        for network in self.networks.values():
            ip: str = "" if is_dynamic(network) else network.get("ip") or ""
            if ip and ipaddress.ip_address(ip).version == version:
                return ip
        return ""


class ResolvedNetworks(NamedTuple):
    """What follows from a NetworkPlan and the server's networks.

    `devices` are the NIC devices of the instance by name, `agent_networks` the networks of the agent settings, and
    `answer` the networks that create_vm returns.
    """

    devices: dict[str, dict[str, str]]
    agent_networks: dict[str, dict[str, Any]]
    answer: dict[str, dict[str, Any]]


class NetworkPlan(NamedTuple):
    """The BOSH networks of a VM and its NICs."""

    networks: Mapping[str, BoshNetwork]
    nics: tuple[Nic, ...]

    @classmethod
    def build(cls, networks: Any, *, default_network: str, vm_uuid: str) -> NetworkPlan:
        """Validate the networks of a create_vm request and return the NICs that they need.

        `default_network` is the server's network for BOSH networks that do not name one. The MAC addresses depend on
        `vm_uuid`. Raises InvalidProperties.
        """
        groups: dict[str, dict[str, BoshNetwork]] = {}
        for name in sorted(_validate(networks)):
            network = networks[name]
            if network.get("type") != "vip":
                # The space keeps the name of a network apart from the name of a group.
                groups.setdefault(str(network.get("nic_group") or f" {name}"), {})[name] = network
        nics = (
            _nic(index, members, default_network=default_network, vm_uuid=vm_uuid)
            for index, members in enumerate(groups.values())
        )
        return cls(networks, tuple(nics))

    @property
    def parents(self) -> set[str]:
        """Names of the server's networks that the NICs connect to."""
        return {nic.parent for nic in self.nics}

    def target(self, vm_target: str) -> str:
        """Return the cluster member that VM and networks agree on, or an empty string. Raises InvalidProperties."""
        targets = {target for target in (vm_target, *(nic.properties.target for nic in self.nics)) if target}
        if len(targets) > 1:
            raise InvalidProperties(f"VM and networks have different targets: {', '.join(sorted(targets))}")
        return targets.pop() if targets else ""

    def resolve(self, server_networks: Mapping[str, ServerNetwork], *, assignment: str = "static") -> ResolvedNetworks:
        """Return devices, agent networks and answer, with the server's networks by name.

        `assignment` is server.managed_network_assignment: with `dhcp`, networks whose addresses the server reserves use
        DHCP in the guest. Raises CloudError for a network that the server does not have.
        """
        devices = {nic.device: _device(nic, server_networks.get(nic.parent)) for nic in self.nics}
        dhcp = set(self._reserved(server_networks)) if assignment == "dhcp" else set()
        return ResolvedNetworks(devices, self._agent_networks(dhcp), self._answer(dhcp))

    def _reserved(self, server_networks: Mapping[str, ServerNetwork]) -> Iterator[str]:
        """Yield the BOSH networks whose address the server's DHCP assigns.

        A NIC has one reserved address of each IP version, so further networks of that version on it are not included.
        """
        for nic in self.nics:
            for name, network in nic.networks.items():
                for version in IP_VERSIONS:
                    if can_reserve(server_networks[nic.parent], nic, version) and nic.address(version) == network.get(
                        "ip"
                    ):
                        yield name

    def _agent_networks(self, dhcp: set[str]) -> dict[str, dict[str, Any]]:
        """Return the networks of the agent settings. Those in `dhcp` use DHCP.

        The agent finds a NIC by its MAC address and configures one static network on it. Further static networks are
        aliases (bosh-agent, platform/net/ubuntu_net_manager.go, collapseVirtualInterfaces). The device eth0 is eth0 in
        the guest too, because the server adds NICs in the order of their names and stemcells boot with net.ifnames=0.
        """
        interfaces: dict[str, dict[str, str]] = {}
        for nic in self.nics:
            interfaces |= _interfaces(nic, dhcp)
        settings: dict[str, dict[str, Any]] = {}
        for name in sorted(self.networks):
            network = self.networks[name]
            entry = {key: network[key] for key in AGENT_KEYS if network.get(key) is not None}
            entry.setdefault("type", "manual")
            if name in dhcp or is_dynamic(network):
                entry |= {"type": "dynamic", "use_dhcp": True}
            settings[name] = {**entry, **interfaces.get(name, {}), "preconfigured": False}
        return settings

    def _answer(self, dhcp: set[str]) -> dict[str, dict[str, Any]]:
        return {
            name: {**network, **({"type": "dynamic"} if name in dhcp else {})}
            for name, network in self.networks.items()
        }


def is_dynamic(network: BoshNetwork) -> bool:
    """Return whether the guest uses DHCP. A dynamic network may still contain an old address."""
    return network.get("type") == "dynamic"


def can_reserve(network: ServerNetwork, nic: Nic, version: int) -> bool:
    """Return whether the server can reserve a NIC's address of this IP version.

    The server has to assign it by DHCP (docs/development/lxd-api.md §4).
    """
    config = network.get("config") or {}
    if not nic.address(version) or not network.get("managed") or network.get("type") not in ("bridge", "ovn"):
        return False
    subnet = config.get(f"ipv{version}.address", "none")
    key, default = ("ipv4.dhcp", "true") if version == 4 else ("ipv6.dhcp.stateful", "false")
    return subnet not in ("", "none") and config.get(key, default) == "true"


def _nic(index: int, networks: Mapping[str, BoshNetwork], *, default_network: str, vm_uuid: str) -> Nic:
    """Return the NIC for these networks, which have the same nic_group."""
    names = ", ".join(networks)
    defaults = NetworkProperties()
    parsed = {parse_network_properties(network.get("cloud_properties"), name) for name, network in networks.items()}
    different = parsed - {defaults}
    if len(different) > 1:
        raise InvalidProperties(f"networks {names} share a NIC, so their cloud_properties must be the same")
    properties = different.pop() if different else defaults
    parent = properties.name or default_network
    if not parent:
        raise InvalidProperties(f"network {names}: no LXD network to connect to", code="no_network_name", network=names)
    octets = b"\x06" + hashlib.sha256(f"{vm_uuid}/{index}".encode()).digest()[:5]  # 06: unicast, locally administered
    return Nic(device=f"eth{index}", mac=octets.hex(":"), networks=networks, parent=parent, properties=properties)


def _device(nic: Nic, network: ServerNetwork | None) -> dict[str, str]:
    if network is None or network.get("type") == "loopback":
        raise CloudError(f"the server has no network {nic.parent} for VMs", code="no_network", network=nic.parent)
    properties = nic.properties
    device = {"type": "nic", "name": nic.device, "hwaddr": nic.mac}
    # A NIC with `network` inherits the bridge's MTU and must not have its own.
    inherits_mtu = network.get("type") != "bridge" or not properties.mtu
    if network.get("managed") and not network.get("foreign") and inherits_mtu:
        device["network"] = nic.parent
    else:
        device |= {"nictype": "bridged" if network.get("type") == "bridge" else "macvlan", "parent": nic.parent}
        device |= {"mtu": str(properties.mtu)} if properties.mtu else {}
    device |= {
        f"ipv{version}.address": nic.address(version) for version in IP_VERSIONS if can_reserve(network, nic, version)
    }
    device |= {"vlan": str(properties.vlan)} if properties.vlan else {}
    device |= {"security.acls": ",".join(properties.security_groups)} if properties.security_groups else {}
    return device | {f"security.{option}": "true" for option in FILTERS if getattr(properties, option)}


def _interfaces(nic: Nic, dhcp: set[str]) -> dict[str, dict[str, str]]:
    """Return how the agent finds the interface of each network on a NIC: by MAC address or as an alias.

    The static network with the default gateway gets the MAC address.
    """
    static = [name for name, network in nic.networks.items() if name not in dhcp and not is_dynamic(network)]
    primary = max(static, key=lambda name: "gateway" in (nic.networks[name].get("default") or []), default="")
    aliases = [name for name in static if name != primary]
    return {
        **{name: {"mac": nic.mac} for name in nic.networks},
        **{name: {"alias": f"{nic.device}:{number}"} for number, name in enumerate(aliases, 1)},
    }


def _validate(networks: Any) -> dict[str, Any]:
    if not isinstance(networks, dict) or not all(isinstance(network, dict) for network in networks.values()):
        raise InvalidProperties("networks must be an object of objects")
    for name, network in networks.items():
        _validate_lists(name, network)
        kind = network.get("type") or "manual"
        if kind not in ("manual", "dynamic", "vip"):
            raise InvalidProperties(f"network {name}: unknown type {kind!r}", code="network_type", network=name)
        if kind == "vip" and network.get("ip"):
            raise InvalidProperties(
                f"network {name}: the server has no floating addresses for the vip {network['ip']}",
                code="no_vip",
                network=name,
            )
        if kind == "manual":
            _validate_addresses(name, network)
    return networks


def _validate_lists(name: str, network: BoshNetwork) -> None:
    for key, kind, plural in (("dns", str, "strings"), ("default", str, "strings"), ("routes", dict, "objects")):
        items = network.get(key) or []
        if not isinstance(items, list) or not all(isinstance(item, kind) for item in items):
            raise InvalidProperties(f"network {name}: {key} must be a list of {plural}")


def _validate_addresses(name: str, network: BoshNetwork) -> None:
    for key in ("ip", "netmask", "gateway"):
        address = network.get(key) or ""
        try:
            if address or key == "ip":
                # ip_address() also accepts numbers.
                ipaddress.ip_address(address if isinstance(address, str) else "")
        except ValueError:
            raise InvalidProperties(f"network {name}: {key} {network.get(key)!r} is not an IP address") from None
