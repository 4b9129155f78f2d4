"""The compilation of the packages, and the installed CPI."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.release import bosh_release

INFO = '{"method":"info","arguments":[],"context":{"director_uuid":"d"},"api_version":1}'
HAS_VM = '{"method":"has_vm","arguments":["vm-1"],"context":{"director_uuid":"d"},"api_version":2}'
CONFIG = json.dumps(
    {
        "server": {"url": "https://127.0.0.1:1", "tls_client_cert": "x", "tls_client_key": "y"},
        "agent": {"mbus": "nats://10.0.0.1:4222"},
    }
)
SYSTEM_PYTHON = Path("/usr/bin/python3")
OLD_PYTHONS = sorted(Path.home().glob(".pyenv/versions/3.[6-9].*/bin/python3.[6-9]"))


def install(
    tmp_path: Path, path: Path, *, director: bool = False, shell: str = "bash", hide: Path | None = None
) -> bosh_release.CompileResult:
    """Compile both packages in the order of their dependencies. Return the result of the second one."""
    packages = tmp_path / "packages"
    for package in ("python3", "bosh_lxd_cpi"):
        run = bosh_release.compile_package(
            package,
            source=bosh_release.pack(package, tmp_path / "compile" / package),
            packages=packages,
            path=path,
            director=director,
            shell=shell,
            hide=hide,
        )
    return run


def call(package: Path, request: str, *arguments: str, environ: dict[str, str] | None = None) -> dict[str, Any]:
    run = subprocess.run(
        [package / "bin/cpi", *arguments], input=request, capture_output=True, text=True, check=True, env=environ or {}
    )
    return json.loads(run.stdout)


@pytest.mark.parametrize("director", [False, True], ids=["create-env", "director"])
@pytest.mark.parametrize(
    "python", bosh_release.interpreters(), ids=lambda path: "-".join(path.parts[1:2] + path.parts[-1:])
)
def test_compiles_without_network(python: Path, director: bool, tmp_path: Path, blobs: None) -> None:
    run = install(tmp_path, bosh_release.tools(tmp_path / "tools", python), director=director)
    assert run.status == 0, run.stderr
    assert (run.target / "python3").readlink().name == python.name
    version = "import sys; print('python%d.%d' % sys.version_info[:2])"
    assert subprocess.check_output([run.target / "python3", "-c", version], text=True).strip() == python.name
    assert call(run.target, INFO)["result"]["api_version"] == 2
    (tmp_path / "cpi.json").write_text(CONFIG)
    response = call(run.target, HAS_VM, "--config", str(tmp_path / "cpi.json"))
    assert "PEM" in response["error"]["message"], "all modules of a call work with this version"
    for program in ("doctor", "cleanup"):
        subprocess.run([run.target / "bin" / program, "--help"], stdout=subprocess.DEVNULL, check=True, env={})


def test_chooses_the_newest_python(tmp_path: Path, blobs: None) -> None:
    pythons = bosh_release.interpreters()
    run = install(
        tmp_path, bosh_release.tools(tmp_path / "tools", *{python.name: python for python in pythons}.values())
    )
    newest = max(pythons, key=lambda python: int(python.name.partition(".")[2]))
    assert (run.target / "python3").readlink().name == newest.name


def test_prefers_the_compiled_python3_package(tmp_path: Path, blobs: None) -> None:
    python_package = tmp_path / "packages/python3/bin"
    path = bosh_release.tools(tmp_path / "tools")
    packages = tmp_path / "packages"
    python_package.mkdir(parents=True)
    (python_package / "python3").write_text(
        f'#!/bin/sh\n[ "$1" = -I ] && [ "$2" = -c ] && [ -z "$5" ] && '
        f'{{ echo "$0"; exit; }}\nexec {SYSTEM_PYTHON} "$@"\n'
    )
    (python_package / "python3").chmod(0o755)
    run = bosh_release.compile_package(
        "bosh_lxd_cpi", source=bosh_release.pack("bosh_lxd_cpi", tmp_path / "compile"), packages=packages, path=path
    )
    assert run.status == 0, run.stderr
    assert (run.target / "python3").readlink() == python_package / "python3"


@pytest.mark.skipif(not OLD_PYTHONS, reason="needs a Python older than 3.10")
def test_reports_a_missing_python(tmp_path: Path, blobs: None) -> None:
    path = bosh_release.tools(tmp_path / "tools", *OLD_PYTHONS[-1:])
    run = install(tmp_path, path, hide=SYSTEM_PYTHON)
    assert run.status == 1
    assert run.stderr.splitlines()[-1].startswith("bosh_lxd_cpi: no Python 3.10 or newer with ssl and zlib")


def test_reports_missing_libraries(tmp_path: Path, blobs: None) -> None:
    source = bosh_release.pack("bosh_lxd_cpi", tmp_path / "compile")
    (source / "vendor/pyyaml-6.0.3.tar.gz").unlink()
    run = bosh_release.compile_package(
        "bosh_lxd_cpi", source=source, packages=tmp_path / "packages", path=bosh_release.tools(tmp_path / "tools")
    )
    assert run.status == 1
    assert "bin/vendor" in run.stderr.splitlines()[-1]


def test_packaging_runs_with_dash_and_busybox(tmp_path: Path, blobs: None) -> None:
    """dash has no feature that bash 3.2 lacks, and the tools of busybox have few GNU options."""
    run = install(tmp_path, bosh_release.tools(tmp_path / "tools", SYSTEM_PYTHON, busybox=True), shell="dash")
    assert run.status == 0, run.stderr
    assert call(run.target, INFO)["error"] is None


def test_installed_cpi_uses_libraries_of_the_release(tmp_path: Path, packages: Path) -> None:
    package = packages / "bosh_lxd_cpi"
    config = tmp_path / "cpi.yml"
    config.write_text(f"# YAML\nlxd_cpi: {CONFIG}\n")
    code = "import sys; sys.path.insert(0, '.'); import urllib3, yaml; print(urllib3.__file__, yaml.__file__)"
    modules = subprocess.run(
        [package / "python3", "-IS", "-c", code], cwd=package, capture_output=True, text=True, check=True
    )
    assert modules.stdout.count(str(package)) == 2
    response = call(package, HAS_VM, "--config", str(config))
    assert "tls_client_cert" in str(response["error"]) or "PEM" in str(response["error"])


def test_modules_are_compiled_without_source_checks(packages: Path) -> None:
    package = packages / "bosh_lxd_cpi"
    sources = [path for path in package.rglob("*.py") if path.parent.name != "__pycache__"]
    caches = list(package.rglob("*.pyc"))
    assert len(caches) == len(sources) > 50
    flags = {int.from_bytes(cache.read_bytes()[4:8], "little") for cache in caches}
    assert flags == {0b01}, "hash-based, unchecked (PEP 552)"


def test_installs_licences_of_the_libraries(packages: Path) -> None:
    package = packages / "bosh_lxd_cpi"
    assert {path.name for path in (package / "licenses").iterdir()} == {"urllib3", "PyYAML"}


def test_uses_another_python_if_the_chosen_python_is_missing(tmp_path: Path, blobs: None) -> None:
    run = install(tmp_path, bosh_release.tools(tmp_path / "tools", SYSTEM_PYTHON))
    (run.target / "python3").unlink()
    (run.target / "python3").symlink_to(tmp_path / "missing")
    assert call(run.target, INFO, environ={"PATH": "/usr/bin:/bin"})["error"] is None
    assert "no Python" in str(call(run.target, INFO, environ={"PATH": str(tmp_path), "HOME": os.devnull})["error"])


def test_python3_without_source_contains_a_readme(tmp_path: Path) -> None:
    source = bosh_release.pack("python3", tmp_path / "compile")
    for blob in source.glob("python3/Python-*"):
        blob.unlink()
    run = bosh_release.compile_package(
        "python3", source=source, packages=tmp_path / "packages", path=bosh_release.tools(tmp_path / "tools")
    )
    assert run.status == 0, run.stderr
    assert [path.name for path in run.target.iterdir()] == ["README"]


def test_reports_why_python3_cannot_be_compiled(tmp_path: Path) -> None:
    source = bosh_release.pack("python3", tmp_path / "compile")
    tree = tmp_path / "Python-3.13.1"
    tree.mkdir()
    (tree / "configure").write_text(
        "#!/bin/sh\necho 'configure: error: no acceptable C compiler found in $PATH'\nexit 1\n"
    )
    (tree / "configure").chmod(0o755)
    with tarfile.open(source / "python3/Python-3.13.1.tgz", "w:gz") as archive:
        archive.add(tree, arcname=tree.name)
    tools = bosh_release.tools(tmp_path / "tools", Path("/usr/bin/getconf"), Path("/usr/bin/tail"))
    run = bosh_release.compile_package("python3", source=source, packages=tmp_path / "packages", path=tools)
    assert run.status == 1
    assert run.stderr.splitlines()[-1].startswith("python3: cannot configure CPython") and "C compiler" in run.stderr
