"""Configure the network as the settings say, by the BOSH agent's rules (bosh-agent, platform/net)."""

from __future__ import annotations

import ipaddress
import os
import subprocess
from typing import Any, NamedTuple


class Step(NamedTuple):
    """What to do for one BOSH network: no address means DHCP; the gateway is None unless it is the default one."""

    name: str
    ifname: str
    address: str | None
    gateway: str | None


def interfaces() -> dict[str, str]:
    """Interface names by MAC address, of real interfaces only."""
    found = {}
    for ifname in sorted(os.listdir("/sys/class/net")):
        if os.path.exists(f"/sys/class/net/{ifname}/device"):
            with open(f"/sys/class/net/{ifname}/address", encoding="utf-8") as file:
                found[file.read().strip()] = ifname
    return found


def plan(networks: dict[str, dict[str, Any]], by_mac: dict[str, str]) -> tuple[list[Step], list[str]]:
    """The steps for all networks that have an interface, and a complaint for every one that has none."""
    wanted = {name: network for name, network in networks.items() if network.get("type") != "vip"}
    steps, faults = [], []
    for name, network in wanted.items():
        mac = network.get("mac") or ""
        if mac in by_mac:
            ifname = by_mac[mac]
        elif not mac and len(wanted) == len(by_mac) == 1:
            ifname = next(iter(by_mac.values()))
        else:
            faults.append(f"no device found for network {name!r} with MAC {mac!r}; there are {sorted(by_mac)}")
            continue
        is_default = len(wanted) == 1 or "gateway" in (network.get("default") or [])
        steps.append(Step(name, ifname, address(network), network.get("gateway") if is_default else None))
    return steps, faults


def address(network: dict[str, Any]) -> str | None:
    """The static address with its prefix length (`prefix` is the reservation's, not the subnet's), None for DHCP."""
    if network.get("type") == "dynamic" or network.get("use_dhcp") or not (network.get("ip") and network.get("netmask")):
        return None
    ip = ipaddress.ip_address(network["ip"])
    if ip.version == 4:
        return ipaddress.ip_interface(f"{ip}/{network['netmask']}").with_prefixlen
    return f"{ip}/{bin(int(ipaddress.ip_address(network['netmask']))).count('1')}"


def apply(step: Step) -> str | None:
    """Carry out one step; a sentence when it failed."""
    if step.address is None:
        commands = [["ip", "link", "set", step.ifname, "up"],
                    ["udhcpc", "-n", "-q", "-t", "5", "-T", "2", "-i", step.ifname, "-s", "/usr/lib/udhcpc.sh"]]
    else:
        # The address goes first: the kernel announces by ARP what an interface has when it comes up.
        commands = [["ip", "addr", "add", step.address, "dev", step.ifname],
                    ["ip", "link", "set", step.ifname, "up"]]
        if step.gateway:
            commands.append(["ip", "route", "replace", "default", "via", step.gateway, "dev", step.ifname])
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return f"network {step.name!r}: {' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}"
    return None
