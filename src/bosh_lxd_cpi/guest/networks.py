"""The NICs of a VM: BOSH networks become devices for the server, networks for the agent, and create_vm's result.

Networks are processed in the order of their names, so that the same request always gives the same NICs. The CPI chooses
the MAC addresses, so that devices and agent settings agree without another request.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, NamedTuple

from bosh_lxd_cpi.errors import CloudError, InvalidProperties
from bosh_lxd_cpi.guest.nics import (
    IP_VERSIONS,
    BoshNetwork,
    Nic,
    ServerNetwork,
    build_nic,
    can_reserve,
    has_gateway,
    is_dynamic,
    is_hidden,
    nic_device,
)

AGENT_KEYS = ("type", "ip", "netmask", "gateway", "prefix", "dns", "default", "routes")
"""The keys of a BOSH network that the agent reads (docs/development/bosh-contract.md §3.6)."""


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
            build_nic(index, members, default_network=default_network, vm_uuid=vm_uuid)
            for index, members in enumerate(groups.values())
        )
        return cls(networks, tuple(nics))

    @property
    def parents(self) -> set[str]:
        """Names of the server's networks that the NICs connect to."""
        return {nic.parent for nic in self.nics}

    @property
    def shared_parents(self) -> list[str]:
        """Names of the server's networks that several NICs connect to."""
        parents = [nic.parent for nic in self.nics]
        return sorted(name for name in self.parents if parents.count(name) > 1)

    def targets(self, vm_target: str) -> set[str]:
        """Return the targets of VM and networks. Raises InvalidProperties for different cluster members."""
        targets = {target for target in (vm_target, *(nic.properties.target for nic in self.nics)) if target}
        members = sorted(target for target in targets if not target.startswith("@"))
        if len(members) > 1:
            raise InvalidProperties(
                f"VM and networks have different targets: {', '.join(members)}", code="different_targets"
            )
        return targets

    def resolve(self, server_networks: Mapping[str, ServerNetwork], *, assignment: str = "static") -> ResolvedNetworks:
        """Return devices, agent networks and answer, with the server's networks by name.

        `assignment` is server.managed_network_assignment: with `dhcp`, networks whose addresses the server reserves use
        DHCP in the guest. Raises CloudError for a network that the server does not have.
        """
        devices = {nic.device: nic_device(nic, server_networks.get(nic.parent)) for nic in self.nics}
        dhcp = self._reserved(server_networks) if assignment == "dhcp" else set()
        return ResolvedNetworks(devices, self._agent_networks(dhcp), self._answer(dhcp))

    def _reserved(self, server_networks: Mapping[str, ServerNetwork]) -> set[str]:
        """Return the manual networks that can use DHCP in the guest, because the server reserves their addresses.

        The agent reports the address of the default route for every network with DHCP (bosh-agent, settings/service.go,
        resolveNetwork). So only networks with the default gateway use it, and the networks of a NIC all use it or none
        does, because the agent configures a NIC in one way.
        """
        is_only_network = sum(len(nic.networks) for nic in self.nics) == 1
        names: set[str] = set()
        for nic in self.nics:
            server_network = server_networks[nic.parent]
            if nic.is_dynamic or not (is_only_network or all(map(has_gateway, nic.networks.values()))):
                continue
            if is_hidden(server_network):
                message = f"the server hides the settings of network {nic.parent} from the client certificate"
                raise CloudError(
                    f"{message}, but server.managed_network_assignment is dhcp",
                    code="hidden_settings",
                    network=nic.parent,
                )
            reserved = {nic.address(version) for version in IP_VERSIONS if can_reserve(server_network, nic, version)}
            if {network.get("ip") for network in nic.networks.values()} <= reserved:
                names |= nic.networks.keys()
        return names

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
            if "prefix" in entry:
                entry["prefix"] = str(entry["prefix"])
            if name in dhcp or is_dynamic(network):
                entry |= {"type": "dynamic", "use_dhcp": True}
            settings[name] = {**entry, **interfaces.get(name, {}), "preconfigured": False}
        return settings

    def _answer(self, dhcp: set[str]) -> dict[str, dict[str, Any]]:
        return {
            name: {**network, **({"type": "dynamic"} if name in dhcp else {})}
            for name, network in self.networks.items()
        }


def _interfaces(nic: Nic, dhcp: set[str]) -> dict[str, dict[str, str]]:
    """Return how the agent finds the interface of each network on a NIC: by MAC address or as an alias.

    One static network has the MAC address, the others are aliases, for which the agent configures no gateway. The
    network with the default gateway comes first, then IPv4, because IPv6 hosts get a gateway from router
    advertisements.
    """
    interfaces = {name: {"mac": nic.mac} for name in nic.networks}
    if nic.is_dynamic or dhcp & nic.networks.keys():
        return interfaces
    order = sorted(
        nic.networks, key=lambda name: (not has_gateway(nic.networks[name]), ":" in nic.networks[name]["ip"])
    )
    return {**interfaces, **{name: {"alias": f"{nic.device}:{number}"} for number, name in enumerate(order[1:], 1)}}


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
