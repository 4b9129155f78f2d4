from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import bosh_job
import pytest

from bosh_lxd_cpi.config import schema

CALLERS = ("create-env", "director")
INFO = {"method": "info", "arguments": [], "context": {"director_uuid": "d"}, "api_version": 1}


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= (
            leaves(value, f"{prefix}{key}.")
            if isinstance(value, dict) and key != "instance_config"
            else {prefix + key: value}
        )
    return flat


def known_to_config() -> set[str]:
    return {
        f"{name}.{key}" if name in schema.SECTIONS else name
        for name in schema.Config._fields
        for key in getattr(schema.SECTIONS.get(name), "_fields", [""])
    }


def load(tmp_path: Path, given: dict[str, Any], caller: str = "director") -> tuple[schema.Config, list[str]]:
    path = tmp_path / "cpi.json"
    path.write_text(bosh_job.render("cpi.json.erb", given, caller), encoding="utf-8")
    warnings: list[str] = []
    return schema.load(str(path), warn=warnings.append), warnings


def test_every_property_is_described_and_has_a_default_or_an_example() -> None:
    for name, definition in bosh_job.SPEC["properties"].items():
        assert definition["description"].strip().endswith("."), name
        assert {"default", "example"} & definition.keys(), name
        assert set(definition) <= {"description", "default", "example"}, name


def test_the_spec_has_go_lxd_cpis_properties() -> None:
    """So that a manifest written for it keeps its meaning."""
    theirs = """server.type server.url server.insecure_skip_verify server.tls_client_cert server.tls_client_key
        server.instance_config server.project_name server.profile_name server.target server.managed_network_assignment
        server.network_name server.storage_pool_name server.predeploy_stemcell agent.mbus agent.ntp agent_config.type
        agent_config.label agent_config.metadata_path agent_config.userdata_path agent_config.filestore_path
        throttle_config.enabled throttle_config.path throttle_config.limit throttle_config.hold"""
    assert {f"lxd_cpi.{name}" for name in theirs.split()} <= bosh_job.SPEC["properties"].keys()


def test_every_template_of_the_spec_is_there_and_monit_is_empty() -> None:
    assert {path.name for path in (bosh_job.JOB / "templates").iterdir()} == set(bosh_job.SPEC["templates"])
    assert (bosh_job.JOB / "monit").read_text() == ""


@pytest.mark.parametrize("caller", CALLERS)
def test_the_configuration_is_the_property_tree_key_for_key(caller: str) -> None:
    rendered = json.loads(bosh_job.render("cpi.json.erb", bosh_job.examples(), caller))
    assert leaves(rendered).keys() == known_to_config()
    for name, value in leaves(rendered).items():
        definition = bosh_job.SPEC["properties"][f"lxd_cpi.{name}"]
        assert value == definition.get("example", definition.get("default")), name


@pytest.mark.parametrize("caller", CALLERS)
def test_what_is_rendered_loads_without_a_warning(caller: str, tmp_path: Path) -> None:
    for given in (bosh_job.CONNECTION, bosh_job.examples()):
        _, warnings = load(tmp_path, given, caller)
        assert warnings == []


def test_the_specs_defaults_are_the_programs_own(tmp_path: Path) -> None:
    loaded, _ = load(tmp_path, bosh_job.CONNECTION)
    mine = leaves(
        {
            name: value._asdict() if name in schema.SECTIONS else value
            for name, value in schema.Config()._asdict().items()
        }
    )
    theirs = leaves(
        {name: value._asdict() if name in schema.SECTIONS else value for name, value in loaded._asdict().items()}
    )
    given = {"server.url", "server.tls_client_cert", "server.tls_client_key", "agent.mbus"}
    assert {name: value for name, value in theirs.items() if name not in given} == {
        name: value for name, value in mine.items() if name not in given
    }


def test_the_mbus_and_time_servers_of_the_job_go_before_the_global_ones(tmp_path: Path) -> None:
    given = bosh_job.CONNECTION | {"ntp": ["global"]}
    loaded, _ = load(tmp_path, given)
    assert loaded.agent == schema.Agent(mbus="nats://10.0.0.1:4222", ntp=("global",))
    given["lxd_cpi"] = given["lxd_cpi"] | {"agent": {"mbus": "nats://own", "ntp": ["own"]}}
    loaded, _ = load(tmp_path, given)
    assert loaded.agent == schema.Agent(mbus="nats://own", ntp=("own",))


def test_a_director_without_any_mbus_is_refused_by_name() -> None:
    with pytest.raises(bosh_job.TemplateError, match="agent.mbus"):
        bosh_job.render("cpi.json.erb", {"lxd_cpi": bosh_job.CONNECTION["lxd_cpi"]})


@pytest.mark.parametrize("caller", CALLERS)
def test_awkward_values_survive(caller: str, tmp_path: Path) -> None:
    given = json.loads(json.dumps(bosh_job.CONNECTION))
    given["lxd_cpi"]["server"] |= {"tls_client_key": 'a\n"b" #{c} <%= d %> \\e\n', "project_name": "ü\u2028'"}
    loaded, _ = load(tmp_path, given, caller)
    assert loaded.server.tls_client_key == 'a\n"b" #{c} <%= d %> \\e\n'
    assert loaded.server.project_name == "ü\u2028'"


def test_a_missing_package_is_answered_as_bosh_wants_it(public_path: Path) -> None:
    job = bosh_job.render_job(public_path / "jobs", bosh_job.CONNECTION)
    answer, said = bosh_job.call(
        [str(job / "bin/cpi")], INFO, environ={"BOSH_PACKAGES_DIR": str(public_path / "no 'such\" resource")}
    )
    assert answer["error"]["type"] == "Bosh::Clouds::CpiError"
    assert "no 'such\" resource/bosh_lxd_cpi/bin/cpi" in said


def test_proxies_are_exported_under_both_names_whatever_they_contain(public_path: Path) -> None:
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
    seen = dict(entry.split("=", 1) for entry in run.stdout.decode().split("\0") if entry)
    assert seen["http_proxy"] == seen["HTTP_PROXY"] == proxy
    assert seen["no_proxy"] == "a,b"
    assert "https_proxy" not in seen


@pytest.mark.parametrize("program", ["cleanup", "doctor"])
def test_programs_beside_get_the_jobs_configuration_and_further_arguments(program: str, public_path: Path) -> None:
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
    assert arguments[:2] == ["--config", str(job / "config/cpi.json")]
    assert arguments[-1] == "--dry-run"
    assert ("--min-age" in arguments) == (program == "cleanup")


def pre_start(public_path: Path, schedule: object) -> dict[str, str]:
    """What cron's directories hold after pre-start, beginning with go-lxd-cpi's entry and an older one of ours."""
    given = json.loads(json.dumps(bosh_job.CONNECTION))
    given["lxd_cpi"]["cleanup"] = {"schedule": schedule}
    job = bosh_job.render_job(public_path / "jobs", given)
    script = """set -e
        for directory in cron.d cron.daily; do mkdir -p "/etc/$directory"; mount -t tmpfs none "/etc/$directory"; done
        echo old > /etc/cron.d/lxd_cpi-cleanup; echo theirs > /etc/cron.daily/lxd-cleanup
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
def test_pre_start_has_cron_start_the_clean_up(schedule: str, fields: str, public_path: Path) -> None:
    files = pre_start(public_path, schedule)
    text = files.pop("cron.d/lxd_cpi-cleanup")
    assert not files, "go-lxd-cpi's entry is gone"
    assert text.endswith("\n")
    line = text.splitlines()[-1]
    assert line == f"{fields} root /var/vcap/jobs/lxd_cpi/bin/cleanup >>/var/vcap/sys/log/lxd_cpi/cleanup.log 2>&1"


@pytest.mark.parametrize("schedule", ["off", False])
def test_pre_start_takes_the_entry_away_when_there_is_no_schedule(schedule: object, public_path: Path) -> None:
    assert pre_start(public_path, schedule) == {}


@pytest.mark.parametrize("schedule", ["nightly", "* * * *", "0 3 * * * root", "0 3 * * $(x)", "0 3 * * *\n* * * * *"])
def test_a_schedule_that_cron_would_not_take_fails_when_it_is_rendered(schedule: str) -> None:
    given = {**bosh_job.CONNECTION, "lxd_cpi": {"cleanup": {"schedule": schedule}}}
    with pytest.raises(bosh_job.TemplateError, match="lxd_cpi.cleanup.schedule"):
        bosh_job.render("pre-start.erb", given)


def test_templates_use_no_links_and_nothing_of_the_deployment() -> None:
    """create-env has neither (facts: bosh-contract 5.3)."""
    for template in (bosh_job.JOB / "templates").iterdir():
        assert not re.search(
            r"\b(link|if_link|spec|name|index)[.(]",
            template.read_text("utf-8").replace("name.upcase", "").replace("name.split", ""),
        ), template.name
