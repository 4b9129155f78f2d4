#!/usr/bin/env python3
"""Upload a stemcell to a real server, create a VM from it, show what the VM reports, and delete everything again.

By default the demo starts its own test host, which requires root on x86-64 Linux, and deletes it at the end. To use an
existing server, set its URL and a client certificate:

  SERVER_URL=https://server:8443 SERVER_CLIENT_CERT=client.crt SERVER_CLIENT_KEY=client.key bin/demo

LXD_URL, LXD_CLIENT_CERT and LXD_CLIENT_KEY work as well. Optional variables: SERVER_CERT (certificate or fingerprint of
the server; without it the server is not verified), SERVER_PROJECT_NAME, SERVER_PROFILE_NAME, SERVER_NETWORK_NAME,
SERVER_STORAGE_POOL_NAME, SERVER_IP (address of the VM; default: the second-highest address of the network). A
restricted certificate cannot read networks. Then set SERVER_NETWORK_NAME, and SERVER_SUBNET to the gateway with its
prefix length, such as 10.245.0.1/24.

With --replay, or if this machine cannot run a test host, the CPI runs against a recording.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.host import server
from tests.host.director import MBUS, CallError, Director, configuration, environment, manual_network
from tests.host.guest import build, report
from tests.host.machine import HostError, unsupported_reason

if TYPE_CHECKING:
    from bosh_lxd_cpi.lxd.client import Client

BOOT_SECONDS = 300


class Target(NamedTuple):
    """The server of the demo: properties of the job, prefix of commands in its network, and network of the VM."""

    config: dict[str, Any]
    prefix: Sequence[str]
    ip: str
    netmask: str
    gateway: str
    console: Callable[[str], str] = lambda vm: ""
    """Returns the output of the serial console of a VM. The demo reads it if it cannot connect to the VM."""
    guest: Any = None
    """The guest of a recording (`demo_server.Guest`)."""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="bin/demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--server", choices=("incus", "lxd", "incus7"), default="incus", help="kind of the test host")
    parser.add_argument("--replay", action="store_true", help="use a recording instead of a server")
    parser.add_argument("--keep-host", action="store_true", help="keep the test host running after the demo")
    options = parser.parse_args(argv)
    variables = {
        name: os.environ.get(f"SERVER_{name}") or os.environ.get(f"LXD_{name}")
        for name in ("URL", "CLIENT_CERT", "CLIENT_KEY")
    }
    try:
        with tempfile.TemporaryDirectory() as scratch:
            if options.replay:
                return show_recording(Path(scratch))
            if variables["URL"]:
                return show(own_server(variables), Path(scratch))
            if reason := unsupported_reason():
                print(
                    f"This machine cannot run a test host: {reason}. The demo uses a recording instead.\n"
                    "To use a real server, run the demo as root on x86-64 Linux, or set SERVER_URL, SERVER_CLIENT_CERT"
                    " and SERVER_CLIENT_KEY (bin/demo --help).\n",
                    flush=True,
                )
                return show_recording(Path(scratch))
            with test_host(options.server, keep=options.keep_host) as target:
                return show(target, Path(scratch))
    except (HostError, CallError, report.Unreachable) as failure:
        print(f"\nfailed: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


@contextmanager
def test_host(kind: str, *, keep: bool) -> Iterator[Target]:
    """A context manager: a test host for the demo."""
    print(f"Starting a real {kind} server in its own namespaces ...", flush=True)
    start = time.monotonic()
    name = f"demo-{kind}"
    with nullcontext(server.up(kind, name=name)) if keep else server.temporary_host(kind, name=name) as facts:
        print(f"  {facts.type} {facts.version}, in {time.monotonic() - start:.1f} s")
        yield Target(
            configuration(facts), server.netns_command(facts.name), "10.245.0.200", "255.255.255.0", facts.gateway
        )


def own_server(variables: dict[str, str | None]) -> Target:
    """Return the server that the environment variables describe. Raises HostError."""
    if not variables["URL"].startswith("unix:") and not (variables["CLIENT_CERT"] and variables["CLIENT_KEY"]):
        raise HostError("SERVER_URL is set, but not SERVER_CLIENT_CERT and SERVER_CLIENT_KEY")
    certificate = os.environ.get("SERVER_CERT", "")
    names = {
        f"{name}_name": os.environ[f"SERVER_{name.upper()}_NAME"]
        for name in ("project", "profile", "network", "storage_pool")
        if os.environ.get(f"SERVER_{name.upper()}_NAME")
    }
    settings = {
        "url": variables["URL"],
        "tls_client_cert": str(Path(variables["CLIENT_CERT"] or "").resolve()),
        "tls_client_key": str(Path(variables["CLIENT_KEY"] or "").resolve()),
        "tls_server_cert": certificate,
        "insecure_skip_verify": not certificate,
        **names,
    }
    for name in ("CLIENT_CERT", "CLIENT_KEY"):
        if variables[name] and not Path(variables[name]).is_file():
            raise HostError(f"SERVER_{name} is {variables[name]}, which is not a file")
    client = _client(settings)
    network, gateway = _network(client, settings.get("network_name"), os.environ.get("SERVER_SUBNET", ""))
    try:
        subnet = ipaddress.ip_interface(gateway)
    except ValueError as failure:
        raise HostError(f"SERVER_SUBNET must be an address with its prefix length: {failure}") from failure
    ip = os.environ.get("SERVER_IP") or str(subnet.network[-3])
    config = {"server": {**settings, "network_name": network}, "agent": {"mbus": MBUS}}
    return Target(config, [], ip, str(subnet.netmask), str(subnet.ip), console=lambda vm: _console(client, vm))


def show_recording(scratch: Path) -> int:
    """Run the demo against a recording that is served over mTLS. Raises HostError."""
    from tests.replay import demo_server, fixtures

    session = demo_server.Session(fixtures.load("demo", "session"))
    recorded = session.fixture["recorded"]
    print(
        "REPLAY. There is no server and no VM: bin/cpi connects over TLS to a recording of"
        f" {recorded['server']['kind']} {recorded['server']['version']}, made {recorded['at'][:10]}.\nEvery request"
        " must equal the recorded one. The stemcell is empty, and the report of the guest is the recorded one.",
        flush=True,
    )
    network = session.fixture["calls"][1]["stdin"]["arguments"][3]["default"]
    try:
        with demo_server.serving(session, scratch) as settings:
            config = {
                "server": {**session.fixture["calls"][0]["config"]["server"], **settings._asdict()},
                "agent": {"mbus": MBUS, "ntp": [network["gateway"]]},
            }
            status = show(
                Target(
                    config,
                    [],
                    network["ip"],
                    network["netmask"],
                    network["gateway"],
                    guest=demo_server.Guest(session),
                ),
                scratch,
            )
    except RuntimeError as failure:
        raise HostError(str(failure)) from failure
    remaining = len(session.interactions) - session.played
    note = f"; {remaining} more were not requested" if remaining else ""
    print(f"\nThe demo replayed {session.played} recorded exchanges{note}.")
    return status or int(bool(remaining))


def _client(settings: dict[str, Any]) -> Client:
    """Return a client for the server. Raises HostError."""
    from bosh_lxd_cpi import hints
    from bosh_lxd_cpi.actions.connection import open_transport
    from bosh_lxd_cpi.config.schema import Config, Server
    from bosh_lxd_cpi.errors import CpiError
    from bosh_lxd_cpi.lxd.client import Client
    from bosh_lxd_cpi.runtime.clock import Clock, Deadline
    from bosh_lxd_cpi.runtime.log import Log

    log = Log("demo")
    try:
        transport = open_transport(Config(server=Server(**settings)), log=log)
    except CpiError as failure:
        raise HostError(hints.message(failure)) from failure
    return Client(
        transport,
        project=settings.get("project_name", "default"),
        deadline=Deadline(Clock(), 2 * BOOT_SECONDS),
        log=log,
    )


def _console(client: Client, vm: str) -> str:
    path = f"/1.0/instances/{vm}/console"
    return client.transport.request("GET", path, query={"project": client.project}).body.decode(errors="replace")


def _network(client: Client, name: str | None, subnet: str) -> tuple[str, str]:
    """Return the name of a network and its gateway with prefix length. Raises HostError.

    The network is the one with this name, or else the first managed network with IPv4. With `name` and `subnet`, no
    request is sent.
    """
    from bosh_lxd_cpi import hints
    from bosh_lxd_cpi.errors import CpiError

    if name and subnet:
        return name, subnet
    try:
        for network in client.networks():
            has_subnet = network.managed and network.config.get("ipv4.address", "none") != "none"
            if has_subnet and name in (None, network.name):
                return network.name, network.config["ipv4.address"]
    except CpiError as failure:
        raise HostError(hints.message(failure)) from failure
    raise HostError(
        f"the certificate can read no managed network{f' {name}' if name else ''} with IPv4: set SERVER_NETWORK_NAME,"
        " and SERVER_SUBNET to its gateway with the prefix length, such as 10.245.0.1/24"
    )


class Steps:
    """Prints one line per step with its duration and number of requests, and progress during long steps."""

    def __init__(self, director: Director) -> None:
        self.director, self.number = director, 0

    def call(self, text: str, method: str, *arguments: Any) -> Any:
        """Make a CPI call after `info`, as a director does, and return the result."""
        self._begin(f"{method}: {text}")
        self.director.call("info")
        start = time.monotonic()
        process = self.director.start(method, *arguments)
        while process.poll() is None and time.monotonic() - start < 2:
            time.sleep(0.02)
        if process.poll() is None:
            print(" ...", end="", flush=True)
        result = self.director.finish(process, method, start)
        requests = self.director.last.requests
        self._end(start, f"{requests} request{'s' if requests != 1 else ''}")
        return result

    def wait(self, text: str, function: Callable[[Callable[[str], None]], Any]) -> Any:
        self._begin(text)
        start = time.monotonic()
        result = function(lambda _: print(".", end="", flush=True))
        self._end(start, "")
        return result

    def _begin(self, text: str) -> None:
        self.number += 1
        print(f"{self.number}. {text}", end="", flush=True)

    def _end(self, start: float, details: str) -> None:
        print(f"  [{', '.join(filter(None, [f'{time.monotonic() - start:.1f} s', details]))}]", flush=True)


def show(target: Target, scratch: Path) -> int:
    """Run the demo. Return 0 if the report of the guest matches its settings."""
    guest = target.guest or Guest(target)
    image, properties = guest.stemcell(scratch)
    director = Director(target.config, scratch, prefix=target.prefix)
    steps = Steps(director)
    network = manual_network(target.ip, gateway=target.gateway, netmask=target.netmask)
    stemcell = vm = disk = None
    try:
        stemcell = steps.call("upload the stemcell", "create_stemcell", image, properties)
        print(f"   -> {stemcell}")
        vm, _ = steps.call(
            f"1 CPU, 512 MiB, 256 MiB ephemeral disk, address {target.ip}",
            "create_vm",
            "demo-agent",
            stemcell,
            {"instance_type": "c1-m0.5", "ephemeral_disk": 256},
            {"default": network},
            [],
            environment(),
        )
        print(f"   -> {vm}")
        guest_report = steps.wait("the guest boots and reports", lambda progress: guest.first_report(vm, progress))
        disk = steps.call("64 MiB", "create_disk", 64, {}, vm)
        hint = steps.call("hot-plugged", "attach_disk", vm, disk)
        device = guest.find(hint["path"])
        print(f"   -> {hint['path']}, in the guest: {device}")
        steps.call("hot-unplugged", "detach_disk", vm, disk)
    finally:
        for text, method, cid in (
            ("with its content", "delete_disk", disk),
            ("with its volumes", "delete_vm", vm),
            ("with its image", "delete_stemcell", stemcell),
        ):
            if cid:
                steps.call(text, method, cid)
    return print_report(guest_report, vm=vm, ip=target.ip, device=device)


class Guest:
    """The guest of the demo: its stemcell and its reports."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def stemcell(self, scratch: Path) -> tuple[str, dict[str, Any]]:
        """Return the path of the image and its cloud_properties."""
        print("Building the guest, a small stemcell that reports its devices and settings (once) ...", flush=True)
        directory = build.build(scratch / "guest", name="bosh-openstack-kvm-ubuntu-jammy", version="demo")
        return str(directory / "image"), _properties(directory)

    def first_report(self, vm: str, progress: Callable[[str], None]) -> dict[str, Any]:
        """Return the report of the guest over TCP, or from its console if its address cannot be reached."""
        end = time.monotonic() + BOOT_SECONDS
        while True:
            try:
                return report.wait_for_report(
                    self.target.ip, netns_command=self.target.prefix, seconds=0, progress=progress
                )
            except report.Unreachable:
                with suppress(LookupError):
                    return report.from_console(self.target.console(vm))
                progress("")
                if time.monotonic() > end:
                    raise

    def find(self, path: str) -> str:
        """Return the device behind a path in the guest."""
        try:
            guest_report = report.fetch(self.target.ip, netns_command=self.target.prefix)
        except report.Unreachable:
            return "unknown: the address of the guest cannot be reached"
        return guest_report["by_id"].get(path.rsplit("/", 1)[1], "")


def _properties(directory: Path) -> dict[str, Any]:
    import yaml

    return yaml.safe_load((directory / "stemcell.MF").read_text(encoding="utf-8"))["cloud_properties"]


def print_report(guest_report: dict[str, Any], *, vm: str, ip: str, device: str | None) -> int:
    """Print the report of the guest and return 0 if it matches the settings."""
    addresses = [address for nic in guest_report["nics"] for address in nic["addresses"]]
    ephemeral = guest_report["disks"].get("ephemeral") or {}
    checks = [
        ("agent id", guest_report["agent_id"], guest_report["agent_id"] == "demo-agent"),
        ("VM", (guest_report["vm"] or {}).get("id"), (guest_report["vm"] or {}).get("id") == vm),
        ("firmware", guest_report["firmware"], guest_report["firmware"] == "bios"),
        ("config drive", f"{guest_report['config_drive']['label']} on {guest_report['config_drive']['device']}", True),
        ("address", ", ".join(addresses), any(address.startswith(f"{ip}/") for address in addresses)),
        (
            "ephemeral disk",
            f"{ephemeral['device']}, {ephemeral['size'] >> 20} MiB" if ephemeral else "missing",
            ephemeral.get("size") == 256 << 20,
        ),
        ("persistent disk", device, bool(device)),
        ("errors", "; ".join(guest_report["errors"]) or "none", not guest_report["errors"]),
    ]
    print("\nThe guest reported:")
    for name, value, passed in checks:
        print(f"  {'ok  ' if passed else 'FAIL'}  {name:16} {value}")
    success = all(passed for _, _, passed in checks)
    print(
        "\nThe report of the guest matches its settings."
        if success
        else "\nThe report of the guest does not match its settings."
    )
    return 0 if success else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
