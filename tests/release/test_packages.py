from __future__ import annotations

import re
import subprocess

import bosh_release
import pytest

PACKAGES = ("bosh_lxd_cpi", "python3")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_glob_matches_a_file(package: str, blobs: None) -> None:
    assert [pattern for pattern in bosh_release.spec(package)["files"] if not bosh_release.matches(pattern)] == []


def test_every_module_of_the_cpi_is_packed(blobs: None) -> None:
    package = (bosh_release.ROOT / "bosh_lxd_cpi").resolve()
    tracked = subprocess.run(
        ["git", "ls-files", "."], cwd=package, capture_output=True, text=True, check=True
    ).stdout.split()
    assert {f"bosh_lxd_cpi/{path}" for path in tracked} <= bosh_release.packed("bosh_lxd_cpi").keys()


def test_no_tests_and_no_caches_are_packed(blobs: None) -> None:
    files = [*bosh_release.packed("bosh_lxd_cpi"), *bosh_release.packed("python3")]
    assert [path for path in files if "__pycache__" in path or path.endswith(".pyc") or "tests/" in path] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_spec_has_its_directorys_name_and_leaves_packaging_to_the_cli(package: str, blobs: None) -> None:
    assert bosh_release.spec(package)["name"] == package
    assert "packaging" not in bosh_release.packed(package)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_cli_takes_every_file_and_the_packaging_script(package: str, blobs: None) -> None:
    """It passes over what it reaches by a link, silently. Without packaging a release fails only when compiled."""
    files = [bosh_release.ROOT / "packages" / package / "packaging", *bosh_release.packed(package).values()]
    assert [str(file) for file in files if not bosh_release.is_packageable(file)] == []


def test_every_package_of_the_job_is_there() -> None:
    import yaml

    job = yaml.safe_load((bosh_release.ROOT / "jobs/lxd_cpi/spec").read_text("utf-8"))
    needed = {
        dependency for package in job["packages"] for dependency in bosh_release.spec(package).get("dependencies", [])
    }
    assert needed <= set(job["packages"])
    assert set(job["packages"]) == set(PACKAGES)


def test_every_program_that_the_jobs_scripts_start_is_packed(blobs: None) -> None:
    scripts = "".join(path.read_text("utf-8") for path in (bosh_release.ROOT / "jobs/lxd_cpi/templates").iterdir())
    programs = set(re.findall(r"BOSH_PACKAGES_DIR/bosh_lxd_cpi/(bin/\w+)", scripts))
    assert programs == {"bin/cpi", "bin/cleanup", "bin/doctor"}
    assert programs <= bosh_release.packed("bosh_lxd_cpi").keys()
