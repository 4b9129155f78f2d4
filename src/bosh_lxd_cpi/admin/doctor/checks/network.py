"""The network for VMs whose BOSH network names no other, against what the director's manifest says of it."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin.doctor.context import CheckContext
from bosh_lxd_cpi.admin.doctor.result import CheckResult

LONGEST_SEARCH = 4096


class Wanted(NamedTuple):
    """internal_cidr, internal_gw and internal_ip of a manifest, as far as given."""

    cidr: ipaddress.IPv4Network | None = None
    gateway: ipaddress.IPv4Address | None = None
    ip: ipaddress.IPv4Address | None = None


def network(patient: CheckContext, wanted: Wanted) -> Iterator[CheckResult]:
    """Whether it is there, and agrees with what is wanted of it."""
    name, known = patient.server.network_name, _known(patient)
    names = ", ".join(sorted(other["name"] for other in known.values() if other.get("type") != "loopback"))
    if not name:
        yield patient.warn("network", "server.network_name is not set", "no_default_network", networks=names)
        return
    if known.get(name, {"type": "loopback"}).get("type") == "loopback":
        yield patient.fail("network", f"there is no network {name}", "create_network", networks=names or "none")
        return
    patient.network = found = known[name]
    if not found["managed"]:
        yield patient.ok("network", f"{name}, a {found['type']} that the server does not manage")
    elif found["status"] not in ("Created", ""):
        yield patient.fail("network", f"{name} is {found['status'].lower()}", "network_broken")
    elif not found["config"]:
        yield patient.ok("network", f"{name}, managed; its settings are not shown to a restricted certificate")
    else:
        yield from _settings(patient, found, wanted)


def _known(patient: CheckContext) -> dict[str, dict[str, Any]]:
    """The networks of the project, and of the default project, whose bridges the VMs of all can use."""
    listed, client = patient.client().networks().metadata, patient.client()
    if patient.server.network_name not in (network["name"] for network in listed) and client.project != "default":
        with contextlib.suppress(errors.Untrusted):
            listed = [*client.networks(project="default").metadata, *listed]
    return {network["name"]: network for network in listed}


def _settings(patient: CheckContext, found: dict[str, Any], wanted: Wanted) -> Iterator[CheckResult]:
    name, config, bridge = found["name"], found["config"], subnet(found)
    dhcp = config.get("ipv4.dhcp", "true") == "true"
    if bridge is None:
        if wanted.cidr:
            yield patient.warn(
                "network", f"{name} has no IPv4 subnet", "no_subnet", address=_address_of_gateway(wanted)
            )
        else:
            yield patient.ok("network", f"{name}, a managed {found['type']} without IPv4 subnet")
        return
    if not dhcp and patient.server.managed_network_assignment == "dhcp":
        yield patient.fail("network", f"{name} has no DHCP, but server.managed_network_assignment wants it", "no_dhcp")
    else:
        services = f"{'DHCP' if dhcp else 'no DHCP'}, {'NAT' if config.get('ipv4.nat') == 'true' else 'no NAT'}"
        yield patient.ok("network", f"{name}, a managed {found['type']}, {bridge}, {services}")
    yield from _plan(patient, bridge, wanted)
    if wanted.ip:
        yield _address(patient, bridge, wanted.ip)


def subnet(network: dict[str, Any]) -> ipaddress.IPv4Interface | None:
    """The bridge's own address with its prefix, if it has one."""
    try:
        return ipaddress.IPv4Interface(network["config"].get("ipv4.address", "none"))
    except ValueError:
        return None


def _address_of_gateway(wanted: Wanted) -> str:
    """What the bridge's ipv4.address would have to be; by custom the gateway is the first of its network."""
    assert wanted.cidr
    return f"{wanted.gateway or wanted.cidr[1]}/{wanted.cidr.prefixlen}"


def _plan(patient: CheckContext, bridge: ipaddress.IPv4Interface, wanted: Wanted) -> Iterator[CheckResult]:
    if wanted.cidr and not wanted.cidr.subnet_of(bridge.network):
        yield patient.fail(
            "internal_cidr",
            f"{wanted.cidr} is not inside {bridge.network}",
            "other_subnet",
            address=_address_of_gateway(wanted),
            subnet=str(bridge.network),
            gateway=str(bridge.ip),
        )
    elif wanted.cidr:
        yield patient.ok("internal_cidr", f"{wanted.cidr} is inside {bridge.network}; internal_gw is {bridge.ip}")
    if wanted.gateway and wanted.gateway != bridge.ip:
        yield patient.fail(
            "internal_gw",
            f"{wanted.gateway} is not the bridge's address {bridge.ip}",
            "other_gateway",
            gateway=str(bridge.ip),
        )


def _address(patient: CheckContext, bridge: ipaddress.IPv4Interface, ip: ipaddress.IPv4Address) -> CheckResult:
    taken, net = used(patient), bridge.network
    if ip not in net:
        why = f"is outside {net}"
    elif ip == bridge.ip:
        why = "is the bridge's own"
    elif ip in (net.network_address, net.broadcast_address):
        why = "is no host's address"
    elif ip in taken:
        why = f"is taken by {taken[ip]}"
    else:
        return patient.ok("internal_ip", f"{ip} is free")
    return patient.fail("internal_ip", f"{ip} {why}", "other_address", free=str(free(patient) or "none is left"))


def used(patient: CheckContext) -> dict[ipaddress.IPv4Address, str]:
    """Addresses that the network's DHCP has given out or keeps, and for whom, in all projects that we see."""
    assert patient.network
    client, leases = patient.client(), []
    for project in patient.projects:
        with contextlib.suppress(errors.ServerError):  # it is not to be seen from there
            leases += client.leases(patient.network["name"], project=project).metadata
    return {
        ipaddress.IPv4Address(lease["address"]): lease["hostname"] or lease["hwaddr"]
        for lease in leases
        if ":" not in lease["address"]
    }


def free(patient: CheckContext) -> ipaddress.IPv4Address | None:
    """A free address, as far from where people start to count as possible; None where the server does not say."""
    bridge = subnet(patient.network) if patient.network else None
    if bridge is None:
        return None
    taken, last = used(patient), int(bridge.network.broadcast_address)
    candidates = (ipaddress.IPv4Address(number) for number in range(last - 1, int(bridge.network.network_address), -1))
    untaken = (ip for ip in itertools.islice(candidates, LONGEST_SEARCH) if ip != bridge.ip and ip not in taken)
    return next(untaken, None)
