"""bin/doctor on real servers: it reports each problem, and the commands of its hint solve the problem."""

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
from tests.host import server
from tests.host.director import ROOT, UUID, environment, manual_network
from tests.host.kinds import IDENTITIES, LXD6
from tests.host.processes import enter_command
from tests.support import schema
from tests.support.certificates import create_certificate
from tests.support.clock import PastClock

STEPS = 11
"""Steps of --deep for each firmware."""


class Doctor:
    """Runs bin/doctor with the configuration of a director, as the job does."""

    def __init__(self, host: server.Facts, cpi, folder: Path) -> None:
        self.host, self.cpi, self.folder = host, cpi, folder

    def command(self, *arguments: str) -> list[str]:
        return self.cpi.program_command("doctor", *arguments)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.cpi.run_program("doctor", *arguments)

    def results(self, *arguments: str) -> list[dict[str, str]]:
        """Return the results of all checks. The exit status is 1 if a check fails."""
        process = self.run("--json", *arguments)
        results = json.loads(process.stdout)
        schema.check(results, "doctor")
        assert (process.returncode, process.stderr) == (int(any(result["status"] == "fail" for result in results)), "")
        for result in results:
            assert bool(result["hint"]) == (result["status"] != "ok"), result
        return results

    def problem(self, check: str, status: str, *arguments: str) -> dict[str, str]:
        """Return the only warning or failure."""
        problems = self.problems(*arguments)
        assert [(problem["check"], problem["status"]) for problem in problems] == [(check, status)], problems
        return problems[0]

    def problems(self, *arguments: str) -> list[dict[str, str]]:
        """Return the warnings and failures."""
        return [result for result in self.results(*arguments) if result["status"] in ("warn", "fail")]

    def skipped(self, *arguments: str) -> dict[str, dict[str, str]]:
        """Return the results of what cannot be checked, by check."""
        return {result["check"]: result for result in self.results(*arguments) if result["status"] == "skip"}

    def apply(self, hint: str, *, count: int = 1) -> None:
        """Run the commands in backquotes on the server, and set the properties in backquotes in the configuration."""
        for text in re.findall(r"`([^`]+)`", hint)[:count]:
            section, dot, name = text.partition(": ")[0].partition(".")
            if dot and section in ("server", "throttle_config") and ": " in text:
                value = text.partition(": ")[2]
                file = self.folder / value
                typed_value = {"true": True, "false": False}.get(value, str(file) if file.exists() else value)
                self.cpi.config.setdefault(section, {})[name] = typed_value
            else:
                prefix = enter_command(self.host.name) if shlex.split(text)[0] in ("incus", "lxc") else []
                subprocess.run(
                    [*prefix, "sh", "-ec", f"cd {self.folder}; {text}"],
                    check=True,
                    capture_output=True,
                    env=server.CLIENT_ENVIRONMENT,
                )

    def query(self, method: str, path: str, body=None, *, check: bool = True) -> None:
        data = ["-d", json.dumps(body)] if body else []
        server.client(self.host.name, "query", "--wait", "-X", method, *data, path, check=check)


@pytest.fixture(scope="module")
def dhcp_range(host):
    """Let DHCP assign a part of the subnet only, as `util init_lxd` does."""
    server.client(host.name, "network", "set", host.network, "ipv4.dhcp.ranges=10.245.0.180-10.245.0.199")
    yield
    server.client(host.name, "network", "unset", host.network, "ipv4.dhcp.ranges")


@pytest.fixture
def doctor(host, cpi, tmp_path, dhcp_range):
    return Doctor(host, cpi, tmp_path)


@pytest.fixture
def client(host):
    """The client of the server, for the removal of resources. Errors are ignored."""
    return lambda *words: server.client(host.name, *words, check=False)


def client_certificate(folder: Path, *, days: int = 90) -> dict[str, str]:
    """Create a client certificate in bosh.crt and return the properties with it."""
    certificate, key = folder / "bosh.crt", folder / "bosh.key"
    create_certificate(certificate, key, name="new", days=days)
    return {"tls_client_cert": certificate.read_text(), "tls_client_key": key.read_text()}


def digest(file: Path | str) -> str:
    """Return the SHA-256 fingerprint of a certificate."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(Path(file).read_text())).hexdigest()


@pytest.fixture
def untrusted_certificate(host, cpi, client, tmp_path):
    """The CPI uses a certificate that the server does not know."""
    cpi.config["server"] |= client_certificate(tmp_path)
    yield
    client("config", "trust", "remove", digest(tmp_path / "bosh.crt"))


def trust(doctor: Doctor, *restrictions: str) -> None:
    """Let the server trust the certificate in bosh.crt."""
    word = "add-certificate" if doctor.host.type == "incus" else "add"
    server.client(doctor.host.name, "config", "trust", word, str(doctor.folder / "bosh.crt"), *restrictions)


@pytest.mark.every_server
def test_passes_on_working_server(host, doctor):
    manifest_options = ("--cidr", host.cidr, "--gateway", host.gateway, "--ip", "10.245.0.6")
    results = doctor.results(*manifest_options)
    assert {result["status"] for result in results} == {"ok"}
    messages = {result["check"]: result["message"] for result in results}
    assert len(messages) == len(results)
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
    } <= messages.keys()
    if host.kind in LXD6:
        assert (messages["firmware jammy"], messages["firmware noble"]) == (
            "boot.mode=bios",
            "boot.mode=uefi-nosecureboot",
        )
    else:
        bios = "raw.qemu=-bios bios-256k.bin" if host.kind == "lxd" else "security.csm=true"
        assert messages["firmware jammy"] == f"{bios} security.secureboot=false"
        assert messages["firmware noble"] == "security.secureboot=false"
    assert host.version in messages["server"] and "QEMU" in messages["virtual machines"]

    text_output = doctor.run(*manifest_options)
    assert text_output.returncode == 0 and "\033" not in text_output.stdout
    assert [line.split(maxsplit=1)[0] for line in text_output.stdout.splitlines()[:-1]] == ["ok"] * len(results)
    assert text_output.stdout.splitlines()[-1] == f"{len(results)} ok, 0 warnings, 0 failed"


@pytest.mark.every_server
def test_untrusted_certificate(doctor, untrusted_certificate):
    doctor.apply(doctor.problem("trust", "fail")["hint"])
    assert doctor.problems() == []


def test_expired_certificate(doctor, client, tmp_path):
    doctor.cpi.config["server"] |= client_certificate(tmp_path, days=-1)
    problem = doctor.problem("client certificate", "fail")
    assert "expired on" in problem["message"]
    doctor.apply(problem["hint"], count=4)
    assert doctor.problems() == []
    client("config", "trust", "remove", digest(tmp_path / "bosh.crt"))


def test_certificate_restricted_to_another_project(doctor, untrusted_certificate):
    trust(doctor, "--restricted", "--projects", "default")
    problem = doctor.problem("trust", "fail")
    assert "restricted to projects: default; bosh is not" in problem["message"]
    doctor.apply(problem["hint"])
    message = next(result["message"] for result in doctor.results() if result["check"] == "trust")
    assert message.startswith("trusted, restricted to projects: ") and "bosh" in message
    if doctor.host.kind in IDENTITIES:
        assert "may not list or delete" in doctor.problem("trust", "warn")["message"]
    else:
        assert doctor.problems() == []


@pytest.mark.parametrize(
    ("setting", "check", "message", "undo"),
    [
        ("project_name", "project", "there is no project doctor", ("project", "delete", "doctor")),
        ("storage_pool_name", "pool", "there is no storage pool doctor", ("storage", "delete", "doctor")),
        ("network_name", "network", "there is no network doctor", ("network", "delete", "doctor")),
        (
            "profile_name",
            "profile",
            "there is no profile doctor in project bosh",
            ("profile", "delete", "doctor", "--project", "bosh"),
        ),
    ],
)
def test_missing_resource(doctor, client, setting, check, message, undo):
    doctor.cpi.config["server"][setting] = "doctor"
    problem = doctor.problem(check, "fail")
    assert problem["message"] == message
    try:
        doctor.apply(problem["hint"])
        assert doctor.problems() == []
    finally:
        client(*undo)


def test_project_without_images_feature(doctor, client):
    server.client(doctor.host.name, "project", "create", "doctor", "-c", "features.images=false")
    try:
        doctor.cpi.config["server"]["project_name"] = "doctor"
        problem = doctor.problem("project", "warn")
        assert "shares its images" in problem["message"]
        doctor.apply(problem["hint"])
        assert doctor.problems() == []
    finally:
        client("project", "delete", "doctor")


@pytest.mark.every_server
def test_compares_cpus_with_the_server(doctor):
    assert doctor.problems("--cpu", "1") == []
    assert "CPUs are more than the server's" in doctor.problem("cpu", "fail", "--cpu", "4096")["message"]


def test_restricted_and_full_project(doctor, client):
    server.client(
        doctor.host.name, "project", "create", "doctor", "-c", "restricted=true", "-c", "limits.virtual-machines=0"
    )
    try:
        doctor.cpi.config["server"]["project_name"] = "doctor"
        problems = doctor.problems()
        messages = " ".join(problem["message"] for problem in problems)
        assert "does not allow snapshots" in messages and "limits.virtual-machines is 0" in messages
        assert ("does not allow BIOS by raw.qemu" in messages) == (doctor.host.kind == "lxd")
        for problem in problems:
            doctor.apply(problem["hint"])
        assert doctor.problems() == []
    finally:
        client("project", "delete", "doctor")


def test_stopped_daemon(doctor):
    server.stop_daemon(doctor.host.name)
    try:
        start = time.monotonic()
        problem = doctor.problem("address", "fail")
        assert "Connection refused" in problem["message"] and "Check that the server runs" in problem["hint"]
        assert time.monotonic() - start < 10
    finally:
        server.start_daemon(doctor.host.name)
    assert doctor.problems() == []


@pytest.mark.every_server
def test_server_without_https_address(host, doctor, client):
    server.client(host.name, "config", "unset", "core.https_address")
    try:
        doctor.apply(doctor.problem("address", "fail")["hint"])
        assert doctor.problems() == []
    finally:
        client("config", "set", "core.https_address", host.url.removeprefix("https://"))


@pytest.mark.parametrize(
    ("settings", "status", "message", "count"),
    [
        ({"tls_server_cert": "00" * 32}, "fail", "is not the pinned one", 1),
        ({"tls_server_cert": ""}, "fail", "cannot be verified", 1),
        ({"tls_server_cert": "", "insecure_skip_verify": True}, "warn", "not verified", 2),
    ],
)
def test_invalid_server_certificate(host, doctor, settings, status, message, count):
    doctor.cpi.config["server"] |= settings
    problem = doctor.problem("server certificate", status)
    fingerprint = digest(host.server_cert)
    assert message in problem["message"] and fingerprint in problem["message"]
    doctor.apply(problem["hint"], count=count)
    assert doctor.cpi.config["server"]["tls_server_cert"] == fingerprint
    assert doctor.problems() == []


def test_pool_problems(doctor, client):
    name = doctor.host.name
    server.client(name, "storage", "create", "tiny", "btrfs", "size=300MiB", "volume.size=1GiB")
    server.client(name, "storage", "create", "plain", "dir")
    try:
        doctor.cpi.config["server"]["storage_pool_name"] = "tiny"
        full, roots = doctor.problems()
        assert full["status"] == "fail" and "GiB free" in full["message"]
        assert roots["status"] == "warn" and "1GiB, less than a stemcell's" in roots["message"]
        doctor.apply(roots["hint"])
        doctor.apply(full["hint"], count=2 if "storage create" in full["hint"] else 1)
        assert doctor.problems() == []

        doctor.cpi.config["server"]["storage_pool_name"] = "plain"
        doctor.apply(doctor.problem("pool", "warn")["hint"], count=2)
        assert doctor.cpi.config["server"]["storage_pool_name"] == "plain-btrfs"
        assert doctor.problems() == []
    finally:
        for pool in ("tiny", "tiny-large", "plain", "plain-btrfs"):
            client("storage", "delete", pool)


def test_server_without_vm_support(host, doctor):
    subprocess.run(enter_command(host.name, "rm", "/dev/kvm"), check=True)
    try:
        server.restart(host.name)
        problem = doctor.problem("virtual machines", "fail", "--deep")
        assert "KVM support is missing (no /dev/kvm)" in problem["message"] and "/dev/kvm" in problem["hint"]
        assert doctor.skipped("--deep").keys() == {"deep"}
    finally:
        subprocess.run(enter_command(host.name, "touch", "/dev/kvm"), check=True)
        server.restart(host.name)
    assert doctor.problems() == []


def test_network_does_not_match_manifest(doctor, client):
    server.client(
        doctor.host.name,
        "network",
        "create",
        "doctor",
        "ipv4.address=10.99.0.1/24",
        "ipv4.dhcp=false",
        "ipv6.address=none",
        "dns.mode=none",
    )
    try:
        doctor.cpi.config["server"] |= {"network_name": "doctor", "managed_network_assignment": "dhcp"}
        doctor.apply(doctor.problem("network", "fail")["hint"])
        assert doctor.problems() == []
        manifest_options = ("--cidr", "10.98.0.0/25", "--gateway", "10.98.0.1", "--ip", "10.98.0.6")
        problems = {problem["check"]: problem for problem in doctor.problems(*manifest_options)}
        assert problems.keys() == {"internal_cidr", "internal_gw", "internal_ip"}
        doctor.apply(problems["internal_cidr"]["hint"])
        doctor.apply(doctor.problem("internal_ip", "warn", *manifest_options)["hint"])
        assert doctor.problems(*manifest_options) == []
        client("network", "unset", "doctor", "dns.mode")
        doctor.apply(doctor.problem("network", "warn")["hint"])
        assert doctor.problems() == []
    finally:
        client("network", "delete", "doctor")


@pytest.mark.every_server
@pytest.mark.only("incus", "lxd")
def test_restricted_certificate_hides_the_network(doctor, untrusted_certificate):
    trust(doctor, "--restricted", "--projects", "bosh")
    skipped = doctor.skipped()
    if doctor.host.kind in IDENTITIES:
        assert skipped.keys() == {"pool settings"}
    else:
        assert skipped.keys() == {"network", "pool settings"}
        assert "hides its settings" in skipped["network"]["message"]
        assert "the manifest is not checked" in doctor.problem("network", "warn", "--ip", "10.245.0.6")["message"]


@pytest.mark.every_server
def test_unsuitable_profile(doctor, client):
    profile = ("--project", "bosh", "profile")
    server.client(doctor.host.name, *profile, "create", "doctor")
    try:
        server.client(doctor.host.name, *profile, "device", "add", "doctor", "disk0", "disk", "path=/", "pool=default")
        server.client(doctor.host.name, *profile, "device", "add", "doctor", "nic0", "nic", "network=boshbr0")
        server.client(doctor.host.name, *profile, "set", "doctor", "migration.stateful=true")
        server.client(doctor.host.name, *profile, "set", "doctor", "security.protection.delete=true")
        doctor.cpi.config["server"]["profile_name"] = "doctor"
        problems = doctor.problems()
        assert [(problem["check"], problem["status"]) for problem in problems] == [
            ("profile", "warn"),
            ("profile", "warn"),
            ("profile", "fail"),
            ("profile", "fail"),
        ]
        for problem in problems:
            doctor.apply(problem["hint"])
        assert doctor.problems() == []
    finally:
        client(*profile, "delete", "doctor")


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
        for ip, message in {
            "10.245.0.77": "is used by",
            "10.245.0.1": "is the address of the bridge",
            "10.245.0.255": "is not a host address",
            "10.9.9.9": "is outside 10.245.0.0/24",
        }.items():
            problem = doctor.problem("internal_ip", "fail", "--ip", ip)
            assert message in problem["message"]
            assert doctor.problems("--ip", problem["hint"].rpartition(" ")[2]) == []
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
        holders = json.loads(doctor.run("--locks", "--json").stdout)
        assert [holder["label"] for holder in holders] == ["create_vm cpi-77", "delete_vm cpi-78"]
        text_output = doctor.run("--locks")
        assert text_output.returncode == 0 and text_output.stdout.splitlines()[-1].startswith("2 of 3 slots held")
        assert any("2 of 3 throttle slots held" in result["message"] for result in doctor.results())


def test_lists_leftover_resources(host, doctor, tmp_path):
    # In the default directory, other test runs can have registered directors.
    doctor.cpi.config["throttle_config"] = {"path": str(tmp_path / "locks")}
    volumes = [f"vol-{kind}-{naming.new_id(PastClock(7200), UUID)}" for kind in "cp"]
    for volume in volumes:
        doctor.query(
            "POST",
            f"/1.0/storage-pools/{host.pool}/volumes/custom?project={host.project}",
            {"name": volume, "content_type": "block", "config": {"size": "8MiB"}},
        )
    unused, orphan = doctor.problems()
    assert unused["message"].startswith("1 of ") and orphan["message"].startswith("1 persistent disk")
    config = doctor.command()[-1]
    for hint in (
        unused["hint"].replace("bin/cleanup`", f"bin/cleanup --config {config}`"),
        orphan["hint"].replace("--delete-disk CID", f"--config {config} --delete-disk {volumes[1]}"),
    ):
        command = re.findall(r"`([^`]+)`", hint)[-1]
        subprocess.run(
            [*server.netns_command(host.name), *shlex.split(command)],
            cwd=ROOT,
            env=doctor.cpi.environment(),
            check=True,
            capture_output=True,
        )
    assert doctor.problems() == []


@pytest.mark.every_server
def test_smoke_test_leaves_nothing(doctor):
    deep = [result for result in doctor.results("--deep") if result["check"].startswith("deep")]
    assert [result["check"] for result in deep] == ["deep jammy"] * STEPS + ["deep noble"] * STEPS + ["deep"]
    assert {result["status"] for result in deep} == {"ok"}
    assert all(re.search(r": \d+\.\d s$", result["message"]) for result in deep[:-1])


def test_smoke_test_with_restricted_certificate(doctor, untrusted_certificate):
    trust(doctor, "--restricted", "--projects", doctor.host.project)
    deep = [result for result in doctor.results("--deep") if result["check"].startswith("deep")]
    failures = [result["message"] for result in deep if result["status"] != "ok"]
    if doctor.host.kind in IDENTITIES:
        assert len(failures) == 2 and all(message.startswith("create a snapshot failed") for message in failures), (
            failures
        )
    else:
        assert len(deep) == 2 * STEPS + 1 and not failures


def test_smoke_test_continues_with_other_firmware(doctor):
    doctor.cpi.config["server"]["instance_config"] = {"jammy": {"no.such.key": "1"}}
    problem = doctor.problem("deep jammy", "fail", "--deep")
    assert "create a VM" in problem["message"] and "no.such.key" in problem["message"]


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
    stdout = ""
    while stdout.count("  deep ") < steps or "leftovers" not in stdout:
        line = process.stdout.readline()
        assert line, stdout + process.stderr.read()
        stdout += line
    time.sleep(pause)
    process.send_signal(number)
    time.sleep(0.2)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=100)
    assert process.returncode == 130
    assert stderr == "doctor: stopped, cleaning up ...\n" or (stderr, steps) == ("", 0)  # no resource exists yet


def test_errors_that_prevent_checks(doctor):
    for arguments in (("--config", "/nowhere"), ("--no-such-option",), ("--cidr", "x")):
        result = doctor.run(*arguments)
        assert result.returncode == 2 and result.stdout == "" and result.stderr
