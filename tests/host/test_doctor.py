"""bin/doctor on real servers: each resource broken, told with its hint, and well again after the hint as printed."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import signal
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from bosh_lxd_cpi.model import naming
from bosh_lxd_cpi.runtime import throttle
from bosh_lxd_cpi.runtime.clock import Clock
from tests.host import server
from tests.host.director import MBUS_PASSWORD, ROOT, UUID, environment, manual_network
from tests.host.processes import inside

STEPS = 11
"""Steps of --deep for each firmware."""


class Doctor:
    """Runs the program as the job does: beside the director, with its configuration."""

    def __init__(self, host: server.Facts, cpi, folder: Path) -> None:
        self.host, self.cpi, self.folder = host, cpi, folder

    def command(self, *arguments: str) -> list[str]:
        *prefix, _, option, file = self.cpi.command()
        return [*prefix, str(ROOT / "bin/doctor"), option, file, *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            self.command(*arguments),
            env=self.cpi.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert MBUS_PASSWORD not in result.stdout + result.stderr and "PRIVATE KEY" not in result.stdout + result.stderr
        return result

    def examine(self, *arguments: str) -> list[dict[str, str]]:
        """The findings, whose worst must agree with the exit status."""
        result = self.run("--json", *arguments)
        findings = json.loads(result.stdout)
        assert (result.returncode, result.stderr) == (int(any(one["status"] == "fail" for one in findings)), "")
        for one in findings:
            assert bool(one["hint"]) == (one["status"] != "ok"), one
        return findings

    def complaint(self, check: str, status: str, *arguments: str) -> dict[str, str]:
        """The one resource that is not well."""
        complaints = self.complaints(*arguments)
        assert [(one["check"], one["status"]) for one in complaints] == [(check, status)], complaints
        return complaints[0]

    def complaints(self, *arguments: str) -> list[dict[str, str]]:
        return [one for one in self.examine(*arguments) if one["status"] != "ok"]

    def apply(self, hint: str, *, count: int = 1) -> None:
        """Do what stands in backquotes, as it stands there: commands on the server, properties in the configuration."""
        for text in re.findall(r"`([^`]+)`", hint)[:count]:
            section, dot, name = text.partition(": ")[0].partition(".")
            if dot and section in ("server", "throttle_config") and ": " in text:
                value = text.partition(": ")[2]
                file = self.folder / value
                typed = {"true": True, "false": False}.get(value, str(file) if file.exists() else value)
                self.cpi.config.setdefault(section, {})[name] = typed
            else:
                where = inside(self.host.name) if shlex.split(text)[0] in ("incus", "lxc") else []
                subprocess.run(
                    [*where, "sh", "-ec", f"cd {self.folder}; {text}"],
                    check=True,
                    capture_output=True,
                    env=server.CLIENT_ENVIRONMENT,
                )

    def query(self, method: str, path: str, body=None, *, check: bool = True) -> None:
        data = ["-d", json.dumps(body)] if body else []
        server.client(self.host.name, "query", "--wait", "-X", method, *data, path, check=check)


@pytest.fixture
def doctor(host, cpi, tmp_path):
    return Doctor(host, cpi, tmp_path)


@pytest.fixture
def client(host):
    """The server's own client; what goes wrong there is ignored, since it only tidies up."""
    return lambda *words: server.client(host.name, *words, check=False)


def certificate(folder: Path, *, days: int = 90) -> dict[str, str]:
    """Properties with a new client certificate, which is also in bosh.crt."""
    key, request, signed = (folder / f"bosh.{kind}" for kind in ("key", "csr", "crt"))
    subprocess.run(
        [
            "openssl",
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:secp384r1",
            "-nodes",
            "-subj",
            "/CN=new",
            "-keyout",
            key,
            "-out",
            request,
        ],
        check=True,
        capture_output=True,
    )
    subprocess.run(
        ["openssl", "x509", "-req", "-days", str(days), "-signkey", key, "-in", request, "-out", signed],
        check=True,
        capture_output=True,
    )
    return {"tls_client_cert": signed.read_text(), "tls_client_key": key.read_text()}


def digest(file: Path | str) -> str:
    """The sha256 of a certificate."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(Path(file).read_text())).hexdigest()


@pytest.fixture
def untrusted_certificate(host, cpi, client, tmp_path):
    """The CPI uses a certificate that the server does not know."""
    cpi.config["server"] |= certificate(tmp_path)
    yield
    client("config", "trust", "remove", digest(tmp_path / "bosh.crt"))


def trust(doctor: Doctor, *restrictions: str) -> None:
    word = "add-certificate" if doctor.host.type == "incus" else "add"
    server.client(doctor.host.name, "config", "trust", word, str(doctor.folder / "bosh.crt"), *restrictions)


@pytest.mark.every_server
def test_passes_on_working_server(host, doctor):
    plan = ("--cidr", host.cidr, "--gateway", host.gateway, "--ip", "10.245.0.6")
    findings = doctor.examine(*plan)
    assert {one["status"] for one in findings} == {"ok"}
    looked_at = [one["check"] for one in findings]
    assert len(set(looked_at)) == len(looked_at)
    assert {
        "configuration",
        "lock directory",
        "address",
        "server certificate",
        "client certificate",
        "clock",
        "trust",
        "server",
        "virtual machines",
        "pool",
        "project",
        "profile",
        "network",
        "internal_cidr",
        "internal_ip",
        "leftovers",
    } <= set(looked_at)
    told = {one["check"]: one["message"] for one in findings}
    bios = "raw.qemu=-bios bios-256k.bin" if host.kind == "lxd" else "security.csm=true"
    assert told["firmware jammy"] == f"{bios} security.secureboot=false"
    assert told["firmware noble"] == "security.secureboot=false"
    assert host.version in told["server"] and "QEMU" in told["virtual machines"]

    printed = doctor.run(*plan)
    assert printed.returncode == 0 and "\033" not in printed.stdout
    assert [line.split(maxsplit=1)[0] for line in printed.stdout.splitlines()[:-1]] == ["ok"] * len(findings)
    assert printed.stdout.splitlines()[-1] == f"{len(findings)} ok, 0 warnings, 0 failed"


@pytest.mark.every_server
def test_untrusted_certificate(doctor, untrusted_certificate):
    doctor.apply(doctor.complaint("trust", "fail")["hint"])
    assert doctor.complaints() == []


def test_expired_certificate(doctor, client, tmp_path):
    doctor.cpi.config["server"] |= certificate(tmp_path, days=-1)
    complaint = doctor.complaint("client certificate", "fail")
    assert "expired on" in complaint["message"]
    doctor.apply(complaint["hint"], count=4)
    assert doctor.complaints() == []
    client("config", "trust", "remove", digest(tmp_path / "bosh.crt"))


def test_certificate_restricted_to_another_project(doctor, untrusted_certificate):
    trust(doctor, "--restricted", "--projects", "default")
    complaint = doctor.complaint("trust", "fail")
    assert "restricted to projects: default; bosh is not" in complaint["message"]
    doctor.apply(complaint["hint"])
    trusted = {one["check"]: one["message"] for one in doctor.examine()}["trust"]
    assert trusted.startswith("trusted, restricted to projects: ") and "bosh" in trusted
    assert doctor.complaints() == []


@pytest.mark.parametrize(
    ("setting", "check", "says", "undo"),
    [
        ("project_name", "project", "there is no project doctored", ("project", "delete", "doctored")),
        ("storage_pool_name", "pool", "there is no storage pool doctored", ("storage", "delete", "doctored")),
        ("network_name", "network", "there is no network doctored", ("network", "delete", "doctored")),
        (
            "profile_name",
            "profile",
            "there is no profile doctored in project bosh",
            ("profile", "delete", "doctored", "--project", "bosh"),
        ),
    ],
)
def test_missing_resource(doctor, client, setting, check, says, undo):
    doctor.cpi.config["server"][setting] = "doctored"
    complaint = doctor.complaint(check, "fail")
    assert complaint["message"] == says
    try:
        doctor.apply(complaint["hint"])
        assert doctor.complaints() == []
    finally:
        client(*undo)


def test_project_without_images_feature(doctor, client):
    server.client(doctor.host.name, "project", "create", "doctored", "-c", "features.images=false")
    try:
        doctor.cpi.config["server"]["project_name"] = "doctored"
        complaint = doctor.complaint("project", "warn")
        assert "shares its images" in complaint["message"]
        doctor.apply(complaint["hint"])
        assert doctor.complaints() == []
    finally:
        client("project", "delete", "doctored")


def test_restricted_and_full_project(doctor, client):
    server.client(
        doctor.host.name, "project", "create", "doctored", "-c", "restricted=true", "-c", "limits.virtual-machines=0"
    )
    try:
        doctor.cpi.config["server"]["project_name"] = "doctored"
        complaints = doctor.complaints()
        found = " ".join(one["message"] for one in complaints)
        assert "does not allow snapshots" in found and "limits.virtual-machines is 0" in found
        assert ("does not allow BIOS by raw.qemu" in found) == (doctor.host.kind == "lxd")
        for complaint in complaints:
            doctor.apply(complaint["hint"])
        assert doctor.complaints() == []
    finally:
        client("project", "delete", "doctored")


def test_stopped_daemon(doctor):
    server.stop_daemon(doctor.host.name)
    try:
        began = time.monotonic()
        complaint = doctor.complaint("address", "fail")
        assert "Connection refused" in complaint["message"] and "Check that the server runs" in complaint["hint"]
        assert time.monotonic() - began < 10
    finally:
        server.start_daemon(doctor.host.name)
    assert doctor.complaints() == []


@pytest.mark.every_server
def test_server_without_https_address(host, doctor, client):
    server.client(host.name, "config", "unset", "core.https_address")
    try:
        doctor.apply(doctor.complaint("address", "fail")["hint"])
        assert doctor.complaints() == []
    finally:
        client("config", "set", "core.https_address", host.url.removeprefix("https://"))


@pytest.mark.parametrize(
    ("settings", "status", "says", "count"),
    [
        ({"tls_server_cert": "00" * 32}, "fail", "is not the pinned one", 1),
        ({"tls_server_cert": ""}, "fail", "cannot be verified", 1),
        ({"tls_server_cert": "", "insecure_skip_verify": True}, "warn", "not verified", 2),
    ],
)
def test_invalid_server_certificate(host, doctor, settings, status, says, count):
    doctor.cpi.config["server"] |= settings
    complaint = doctor.complaint("server certificate", status)
    real = digest(host.server_cert)
    assert says in complaint["message"] and real in complaint["message"]
    doctor.apply(complaint["hint"], count=count)
    assert doctor.cpi.config["server"]["tls_server_cert"] == real
    assert doctor.complaints() == []


def test_pool_problems(doctor, client):
    name = doctor.host.name
    server.client(name, "storage", "create", "tiny", "btrfs", "size=300MiB", "volume.size=1GiB")
    server.client(name, "storage", "create", "plain", "dir")
    try:
        doctor.cpi.config["server"]["storage_pool_name"] = "tiny"
        full, roots = doctor.complaints()
        assert full["status"] == "fail" and "GiB free" in full["message"]
        assert roots["status"] == "warn" and "1GiB, less than a stemcell's" in roots["message"]
        doctor.apply(roots["hint"])
        doctor.apply(full["hint"], count=2 if "storage create" in full["hint"] else 1)
        assert doctor.complaints() == []

        doctor.cpi.config["server"]["storage_pool_name"] = "plain"
        doctor.apply(doctor.complaint("pool", "warn")["hint"], count=2)
        assert doctor.cpi.config["server"]["storage_pool_name"] == "plain-btrfs"
        assert doctor.complaints() == []
    finally:
        for pool in ("tiny", "tiny-large", "plain", "plain-btrfs"):
            client("storage", "delete", pool)


def test_server_without_vm_support(host, doctor):
    subprocess.run(inside(host.name, "rm", "/dev/kvm"), check=True)
    try:
        server.restart(host.name)
        complaints = doctor.complaints("--deep")
        assert [(one["check"], one["status"]) for one in complaints] == [("virtual machines", "fail"), ("deep", "warn")]
        assert (
            "KVM support is missing (no /dev/kvm)" in complaints[0]["message"] and "/dev/kvm" in complaints[0]["hint"]
        )
    finally:
        subprocess.run(inside(host.name, "touch", "/dev/kvm"), check=True)
        server.restart(host.name)
    assert doctor.complaints() == []


def test_network_does_not_match_manifest(doctor, client):
    server.client(
        doctor.host.name,
        "network",
        "create",
        "doctored",
        "ipv4.address=10.99.0.1/24",
        "ipv4.dhcp=false",
        "ipv6.address=none",
    )
    try:
        doctor.cpi.config["server"] |= {"network_name": "doctored", "managed_network_assignment": "dhcp"}
        doctor.apply(doctor.complaint("network", "fail")["hint"])
        assert doctor.complaints() == []
        plan = ("--cidr", "10.98.0.0/25", "--gateway", "10.98.0.1", "--ip", "10.98.0.6")
        complaints = {one["check"]: one for one in doctor.complaints(*plan)}
        assert complaints.keys() == {"internal_cidr", "internal_gw", "internal_ip"}
        doctor.apply(complaints["internal_cidr"]["hint"])
        assert doctor.complaints(*plan) == []
    finally:
        client("network", "delete", "doctored")


def test_unavailable_address(doctor, cpi, stemcell_cids):
    vm, _ = cpi.call(
        "create_vm",
        "a",
        stemcell_cids["jammy"],
        {"cpu": 1, "ram": 128, "ephemeral_disk": 16},
        {"n": manual_network("10.245.0.77")},
        [],
        environment(),
    )
    try:
        for ip, says in {
            "10.245.0.77": "is used by",
            "10.245.0.1": "is the address of the bridge",
            "10.245.0.255": "is not a host address",
            "10.9.9.9": "is outside 10.245.0.0/24",
        }.items():
            complaint = doctor.complaint("internal_ip", "fail", "--ip", ip)
            assert says in complaint["message"]
            assert doctor.complaints("--ip", complaint["hint"].rpartition(" ")[2]) == []
    finally:
        cpi.call("delete_vm", vm)


def test_lists_lock_holders(doctor, tmp_path):
    doctor.cpi.config["throttle_config"] = {"enabled": True, "path": str(tmp_path / "slots"), "limit": 3}
    assert json.loads(doctor.run("--locks", "--json").stdout) == []
    settings = throttle.Settings(True, str(tmp_path / "slots"), 3, 0.0, 1.0)
    with (
        throttle.slot(settings, label="create_vm cpi-77", log=print),
        throttle.slot(settings, label="delete_vm cpi-78", log=print),
    ):
        held = json.loads(doctor.run("--locks", "--json").stdout)
        assert [one["label"] for one in held] == ["create_vm cpi-77", "delete_vm cpi-78"]
        printed = doctor.run("--locks")
        assert printed.returncode == 0 and printed.stdout.splitlines()[-1].startswith("2 of 3 slots held")
        assert any("2 of 3 throttle slots held" in one["message"] for one in doctor.examine())


def test_lists_leftover_resources(host, doctor, client):
    class Ago(Clock):
        def time(self) -> float:
            return time.time() - 7200

    volumes = [f"vol-{kind}-{naming.new_id(Ago(), UUID)}" for kind in "cp"]
    for volume in volumes:
        doctor.query(
            "POST",
            f"/1.0/storage-pools/{host.pool}/volumes/custom?project={host.project}",
            {"name": volume, "content_type": "block", "config": {"size": "8MiB"}},
        )
    unused, orphan = doctor.complaints()
    assert unused["message"].startswith("1 of ") and orphan["message"].startswith("1 persistent disk")
    config = doctor.command()[-1]
    for hint in (
        unused["hint"].replace("bin/cleanup`", f"bin/cleanup --config {config}`"),
        orphan["hint"].replace("--delete-disk CID", f"--config {config} --delete-disk {volumes[1]}"),
    ):
        command = re.findall(r"`([^`]+)`", hint)[-1]
        subprocess.run(
            [*server.netns_command(host.name), *shlex.split(command)], cwd=ROOT, check=True, capture_output=True
        )
    assert doctor.complaints() == []


@pytest.mark.every_server
def test_smoke_test_leaves_nothing(doctor):
    deep = [one for one in doctor.examine("--deep") if one["check"].startswith("deep")]
    assert [one["check"] for one in deep] == ["deep jammy"] * STEPS + ["deep noble"] * STEPS + ["deep"]
    assert {one["status"] for one in deep} == {"ok"}
    assert all(re.search(r": \d+\.\d s$", one["message"]) for one in deep[:-1])


def test_smoke_test_with_restricted_certificate(doctor, untrusted_certificate):
    trust(doctor, "--restricted", "--projects", doctor.host.project)
    deep = [one for one in doctor.examine("--deep") if one["check"].startswith("deep")]
    assert len(deep) == 2 * STEPS + 1 and {one["status"] for one in deep} == {"ok"}


def test_smoke_test_continues_with_other_firmware(doctor):
    doctor.cpi.config["server"]["instance_config"] = {"jammy": {"no.such.key": "1"}}
    complaint = doctor.complaint("deep jammy", "fail", "--deep")
    assert "create a VM" in complaint["message"] and "no.such.key" in complaint["message"]


@pytest.mark.parametrize(
    ("steps", "pause", "number"),
    [
        (0, 0.05, signal.SIGINT),
        (1, 0.0, signal.SIGTERM),
        (1, 0.3, signal.SIGINT),
        (1, 1.5, signal.SIGTERM),
        (5, 0.0, signal.SIGHUP),
        (6, 0.0, signal.SIGINT),
        (7, 1.0, signal.SIGTERM),
        (STEPS + 3, 0.0, signal.SIGINT),
    ],
)
def test_interrupted_smoke_test_leaves_nothing(doctor, steps, pause, number):
    process = subprocess.Popen(
        doctor.command("--deep"),
        env=doctor.cpi.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    seen = ""
    while seen.count("  deep ") < steps or "leftovers" not in seen:
        line = process.stdout.readline()
        assert line, seen + process.stderr.read()
        seen += line
    time.sleep(pause)
    process.send_signal(number)
    time.sleep(0.2)
    process.send_signal(number)
    _, told = process.communicate(timeout=100)
    assert process.returncode == 130
    assert told == "doctor: stopped, cleaning up ...\n" or (told, steps) == ("", 0)  # before anything was begun


def test_errors_that_prevent_checks(doctor):
    for arguments in (("--config", "/nowhere"), ("--no-such-option",), ("--cidr", "x")):
        result = doctor.run(*arguments)
        assert result.returncode == 2 and result.stdout == "" and result.stderr
