"""The packages of the release: specs, files and programs."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml

from tests.release import bosh_release

PACKAGES = ("bosh_lxd_cpi", "python3")


@pytest.mark.parametrize("package", PACKAGES)
def test_globs_match_files(package: str, blobs: None) -> None:
    assert [pattern for pattern in bosh_release.spec(package)["files"] if not bosh_release.matches(pattern)] == []


def test_packs_all_modules(blobs: None) -> None:
    package = (bosh_release.ROOT / "bosh_lxd_cpi").resolve()
    tracked_files = subprocess.run(
        ["git", "ls-files", "."], cwd=package, capture_output=True, text=True, check=True
    ).stdout.split()
    assert {f"bosh_lxd_cpi/{path}" for path in tracked_files} <= bosh_release.package_files("bosh_lxd_cpi").keys()


def test_packs_no_tests_and_caches(blobs: None) -> None:
    files = [*bosh_release.package_files("bosh_lxd_cpi"), *bosh_release.package_files("python3")]
    assert [path for path in files if "__pycache__" in path or path.endswith(".pyc") or "tests/" in path] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_spec_has_the_name_of_its_directory(package: str, blobs: None) -> None:
    assert bosh_release.spec(package)["name"] == package
    assert "packaging" not in bosh_release.package_files(package)


@pytest.mark.parametrize("package", PACKAGES)
def test_cli_packs_all_files_and_packaging(package: str, blobs: None) -> None:
    """The CLI silently omits files behind a linked directory. A missing packaging fails only at compilation."""
    files = [bosh_release.ROOT / "packages" / package / "packaging", *bosh_release.package_files(package).values()]
    assert [str(file) for file in files if not bosh_release.is_packageable(file)] == []


def test_job_lists_all_packages() -> None:
    job = yaml.safe_load((bosh_release.ROOT / "jobs/lxd_cpi/spec").read_text("utf-8"))
    dependencies = {
        dependency for package in job["packages"] for dependency in bosh_release.spec(package).get("dependencies", [])
    }
    assert dependencies <= set(job["packages"])
    assert set(job["packages"]) == set(PACKAGES)


def test_packs_all_programs_of_the_job(blobs: None) -> None:
    scripts = "".join(path.read_text("utf-8") for path in (bosh_release.ROOT / "jobs/lxd_cpi/templates").iterdir())
    programs = set(re.findall(r"BOSH_PACKAGES_DIR/bosh_lxd_cpi/(bin/\w+)", scripts))
    assert programs == {"bin/cpi", "bin/cleanup", "bin/doctor"}
    assert programs <= bosh_release.package_files("bosh_lxd_cpi").keys()


def test_readme_spec_and_packaging_name_bin_vendor() -> None:
    """Without bin/vendor, `bosh create-release` fails with a message about a glob only."""
    readme = (bosh_release.ROOT / "README.md").read_text("utf-8")
    assert "bin/vendor" in readme[: readme.index("bosh create-release") + 200]
    for name in ("spec", "packaging"):
        assert "bin/vendor" in (bosh_release.ROOT / "packages/bosh_lxd_cpi" / name).read_text("utf-8")
