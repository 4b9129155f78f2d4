from __future__ import annotations

import subprocess

import bosh_release
import pytest

PACKAGES = ("bosh_lxd_cpi", "python3")


def packed(package: str) -> set[str]:
    return {path for pattern in bosh_release.spec(package)["files"] for path in bosh_release.matches(pattern)}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_glob_matches_a_file(package: str, blobs: None) -> None:
    assert [pattern for pattern in bosh_release.spec(package)["files"] if not bosh_release.matches(pattern)] == []


def test_every_module_of_the_cpi_is_packed(blobs: None) -> None:
    tracked = subprocess.run(["git", "ls-files", "bosh_lxd_cpi"], cwd=bosh_release.ROOT, capture_output=True, text=True,
                             check=True).stdout.split()
    assert set(tracked) <= packed("bosh_lxd_cpi")


def test_no_tests_and_no_caches_are_packed(blobs: None) -> None:
    files = packed("bosh_lxd_cpi") | packed("python3")
    assert [path for path in files if "__pycache__" in path or path.endswith(".pyc") or "tests/" in path] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_spec_has_its_directorys_name_and_leaves_packaging_to_the_cli(package: str, blobs: None) -> None:
    assert bosh_release.spec(package)["name"] == package
    assert "packaging" not in packed(package)


def test_src_is_a_link_to_the_repository() -> None:
    assert (bosh_release.ROOT / "src").readlink().as_posix() == "."


def test_every_package_of_the_job_is_there() -> None:
    import yaml

    job = yaml.safe_load((bosh_release.ROOT / "jobs/lxd_cpi/spec").read_text("utf-8"))
    needed = {dependency for package in job["packages"] for dependency in bosh_release.spec(package).get("dependencies", [])}
    assert needed <= set(job["packages"])
    assert set(job["packages"]) == set(PACKAGES)
