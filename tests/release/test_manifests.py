"""The manifests and ops files."""

from __future__ import annotations

import ipaddress
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bosh_lxd_cpi.config import schema
from bosh_lxd_cpi.guest.cloud_properties import parse_disk_properties, parse_vm_properties
from tests.release import bosh_job, bosh_ops, bosh_release

MANIFESTS = bosh_release.ROOT / "manifests"
OPS = sorted((MANIFESTS / "ops").glob("*.yml"))
COMMAND_LINE = {"cpi_path", "lxd_url", "lxd_insecure", "lxd_client_cert", "lxd_client_key"}

CLOUD_CONFIG_NAMES = {
    # https://github.com/cloudfoundry/cf-deployment v58.0.0 (d70f901704c5, 2026-06-30): cf-deployment.yml with the ops
    # files of `util deploy_cf`
    "cf-deployment": {
        "networks": {"default"},
        "azs": {"z1"},
        "vm_types": {"minimal", "small", "medium", "small-highmem"},
        "disk_types": {"10GB", "100GB"},
        "vm_extensions": {
            "50GB_ephemeral_disk",
            "100GB_ephemeral_disk",
            "cf-router-network-properties",
            "cf-tcp-router-network-properties",
            "diego-ssh-proxy-network-properties",
        },
    },
    # https://github.com/concourse/concourse-bosh-deployment (d392d3e9a8f8, 2026-06-16): cluster/concourse.yml takes its
    # names from manifests/concourse-vars.yml
    "concourse": {"networks": {"default"}, "azs": {"z1"}, "vm_types": {"default"}, "disk_types": {"10GB"}},
    # manifests/postgres.yml with manifests/postgres-vars.yml
    "postgres": {"networks": {"default"}, "azs": {"z1"}, "vm_types": {"small"}, "disk_types": {"10GB"}},
}
"""Names that the deployments of util take from the cloud config, by section."""

OS_CONF = {"version": "23.0.2", "sha1": "9f5db956e66005b67ed0b5b5b0949f9a7a1c60c9"}
"""os-conf in jumpbox-user.yml of https://github.com/cloudfoundry/bosh-deployment (c3b2109fe482, 2026-08-21)."""

BOSH_YML = yaml.safe_load("""
name: bosh
releases: [{name: bosh, url: u}, {name: bpm, url: u}]
resource_pools:
- {name: vms, network: default, env: {bosh: {mbus: {cert: ((mbus_bootstrap_ssl))}}}}
disk_pools: [{name: disks, disk_size: 65536}]
networks:
- name: default
  type: manual
  subnets: [{range: ((internal_cidr)), gateway: ((internal_gw)), static: [((internal_ip))], dns: [8.8.8.8]}]
instance_groups:
- name: bosh
  instances: 1
  jobs: [{name: bpm, release: bpm}, {name: director, release: bosh}]
  resource_pool: vms
  persistent_disk_pool: disks
  networks: [{name: default, static_ips: [((internal_ip))]}]
  properties:
    agent: {mbus: "nats://((internal_ip)):4222", env: {bosh: {ntp: [time.example.com]}}}
    director: {name: ((director_name)), workers: 4}
cloud_provider:
  mbus: https://mbus:((mbus_bootstrap_password))@((internal_ip)):6868
  cert: ((mbus_bootstrap_ssl))
  properties:
    agent: {mbus: "https://mbus:((mbus_bootstrap_password))@0.0.0.0:6868"}
""")
"""The parts of bosh-deployment's bosh.yml that concern a CPI: docs/development/bosh-contract.md §6."""


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def with_cpi(*ops: Path) -> Any:
    manifest = bosh_ops.apply(BOSH_YML, read(MANIFESTS / "cpi.yml"))
    for path in ops:
        manifest = bosh_ops.apply(manifest, read(path))
    return manifest


def properties_by_caller(manifest: Any) -> dict[str, Any]:
    """Return the properties of the job for each caller."""
    return {
        "director": manifest["instance_groups"][0]["properties"],
        "create-env": manifest["cloud_provider"]["properties"],
    }


def load(properties: dict[str, Any], caller: str, path: Path) -> schema.Config:
    path.write_text(bosh_job.render("cpi.json.erb", properties, caller), encoding="utf-8")
    return schema.load(str(path), warn=pytest.fail)


@pytest.mark.parametrize("caller", ["director", "create-env"])
def test_cpi_yml_configures_both_callers(caller: str, tmp_path: Path) -> None:
    properties = properties_by_caller(with_cpi())[caller]
    properties["lxd_cpi"]["server"] |= {"url": "https://lxd:8443", "insecure_skip_verify": "true"}
    config = load(properties, caller, tmp_path / "cpi.json")
    assert (
        config.agent.mbus
        == {
            "director": "nats://((internal_ip)):4222",
            "create-env": "https://mbus:((mbus_bootstrap_password))@0.0.0.0:6868",
        }[caller]
    )
    assert config.server.project_name == "((lxd_project_name))"


def test_cpi_yml_adds_release_job_and_template() -> None:
    manifest = with_cpi()
    release = {"name": "lxd_cpi", "release": read(bosh_release.ROOT / "config/final.yml")["name"]}
    assert manifest["cloud_provider"]["template"] == release
    assert release in manifest["instance_groups"][0]["jobs"]
    assert manifest["instance_groups"][0]["properties"]["director"]["cpi_job"] == "lxd_cpi"
    assert release["release"] in {entry["name"] for entry in manifest["releases"]}
    assert "openstack-kvm" in manifest["resource_pools"][0]["stemcell"]["url"]
    assert parse_vm_properties(manifest["resource_pools"][0]["cloud_properties"]).limits() == {
        "limits.cpu": "4",
        "limits.memory": "8192MiB",
    }


def test_all_variables_are_defined() -> None:
    variables = read(MANIFESTS / "bosh-vars.yml").keys() | COMMAND_LINE
    assert bosh_ops.variables(read(MANIFESTS / "cpi.yml")) <= variables
    assert {
        "director_name",
        "lxd_project_name",
        "lxd_profile_name",
        "lxd_network_name",
        "lxd_storage_pool_name",
        "internal_cidr",
        "internal_gw",
        "internal_ip",
        "dhcp_range",
    } == read(MANIFESTS / "bosh-vars.yml").keys()


@pytest.mark.parametrize("path", OPS, ids=lambda path: path.stem)
def test_ops_files_set_known_properties(path: Path) -> None:
    manifest = with_cpi(path)
    if path.stem not in ("local-release", "remove-instance-config"):
        assert manifest != with_cpi(), "the ops file changes nothing"
    for properties in properties_by_caller(manifest).values():
        for section, content in properties["lxd_cpi"].items():
            for key in content:
                assert f"lxd_cpi.{section}.{key}" in bosh_job.SPEC["properties"]


@pytest.mark.parametrize(
    "name", ["enable-incus", "enable-lxd", "enable-dhcp-network-assignment", "enable-default-secureboot"]
)
@pytest.mark.parametrize("caller", ["director", "create-env"])
def test_ops_files_configure_both_callers(name: str, caller: str, tmp_path: Path) -> None:
    properties = properties_by_caller(with_cpi(MANIFESTS / f"ops/{name}.yml"))[caller]
    properties["lxd_cpi"]["server"] |= {"url": "https://lxd:8443", "insecure_skip_verify": False}
    server = load(properties, caller, tmp_path / "cpi.json").server
    assert {
        "enable-incus": server.type == "incus",
        "enable-lxd": server.type == "lxd",
        "enable-dhcp-network-assignment": server.managed_network_assignment == "dhcp",
        "enable-default-secureboot": server.instance_config == {"default": {"security.secureboot": "true"}},
    }[name]


def test_server_variables_replace_all_lxd_variables() -> None:
    before, after = (bosh_ops.variables(with_cpi(*ops)) for ops in ((), (MANIFESTS / "ops/server-variables.yml",)))
    lxd_variables = {name for name in before if name.startswith("lxd_")}
    assert not {name for name in after if name.startswith("lxd_")}
    assert {name.replace("lxd_", "server_") for name in lxd_variables} <= after


def test_throttle_directory_is_mounted_for_bpm(tmp_path: Path) -> None:
    manifest = with_cpi(MANIFESTS / "ops/enable-throttle.yml", MANIFESTS / "ops/throttle-directory.yml")
    properties = properties_by_caller(manifest)["director"]
    [volume] = properties["director"]["cpi_additional_volumes"]
    assert volume["writable"]
    properties["lxd_cpi"]["server"] |= {"url": "https://lxd:8443", "insecure_skip_verify": False}
    properties["lxd_cpi"]["throttle_config"] |= {"limit": 3, "hold": "90s"}
    config = load(properties, "director", tmp_path / "cpi.json")
    assert config.lock_directory().startswith(volume["path"] + "/")
    assert config.throttle_config.enabled and config.throttle_config.limit == 3


def test_cloud_config_has_valid_cloud_properties() -> None:
    cloud = read(MANIFESTS / "cloud-config.yml")
    for entry in [*cloud["azs"], *cloud["vm_types"], *cloud["vm_extensions"]]:
        parse_vm_properties(entry.get("cloud_properties"))
    for entry in cloud["disk_types"]:
        parse_disk_properties(entry.get("cloud_properties"))
    assert {cloud["compilation"]["vm_type"], "small", "minimal", "small-highmem"} <= {
        entry["name"] for entry in cloud["vm_types"]
    }


def test_cpi_config_overrides_properties_of_the_job(tmp_path: Path) -> None:
    path = tmp_path / "cpi.json"
    path.write_text(bosh_job.render("cpi.json.erb", bosh_job.CONNECTION))
    for cpi in read(MANIFESTS / "cpi-config.yml")["cpis"]:
        assert cpi["type"] + "_cpi" == bosh_job.SPEC["name"]
        context = cpi["properties"] | {"director_uuid": "d", "request_id": "r", "url": f"https://{cpi['name']}:8443"}
        assert schema.load(str(path), context).server.url == f"https://{cpi['name']}:8443"


@pytest.mark.parametrize("name", ["postgres", "concourse", "cloudfoundry"])
def test_deployments_use_static_addresses(name: str) -> None:
    [static] = read(MANIFESTS / "cloud-config.yml")["networks"][0]["subnets"][0]["static"]
    first, last = (ipaddress.ip_address(address) for address in static.split("-"))
    addresses = re.findall(r"\d+\.\d+\.\d+\.\d+", (MANIFESTS / f"{name}-vars.yml").read_text("utf-8"))
    assert addresses
    assert all(first <= ipaddress.ip_address(address) <= last for address in addresses)


def test_cloud_config_reserves_the_dhcp_range() -> None:
    """The director must not use an address that the DHCP server of the bridge can assign to another machine."""
    variables = read(MANIFESTS / "bosh-vars.yml")
    [subnet] = read(MANIFESTS / "cloud-config.yml")["networks"][0]["subnets"]
    assert subnet["range"] == variables["internal_cidr"] and variables["dhcp_range"] in subnet["reserved"]
    first, last = map(ipaddress.ip_address, variables["dhcp_range"].split("-"))
    assert not first <= ipaddress.ip_address(variables["internal_ip"]) <= last


def test_runtime_config_and_postgres_are_complete() -> None:
    runtime = read(MANIFESTS / "runtime-config.yml")
    assert {job["release"] for addon in runtime["addons"] for job in addon["jobs"]} == {
        entry["name"] for entry in runtime["releases"]
    }
    postgres = read(MANIFESTS / "postgres.yml")
    variables = read(MANIFESTS / "postgres-vars.yml").keys() | {entry["name"] for entry in postgres["variables"]}
    assert bosh_ops.variables(postgres) <= variables


@pytest.mark.parametrize("deployment", sorted(CLOUD_CONFIG_NAMES))
def test_cloud_config_has_the_names_that_deployments_use(deployment: str) -> None:
    cloud = read(MANIFESTS / "cloud-config.yml")
    for section, names in CLOUD_CONFIG_NAMES[deployment].items():
        assert names <= {entry["name"] for entry in cloud[section]}, section


@pytest.mark.parametrize("deployment", ["concourse", "postgres"])
def test_list_of_names_matches_our_own_files(deployment: str) -> None:
    variables = read(MANIFESTS / f"{deployment}-vars.yml")
    names = CLOUD_CONFIG_NAMES[deployment]
    assert {value for name, value in variables.items() if name.endswith("vm_type")} <= names["vm_types"]
    assert {value for name, value in variables.items() if "disk" in name} == names["disk_types"]
    assert set(variables.get("azs", [])) <= names["azs"]


def test_postgres_uses_the_stemcell_that_util_uploads() -> None:
    help_text = subprocess.run(
        [bosh_release.ROOT / "bin/util", "help", "upload_stemcells"], capture_output=True, text=True, check=True
    ).stdout
    [stemcell] = read(MANIFESTS / "postgres.yml")["stemcells"]
    [default] = re.findall(r"default: (\w+)", help_text)
    assert f"ubuntu-{default}" == stemcell["os"] == "ubuntu-noble"


@pytest.mark.parametrize("path", ["runtime-config.yml", "ops/enable-lxd-agent.yml", "ops/enable-incus-agent.yml"])
def test_os_conf_has_the_version_of_bosh_deployment(path: str) -> None:
    document = read(MANIFESTS / path)
    release = document["releases"][0] if path == "runtime-config.yml" else document[0]["value"]
    assert release["name"] == "os-conf"
    assert {name: release[name] for name in OS_CONF} == OS_CONF
    assert release["url"].endswith(f"?v={OS_CONF['version']}")
