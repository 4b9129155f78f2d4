"""Configure networks by the rules of the BOSH agent (bosh-agent, platform/net)."""

from __future__ import annotations

import ipaddress
import os
import pathlib
import subprocess
from typing import Any, NamedTuple


class Step(NamedTuple):
    """The configuration of an interface for a BOSH network."""

    network: str  # empty if no network uses the interface
    ifname: str
    address: str | None  # with prefix length; None for DHCP
    gateway: str | None  # for the default route of a static address
    default: bool  # whether the default route uses this interface


def interfaces() -> dict[str, str]:
    """Return the names of physical interfaces by MAC address."""
    names = {}
    for ifname in sorted(os.listdir("/sys/class/net")):
        if pathlib.Path(f"/sys/class/net/{ifname}/device").exists():
            with pathlib.Path(f"/sys/class/net/{ifname}/address").open(encoding="utf-8") as file:
                names[file.read().strip()] = ifname
    return names


def plan(networks: dict[str, dict[str, Any]], by_mac: dict[str, str]) -> tuple[list[Step], list[str]]:
    """Return the steps for these networks on the interfaces `by_mac`, and the errors that would stop the agent.

    An alias like "eth0:1" is another address on an interface with a static address. An interface without network gets
    an address by DHCP.
    """
    nic_networks = {name: network for name, network in networks.items() if network.get("type") != "vip"}
    if len(nic_networks) == len(by_mac) == 1 and not any(network.get("mac") for network in nic_networks.values()):
        nic_networks = {
            name: {**network, "mac": mac} for (name, network), mac in zip(nic_networks.items(), by_mac, strict=False)
        }
    has_default = any("gateway" in (network.get("default") or []) for network in nic_networks.values())
    steps, errors, aliases = [], [], {}
    for name, network in nic_networks.items():
        mac = network.get("mac")
        if mac in by_mac:
            ip = address(network)
            default = "gateway" in (network.get("default") or []) or (ip is None and not has_default)
            steps.append(Step(name, by_mac[mac], ip, network.get("gateway"), default))
        elif not mac and network.get("alias"):
            aliases[name] = network["alias"].partition(":")[0]
        elif mac:
            errors.append(f"network {name!r}: no interface has the MAC address {mac!r}, only {sorted(by_mac)}")
        else:
            errors.append(f"network {name!r} has no MAC address and no alias")
    static_ifnames = [step.ifname for step in steps if step.address]
    errors += [
        f"several networks use {ifname}; the agent configures only one of them"
        for ifname in set(static_ifnames)
        if [step.ifname for step in steps].count(ifname) > 1
    ]
    for name, ifname in aliases.items():
        if ifname in static_ifnames:
            steps.append(Step(name, ifname, address(nic_networks[name]), None, False))
        else:
            errors.append(f"network {name!r} is an alias on {ifname}, which has no static address")
    unused_ifnames = [ifname for ifname in by_mac.values() if ifname not in {step.ifname for step in steps}]
    return steps + [Step("", ifname, None, None, not has_default) for ifname in unused_ifnames], errors


def address(network: dict[str, Any]) -> str | None:
    """Return the static address with the prefix length of the netmask, or None for DHCP. `prefix` is ignored."""
    ip, netmask = network.get("ip"), network.get("netmask")
    if network.get("type") == "dynamic" or network.get("use_dhcp") or not (ip and netmask):
        return None
    return f"{ip}/{bin(int(ipaddress.ip_address(netmask))).count('1')}"


def apply(step: Step) -> str | None:
    """Apply a step. Return the error or None."""
    if step.address is None:
        # There is no DHCPv6 client. IPv6 addresses come from router advertisements.
        commands = [
            ["ip", "link", "set", step.ifname, "up"],
            ["udhcpc", "-n", "-q", "-t", "3", "-T", "2", "-i", step.ifname, "-s", "/usr/lib/udhcpc.sh"],
        ]
    else:
        # The address comes first, because the kernel announces it by ARP when the interface comes up.
        commands = [["ip", "addr", "add", step.address, "dev", step.ifname], ["ip", "link", "set", step.ifname, "up"]]
        if step.default and step.gateway:
            family = "-6" if ":" in step.gateway else "-4"
            commands.append(["ip", family, "route", "replace", "default", "via", step.gateway, "dev", step.ifname])
    environment = {**os.environ, "DEFAULT_ROUTE": "yes" if step.default else ""}
    for command in commands:
        result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if result.returncode:
            return f"network {step.network!r}: {' '.join(command)}: {result.stderr.strip() or result.stdout.strip()}"
    return None
