from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.release import bosh_release
from tests.release.util_runner import UtilRunner

SCRIPTS = bosh_release.ROOT / "scripts"
SHELLS = ("bash", "zsh")
PASSWORD = 'it\'s $HOME "quoted"'
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"
CREDENTIALS = {
    "creds/bosh.yml --path /admin_password": f"{PASSWORD}\n",
    "creds/bosh.yml --path /director_ssl/ca": CERTIFICATE,
    "creds/bosh.yml --path /credhub_tls/ca": CERTIFICATE,
    "creds/bosh.yml --path /uaa_ssl/ca": CERTIFICATE,
    "creds/bosh.yml --path /credhub_admin_client_secret": "credhub-secret\n",
    "creds/bosh.yml --path /uaa_admin_client_secret": "uaa-secret\n",
    "creds/postgres.yml --path /pgadmin_database_password": "pg-secret\n",
}


@pytest.fixture
def director(runner: UtilRunner) -> UtilRunner:
    """A runner in the directory of a director, with stubs of the clients that read passwords."""
    runner.add_director()
    (runner.work / "creds/postgres.yml").write_text("x")
    runner.outputs |= {f"bosh interpolate {path}": value for path, value in CREDENTIALS.items()}
    runner.outputs["credhub get --name /boshdev/cf/cf_admin_password --quiet"] = "cf-secret\n"
    runner.outputs["credhub get --name /boshdev/cf/uaa_admin_client_secret --quiet"] = "cf-uaa-secret\n"
    return runner


def sourced(director: UtilRunner, shell: str, script: str, variable: str, *, folder: Path | None = None) -> str:
    """Return the value of a variable after a shell has sourced a script."""
    director.util("help")
    done = subprocess.run(
        [shell, "-c", f'. "$0" && printf %s "${variable}"', SCRIPTS / script],
        env=director.environ,
        cwd=folder or director.work,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    program = shutil.which(request.param)
    assert program, f"install {request.param}"
    return program


@pytest.mark.parametrize(
    ("script", "variable", "value"),
    [
        ("bosh-env.sh", "BOSH_CLIENT_SECRET", PASSWORD),
        ("bosh-env.sh", "BOSH_CA_CERT", CERTIFICATE.rstrip()),
        ("bosh-env.sh", "BOSH_ENVIRONMENT", "10.245.0.11"),
        ("credhub-env.sh", "CREDHUB_SERVER", "https://10.245.0.11:8844"),
        ("credhub-env.sh", "CREDHUB_CA_CERT", CERTIFICATE + CERTIFICATE),
        ("psql-env.sh", "PGPASSWORD", "pg-secret"),
        ("psql-env.sh", "PGHOST", "10.245.0.251"),
    ],
)
def test_scripts_set_variables(script: str, variable: str, value: str, shell: str, director: UtilRunner) -> None:
    assert sourced(director, shell, script, variable) == value


def test_scripts_work_in_any_directory(shell: str, director: UtilRunner, tmp_path: Path) -> None:
    director.environ["STATE_DIR"] = str(director.work)
    assert sourced(director, shell, "bosh-env.sh", "BOSH_CLIENT", folder=tmp_path) == "admin"


@pytest.mark.parametrize(
    ("script", "logins"),
    [
        ("cf-env.sh", [["cf", "api", "https://api.sys.cf.example.com", "--skip-ssl-validation"], ["cf", "auth"]]),
        (
            "uaa-bosh.sh",
            [
                ["uaa", "target", "https://10.245.0.11:8443", "--skip-ssl-validation"],
                ["uaa", "get-client-credentials-token", "uaa_admin", "--client_secret", "uaa-secret"],
            ],
        ),
        (
            "uaa-cf.sh",
            [
                ["uaa", "target", "https://uaa.sys.cf.example.com", "--skip-ssl-validation"],
                ["uaa", "get-client-credentials-token", "admin", "--client_secret", "cf-uaa-secret"],
            ],
        ),
    ],
)
def test_scripts_log_in(script: str, logins: list[list[str]], shell: str, director: UtilRunner) -> None:
    calls = director.util(program=(shell, "-c", '. "$0"', str(SCRIPTS / script)))
    assert [call for call in calls if call[0] in ("cf", "uaa")] == logins


def test_scripts_fail_without_director(shell: str, runner: UtilRunner) -> None:
    runner.util(program=(shell, "-c", '. "$0"', str(SCRIPTS / "cf-env.sh")), status=1)
    assert runner.stderr.startswith("util: there is no file creds/bosh.yml: run util deploy_bosh")


def test_uses_jumpbox_if_it_is_enabled(director: UtilRunner) -> None:
    (director.work / "creds/jumpbox.pk").write_text("KEY")
    director.util("env")
    assert "BOSH_ALL_PROXY" not in director.stdout
    director.util("env", BOSH_JUMPBOX_ENABLE="1")
    proxy = f"ssh+socks5://jumpbox@10.245.0.11:22?private-key={director.work}/creds/jumpbox.pk"
    assert f"export BOSH_ALL_PROXY='{proxy}'\n" in director.stdout


def test_reads_passwords_of_cf_with_the_environment_of_credhub(director: UtilRunner) -> None:
    (director.folder / "stubs/credhub").write_text('#!/bin/sh\necho "$CREDHUB_SERVER $CREDHUB_SECRET"\n')
    (director.folder / "stubs/credhub").chmod(0o755)
    director.stubs = tuple(name for name in director.stubs if name != "credhub")
    director.util("env", "cf")
    assert "CF_PASSWORD='https://10.245.0.11:8844 credhub-secret'\n" in director.stdout


def test_reports_unknown_client(runner: UtilRunner) -> None:
    runner.util("env", "mysql", status=1)
    assert runner.stderr == "util: there is no environment of mysql; use one of bosh, cf, credhub, psql, uaa, uaa-cf\n"


def test_reports_undeployed_postgres(runner: UtilRunner) -> None:
    runner.util("env", "psql", status=1)
    assert runner.stderr == "util: there is no file creds/postgres.yml: run util deploy_postgres\n"
