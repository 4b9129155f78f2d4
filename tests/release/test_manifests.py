from __future__ import annotations

from pathlib import Path
from typing import Any

import bosh_job
import bosh_ops
import bosh_release
import pytest
import yaml

from bosh_lxd_cpi.config import schema
from bosh_lxd_cpi.guest.cloud_properties import parse_disk_properties, parse_vm_properties

MANIFESTS = bosh_release.ROOT / "manifests"
OPS = sorted((MANIFESTS / "ops").glob("*.yml"))
COMMAND_LINE = {"cpi_path", "lxd_url", "lxd_insecure", "lxd_client_cert", "lxd_client_key"}

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
"""What bosh-deployment's bosh.yml consists of, as far as a CPI can see it (facts: bosh-contract 6)."""


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def with_cpi(*ops: Path) -> Any:
    manifest = bosh_ops.apply(BOSH_YML, read(MANIFESTS / "cpi.yml"))
    for path in ops:
        manifest = bosh_ops.apply(manifest, read(path))
    return manifest


def sides(manifest: Any) -> dict[str, Any]:
    """What the job's templates see, for either caller."""
    return {
        "director": manifest["instance_groups"][0]["properties"],
        "create-env": manifest["cloud_provider"]["properties"],
    }


def load(given: dict[str, Any], caller: str, path: Path) -> schema.Config:
    path.write_text(bosh_job.render("cpi.json.erb", given, caller), encoding="utf-8")
    return schema.load(str(path), warn=lambda text: pytest.fail(text))


@pytest.mark.parametrize("caller", ["director", "create-env"])
def test_cpi_yml_gives_both_callers_a_configuration_that_loads(caller: str, tmp_path: Path) -> None:
    given = sides(with_cpi())[caller]
    given["lxd_cpi"]["server"] |= {"url": "https://lxd:8443", "insecure_skip_verify": "true"}
    loaded = load(given, caller, tmp_path / "cpi.json")
    assert (
        loaded.agent.mbus
        == {
            "director": "nats://((internal_ip)):4222",
            "create-env": "https://mbus:((mbus_bootstrap_password))@0.0.0.0:6868",
        }[caller]
    )
    assert loaded.server.project_name == "((lxd_project_name))"


def test_cpi_yml_puts_the_release_in_every_place_that_wants_it() -> None:
    manifest = with_cpi()
    release = {"name": "lxd_cpi", "release": read(bosh_release.ROOT / "config/final.yml")["name"]}
    assert manifest["cloud_provider"]["template"] == release
    assert release in manifest["instance_groups"][0]["jobs"]
    assert manifest["instance_groups"][0]["properties"]["director"]["cpi_job"] == "lxd_cpi"
    assert release["release"] in {one["name"] for one in manifest["releases"]}
    assert "openstack-kvm" in manifest["resource_pools"][0]["stemcell"]["url"]
    assert parse_vm_properties(manifest["resource_pools"][0]["cloud_properties"]).limits() == {
        "limits.cpu": "4",
        "limits.memory": "8192MiB",
    }


def test_every_variable_is_in_the_vars_file_or_on_the_command_line() -> None:
    known = read(MANIFESTS / "bosh-vars.yml").keys() | COMMAND_LINE
    assert bosh_ops.variables(read(MANIFESTS / "cpi.yml")) <= known
    assert {
        "director_name",
        "lxd_project_name",
        "lxd_profile_name",
        "lxd_network_name",
        "lxd_storage_pool_name",
        "internal_cidr",
        "internal_gw",
        "internal_ip",
    } == read(MANIFESTS / "bosh-vars.yml").keys()


@pytest.mark.parametrize("path", OPS, ids=lambda path: path.stem)
def test_every_ops_file_goes_onto_the_manifest_and_sets_only_known_properties(path: Path) -> None:
    manifest = with_cpi(path)
    if path.stem not in ("local-release", "remove-instance-config"):
        assert manifest != with_cpi(), "it changes something"
    for given in sides(manifest).values():
        for section, content in given["lxd_cpi"].items():
            for key in content:
                assert f"lxd_cpi.{section}.{key}" in bosh_job.SPEC["properties"]


@pytest.mark.parametrize(
    "name", ["enable-incus", "enable-lxd", "enable-dhcp-network-assignment", "enable-default-secureboot"]
)
@pytest.mark.parametrize("caller", ["director", "create-env"])
def test_what_an_ops_file_sets_loads_for_both_callers(name: str, caller: str, tmp_path: Path) -> None:
    given = sides(with_cpi(MANIFESTS / f"ops/{name}.yml"))[caller]
    given["lxd_cpi"]["server"] |= {"url": "https://lxd:8443", "insecure_skip_verify": False}
    server = load(given, caller, tmp_path / "cpi.json").server
    assert {
        "enable-incus": server.type == "incus",
        "enable-lxd": server.type == "lxd",
        "enable-dhcp-network-assignment": server.managed_network_assignment == "dhcp",
        "enable-default-secureboot": server.instance_config == {"default": {"security.secureboot": "true"}},
    }[name]


def test_server_variables_take_the_place_of_all_of_ours() -> None:
    before, after = (bosh_ops.variables(with_cpi(*ops)) for ops in ((), (MANIFESTS / "ops/server-variables.yml",)))
    ours = {name for name in before if name.startswith("lxd_")}
    assert not {name for name in after if name.startswith("lxd_")}
    assert {name.replace("lxd_", "server_") for name in ours} <= after


def test_the_throttles_directory_is_one_that_workers_under_bpm_can_see(tmp_path: Path) -> None:
    manifest = with_cpi(MANIFESTS / "ops/enable-throttle.yml", MANIFESTS / "ops/throttle-directory.yml")
    given = sides(manifest)["director"]
    [volume] = given["director"]["cpi_additional_volumes"]
    assert volume["writable"]
    given["lxd_cpi"]["server"] |= {"url": "https://lxd:8443", "insecure_skip_verify": False}
    given["lxd_cpi"]["throttle_config"] |= {"limit": 3, "hold": "90s"}
    loaded = load(given, "director", tmp_path / "cpi.json")
    assert loaded.lock_directory().startswith(volume["path"] + "/")
    assert loaded.throttle_config.enabled and loaded.throttle_config.limit == 3


def test_all_cloud_properties_of_the_cloud_config_are_known() -> None:
    cloud = read(MANIFESTS / "cloud-config.yml")
    for one in [*cloud["azs"], *cloud["vm_types"], *cloud["vm_extensions"]]:
        parse_vm_properties(one.get("cloud_properties"))
    for one in cloud["disk_types"]:
        parse_disk_properties(one.get("cloud_properties"))
    assert {cloud["compilation"]["vm_type"], "small", "minimal", "small-highmem"} <= {
        one["name"] for one in cloud["vm_types"]
    }


def test_the_cpi_config_overlays_the_job_without_faults(tmp_path: Path) -> None:
    path = tmp_path / "cpi.json"
    path.write_text(bosh_job.render("cpi.json.erb", bosh_job.CONNECTION))
    for cpi in read(MANIFESTS / "cpi-config.yml")["cpis"]:
        assert cpi["type"] + "_cpi" == bosh_job.SPEC["name"]
        context = cpi["properties"] | {"director_uuid": "d", "request_id": "r", "url": f"https://{cpi['name']}:8443"}
        assert schema.load(str(path), context).server.url == f"https://{cpi['name']}:8443"


@pytest.mark.parametrize("name", ["postgres", "concourse", "cloudfoundry"])
def test_the_addresses_of_the_sample_deployments_are_static_ones_of_the_cloud_config(name: str) -> None:
    import ipaddress
    import re

    [static] = read(MANIFESTS / "cloud-config.yml")["networks"][0]["subnets"][0]["static"]
    first, last = (ipaddress.ip_address(address) for address in static.split("-"))
    addresses = re.findall(r"\d+\.\d+\.\d+\.\d+", (MANIFESTS / f"{name}-vars.yml").read_text("utf-8"))
    assert addresses
    assert all(first <= ipaddress.ip_address(address) <= last for address in addresses)


def test_the_runtime_config_and_the_postgres_manifest_are_complete() -> None:
    runtime = read(MANIFESTS / "runtime-config.yml")
    assert {job["release"] for addon in runtime["addons"] for job in addon["jobs"]} == {
        one["name"] for one in runtime["releases"]
    }
    postgres = read(MANIFESTS / "postgres.yml")
    known = read(MANIFESTS / "postgres-vars.yml").keys() | {one["name"] for one in postgres["variables"]}
    assert bosh_ops.variables(postgres) <= known
