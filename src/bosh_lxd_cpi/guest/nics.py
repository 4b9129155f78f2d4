"""One NIC of a VM: from the BOSH networks on it to a device for the server."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping
from typing import Any, NamedTuple

from bosh_lxd_cpi.errors import CloudError, InvalidProperties
from bosh_lxd_cpi.guest.cloud_properties import NetworkProperties, parse_network_properties

BoshNetwork = Mapping[str, Any]
ServerNetwork = Mapping[str, Any]
"""A network as the server describes it: `type`, `managed`, `config`; `foreign` if it belongs to the default project."""

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

    @property
    def is_dynamic(self) -> bool:
        """Whether the networks of the NIC are dynamic: all of them or none."""
        return any(map(is_dynamic, self.networks.values()))

    def is_filtered(self, version: int) -> bool:
        """Return whether the server drops packets from other addresses of this IP version."""
        return bool(getattr(self.properties, f"ipv{version}_filtering"))

    def addresses(self, version: int) -> list[str]:
        """Return the static addresses of this IP version."""
        addresses = ["" if is_dynamic(network) else network.get("ip") or "" for network in self.networks.values()]
        return [ip for ip in addresses if ip and ipaddress.ip_address(ip).version == version]

    def address(self, version: int) -> str:
        """Return the first static address of this IP version, or an empty string."""
        return next(iter(self.addresses(version)), "")


def is_dynamic(network: BoshNetwork) -> bool:
    """Return whether the guest uses DHCP. A dynamic network may still contain an old address."""
    return network.get("type") == "dynamic"


def has_gateway(network: BoshNetwork) -> bool:
    """Return whether the default gateway of the VM is in this network."""
    return "gateway" in (network.get("default") or [])


def can_reserve(network: ServerNetwork, nic: Nic, version: int) -> bool:
    """Return whether the server can reserve a NIC's address of this IP version: it has to assign it by DHCP."""
    return bool(nic.address(version)) and _has_dhcp(network, version)


def _has_dhcp(network: ServerNetwork, version: int) -> bool:
    """Return whether the server assigns addresses by DHCP on its network (docs/development/lxd-api.md §4)."""
    config = network.get("config") or {}
    if not network.get("managed") or network.get("type") not in ("bridge", "ovn"):
        return False
    subnet = config.get(f"ipv{version}.address", "none")
    key, default = ("ipv4.dhcp", "true") if version == 4 else ("ipv6.dhcp.stateful", "false")
    return subnet not in ("", "none") and config.get(key, default) == "true"


def is_hidden(network: ServerNetwork) -> bool:
    """Return whether the server hides the settings of its network from the client certificate."""
    return bool(network.get("managed")) and not network.get("config")


def build_nic(index: int, networks: Mapping[str, BoshNetwork], *, default_network: str, vm_uuid: str) -> Nic:
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
    if len({is_dynamic(network) for network in networks.values()}) > 1:
        raise InvalidProperties(f"networks {names} share a NIC, so all of them or none must be dynamic")
    octets = b"\x06" + hashlib.sha256(f"{vm_uuid}/{index}".encode()).digest()[:5]  # 06: unicast, locally administered
    nic = Nic(device=f"eth{index}", mac=octets.hex(":"), networks=networks, parent=parent, properties=properties)
    for version in IP_VERSIONS:
        if nic.is_filtered(version) and len(nic.addresses(version)) > 1:
            raise InvalidProperties(
                f"networks {names} share a NIC, but ipv{version}_filtering allows one IPv{version} address on it"
            )
    return nic


def nic_device(nic: Nic, network: ServerNetwork | None) -> dict[str, str]:
    """Return the device of a NIC on the server's network. Raises CloudError."""
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
    for version in IP_VERSIONS:
        device |= _address_option(nic, network, version)
    device |= {"vlan": str(properties.vlan)} if properties.vlan else {}
    device |= {"security.acls": ",".join(properties.security_groups)} if properties.security_groups else {}
    return device | {f"security.{option}": "true" for option in FILTERS if getattr(properties, option)}


def _address_option(nic: Nic, network: ServerNetwork, version: int) -> dict[str, str]:
    """Return the option with the address that the server reserves or that a filter allows.

    The filter of a NIC without this option drops all packets, unless the server assigns the address. The value `none`
    allows no address of this IP version.
    """
    if nic.is_filtered(version) and not nic.is_dynamic:
        return {f"ipv{version}.address": nic.address(version) or "none"}
    if nic.is_filtered(version) and not (_has_dhcp(network, version) or is_hidden(network)):
        raise InvalidProperties(
            f"network {', '.join(nic.networks)}: ipv{version}_filtering needs an address, but the network is dynamic"
            f" and the server assigns no IPv{version} addresses on {nic.parent}",
            code="no_filter_address",
            network=nic.parent,
        )
    return {f"ipv{version}.address": nic.address(version)} if can_reserve(network, nic, version) else {}
