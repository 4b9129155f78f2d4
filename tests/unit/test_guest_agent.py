"""The guest: the rules of the BOSH agent in its agent, its commands, its image, and the parser of its reports."""

from __future__ import annotations

import hashlib
import json
import struct
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.host.guest import build, disk, report
from tests.host.guest.agent import config_drive, disks, networks, service, settings

MANUAL = {"type": "manual", "ip": "10.0.0.5", "netmask": "255.255.254.0", "gateway": "10.0.0.1", "prefix": "32"}
GOOD = {
    "agent_id": "a",
    "mbus": "nats://",
    "vm": {"name": "vm"},
    "networks": {"default": MANUAL},
    "disks": {"system": "/dev/sda", "ephemeral": {"path": "/dev/sdb"}, "persistent": {}},
}


def test_assigns_network_by_mac() -> None:
    network_settings = {"b": {**MANUAL, "mac": "m2", "default": ["gateway"]}, "a": {"type": "dynamic", "mac": "m1"}}
    steps, errors = networks.plan(network_settings, {"m1": "eth0", "m2": "eth1"})
    assert errors == []
    assert steps == [
        networks.Step("b", "eth1", "10.0.0.5/23", "10.0.0.1", True),
        networks.Step("a", "eth0", None, None, False),
    ]


def test_static_network_is_default_route_only_if_requested() -> None:
    steps, _ = networks.plan({"a": {**MANUAL, "mac": "m1", "default": ["dns"]}}, {"m1": "eth0"})
    assert not steps[0].default


def test_dhcp_sets_default_route_if_no_network_does() -> None:
    steps, _ = networks.plan({"a": {"type": "dynamic", "mac": "m1"}}, {"m1": "eth0"})
    assert steps[0].default


def test_single_network_without_mac_uses_only_interface() -> None:
    steps, errors = networks.plan({"a": MANUAL, "v": {"type": "vip"}}, {"m1": "eth0"})
    assert [(step.network, step.ifname) for step in steps] == [("a", "eth0")] and not errors


def test_requires_mac_if_there_are_two_interfaces() -> None:
    steps, errors = networks.plan({"a": MANUAL}, {"m1": "eth0", "m2": "eth1"})
    assert len(errors) == 1 and "'a'" in errors[0]
    assert [(step.network, step.address) for step in steps] == [("", None), ("", None)]


def test_unknown_mac_is_an_error_even_if_only_case_differs() -> None:
    _, errors = networks.plan({"a": {**MANUAL, "mac": "00:AA"}}, {"00:aa": "eth0"})
    assert len(errors) == 1 and "no interface has" in errors[0]


@pytest.mark.parametrize(
    ("kinds", "count"),
    [
        (("manual", "manual"), 1),
        (("manual", "dynamic"), 1),
        (("dynamic", "dynamic"), 0),
    ],
)
def test_interface_allows_one_static_or_many_dhcp_networks(kinds: tuple[str, str], count: int) -> None:
    network_settings = {name: {**MANUAL, "type": kind, "mac": "m1"} for name, kind in zip("ab", kinds, strict=False)}
    _, errors = networks.plan(network_settings, {"m1": "eth0"})
    assert len(errors) == count and all("eth0" in error for error in errors)


def test_alias_adds_address_to_static_interface() -> None:
    network_settings = {
        "a": {**MANUAL, "alias": "eth0:1", "default": ["gateway"]},
        "b": {**MANUAL, "ip": "10.0.0.6", "mac": "m1"},
    }
    steps, errors = networks.plan(network_settings, {"m1": "eth0"})
    assert errors == []
    assert [step[:3] for step in steps] == [("b", "eth0", "10.0.0.6/23"), ("a", "eth0", "10.0.0.5/23")]
    assert not steps[1].default


def test_alias_requires_static_address() -> None:
    network_settings = {"a": {**MANUAL, "alias": "eth0:1"}, "b": {"type": "dynamic", "mac": "m1"}}
    steps, errors = networks.plan(network_settings, {"m1": "eth0"})
    assert len(errors) == 1 and "'a'" in errors[0]
    assert [step.network for step in steps] == ["b"]


@pytest.mark.parametrize(
    ("network", "address"),
    [
        (MANUAL, "10.0.0.5/23"),
        ({"type": "manual", "ip": "fd00::5", "netmask": "ffff:ffff:ffff:ffff::"}, "fd00::5/64"),
        ({**MANUAL, "use_dhcp": True}, None),
        ({**MANUAL, "type": "dynamic"}, None),
        ({"type": "manual", "ip": "10.0.0.5", "prefix": "24"}, None),
    ],
)
def test_derives_prefix_length_from_netmask(network: dict[str, Any], address: str | None) -> None:
    assert networks.address(network) == address


def test_accepts_valid_settings() -> None:
    assert settings.errors(GOOD) == []


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"disks": {"system": {"path": "/dev/sda"}}}, "disks.system"),
        ({"disks": {"system": "/dev/sda", "ephemeral": 1}}, "disks.ephemeral"),
        ({"disks": {"system": "/dev/sda", "ephemeral": {"path": "/dev/sdb", "lun": 1}}}, "disks.ephemeral.lun"),
        ({"disks": {"system": "/dev/sda", "persistent": {"d": {"id": 7}}}}, "disks.persistent.d.id"),
        ({"networks": {"default": {**MANUAL, "prefix": 32}}}, "networks.default.prefix"),
        ({"vm": None}, "vm.name"),
        ({"agent_id": 5}, "agent_id"),
    ],
)
def test_rejects_types_the_agent_cannot_decode(change: dict[str, Any], name: str) -> None:
    errors = settings.errors({**GOOD, **change})
    assert len(errors) == 1 and errors[0].startswith(f"{name} is ")


def test_sd_path_also_means_xvd_and_vd() -> None:
    assert disks.candidates("/dev/sdb1", "") == ["/dev/xvdb1", "/dev/vdb1", "/dev/sdb1"]
    assert disks.candidates("/dev/disk/by-id/x", "") == ["/dev/disk/by-id/x"]


def test_rejects_hint_without_path() -> None:
    with pytest.raises(LookupError, match="has no path"):
        disks.resolve({"volume_id": "1"}, seconds=0)


def test_mark_replaces_previous_mark(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    file.write_bytes(b"\xff" * 2048)
    disks.mark(str(file), "a longer mark")
    disks.mark(str(file), "shört")
    assert disks.read(str(file)) == "shört"
    assert file.read_bytes()[512:] == b"\xff" * 1536


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no user-data"),
        ({"user-data": b"{"}, "is not JSON"),
        ({"user-data": b"[]"}, "is not a JSON object"),
    ],
)
def test_describes_invalid_document(files: dict[str, bytes], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_drive.document(files, "user-data")


def test_contents_use_relative_names(tmp_path: Path) -> None:
    (tmp_path / "ec2/latest").mkdir(parents=True)
    (tmp_path / "ec2/latest/user-data").write_bytes(b"{}")
    assert config_drive.contents(str(tmp_path)) == {"ec2/latest/user-data": b"{}"}


@pytest.mark.parametrize(
    ("request_text", "status", "result"),
    [
        ("GET /report HTTP/1.1\r\nHost: x\r\n\r\n", "200", {"boot": 1}),
        ("", "200", {"boot": 1}),
        ("GET /echo?text=a%20b HTTP/1.1\r\n", "200", "a b"),
        ("GET /nothing HTTP/1.1\r\n", "404", None),
        ("GET /echo?wrong=1 HTTP/1.1\r\n", "400", None),
    ],
)
def test_runs_command_of_request(monkeypatch: pytest.MonkeyPatch, request_text: str, status: str, result: Any) -> None:
    monkeypatch.setattr(disks, "settle", lambda: None)
    line, body = service.response(request_text, {"report": lambda: {"boot": 1}, "echo": lambda text: text})
    assert line.startswith(status)
    assert body == result if status == "200" else "error" in body


def test_detects_power_key_press() -> None:
    def event(kind: int, code: int, value: int) -> bytes:
        return struct.pack("llHHi", 0, 0, kind, code, value)

    assert service.power_pressed(event(0, 0, 0) + event(1, 116, 1))
    assert not service.power_pressed(event(1, 116, 0) + event(1, 30, 1))


def test_uses_last_complete_report_on_console() -> None:
    def console_report(number: int) -> str:
        return "\r\n".join(["GUEST-REPORT-BEGIN", json.dumps({"boot_id": number}), "GUEST-REPORT-END", ""])

    console = (
        "\x1b[2JSeaBIOS\r\n" + console_report(1) + "noise\r\n" + console_report(2) + 'GUEST-REPORT-BEGIN\r\n{"boot'
    )
    assert report.from_console(console) == {"boot_id": 2}
    with pytest.raises(LookupError, match="SeaBIOS"):
        report.from_console("SeaBIOS")


def test_packs_stemcell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cached").write_bytes(b"the image")
    monkeypatch.setattr(build, "image", lambda: tmp_path / "cached")
    name = "bosh-openstack-kvm-ubuntu-jammy-go_agent"
    destination = build.build(tmp_path / "destination", name=name, version="1.2")
    assert sorted(path.name for path in destination.iterdir()) == ["image", "stemcell.MF", "stemcell.tgz"]
    with tarfile.open(destination / "stemcell.tgz") as archive:
        assert archive.getnames() == ["stemcell.MF", "image"]
        manifest = yaml.safe_load(archive.extractfile("stemcell.MF"))
        assert manifest["sha1"] == hashlib.sha1(archive.extractfile("image").read()).hexdigest()
    assert (manifest["name"], manifest["version"], manifest["operating_system"]) == (name, "1.2", "ubuntu-jammy")
    assert manifest["stemcell_formats"] == ["openstack-qcow2"] and manifest["api_version"] == 3
    assert manifest["cloud_properties"]["name"] == name and manifest["cloud_properties"]["disk_format"] == "qcow2"


def test_boot_record() -> None:
    sector = disk.boot_record(b"\x90" * 500)
    assert len(sector) == 512 and sector.endswith(b"\x55\xaa")
    active, kind, start, count = struct.unpack_from("<B3xB3xII", sector, 446)
    assert (active, kind, start, count * 512) == (0x80, 0xEF, 2048, 64 << 20)
    assert not any(sector[462:510])
