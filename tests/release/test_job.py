"""The job: spec, templates and configuration."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bosh_lxd_cpi.config import schema
from tests.release import bosh_job

CALLERS = ("create-env", "director")
INFO = {"method": "info", "arguments": [], "context": {"director_uuid": "d"}, "api_version": 1}


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves_by_name: dict[str, Any] = {}
    for key, value in tree.items():
        leaves_by_name |= (
            leaves(value, f"{prefix}{key}.")
            if isinstance(value, dict) and key != "instance_config"
            else {prefix + key: value}
        )
    return leaves_by_name


def schema_keys() -> set[str]:
    return {
        f"{name}.{key}" if name in schema.SECTIONS else name
        for name in schema.Config._fields
        for key in getattr(schema.SECTIONS.get(name), "_fields", [""])
    }


def load(tmp_path: Path, properties: dict[str, Any], caller: str = "director") -> tuple[schema.Config, list[str]]:
    path = tmp_path / "cpi.json"
    path.write_text(bosh_job.render("cpi.json.erb", properties, caller), encoding="utf-8")
    warnings: list[str] = []
    return schema.load(str(path), warn=warnings.append), warnings


def test_properties_have_description_and_default_or_example() -> None:
    for name, definition in bosh_job.SPEC["properties"].items():
        assert definition["description"].strip().endswith("."), name
        assert {"default", "example"} & definition.keys(), name
        assert set(definition) <= {"description", "default", "example"}, name


def test_spec_has_the_properties_of_the_go_cpi() -> None:
    """A manifest written for the Go CPI keeps its meaning."""
    names = """server.type server.url server.insecure_skip_verify server.tls_client_cert server.tls_client_key
        server.instance_config server.project_name server.profile_name server.target server.managed_network_assignment
        server.network_name server.storage_pool_name server.predeploy_stemcell agent.mbus agent.ntp agent_config.type
        agent_config.label agent_config.metadata_path agent_config.userdata_path agent_config.filestore_path
        throttle_config.enabled throttle_config.path throttle_config.limit throttle_config.hold"""
    assert {f"lxd_cpi.{name}" for name in names.split()} <= bosh_job.SPEC["properties"].keys()


def test_templates_exist_and_monit_is_empty() -> None:
    assert {path.name for path in (bosh_job.JOB / "templates").iterdir()} == set(bosh_job.SPEC["templates"])
    assert (bosh_job.JOB / "monit").read_text() == ""


@pytest.mark.parametrize("caller", CALLERS)
def test_url_can_be_a_list(tmp_path: Path, caller: str) -> None:
    urls = ["https://a:8443", "https://b:8443"]
    server = {**bosh_job.CONNECTION["lxd_cpi"]["server"], "url": urls}
    config, _ = load(tmp_path, {**bosh_job.CONNECTION, "lxd_cpi": {"server": server}}, caller)
    assert config.server.urls == urls


@pytest.mark.parametrize("caller", CALLERS)
def test_configuration_has_the_keys_of_the_properties(caller: str) -> None:
    document = json.loads(bosh_job.render("cpi.json.erb", bosh_job.examples(), caller))
    assert leaves(document).keys() == schema_keys()
    for name, value in leaves(document).items():
        definition = bosh_job.SPEC["properties"][f"lxd_cpi.{name}"]
        assert value == definition.get("example", definition.get("default")), name


@pytest.mark.parametrize("caller", CALLERS)
def test_rendered_configuration_loads_without_warnings(caller: str, tmp_path: Path) -> None:
    for properties in (bosh_job.CONNECTION, bosh_job.examples()):
        _, warnings = load(tmp_path, properties, caller)
        assert warnings == []


def test_defaults_of_the_spec_equal_those_of_the_schema(tmp_path: Path) -> None:
    config, _ = load(tmp_path, bosh_job.CONNECTION)
    schema_defaults = leaves(
        {
            name: value._asdict() if name in schema.SECTIONS else value
            for name, value in schema.Config()._asdict().items()
        }
    )
    spec_defaults = leaves(
        {name: value._asdict() if name in schema.SECTIONS else value for name, value in config._asdict().items()}
    )
    required = {"server.url", "server.tls_client_cert", "server.tls_client_key", "agent.mbus"}
    assert {name: value for name, value in spec_defaults.items() if name not in required} == {
        name: value for name, value in schema_defaults.items() if name not in required
    }


def test_job_properties_override_global_mbus_and_ntp(tmp_path: Path) -> None:
    properties = bosh_job.CONNECTION | {"ntp": ["global"]}
    config, _ = load(tmp_path, properties)
    assert config.agent == schema.Agent(mbus="nats://10.0.0.1:4222", ntp=("global",))
    properties["lxd_cpi"] = properties["lxd_cpi"] | {"agent": {"mbus": "nats://job", "ntp": ["job"]}}
    config, _ = load(tmp_path, properties)
    assert config.agent == schema.Agent(mbus="nats://job", ntp=("job",))


def test_rejects_a_director_without_mbus() -> None:
    with pytest.raises(bosh_job.TemplateError, match=r"agent\.mbus"):
        bosh_job.render("cpi.json.erb", {"lxd_cpi": bosh_job.CONNECTION["lxd_cpi"]})


@pytest.mark.parametrize("caller", CALLERS)
def test_renders_special_characters_unchanged(caller: str, tmp_path: Path) -> None:
    properties = json.loads(json.dumps(bosh_job.CONNECTION))
    properties["lxd_cpi"]["server"] |= {"tls_client_key": 'a\n"b" #{c} <%= d %> \\e\n', "project_name": "ü\u2028'"}
    config, _ = load(tmp_path, properties, caller)
    assert config.server.tls_client_key == 'a\n"b" #{c} <%= d %> \\e\n'
    assert config.server.project_name == "ü\u2028'"


def test_missing_package_gives_a_cpi_error(public_path: Path) -> None:
    job = bosh_job.render_job(public_path / "jobs", bosh_job.CONNECTION)
    response, stderr = bosh_job.call(
        [str(job / "bin/cpi")], INFO, environ={"BOSH_PACKAGES_DIR": str(public_path / "no 'such\" resource")}
    )
    assert response["error"]["type"] == "Bosh::Clouds::CpiError"
    assert "no 'such\" resource/bosh_lxd_cpi/bin/cpi" in stderr


def test_exports_proxies_in_lower_and_upper_case(public_path: Path) -> None:
    proxy = "http://user:p'a$s \"word@proxy:3128"
    job = bosh_job.render_job(
        public_path / "jobs", bosh_job.CONNECTION | {"env": {"http_proxy": proxy, "no_proxy": "a,b"}}
    )
    package = public_path / "packages/bosh_lxd_cpi/bin"
    package.mkdir(parents=True)
    (package / "cpi").write_text("#!/bin/sh\nexec /usr/bin/env -0\n")
    (package / "cpi").chmod(0o755)
    run = subprocess.run(
        [job / "bin/cpi"], env={"BOSH_PACKAGES_DIR": str(public_path / "packages")}, capture_output=True, check=True
    )
    environ = dict(entry.split("=", 1) for entry in run.stdout.decode().split("\0") if entry)
    assert environ["http_proxy"] == environ["HTTP_PROXY"] == proxy
    assert environ["no_proxy"] == "a,b"
    assert "https_proxy" not in environ


@pytest.mark.parametrize("program", ["cleanup", "doctor"])
def test_programs_get_configuration_and_arguments(program: str, public_path: Path) -> None:
    job = bosh_job.render_job(public_path / "jobs", bosh_job.CONNECTION)
    package = public_path / "packages/bosh_lxd_cpi/bin"
    package.mkdir(parents=True)
    (package / program).write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (package / program).chmod(0o755)
    run = subprocess.run(
        [job / "bin" / program, "--dry-run"],
        capture_output=True,
        text=True,
        check=True,
        env={"BOSH_PACKAGES_DIR": str(public_path / "packages"), "BOSH_JOBS_DIR": str(public_path / "jobs")},
    )
    arguments = run.stdout.split()
    config = job / "config"
    assert arguments[:4] == ["--config", f"{config}/cpi.json", "--cpi-config", f"{config}/cpi-config.json"]
    assert arguments[-1] == "--dry-run"
    assert ("--min-age" in arguments) == (program == "cleanup")


@pytest.mark.parametrize("caller", CALLERS)
def test_cpi_config_has_the_cpis(caller: str) -> None:
    cpis = [{"name": "second", "type": "lxd", "properties": {"url": "https://b:8443", "insecure_skip_verify": True}}]
    rendered = bosh_job.render("cpi-config.json.erb", {"lxd_cpi": {"cpis": cpis}}, caller)
    assert json.loads(rendered) == {"cpis": cpis}
    assert json.loads(bosh_job.render("cpi-config.json.erb", bosh_job.CONNECTION, caller)) == {"cpis": []}


def pre_start(public_path: Path, schedule: object) -> dict[str, str]:
    """Run pre-start twice with the cron entries of the Go CPI and of an older release. Return the cron files."""
    properties = json.loads(json.dumps(bosh_job.CONNECTION))
    properties["lxd_cpi"]["cleanup"] = {"schedule": schedule}
    job = bosh_job.render_job(public_path / "jobs", properties)
    script = """set -e
        for directory in cron.d cron.daily; do mkdir -p "/etc/$directory"; mount -t tmpfs none "/etc/$directory"; done
        echo old > /etc/cron.d/lxd_cpi-cleanup; echo other > /etc/cron.daily/lxd-cleanup
        "$1"
        "$1"
        cd /etc; stat -c %a-%U cron.d/* >&2
        for file in $(find cron.d cron.daily -type f); do echo "== $file"; cat "$file"; done"""
    run = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", job / "bin/pre-start"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    assert set(run.stderr.split()) <= {"600-root"} or schedule in (False, "off"), run.stderr
    return {name: text for name, _, text in (part.partition("\n") for part in run.stdout.split("== ")[1:])}


@pytest.mark.parametrize(
    ("schedule", "fields"),
    [
        ("hourly", "17 * * * *"),
        ("daily", "17 3 * * *"),
        ("weekly", "17 3 * * 0"),
        ("*/20 1-5 * JAN,FEB mon", "*/20 1-5 * JAN,FEB mon"),
    ],
)
def test_pre_start_schedules_cleanup(schedule: str, fields: str, public_path: Path) -> None:
    files = pre_start(public_path, schedule)
    text = files.pop("cron.d/lxd_cpi-cleanup")
    assert not files, "pre-start deletes the entry of the Go CPI"
    assert text.endswith("\n")
    command = "/var/vcap/jobs/lxd_cpi/bin/cleanup"
    *_, at_boot, line = text.splitlines()
    assert line == f"{fields} root {command} >>/var/vcap/sys/log/lxd_cpi/cleanup.log 2>&1"
    wait = f"for _ in $(seq 60); do [ -x {command} ] && break; sleep 5; done; "
    assert at_boot == f"@reboot root {wait}{line.removeprefix(f'{fields} root ')}"


@pytest.mark.parametrize("schedule", ["off", False])
def test_pre_start_removes_the_schedule_when_it_is_off(schedule: object, public_path: Path) -> None:
    assert pre_start(public_path, schedule) == {}


@pytest.mark.parametrize("schedule", ["nightly", "* * * *", "0 3 * * * root", "0 3 * * $(x)", "0 3 * * *\n* * * * *"])
def test_rejects_invalid_schedules(schedule: str) -> None:
    properties = {**bosh_job.CONNECTION, "lxd_cpi": {"cleanup": {"schedule": schedule}}}
    with pytest.raises(bosh_job.TemplateError, match=r"lxd_cpi\.cleanup\.schedule"):
        bosh_job.render("pre-start.erb", properties)


def test_templates_do_not_use_links_or_the_deployment() -> None:
    """create-env has neither: docs/development/bosh-contract.md §5.3."""
    for template in (bosh_job.JOB / "templates").iterdir():
        assert not re.search(
            r"\b(link|if_link|spec|name|index)[.(]",
            template.read_text("utf-8").replace("name.upcase", "").replace("name.split", ""),
        ), template.name
