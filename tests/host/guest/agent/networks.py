"""Configure the network as the settings say, by the BOSH agent's rules (bosh-agent, platform/net)."""

from __future__ import annotations

import ipaddress
import os
import pathlib
import subprocess
from typing import Any, NamedTuple


class Step(NamedTuple):
    """What to do with one interface for one BOSH network ("" when no network names it)."""

    network: str
    ifname: str
    address: str | None  # with prefix length; None for DHCP
    gateway: str | None  # for the default route of a static address
    default: bool  # whether the default route goes this way


def interfaces() -> dict[str, str]:
    """Interface names by MAC address, of real interfaces only."""
    found = {}
    for ifname in sorted(os.listdir("/sys/class/net")):
        if pathlib.Path(f"/sys/class/net/{ifname}/device").exists():
            with pathlib.Path(f"/sys/class/net/{ifname}/address").open(encoding="utf-8") as file:
                found[file.read().strip()] = ifname
    return found


def plan(networks: dict[str, dict[str, Any]], by_mac: dict[str, str]) -> tuple[list[Step], list[str]]:
    """The steps for these networks on the interfaces `by_mac`, and what the agent would not survive.

    An alias like "eth0:1" is one more address on an interface that has a static one. An interface that no network
    names gets an address by DHCP.
    """
    wanted = {name: network for name, network in networks.items() if network.get("type") != "vip"}
    if len(wanted) == len(by_mac) == 1 and not any(network.get("mac") for network in wanted.values()):
        wanted = {name: {**network, "mac": mac} for (name, network), mac in zip(wanted.items(), by_mac, strict=False)}
    someone_is_default = any("gateway" in (network.get("default") or []) for network in wanted.values())
    steps, faults, aliases = [], [], {}
    for name, network in wanted.items():
        mac = network.get("mac")
        if mac in by_mac:
            ip = address(network)
            default = "gateway" in (network.get("default") or []) or (ip is None and not someone_is_default)
            steps.append(Step(name, by_mac[mac], ip, network.get("gateway"), default))
        elif not mac and network.get("alias"):
            aliases[name] = network["alias"].partition(":")[0]
        elif mac:
            faults.append(f"no device found for network {name!r} with MAC address {mac!r}; there are {sorted(by_mac)}")
        else:
            faults.append(f"network {name!r} has no MAC address, so no interface is its own")
    named = [step.ifname for step in steps if step.address]
    faults += [
        f"several networks share {ifname}, of which the agent keeps one that is static"
        for ifname in set(named)
        if [step.ifname for step in steps].count(ifname) > 1
    ]
    for name, ifname in aliases.items():
        if ifname in named:
            steps.append(Step(name, ifname, address(wanted[name]), None, False))
        else:
            faults.append(f"network {name!r} is an alias on {ifname}, which has no static address of its own")
    rest = [ifname for ifname in by_mac.values() if ifname not in {step.ifname for step in steps}]
    return steps + [Step("", ifname, None, None, not someone_is_default) for ifname in rest], faults


def address(network: dict[str, Any]) -> str | None:
    """The static address with its prefix length (`prefix` is the reservation's, not the subnet's), None for DHCP."""
    ip, netmask = network.get("ip"), network.get("netmask")
    if network.get("type") == "dynamic" or network.get("use_dhcp") or not (ip and netmask):
        return None
    return f"{ip}/{bin(int(ipaddress.ip_address(netmask))).count('1')}"


def apply(step: Step) -> str | None:
    """Carry out one step; a sentence when it failed."""
    if step.address is None:
        # IPv6 comes by router advertisement: there is no DHCPv6 client here.
        commands = [
            ["ip", "link", "set", step.ifname, "up"],
            ["udhcpc", "-n", "-q", "-t", "3", "-T", "2", "-i", step.ifname, "-s", "/usr/lib/udhcpc.sh"],
        ]
    else:
        # The address goes first: the kernel announces by ARP what an interface has when it comes up.
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
