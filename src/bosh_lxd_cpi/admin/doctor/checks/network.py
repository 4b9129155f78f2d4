"""Checks the default network of VMs, and compares it with the director's manifest."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import NamedTuple

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin.doctor.context import CheckContext
from bosh_lxd_cpi.admin.doctor.result import CheckResult
from bosh_lxd_cpi.lxd.resources import Network

LONGEST_SEARCH = 4096
LOOPBACK = "loopback"


class Manifest(NamedTuple):
    """internal_cidr, internal_gw and internal_ip of a director's manifest, or None."""

    cidr: IPv4Network | None = None
    gateway: IPv4Address | None = None
    ip: IPv4Address | None = None


def network(context: CheckContext, manifest: Manifest) -> Iterator[CheckResult]:
    """Check that the network exists, works, and agrees with the manifest. Sets the network of the context."""
    name, networks = context.server.network_name, _networks(context)
    names = ", ".join(sorted(networks))
    if not name:
        yield context.warn("network", "server.network_name is not set", "no_default_network", networks=names)
        return
    if name not in networks:
        yield context.fail("network", f"there is no network {name}", "create_network", networks=names or "none")
        return
    bridge = context.network = networks[name]
    if not bridge.managed:
        yield _unmanaged(context, bridge, manifest)
    elif bridge.status not in ("Created", ""):
        yield context.fail("network", f"{name} is {bridge.status.lower()}", "network_broken")
    elif not bridge.config:
        yield _hidden(context, manifest)
    else:
        yield from _settings(context, bridge, manifest)


def _hidden(context: CheckContext, manifest: Manifest) -> CheckResult:
    """Name what cannot be checked. It is a warning if there is a manifest to compare with, and fails with DHCP."""
    name = context.server.network_name
    message, command = f"{name}, managed; the server hides its settings from this client", f"network show {name}"
    if context.server.managed_network_assignment == "dhcp":
        message += ", but server.managed_network_assignment is dhcp"
        return context.fail("network", message, "hidden_settings")
    if manifest == Manifest():
        return context.skip("network", f"{message}, such as DHCP and dns.mode", "hidden", command=command)
    return context.warn("network", f"{message}, so the manifest is not checked", "hidden", command=command)


def _unmanaged(context: CheckContext, bridge: Network, manifest: Manifest) -> CheckResult:
    message = f"{bridge.name}, an unmanaged {bridge.type}"
    if manifest == Manifest():
        return context.ok("network", message)
    return context.warn("network", f"{message} without subnet, so the manifest is not checked", "unmanaged_network")


def _networks(context: CheckContext) -> dict[str, Network]:
    """Return the networks of the project and of the default project, whose bridges the VMs of all projects can use."""
    client = context.client()
    networks = client.networks()
    if client.project != "default" and context.server.network_name not in (network.name for network in networks):
        with contextlib.suppress(errors.Forbidden):
            networks = [*client.networks(project="default"), *networks]
    return {network.name: network for network in networks if network.type != LOOPBACK}


def _settings(context: CheckContext, bridge: Network, manifest: Manifest) -> Iterator[CheckResult]:
    has_dhcp, has_nat = bridge.config.get("ipv4.dhcp", "true") == "true", bridge.config.get("ipv4.nat") == "true"
    interface = subnet(bridge)
    if interface is None:
        if manifest.cidr:
            message, address = f"{bridge.name} has no IPv4 subnet", _bridge_address(manifest, manifest.cidr)
            yield context.warn("network", message, "no_subnet", address=address)
        else:
            yield context.ok("network", f"{bridge.name}, a managed {bridge.type} without IPv4 subnet")
        return
    if not has_dhcp and context.server.managed_network_assignment == "dhcp":
        message = f"{bridge.name} has no DHCP, but server.managed_network_assignment is dhcp"
        yield context.fail("network", message, "no_dhcp")
    else:
        services = f"{'DHCP' if has_dhcp else 'no DHCP'}, {'NAT' if has_nat else 'no NAT'}"
        yield context.ok("network", f"{bridge.name}, a managed {bridge.type}, {interface}, {services}")
    if bridge.type == "bridge" and bridge.config.get("dns.mode") != "none":
        message = f"{bridge.name} accepts one NIC of each VM, because its dns.mode is not none"
        yield context.warn("network", message, "dns_mode")
    yield from _subnet_and_gateway(context, interface, manifest)
    if manifest.ip:
        yield _internal_ip(context, interface, manifest.ip)


def subnet(bridge: Network) -> IPv4Interface | None:
    """Return the address of a bridge with its prefix, or None if it has no IPv4 address."""
    try:
        return IPv4Interface(bridge.config.get("ipv4.address", "none"))
    except ValueError:
        return None


def _bridge_address(manifest: Manifest, cidr: IPv4Network) -> str:
    """Return the ipv4.address that the manifest needs. Without internal_gw it is the first address of the subnet."""
    return f"{manifest.gateway or cidr[1]}/{cidr.prefixlen}"


def _subnet_and_gateway(context: CheckContext, interface: IPv4Interface, manifest: Manifest) -> Iterator[CheckResult]:
    cidr, gateway = manifest.cidr, manifest.gateway
    if cidr and not cidr.subnet_of(interface.network):
        yield context.fail(
            "internal_cidr",
            f"{cidr} is not inside {interface.network}",
            "other_subnet",
            address=_bridge_address(manifest, cidr),
            subnet=str(interface.network),
            gateway=str(interface.ip),
        )
    elif cidr:
        yield context.ok("internal_cidr", f"{cidr} is inside {interface.network}; internal_gw is {interface.ip}")
    if gateway and gateway != interface.ip:
        message = f"{gateway} is not the bridge's address {interface.ip}"
        yield context.fail("internal_gw", message, "other_gateway", gateway=str(interface.ip))


def _internal_ip(context: CheckContext, interface: IPv4Interface, ip: IPv4Address) -> CheckResult:
    addresses, bridge_network = used_addresses(context), interface.network
    if ip not in bridge_network:
        problem = f"is outside {bridge_network}"
    elif ip == interface.ip:
        problem = "is the address of the bridge"
    elif ip in (bridge_network.network_address, bridge_network.broadcast_address):
        problem = "is not a host address"
    elif ip in addresses:
        problem = f"is used by {addresses[ip]}"
    elif _assigns(context, ip):
        message = f"{ip} is free, but DHCP can assign it to another machine"
        return context.warn("internal_ip", message, "dhcp_ranges", range=_range_without(interface, ip))
    elif context.hides_addresses or context.restricted_projects is not None:
        message = f"{ip} is free in the projects {', '.join(context.projects)}; the server hides those of others"
        command = f"network list-leases {context.server.network_name} --project default"
        return context.skip("internal_ip", message, "hidden", command=command)
    else:
        return context.ok("internal_ip", f"{ip} is free")
    free = str(free_address(context) or "none is free")
    return context.fail("internal_ip", f"{ip} {problem}", "other_address", free=free)


def _assigns(context: CheckContext, ip: IPv4Address) -> bool:
    """Return whether DHCP can assign this address. Without ipv4.dhcp.ranges it assigns the whole subnet."""
    assert context.network
    config = context.network.config
    if config.get("ipv4.dhcp", "true") != "true":
        return False
    ranges = [part.strip().partition("-") for part in config.get("ipv4.dhcp.ranges", "").split(",") if part.strip()]
    return not ranges or any(IPv4Address(first) <= ip <= IPv4Address(last or first) for first, _, last in ranges)


def _range_without(interface: IPv4Interface, ip: IPv4Address) -> str:
    """Return a range of the subnet, as for ipv4.dhcp.ranges, that contains neither the bridge's address nor `ip`.

    In a subnet with 256 addresses it is 180-199, as in manifests/bosh-vars.yml.
    """
    start, size = interface.network.network_address, interface.network.num_addresses
    ranges = [(start + size * number // 256, start + size * (number + 20) // 256 - 1) for number in (180, 120, 60)]
    first, last = next(
        pair for pair in ranges if not any(pair[0] <= address <= pair[1] for address in (interface.ip, ip))
    )
    return f"{first}-{last}"


def used_addresses(context: CheckContext) -> dict[IPv4Address, str]:
    """Return the addresses that DHCP assigned or reserves in all visible projects, with the names of their hosts."""
    assert context.network
    client, leases = context.client(), []
    for project in context.projects:
        try:
            leases += client.leases(context.network.name, project=project)
        except errors.Forbidden:
            context.hides_addresses = True
        except errors.ServerError:  # a project with networks of its own
            continue
    return {
        IPv4Address(lease["address"]): lease["hostname"] or lease["hwaddr"]
        for lease in leases
        if ":" not in lease["address"]
    }


def free_address(context: CheckContext) -> IPv4Address | None:
    """Return the highest free address, because people assign low ones first, or None if the subnet is unknown."""
    interface = subnet(context.network) if context.network else None
    if interface is None:
        return None
    addresses, last = used_addresses(context), int(interface.network.broadcast_address)
    candidates = map(IPv4Address, range(last - 1, int(interface.network.network_address), -1))
    free = [ip for ip in itertools.islice(candidates, LONGEST_SEARCH) if ip != interface.ip and ip not in addresses]
    return next((ip for ip in free if not _assigns(context, ip)), next(iter(free), None))
