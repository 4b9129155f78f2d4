from __future__ import annotations

import json
import shutil
import signal
import ssl
import stat
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.release import bosh_release
from tests.release.util_runner import UtilRunner
from tests.support.certificates import create_certificate

UTIL = str(bosh_release.ROOT / "bin/util")


def options(command: list[str], name: str) -> list[str]:
    return [word.removeprefix(f"--{name}=") for word in command if word.startswith(f"--{name}=")]


def ops(command: list[str]) -> list[str]:
    return [Path(path).name for path in options(command, "ops-file")]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def table(**row: str) -> str:
    return json.dumps({"Tables": [{"Rows": [row]}]})


def test_has_the_subcommands_of_the_go_cpi(runner: UtilRunner) -> None:
    runner.util()
    names = """capture_requests cloud_config deploy_bosh deploy_cf deploy_concourse deploy_postgres destroy dev_release
               generate_certs help init_lxd runtime_config upload_releases upload_stemcells"""
    for name in names.split():
        assert f"  {name} " in runner.stdout


def test_help_shows_settings_and_configuration(runner: UtilRunner) -> None:
    runner.util("help", LXD_URL="https://lxd:8443")
    assert "= https://lxd:8443" in runner.stdout
    assert "lxd_network_name        boshdevbr0" in runner.stdout


@pytest.mark.parametrize(
    "arguments",
    [("deploy-bosh", "--help"), ("deploy_bosh", "-h"), ("help", "deploy_bosh"), ("--help", "deploy-bosh")],
    ids=" ".join,
)
def test_shows_usage_of_one_subcommand(arguments: tuple[str, ...], runner: UtilRunner) -> None:
    assert runner.util(*arguments) == []
    assert runner.stdout.startswith("usage: util [--dry-run] deploy_bosh [BOSH_ARGUMENT ...]\n\nDeploy a director")
    assert "Environment variables" not in runner.stdout


def test_util_sh_defines_a_function_and_runs_subcommands(runner: UtilRunner) -> None:
    runner.add_director()
    script = str(bosh_release.ROOT / "util.sh")
    for program in (("bash", "-c", f"source {script}; util cloud-config"), (script, "cloud_config")):
        calls = runner.util(program=program)
        assert calls[-1][:2] == ["bosh", "update-cloud-config"], runner.stderr


@pytest.mark.parametrize("arguments", [("--dry-run", "deploy-bosh"), ("deploy_bosh", "--dry-run")], ids=" ".join)
def test_dry_run_prints_commands_and_changes_nothing(arguments: tuple[str, ...], runner: UtilRunner) -> None:
    calls = runner.util(*arguments, SERVER_URL="https://lxd:8443", BOSH_JUMPBOX_ENABLE="1")
    assert calls == []
    assert "+ bosh create-release" in runner.stdout
    assert "+ bosh create-env" in runner.stdout
    assert list(runner.work.iterdir()) == []


def test_passes_dry_run_after_a_subcommand_to_bosh_deploy(runner: UtilRunner) -> None:
    runner.add_director()
    assert runner.util("deploy_postgres", "--dry-run")[-1][-1] == "--dry-run"
    calls = runner.util("--dry-run", "deploy_postgres", "--dry-run")
    assert not [call for call in calls if "deploy" in call]
    assert runner.stdout.splitlines()[-1].endswith(" --dry-run")


def test_ends_silently_when_the_reader_of_its_output_ends(runner: UtilRunner) -> None:
    process = subprocess.Popen([UTIL], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=runner.environ)
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.stderr.read() == b""
    process.wait()
    process.stderr.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cloud_config", "extra"), "too many arguments: extra; usage: util [--dry-run] cloud_config"),
        (("capture_requests", "absent"), "there is no file or directory absent"),
        (("deploy_boch",), "there is no subcommand deploy_boch; did you mean deploy_bosh?"),
        (("deploy_mainframe_xyz",), "there is no subcommand deploy_mainframe_xyz"),
        (("--verbose", "help"), "there is no option --verbose"),
        (("upload_releases", "old"), "upload_releases takes no argument but new: old"),
    ],
    ids=["extra argument", "absent log", "misspelt subcommand", "unknown subcommand", "unknown option", "bad argument"],
)
def test_reports_usage_errors_in_one_line(arguments: tuple[str, ...], message: str, runner: UtilRunner) -> None:
    runner.util(*arguments, status=1)
    assert runner.stderr.startswith(f"util: {message}") and runner.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"SERVER_TYPE": "Incus"}, "SERVER_TYPE is 'Incus': set it to lxd or incus"),
        ({"SERVER_LOCAL_RELEASE": "/absent"}, "there is no file /absent: set SERVER_LOCAL_RELEASE"),
        ({"SERVER_CLIENT_CERT": "absent.crt"}, "there is no file absent.crt: run util generate_certs"),
        ({"SERVER_CLIENT_KEY": "absent.key"}, "there is no file absent.key: run util generate_certs"),
        ({"SERVER_CERT": "absent.pem"}, "there is no file absent.pem: set SERVER_CERT"),
        ({"BOSH_DEPLOYMENT_DIR": "/absent"}, "there is no file /absent/bosh.yml: set BOSH_DEPLOYMENT_DIR"),
        ({"CPI_CONFIG_DIR": "/absent"}, "there is no file /absent/bosh-vars.yml: set CPI_CONFIG_DIR"),
        ({"SERVER_URL": ""}, "SERVER_URL must be set"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_reports_wrong_settings_before_it_deploys(environ: dict[str, str], message: str, runner: UtilRunner) -> None:
    runner.add_director()
    calls = runner.util("deploy_bosh", status=1, **environ)
    assert runner.stderr.startswith(f"util: {message}") and runner.stderr.count("\n") == 1
    assert not [call for call in calls if "create-env" in call]


def test_reports_missing_credentials(runner: UtilRunner) -> None:
    assert runner.util("cloud_config", status=1) == []
    assert runner.stderr.startswith("util: there is no file creds/bosh.yml: run util deploy_bosh")


@pytest.mark.parametrize(
    ("subcommand", "variable"), [("deploy_cf", "CF_DEPLOYMENT_DIR"), ("deploy_concourse", "CONCOURSE_DIR")]
)
def test_reports_unset_variables(subcommand: str, variable: str, runner: UtilRunner) -> None:
    assert runner.util(subcommand, status=1) == []
    assert runner.stderr.startswith(f"util: {variable} must be set")


def test_reports_failing_and_missing_commands(runner: UtilRunner) -> None:
    runner.add_director()
    runner.util("cloud_config", status=1, fail="update-cloud-config")
    assert runner.stderr.endswith("util: bosh failed with status 1\n")
    runner.util("cloud_config", status=1, program=("/usr/bin/python3", UTIL.replace("bin", "tools")), PATH="/nowhere")
    assert runner.stderr == "util: there is no program bosh in PATH\n"


def test_reports_interruption_without_traceback(runner: UtilRunner) -> None:
    runner.add_director()
    runner.util()
    (runner.folder / "stubs/bosh").write_text("#!/bin/sh\ntouch started\nexec sleep 30\n")
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job would pass on "ignored"
    try:
        process = subprocess.Popen(
            [UTIL, "cloud_config"], env=runner.environ, cwd=runner.work, stderr=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, handler)
    while not (runner.work / "started").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10)[1] == "\nutil: interrupted\n"
    assert process.returncode == 130


def test_deploys_a_director(runner: UtilRunner) -> None:
    runner.add_director()
    *_, create_env = runner.util("deploy_bosh", "-o", "more.yml", SERVER_LOCAL_RELEASE=__file__)
    assert create_env[:3] == ["bosh", "create-env", f"{runner.folder}/bd/bosh.yml"]
    assert create_env[-2:] == ["-o", "more.yml"]
    assert ops(create_env) == ["cpi.yml", "enable-lxd.yml", "bbr.yml", "uaa.yml", "credhub.yml"]
    assert options(create_env, "var") == ["lxd_url=https://lxd:8443", "lxd_insecure=false", f"cpi_path={__file__}"]
    files = ["lxd_client_cert=bosh-client.crt", "lxd_client_key=bosh-client.key"]
    assert options(create_env, "var-file") == files
    assert options(create_env, "state") == ["state.json"] and options(create_env, "vars-store") == ["creds/bosh.yml"]


def test_tells_what_to_do_after_a_deployment(runner: UtilRunner) -> None:
    runner.add_director()
    runner.util("deploy_bosh", SERVER_LOCAL_RELEASE=__file__)
    assert "The director is deployed at 10.245.0.11." in runner.stdout
    assert runner.stdout.splitlines()[-1] == "Next: util cloud_config, util runtime_config and util upload_stemcells."


def test_deletes_the_director_with_the_arguments_of_its_creation(runner: UtilRunner) -> None:
    runner.add_director()
    (runner.work / "state.json").write_text("{}")
    settings = {"SERVER_CERT": __file__, "SERVER_LOCAL_RELEASE": __file__}
    *_, create_env = runner.util("deploy_bosh", **settings)
    *_, delete_env = runner.util("delete_bosh", **settings)
    assert delete_env[1] == "delete-env" and delete_env[2:] == create_env[2:]


def test_deletes_no_director_without_its_state(runner: UtilRunner) -> None:
    runner.add_director()
    assert runner.util("delete_bosh", status=1) == []
    assert runner.stderr.startswith("util: there is no file state.json: change to the directory")


def test_passes_the_properties_of_the_director_to_the_doctor(runner: UtilRunner, tmp_path: Path) -> None:
    """The program that is called as the doctor prints its arguments, the properties and the mode of their file."""
    runner.add_director()
    runner.outputs["bosh interpolate"] = "properties: of the CPI\n"
    doctor = tmp_path / "bin/doctor"
    doctor.parent.mkdir()
    doctor.write_text('#!/bin/sh\necho "arguments $*"\ncat "${1#--config=}"\nstat -c "mode %a" "${1#--config=}"\n')
    doctor.chmod(0o755)
    configuration = str(bosh_release.ROOT / "manifests")
    [interpolate] = runner.util("doctor", "--deep", CPI_DIR=str(tmp_path), CPI_CONFIG_DIR=configuration)
    assert interpolate[:3] == ["bosh", "interpolate", f"{runner.folder}/bd/bosh.yml"]
    assert interpolate[-1] == "--path=/cloud_provider/properties"
    *_, arguments, properties, permissions = runner.stdout.splitlines()
    assert arguments.endswith(" --cidr=10.245.0.0/24 --gateway=10.245.0.1 --ip=10.245.0.11 --cpu=4 --deep")
    assert (properties, permissions) == ("properties: of the CPI", "mode 600")
    path = arguments.split("=")[1].split()[0]
    assert not Path(path).exists()


@pytest.mark.parametrize(
    ("vm_types", "options"),
    [
        ("- cloud_properties: {cpu: 8, ram: 1}\n- cloud_properties: {instance_type: c16-m8}  # cpu: 99\n", ["16"]),
        ("- cloud_properties:\n    cpu: 2\n# - cloud_properties: {cpu: 64}\n", ["2"]),
        ("- cloud_properties: {instance_type: t2.micro}\n", []),
        (None, []),
    ],
    ids=["largest", "comment", "no number", "no file"],
)
def test_doctor_compares_the_cpus_of_the_largest_vm_type(
    vm_types: str | None, options: list[str], runner: UtilRunner, tmp_path: Path
) -> None:
    runner.add_director()
    shutil.copy(bosh_release.ROOT / "manifests/bosh-vars.yml", tmp_path)
    if vm_types:
        (tmp_path / "cloud-config.yml").write_text(f"vm_types:\n{vm_types}")
    runner.util("--dry-run", "doctor", CPI_CONFIG_DIR=str(tmp_path))
    assert [word.removeprefix("--cpu=") for word in runner.stdout.split() if word.startswith("--cpu")] == options


def test_logs_in_with_the_key_of_the_jumpbox(runner: UtilRunner) -> None:
    runner.add_director()
    runner.util("ssh", status=1)
    assert runner.stderr.startswith("util: there is no file creds/jumpbox.pk: set BOSH_JUMPBOX_ENABLE=1")
    (runner.work / "creds/jumpbox.pk").write_text("KEY")
    runner.stubs += ("ssh",)
    [ssh] = runner.util("ssh", "uptime")
    assert ssh[:3] == ["ssh", "-i", "creds/jumpbox.pk"] and ssh[-2:] == ["jumpbox@10.245.0.11", "uptime"]


def test_builds_a_development_release(checkout: Path, runner: UtilRunner) -> None:
    *_, create_release = runner.util("dev_release", CPI_DIR=str(checkout))
    assert create_release[-1] == f"--tarball={runner.work}/bosh-lxd-cpi-release.tgz"


def test_adds_ops_files_for_settings(runner: UtilRunner) -> None:
    runner.add_director()
    runner.outputs["bosh interpolate creds/bosh.yml --path /jumpbox_ssh/private_key"] = "KEY\n"
    names = ("BOSH_JUMPBOX_ENABLE", "BOSH_SNAPSHOTS_ENABLE", "BOSH_RESIZE_DISK_ENABLE", "SERVER_ENABLE_AGENT")
    create_env, *_ = runner.util(
        "deploy_bosh",
        SERVER_TYPE="incus",
        SERVER_CERT=__file__,
        SERVER_LOCAL_RELEASE=__file__,
        **dict.fromkeys(names, "1"),
    )
    assert ops(create_env)[1] == "enable-incus.yml"
    assert ops(create_env)[5:] == [
        "jumpbox-user.yml",
        "enable-snapshots.yml",
        "enable-resize-disk.yml",
        "enable-incus-agent.yml",
        "pin-server-certificate.yml",
    ]
    ours = [path for path in options(create_env, "ops-file") if path.startswith(str(bosh_release.ROOT))]
    assert all(Path(path).is_file() for path in ours)
    assert (runner.work / "creds/jumpbox.pk").read_text() == "KEY\n"


def test_forgets_the_host_key_of_an_earlier_director(runner: UtilRunner) -> None:
    runner.add_director()
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS"
    known_hosts = runner.folder / ".ssh/known_hosts"
    known_hosts.parent.mkdir()
    known_hosts.write_text(f"10.245.0.11 {key}\n10.245.0.12 {key}\n")
    runner.util("deploy_bosh", SERVER_LOCAL_RELEASE=__file__, BOSH_JUMPBOX_ENABLE="1")
    assert known_hosts.read_text() == f"10.245.0.12 {key}\n"
    runner.util("deploy_bosh", SERVER_LOCAL_RELEASE=__file__, BOSH_JUMPBOX_ENABLE="1")


def test_accepts_variables_called_server(runner: UtilRunner) -> None:
    runner.add_director()
    configuration = runner.folder / "configuration"
    configuration.mkdir()
    content = (bosh_release.ROOT / "manifests/bosh-vars.yml").read_text("utf-8").replace("lxd_", "server_")
    (configuration / "bosh-vars.yml").write_text(content + "internal_dns:\n  - 192.168.1.1\n")
    *_, create_env = runner.util("deploy_bosh", CPI_CONFIG_DIR=str(configuration), SERVER_LOCAL_RELEASE=__file__)
    assert ops(create_env)[:2] == ["cpi.yml", "server-variables.yml"]
    assert "dns.yml" in ops(create_env)
    assert options(create_env, "var")[0] == "server_url=https://lxd:8443"
    assert options(create_env, "vars-file") == [str(configuration / "bosh-vars.yml")]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what a release consists of, with a bin/vendor that does nothing."""
    root = tmp_path / "checkout"
    for name in ("config", "jobs", "packages", "src", "manifests"):
        shutil.copytree(bosh_release.ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "bin").mkdir()
    (root / "bin/vendor").write_text("#!/bin/sh\n")
    (root / "bin/vendor").chmod(0o755)
    return root


@pytest.mark.parametrize(
    "change",
    ["src/bosh_lxd_cpi/errors.py", "jobs/lxd_cpi/spec", "config/blobs.yml", "blobs/new", "tarball", "permissions"],
)
def test_builds_the_release_only_when_its_content_changes(change: str, checkout: Path, runner: UtilRunner) -> None:
    def builds() -> int:
        calls = runner.util("deploy_bosh", CPI_DIR=str(checkout))
        assert options(calls[-1], "var")[-1] == f"cpi_path={runner.work}/cpi"
        return len([call for call in calls if "create-release" in call])

    runner.add_director()
    assert builds() == 1
    (checkout / "src/bosh_lxd_cpi/__pycache__").mkdir()
    (checkout / "src/bosh_lxd_cpi/__pycache__/errors.pyc").touch()
    assert builds() == 0
    assert "The content of the release has not changed" in runner.stdout
    if change == "permissions":
        (checkout / "jobs/lxd_cpi/spec").chmod(0o755)
    else:
        path = runner.work / "cpi" if change == "tarball" else checkout / change
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:
            file.write("\n")
    assert builds() == 1
    assert builds() == 0


def test_credentials_are_accessible_to_their_owner_only(runner: UtilRunner) -> None:
    runner.add_director()
    old = runner.work / "creds/postgres.yml"
    old.write_text("SECRET")
    old.chmod(0o644)
    runner.util("generate_certs")
    runner.util("deploy_bosh", SERVER_LOCAL_RELEASE=__file__, BOSH_JUMPBOX_ENABLE="1")
    runner.util("deploy_concourse")
    files = list((runner.work / "creds").iterdir())
    assert {"bosh-cert.yml", "bosh.yml", "concourse.yml", "jumpbox.pk", "postgres.yml"} <= {path.name for path in files}
    assert {path.name: mode(path) for path in files} == dict.fromkeys((path.name for path in files), 0o600)
    assert mode(runner.work / "creds") == 0o700


@pytest.mark.parametrize(
    ("subcommand", "manifest", "variables"),
    [
        ("deploy_postgres", f"{bosh_release.ROOT}/manifests/postgres.yml", "postgres-vars.yml"),
        ("deploy_concourse", "concourse/cluster/concourse.yml", "concourse-vars.yml"),
        ("deploy_cf", "cf/cf-deployment.yml", "cloudfoundry-vars.yml"),
    ],
    ids=["postgres", "concourse", "cf"],
)
def test_deploys(subcommand: str, manifest: str, variables: str, runner: UtilRunner) -> None:
    runner.add_director()
    *_, deploy = runner.util(subcommand)
    assert deploy[:3] == ["bosh", "deploy", str(runner.folder / manifest)]
    assert Path(options(deploy, "vars-file")[-1]).name == variables
    assert Path(options(deploy, "vars-file")[-1]).is_file()


def test_shows_no_credentials_on_the_command_line(runner: UtilRunner) -> None:
    runner.add_director()
    runner.outputs["bosh interpolate creds/bosh.yml --path /admin_password"] = "hunter2\n"
    calls = runner.util("cloud_config")
    assert "hunter2" not in runner.stdout + str(calls)


def test_uploads_runtime_configs(runner: UtilRunner) -> None:
    runner.add_director()
    calls = runner.util("runtime_config", SERVER_TYPE="incus", SERVER_ENABLE_AGENT="1")
    updates = [options(call, "name") for call in calls if "update-runtime-config" in call]
    assert updates == [["bosh-dns"], ["incus-agent"]]
    calls = runner.util("runtime_config", BOSH_DEPLOYMENT_DIR="")
    assert not [call for call in calls if "update-runtime-config" in call]
    assert "skipped bosh-dns" in runner.stderr


class BoshIo(BaseHTTPRequestHandler):
    """Redirect requests for stemcells and releases to a file, as bosh.io does. All other paths do not exist."""

    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(self.path)
        if self.path.startswith("/d/") and "absent" not in self.path:
            self.send_response(302)
            self.send_header("Location", f"/file{self.path}")
            self.end_headers()
        elif self.path.startswith("/file/"):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.path.encode())
        else:
            self.send_error(404)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def bosh_io(runner: UtilRunner) -> Iterator[list[str]]:
    """An HTTPS server to which the real curl connects instead of bosh.io. Return the paths of its requests."""
    certificate, key = runner.folder / "bosh.io.crt", runner.folder / "bosh.io.key"
    create_certificate(certificate, key, name="bosh.io", curve="prime256v1", hosts="DNS:bosh.io")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    BoshIo.requests = []
    with ThreadingHTTPServer(("127.0.0.1", 0), BoshIo) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        settings = (
            f"connect-to = bosh.io:443:127.0.0.1:{server.server_port}",
            f"cacert = {certificate}",
            "noproxy = *",
        )
        (runner.folder / ".curlrc").write_text("\n".join(settings) + "\n")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield BoshIo.requests
        server.shutdown()
        thread.join()


def test_downloads_and_uploads_a_stemcell_once(runner: UtilRunner, bosh_io: list[str]) -> None:
    runner.add_director()
    calls = runner.util("upload_stemcells", "jammy", "noble")
    paths = [path for path in bosh_io if path.startswith("/d/")]
    assert [path.rpartition("ubuntu-")[2] for path in paths] == ["jammy-go_agent", "noble"]
    assert (runner.work / "stemcell/ubuntu-noble").read_text() == f"/file{paths[1]}"
    assert not list(runner.work.rglob("*.part"))
    assert [call[1:] for call in calls if "upload-stemcell" in call] == [
        ["upload-stemcell", f"stemcell/ubuntu-{line}"] for line in ("jammy", "noble")
    ]
    bosh_io.clear()
    runner.outputs["bosh stemcells --json"] = table(os="ubuntu-noble")
    assert not [call for call in runner.util("upload_stemcells") if "upload-stemcell" in call]
    assert not bosh_io
    assert [call for call in runner.util("upload_stemcells", "new") if "upload-stemcell" in call]
    assert len(bosh_io) == 2


def test_downloads_and_uploads_a_release_once(runner: UtilRunner, bosh_io: list[str]) -> None:
    runner.add_director()
    assert runner.util("upload_releases")[-1] == ["bosh", "upload-release", "release/postgres-release"]
    assert (runner.work / "release/postgres-release").read_text().endswith("/cloudfoundry/postgres-release")
    runner.outputs["bosh releases --json"] = table(name="postgres")
    assert not [call for call in runner.util("upload_releases") if "upload-release" in call]


def test_uploads_nothing_when_a_download_fails(runner: UtilRunner, bosh_io: list[str]) -> None:
    runner.add_director()
    assert not [call for call in runner.util("upload_stemcells", "absent", status=1) if "upload-stemcell" in call]
    assert runner.stderr.endswith("util: curl failed with status 22\n")
    assert not (runner.work / "stemcell/ubuntu-absent").exists()


def test_extracts_requests_from_a_log_without_secrets(runner: UtilRunner) -> None:
    request = {
        "method": "create_vm",
        "arguments": [{"env": {"bosh": {"password": "crypted-pw"}}}],
        "context": {"director_uuid": "d"},
    }
    (runner.work / "log").write_text(
        f"[cpiCmdRunner] DEBUG - Exit Code 0 when executing external CPI command 'x'\nSTDIN: '{json.dumps(request)}'\n"
        f"STDOUT: '{json.dumps({'result': 'vm-1', 'error': None, 'log': ''})}\n'\nSTDERR: ''\n"
    )
    runner.util("capture_requests")
    requests = runner.work / "requests"
    assert sorted(path.name for path in requests.iterdir()) == ["request-001.json", "response-001.json"]
    assert "crypted-pw" not in (requests / "request-001.json").read_text()
    assert json.loads((requests / "request-001.json").read_text())["method"] == "create_vm"
    assert json.loads((requests / "response-001.json").read_text())["result"] == "vm-1"
    assert mode(requests) == 0o700 and mode(requests / "request-001.json") == 0o600


def test_copies_captures_from_their_directory(runner: UtilRunner) -> None:
    captures = runner.work / "captures"
    captures.mkdir()
    (captures / "create_vm-1.json").write_text('{"format": 1}')
    runner.util("capture_requests", "captures")
    assert (runner.work / "requests/create_vm-1.json").read_text() == '{"format": 1}'


def test_reports_a_log_that_is_not_json(runner: UtilRunner) -> None:
    (runner.work / "log").write_text("STDIN: '{'\n")
    runner.util("capture_requests", status=1)
    assert runner.stderr.startswith("util: log: request 1 is not JSON: ")
