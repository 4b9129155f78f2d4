"""The pages of the documentation match the release."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from bosh_lxd_cpi.guest import cloud_properties
from tests.release import bosh_ops, bosh_release

DOCS = bosh_release.ROOT / "docs"
OPS = bosh_release.ROOT / "manifests/ops"
HOW_TO = sorted(DOCS.glob("how-to/*.md"))


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text("utf-8")


def test_accepts_the_examples_of_cloud_properties() -> None:
    readers = {
        "vm_types": cloud_properties.parse_vm_properties,
        "disk_types": cloud_properties.parse_disk_properties,
        "azs": cloud_properties.parse_vm_properties,
    }
    count = 0
    for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", page("how-to/cloud-config"), re.MULTILINE):
        document = yaml.safe_load(block.replace("\n    ", "\n").removeprefix("    "))
        for section, entries in document.items():
            for entry in entries:
                if section == "networks":
                    for subnet in entry["subnets"]:
                        cloud_properties.parse_network_properties(subnet.get("cloud_properties"), entry["name"])
                else:
                    readers[section](entry.get("cloud_properties"))
                count += 1
    assert count > 5


def test_index_links_to_all_pages() -> None:
    links = set(re.findall(r"\]\(([^)#:]+\.md)\)", page("README")))
    assert links >= {str(path.relative_to(DOCS)) for path in DOCS.glob("[!d]*/*.md")}


def test_readme_lists_ops_files_with_their_variables() -> None:
    readme = (OPS / "README.md").read_text("utf-8")
    for path in OPS.glob("*.yml"):
        [row] = [line for line in readme.splitlines() if f"`{path.stem}`" in line.partition("|")[2].partition("|")[0]]
        if path.stem != "server-variables":
            assert all(f"`{name}`" in row for name in bosh_ops.variables(yaml.safe_load(path.read_text("utf-8")))), path


@pytest.mark.parametrize("path", [*HOW_TO, OPS / "README.md"], ids=lambda path: path.name)
def test_subcommands_in_the_docs_exist(path: Path) -> None:
    usage = subprocess.run([bosh_release.ROOT / "bin/util"], capture_output=True, text=True, check=True).stdout
    for name in re.findall(r"\butil ([a-z]+_[a-z_]+|destroy)", path.read_text("utf-8")):
        assert f"  {name} " in usage


@pytest.mark.parametrize("name", ["deploy", "set-up-lxd", "set-up-incus"])
def test_docs_choose_a_pool_before_init_lxd(name: str) -> None:
    text = page(f"how-to/{name}")
    assert text.index("SERVER_STORAGE=") < text.index("util init_lxd\n")


def test_docs_create_each_pool_once() -> None:
    assert not re.search(r"(?m)^    .*admin init", page("how-to/set-up-incus"))


def test_docs_mount_file_systems_of_pools_at_boot() -> None:
    text = page("how-to/set-up-lxd")
    for folder in re.findall(r"source=(/srv\S*)", text):
        assert re.search(rf" {folder} btrfs .* >> /etc/fstab\n    mkdir -p {folder} && mount {folder}\n", text)


def test_docs_run_doctor_before_deploying() -> None:
    text = page("how-to/deploy")
    [arguments] = re.findall(r"^    \S*/bin/doctor (.*)$", text, re.MULTILINE)
    assert text.index(arguments) < text.index("util deploy_bosh") < text.index("bosh create-env ../")
    doctor = bosh_release.ROOT / "bin/doctor"
    usage = subprocess.run([doctor, "--help"], capture_output=True, text=True, check=True).stdout
    assert all(f"  {option} " in usage for option in re.findall(r"--\w+", arguments))


def test_doctor_and_deployment_use_the_same_variables() -> None:
    interpolate_arguments, create_env_arguments = (
        set(re.findall(r"--var(?:-file)?=\w+|--vars-\w+=\S+|-o \S+", command))
        for command in re.findall(r"bosh (?:interpolate|create-env) (?:.*\\\n)+.*", page("how-to/deploy"))
    )
    assert (
        create_env_arguments - interpolate_arguments == {"--var=cpi_path"}
        and interpolate_arguments <= create_env_arguments
    )


def test_page_deploys_with_the_arguments_of_util(tmp_path: Path) -> None:
    def arguments(command: str) -> set[str]:
        options = re.findall(r"(?:-o |--ops-file=)\S*?([\w-]+\.yml)|--(?:var|var-file)=(\w+)", command)
        return {name or variable for name, variable in options}

    environ = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "SERVER_URL": "https://host:8443",
        "SERVER_CERT": "server.crt",
    }
    util = [bosh_release.ROOT / "bin/util", "--dry-run", "deploy_bosh"]
    output = subprocess.run(util, capture_output=True, text=True, check=True, env=environ, cwd=tmp_path).stdout
    [command] = re.findall(r"^\+ bosh create-env .*", output, re.MULTILINE)
    [documented_command] = re.findall(r"bosh create-env (?:.*\\\n)+.*", page("how-to/deploy"))
    assert arguments(documented_command) == arguments(command)


def test_migration_page_names_all_variables() -> None:
    variables = bosh_ops.variables(yaml.safe_load((OPS.parent / "cpi.yml").read_text("utf-8"))[0])
    for name in variables | bosh_ops.variables(yaml.safe_load((OPS / "release-url.yml").read_text("utf-8"))):
        assert name in page("how-to/move-from-go-cpi")


def test_troubleshoot_is_sorted_by_message() -> None:
    _, _, table = page("how-to/troubleshoot").partition("| Message | What to do |\n|---|---|\n")
    messages = [row.split("|")[1].strip().lower() for row in table.partition("\n\n")[0].splitlines()]
    assert len(messages) > 10 and messages == sorted(messages)
