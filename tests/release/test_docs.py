from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import bosh_job
import bosh_ops
import bosh_release
import pytest
import yaml

from bosh_lxd_cpi.guest import cloud_properties

DOCS = bosh_release.ROOT / "docs"
OPS = bosh_release.ROOT / "manifests/ops"
PAGES = (
    "deploy",
    "configure",
    "authentication",
    "lxd-setup",
    "incus-setup",
    "cloud-config",
    "air-gapped",
    "move-from-go-cpi",
)


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text("utf-8")


def test_the_page_of_properties_is_made_from_the_spec() -> None:
    program = bosh_release.ROOT / "tools/configure-page"
    made = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True).stdout
    assert page("configure") == made, "run tools/configure-page > docs/configure.md"
    assert all(f"### {name}\n" in made for name in bosh_job.SPEC["properties"])


@pytest.mark.parametrize(
    "kind",
    [cloud_properties.VmProperties, cloud_properties.DiskProperties, cloud_properties.NetworkProperties],
    ids=lambda kind: kind.__name__,
)
def test_every_cloud_property_is_in_the_page_on_the_cloud_config(kind: type[cloud_properties.VmProperties]) -> None:
    section = {"VmProperties": "## VMs", "DiskProperties": "## Disks", "NetworkProperties": "## Networks"}[
        kind.__name__
    ]
    text = page("cloud-config").split(section)[1].split("\n## ")[0]
    rows = {name for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert rows == set(kind._fields)


def test_the_examples_of_cloud_properties_are_accepted() -> None:
    readers = {"vm_types": cloud_properties.vm, "disk_types": cloud_properties.disk, "azs": cloud_properties.vm}
    seen = 0
    for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", page("cloud-config"), re.MULTILINE):
        document = yaml.safe_load(block.replace("\n    ", "\n").removeprefix("    "))
        for section, entries in document.items():
            for entry in entries:
                if section == "networks":
                    for subnet in entry["subnets"]:
                        cloud_properties.network(subnet.get("cloud_properties"), entry["name"])
                else:
                    readers[section](entry.get("cloud_properties"))
                seen += 1
    assert seen > 5


@pytest.mark.parametrize("name", PAGES)
def test_links_between_pages_lead_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page(name)):
        assert (DOCS / link).exists(), link


def test_every_ops_file_is_listed_with_its_variables() -> None:
    readme = (OPS / "README.md").read_text("utf-8")
    for path in OPS.glob("*.yml"):
        [row] = [line for line in readme.splitlines() if f"`{path.stem}`" in line.partition("|")[2].partition("|")[0]]
        if path.stem != "server-variables":
            assert all(f"`{name}`" in row for name in bosh_ops.variables(yaml.safe_load(path.read_text("utf-8")))), path


@pytest.mark.parametrize(
    "path", [*(DOCS / f"{name}.md" for name in PAGES), OPS / "README.md"], ids=lambda path: path.name
)
def test_util_subcommands_in_the_docs_exist(path: Path) -> None:
    known = subprocess.run([bosh_release.ROOT / "bin/util"], capture_output=True, text=True, check=True).stdout
    for name in re.findall(r"\butil ([a-z]+_[a-z_]+|destroy)", path.read_text("utf-8")):
        assert f"  {name} " in known


@pytest.mark.parametrize("name", ["deploy", "lxd-setup", "incus-setup"])
def test_where_a_server_is_set_up_the_pool_that_is_made_is_chosen(name: str) -> None:
    text = page(name)
    assert text.index("SERVER_STORAGE=") < text.index("util init_lxd\n" if name != "deploy" else "util init_lxd  ")


def test_no_pool_is_made_twice_in_the_docs() -> None:
    assert not re.search(r"(?m)^    .*admin init", page("incus-setup"))


def test_a_file_system_for_a_pool_is_mounted_after_a_reboot_too() -> None:
    text = page("lxd-setup")
    for folder in re.findall(r"source=(/srv\S*)", text):
        assert re.search(rf" {folder} btrfs .* >> /etc/fstab\n    mkdir -p {folder} && mount {folder}\n", text)


def test_the_doctor_is_asked_before_anything_is_deployed_and_with_options_that_it_has() -> None:
    text = page("deploy")
    [asked] = re.findall(r"^    \S*/bin/doctor (.*)$", text, re.MULTILINE)
    assert text.index(asked) < text.index("util deploy_bosh") < text.index("bosh create-env ../")
    doctor = bosh_release.ROOT / "bin/doctor"
    said = subprocess.run([doctor, "--help"], capture_output=True, text=True, check=True).stdout
    assert all(f"  {option} " in said for option in re.findall(r"--\w+", asked))


def test_the_doctor_examines_with_the_variables_that_the_deployment_gets() -> None:
    examined, deployed = (
        set(re.findall(r"--var(?:-file)?=\w+|--vars-\w+=\S+|-o \S+", command))
        for command in re.findall(r"bosh (?:interpolate|create-env) (?:.*\\\n)+.*", page("deploy"))
    )
    assert deployed - examined == {"--var=cpi_path"} and examined <= deployed


def test_who_moves_over_learns_of_every_variable_that_the_release_needs() -> None:
    ours = bosh_ops.variables(yaml.safe_load((OPS.parent / "cpi.yml").read_text("utf-8"))[0])
    for name in ours | bosh_ops.variables(yaml.safe_load((OPS / "release-url.yml").read_text("utf-8"))):
        assert name in page("move-from-go-cpi")
