"""Networks, checked in the guests and in the leases of the server."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import ssl
import subprocess

import pytest

from tests.host import server
from tests.host.director import CallError, environment, manual_network
from tests.host.kinds import IDENTITIES
from tests.support.certificates import create_certificate

SMALL = {"instance_type": "c1-m0.375"}


def create(cpi, stemcell_cids, networks, properties=None):
    return cpi.call("create_vm", "a", stemcell_cids["jammy"], properties or SMALL, networks, [], environment())


def second_network(ip, **overrides):
    return manual_network(
        ip, gateway="10.246.0.1", **{"cloud_properties": {"name": "boshbr1"}, "default": [], **overrides}
    )


@pytest.mark.every_server
@pytest.mark.only("incus", "lxd")
def test_two_guests_on_two_networks(cpi, stemcell_cids, guests):
    vms = {}
    for number in (41, 42):
        networks = {"b-second": second_network(f"10.246.0.{number}"), "a-first": manual_network(f"10.245.0.{number}")}
        vms[number], result = create(cpi, stemcell_cids, networks)
        assert result == networks
    for number in vms:
        report = guests.wait(f"10.245.0.{number}")
        assert report["errors"] == []
        assert f"10.245.0.{number}/24" in report["networks"]["a-first"]["addresses"]
        assert f"10.246.0.{number}/24" in report["networks"]["b-second"]["addresses"]
        assert report["networks"]["a-first"]["gateway"] == "10.245.0.1"
        macs = [report["networks"][name]["mac"] for name in ("a-first", "b-second")]
        assert len(set(macs)) == 2
        assert guests.report(f"10.246.0.{number}")["boot_id"] == report["boot_id"], (
            "the guest is reachable on both networks"
        )
    for cid in vms.values():
        cpi.call("delete_vm", cid)


def leased_addresses(host, mac, network="boshbr0"):
    """Return the IPv4 addresses that the DHCP server of a network leases to a MAC address."""
    leases = json.loads(
        server.client(host.name, "query", f"/1.0/networks/{network}/leases?project={host.project}").stdout
    )
    return [lease["address"] for lease in leases if lease["hwaddr"] == mac and ":" not in lease["address"]]


@pytest.mark.every_server
@pytest.mark.only("incus", "lxd")
def test_dynamic_network_uses_dhcp(host, cpi, stemcell_cids, guests):
    network = {
        "type": "dynamic",
        "ip": "192.0.2.1",
        "netmask": "255.255.255.0",
        "cloud_properties": {},
        "default": ["gateway"],
    }
    cid, _ = create(cpi, stemcell_cids, {"net": network})
    eth0 = devices(host, cid)["eth0"]
    assert "ipv4.address" not in eth0
    report = wait_for_lease(host, guests, eth0["hwaddr"])
    cpi.call("delete_vm", cid)
    assert report["user_data"]["networks"]["net"]["type"] == "dynamic"
    assert report["errors"] == []


def wait_for_lease(host, guests, mac):
    """Return the report of a guest with a dynamic address."""
    from tests.host import machine

    assert machine.wait_until(lambda: leased_addresses(host, mac), seconds=120)
    return guests.wait(leased_addresses(host, mac)[0])


def test_managed_dhcp_is_used_for_the_default_gateway(host, cpi, stemcell_cids, guests):
    cpi.config["server"]["managed_network_assignment"] = "dhcp"
    networks = {"net": manual_network("10.245.0.44"), "other": second_network("10.246.0.44")}
    cid, result = create(cpi, stemcell_cids, networks)
    report = guests.wait("10.245.0.44")
    nics = devices(host, cid)
    cpi.call("delete_vm", cid)
    kinds = {"net": "dynamic", "other": "manual"}
    assert {name: result[name]["type"] for name in networks} == kinds
    assert {name: report["user_data"]["networks"][name]["type"] for name in networks} == kinds
    assert "10.245.0.44/24" in report["networks"]["net"]["addresses"]
    assert "10.246.0.44/24" in report["networks"]["other"]["addresses"]
    assert nics["eth1"]["ipv4.address"] == "10.246.0.44", "the server reserves the address of a manual network"
    assert report["errors"] == []


def devices(host, cid):
    return json.loads(server.client(host.name, "query", f"/1.0/instances/{cid}?project={host.project}").stdout)[
        "devices"
    ]


@pytest.mark.every_server
@pytest.mark.only("incus", "lxd")
@pytest.mark.parametrize("assignment", ["static", "dhcp"])
def test_nic_group_shares_nic_for_ipv4_and_ipv6(cpi, stemcell_cids, guests, assignment):
    cpi.config["server"]["managed_network_assignment"] = assignment
    ipv6 = {
        "type": "manual",
        "ip": "fd42:b05b::46",
        "netmask": "ffff:ffff:ffff:ffff::",
        "prefix": "128",
        "gateway": "fd42:b05b::1",
        "cloud_properties": {"name": "boshbr1"},
        "nic_group": "1",
        "default": [],
    }
    cid, _ = create(
        cpi, stemcell_cids, {"four": second_network("10.246.0.46", nic_group="1", default=["gateway"]), "ipv6": ipv6}
    )
    report = guests.wait("10.246.0.46")
    cpi.call("delete_vm", cid)
    assert len(report["nics"]) == 1 and report["user_data"]["networks"]["ipv6"]["alias"] == "eth0:1"
    assert report["user_data"]["networks"]["ipv6"]["prefix"] == "128"
    assert {"10.246.0.46/24", "fd42:b05b::46/64"} <= set(report["nics"][0]["addresses"])
    assert report["errors"] == []


@pytest.mark.every_server
@pytest.mark.only("incus", "lxd")  # Incus 7 has no such projects without OVN
def test_finds_bridge_in_default_project(host, cpi, stemcell_cids, guests, guest_stemcell):
    server.client(
        host.name,
        "project",
        "create",
        "hidden",
        "-c",
        "features.networks=true",
        "-c",
        "features.images=false",
        "-c",
        "features.profiles=false",
        "-c",
        "features.storage.volumes=true",
    )
    try:
        cpi.config["server"]["project_name"] = "hidden"
        stemcell = cpi.call(
            "create_stemcell",
            guest_stemcell["image"],
            {**guest_stemcell["properties"], "name": "bosh-openstack-kvm-ubuntu-jammy", "version": "hidden"},
        )
        cid, _ = cpi.call("create_vm", "a", stemcell, SMALL, {"net": manual_network("10.245.0.47")}, [], environment())
        device = json.loads(server.client(host.name, "query", f"/1.0/instances/{cid}?project=hidden").stdout)[
            "devices"
        ]["eth0"]
        report = guests.wait("10.245.0.47")
        cpi.call("delete_vm", cid)
        cpi.call("delete_stemcell", stemcell)
        assert (device["nictype"], device["parent"], device["ipv4.address"]) == ("bridged", "boshbr0", "10.245.0.47")
        assert report["errors"] == []
    finally:
        server.client(host.name, "project", "delete", "hidden")


@contextlib.contextmanager
def unmanaged_bridge(host):
    """Create the bridge plain0 (10.247.0.1/24), which the server does not manage."""
    prefix = server.netns_command(host.name)
    for command in (["add", "plain0", "type", "bridge"], ["set", "plain0", "up"]):
        subprocess.run([*prefix, "ip", "link", *command], check=True)
    subprocess.run([*prefix, "ip", "address", "add", "10.247.0.1/24", "dev", "plain0"], check=True)
    try:
        yield
    finally:
        subprocess.run([*prefix, "ip", "link", "delete", "plain0"], check=True)


@contextlib.contextmanager
def managed_bridge(host, name, *settings):
    """Create a network with the server's defaults, except for these settings. Yield its configuration."""
    server.client(host.name, "network", "create", name, *settings)
    try:
        yield json.loads(server.client(host.name, "query", f"/1.0/networks/{name}").stdout)["config"]
    finally:
        server.client(host.name, "network", "delete", name)


def test_unmanaged_bridge_needs_no_reservation(host, cpi, stemcell_cids, guests):
    with unmanaged_bridge(host):
        network = manual_network("10.247.0.48", gateway="10.247.0.1", cloud_properties={"name": "plain0", "mtu": 1400})
        cid, _ = create(cpi, stemcell_cids, {"net": network})
        report = guests.wait("10.247.0.48")
        cpi.call("delete_vm", cid)
        assert report["errors"] == []


@pytest.mark.every_server
@pytest.mark.only("incus", "lxd")
def test_filter_passes_the_address_of_the_vm(host, cpi, stemcell_cids, guests):
    """On bridges with DHCP, without it, and without the server's management; IPv6 without stateful DHCP."""
    without_dhcp = ("ipv4.address=10.248.0.1/24", "ipv4.dhcp=false", "ipv6.address=none")
    ipv6 = manual_network(
        "fd42:b05b::51",
        gateway="fd42:b05b::1",
        **{"netmask": "ffff:ffff:ffff:ffff::", "prefix": "128", "default": []},
        cloud_properties={"name": "boshbr1", "ipv6_filtering": True},
    )
    with unmanaged_bridge(host), managed_bridge(host, "nodhcp0", *without_dhcp):
        networks = {
            name: manual_network(
                f"{subnet}.51",
                gateway=f"{subnet}.1",
                default=["gateway"] if name == "boshbr0" else [],
                cloud_properties={"name": name, "ipv4_filtering": True, "mac_filtering": True},
            )
            for name, subnet in (("boshbr0", "10.245.0"), ("plain0", "10.247.0"), ("nodhcp0", "10.248.0"))
        }
        cid, _ = create(cpi, stemcell_cids, {**networks, "ipv6": ipv6})
        report = guests.wait("10.245.0.51")
        addresses = [*(network["ip"] for network in networks.values()), ipv6["ip"]]
        boots = [guests.report(address)["boot_id"] for address in addresses]
        cpi.call("delete_vm", cid)
    assert report["errors"] == []
    assert boots == [report["boot_id"]] * 4


@pytest.mark.every_server
@pytest.mark.only("incus", "lxd")
def test_two_networks_on_a_bridge_need_dns_mode_none(host, cpi, stemcell_cids, guests):
    """The test hosts set dns.mode, ipv4.nat and ipv6.address of their bridges. This one has the server's defaults."""
    with managed_bridge(host, "default0") as config:
        bridge = ipaddress.ip_interface(config["ipv4.address"])
        first, second = (
            manual_network(
                str(bridge.ip + number), gateway=str(bridge.ip), default=default, cloud_properties={"name": "default0"}
            )
            for number, default in ((9, ["gateway"]), (10, []))
        )
        cid, _ = create(cpi, stemcell_cids, {"a": first})
        assert guests.wait(first["ip"])["errors"] == []
        cpi.call("delete_vm", cid)
        with pytest.raises(CallError, match=r"network set default0 dns\.mode=none"):
            create(cpi, stemcell_cids, {"a": first, "b": second})
        server.client(host.name, "network", "set", "default0", "dns.mode=none")
        cid, _ = create(cpi, stemcell_cids, {"a": first, "b": second})
        report = guests.wait(first["ip"])
        cpi.call("delete_vm", cid)
    assert f"{second['ip']}/24" in report["networks"]["b"]["addresses"]
    assert report["errors"] == []


@pytest.mark.every_server
@pytest.mark.only("incus", "lxd")
def test_reserves_no_address_on_a_hidden_network(host, cpi, stemcell_cids, tmp_path):
    """Incus 6.0 and LXD 5.0 hide the settings of the network from a restricted certificate. LXD 6 shows them."""
    create_certificate(tmp_path / "crt", tmp_path / "key", name="restricted")
    add = "add-certificate" if host.type == "incus" else "add"
    options = "--name", "restricted", "--restricted", "--projects", host.project
    server.client(host.name, "config", "trust", add, str(tmp_path / "crt"), *options)
    certificate = {"tls_client_cert": str(tmp_path / "crt"), "tls_client_key": str(tmp_path / "key")}
    cpi.config["server"] |= {**certificate, "managed_network_assignment": "dhcp"}
    if host.kind not in IDENTITIES:
        hint = "managed_network_assignment: static"
        with pytest.raises(CallError, match=f"hides the settings of network boshbr0.*{hint}"):
            create(cpi, stemcell_cids, {"n": manual_network("10.245.0.49")})
        results = json.loads(cpi.run_program("doctor", "--json").stdout)
        [result] = [result for result in results if result["check"] == "network"]
        assert result["status"] == "fail" and hint in result["hint"]
        cpi.config["server"]["managed_network_assignment"] = "static"
    cid, _ = create(cpi, stemcell_cids, {"n": manual_network("10.245.0.49")})
    cpi.call("delete_vm", cid)
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert((tmp_path / "crt").read_text())).hexdigest()
    server.client(host.name, "config", "trust", "remove", digest)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"type": "vip", "ip": "192.0.2.9", "cloud_properties": {}}, "floating"),
        (manual_network("10.245.0.300"), "not an IP address"),
        (manual_network("10.245.0.49", cloud_properties={"nmae": "x"}), "did you mean name"),
        ({"type": "odd"}, "unknown type"),
    ],
    ids=["vip", "invalid address", "unknown property", "unknown type"],
)
def test_rejects_unsupported_network_before_any_change(cpi, stemcell_cids, network, message):
    with pytest.raises(CallError, match=message):
        create(cpi, stemcell_cids, {"net": network})
    assert cpi.last.requests == 0
