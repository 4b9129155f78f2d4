from __future__ import annotations

import json
import os
from pathlib import Path

import bosh_release
import pytest
from util_bench import Bench


def options(command: list[str], name: str) -> list[str]:
    return [word.removeprefix(f"--{name}=") for word in command if word.startswith(f"--{name}=")]


def ops(command: list[str]) -> list[str]:
    return [Path(path).name for path in options(command, "ops-file")]


def test_it_has_go_lxd_cpis_subcommands(bench: Bench) -> None:
    bench.util()
    for name in [
        "capture_requests",
        "cloud_config",
        "deploy_bosh",
        "deploy_cf",
        "deploy_concourse",
        "deploy_postgres",
        "destroy",
        "generate_certs",
        "help",
        "init_lxd",
        "runtime_config",
        "upload_releases",
        "upload_stemcells",
    ]:
        assert f"  {name} " in bench.says


def test_help_shows_what_is_set_and_what_is_configured(bench: Bench) -> None:
    bench.util("help", LXD_URL="https://lxd:8443")
    assert "= https://lxd:8443" in bench.says
    assert "lxd_network_name        boshdevbr0" in bench.says


def test_sourcing_util_sh_gives_a_command_util_and_running_it_runs_one(bench: Bench) -> None:
    script = str(bosh_release.ROOT / "util.sh")
    for program in (("bash", "-c", f"source {script}; cd /; util cloud-config"), (script, "cloud_config")):
        calls = bench.util(program=program)
        assert calls[-1][:2] == ["bosh", "update-cloud-config"], bench.complains


def test_a_dry_run_prints_all_commands_and_runs_none_that_changes_anything(bench: Bench) -> None:
    calls = bench.util("--dry-run", "deploy-bosh", SERVER_URL="https://lxd:8443")
    assert calls == []
    assert "+ bosh create-release" in bench.says
    assert "+ bosh create-env" in bench.says
    assert list((bench.folder / "here").iterdir()) == []


def test_a_director_is_deployed_with_what_is_needed_and_nothing_else(bench: Bench) -> None:
    *_, create_env = bench.util(
        "deploy_bosh",
        "-o",
        "more.yml",
        SERVER_URL="https://lxd:8443",
        SERVER_LOCAL_RELEASE=__file__,
        BOSH_DEPLOYMENT_DIR="/bd",
        SERVER_CLIENT_CERT="/my.crt",
        SERVER_CLIENT_KEY="/my.key",
    )
    assert create_env[:3] == ["bosh", "create-env", "/bd/bosh.yml"]
    assert create_env[-2:] == ["-o", "more.yml"]
    assert ops(create_env) == ["cpi.yml", "enable-lxd.yml", "bbr.yml", "uaa.yml", "credhub.yml"]
    assert options(create_env, "var") == ["lxd_url=https://lxd:8443", "lxd_insecure=false", f"cpi_path={__file__}"]
    assert options(create_env, "var-file") == ["lxd_client_cert=/my.crt", "lxd_client_key=/my.key"]
    assert options(create_env, "state") == ["state.json"] and options(create_env, "vars-store") == ["creds/bosh.yml"]


def test_every_option_in_the_environment_adds_its_ops_file(bench: Bench) -> None:
    bench.answers["bosh interpolate creds/bosh.yml --path /jumpbox_ssh/private_key"] = "KEY\n"
    calls = bench.util(
        "deploy_bosh",
        SERVER_URL="https://i:8443",
        SERVER_TYPE="incus",
        BOSH_JUMPBOX_ENABLE="1",
        BOSH_SNAPSHOTS_ENABLE="1",
        BOSH_RESIZE_DISK_ENABLE="1",
        SERVER_ENABLE_AGENT="1",
        SERVER_CERT="/server.crt",
        SERVER_LOCAL_RELEASE=__file__,
    )
    create_env = calls[0]
    assert ops(create_env) == [
        "cpi.yml",
        "enable-incus.yml",
        "bbr.yml",
        "uaa.yml",
        "credhub.yml",
        "jumpbox-user.yml",
        "enable-snapshots.yml",
        "enable-resize-disk.yml",
        "enable-incus-agent.yml",
        "pin-server-certificate.yml",
    ]
    ours = [path for path in options(create_env, "ops-file") if path.startswith(str(bosh_release.ROOT))]
    assert all(Path(path).is_file() for path in ours)
    key = bench.folder / "here/creds/jumpbox.pk"
    assert key.read_text() == "KEY\n" and key.stat().st_mode & 0o777 == 0o600
    assert calls[-1][0] == "bosh"


def test_a_new_directors_host_key_is_expected_where_an_old_one_may_be_known(bench: Bench) -> None:
    known = bench.folder / ".ssh/known_hosts"
    known.parent.mkdir()
    known.touch()
    calls = bench.util(
        "deploy_bosh", SERVER_URL="https://lxd:8443", SERVER_LOCAL_RELEASE=__file__, BOSH_JUMPBOX_ENABLE="1"
    )
    assert calls[-1] == ["ssh-keygen", "-R", "10.245.0.11", "-f", str(known)]


def test_variables_called_server_are_taken_as_they_are(bench: Bench) -> None:
    configuration = bench.folder / "configuration"
    configuration.mkdir()
    text = (bosh_release.ROOT / "manifests/bosh-vars.yml").read_text("utf-8").replace("lxd_", "server_")
    (configuration / "bosh-vars.yml").write_text(text + "internal_dns:\n  - 192.168.1.1\n")
    *_, create_env = bench.util(
        "deploy_bosh", SERVER_URL="https://lxd:8443", CPI_CONFIG_DIR=str(configuration), SERVER_LOCAL_RELEASE=__file__
    )
    assert ops(create_env)[:2] == ["cpi.yml", "server-variables.yml"]
    assert "dns.yml" in ops(create_env)
    assert options(create_env, "var")[0] == "server_url=https://lxd:8443"
    assert options(create_env, "vars-file") == [str(configuration / "bosh-vars.yml")]


@pytest.mark.parametrize(
    ("subcommand", "variable"),
    [("deploy_bosh", "SERVER_URL"), ("deploy_cf", "CF_DEPLOYMENT_DIR"), ("deploy_concourse", "CONCOURSE_DIR")],
)
def test_what_is_missing_is_named(subcommand: str, variable: str, bench: Bench) -> None:
    assert bench.util(subcommand, status=1) == []
    assert bench.complains.startswith(f"util: {variable} must be set")


def test_an_unknown_subcommand_and_a_failing_command_end_with_status_1(bench: Bench) -> None:
    bench.util("deploy_mainframe", status=1)
    assert "no subcommand deploy_mainframe" in bench.complains
    bench.util("cloud_config", status=1, fail="update-cloud-config")
    assert "bosh failed with status 1" in bench.complains


@pytest.mark.parametrize(
    ("subcommand", "manifest", "variables"),
    [
        ("deploy_postgres", f"{bosh_release.ROOT}/manifests/postgres.yml", "postgres-vars.yml"),
        ("deploy_concourse", "/concourse/cluster/concourse.yml", "concourse-vars.yml"),
        ("deploy_cf", "/cf/cf-deployment.yml", "cloudfoundry-vars.yml"),
    ],
)
def test_deployments(subcommand: str, manifest: str, variables: str, bench: Bench) -> None:
    *_, deploy = bench.util(subcommand, CONCOURSE_DIR="/concourse", CF_DEPLOYMENT_DIR="/cf")
    assert deploy[:3] == ["bosh", "deploy", manifest]
    assert Path(options(deploy, "vars-file")[-1]).name == variables
    assert Path(options(deploy, "vars-file")[-1]).is_file()


def test_the_directors_credentials_go_through_the_environment_not_the_command_line(bench: Bench) -> None:
    bench.answers["bosh interpolate creds/bosh.yml --path /admin_password"] = "hunter2\n"
    calls = bench.util("cloud_config")
    assert "hunter2" not in bench.says + str(calls)


def test_runtime_configs(bench: Bench) -> None:
    names = [
        options(call, "name")
        for call in bench.util(
            "runtime_config", BOSH_DEPLOYMENT_DIR="/bd", SERVER_TYPE="incus", SERVER_ENABLE_AGENT="1"
        )
        if "update-runtime-config" in call
    ]
    assert names == [["bosh-dns"], ["incus-agent"]]
    assert not [call for call in bench.util("runtime_config") if "update-runtime-config" in call]
    assert "bosh-dns is left out" in bench.complains


def table(**row: str) -> str:
    return json.dumps({"Tables": [{"Rows": [row]}]})


def test_a_stemcell_is_fetched_and_uploaded_once(bench: Bench) -> None:
    calls = bench.util("upload_stemcells", "jammy", "noble")
    assert [call[-1].rpartition("ubuntu-")[2] for call in calls if call[0] == "curl"] == ["jammy-go_agent", "noble"]
    assert [call[1:] for call in calls if "upload-stemcell" in call] == [
        ["upload-stemcell", f"stemcell/ubuntu-{line}"] for line in ("jammy", "noble")
    ]
    bench.answers["bosh stemcells --json"] = table(os="ubuntu-jammy")
    assert not [call for call in bench.util("upload_stemcells") if "upload-stemcell" in call]
    assert [call for call in bench.util("upload_stemcells", "new") if "upload-stemcell" in call]


def test_a_release_is_fetched_and_uploaded_once(bench: Bench) -> None:
    assert bench.util("upload_releases")[-1] == ["bosh", "upload-release", "release/postgres-release"]
    bench.answers["bosh releases --json"] = table(name="postgres")
    assert not [call for call in bench.util("upload_releases") if "upload-release" in call]


def test_requests_are_taken_out_of_a_log_without_their_secrets(bench: Bench) -> None:
    request = {
        "method": "create_vm",
        "arguments": [{"env": {"bosh": {"password": "crypted-pw"}}}],
        "context": {"director_uuid": "d"},
    }
    (bench.folder / "here/log").write_text(
        f"[cpiCmdRunner] DEBUG - Exit Code 0 when executing external CPI command 'x'\nSTDIN: '{json.dumps(request)}'\n"
        f"STDOUT: '{json.dumps({'result': 'vm-1', 'error': None, 'log': ''})}\n'\nSTDERR: ''\n"
    )
    bench.util("capture_requests")
    requests = bench.folder / "here/requests"
    assert sorted(os.listdir(requests)) == ["request-1.json", "response-1.json"]
    assert "crypted-pw" not in (requests / "request-1.json").read_text()
    assert json.loads((requests / "request-1.json").read_text())["method"] == "create_vm"
    assert json.loads((requests / "response-1.json").read_text())["result"] == "vm-1"


def test_captures_are_gathered_from_their_directory(bench: Bench) -> None:
    captures = bench.folder / "here/captures"
    captures.mkdir()
    (captures / "create_vm-1.json").write_text('{"format": 1}')
    bench.util("capture_requests", "captures")
    assert (bench.folder / "here/requests/create_vm-1.json").read_text() == '{"format": 1}'
