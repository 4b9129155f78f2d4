"""Pack and compile the packages of this repository as BOSH does.

The rules are those of the CLI and of the agent: docs/development/bosh-contract.md §5.1, §5.2, §5.4.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("bash", "sh", "cat", "cp", "gzip", "head", "ln", "ls", "mkdir", "tar", "env")
"""The programs in PATH while packaging runs, besides Python."""


class CompileResult(NamedTuple):
    """The result of a packaging script."""

    status: int
    stderr: str
    target: Path


def spec(package: str) -> dict[str, Any]:
    """Return the spec of a package."""
    return yaml.safe_load((ROOT / "packages" / package / "spec").read_text("utf-8"))


def matches(pattern: str) -> dict[str, Path]:
    """Return the files that a glob matches, by their path in the package. Files in src hide those in blobs."""
    files: dict[str, Path] = {}
    for directory in (ROOT / "src", ROOT / "blobs"):
        for path in sorted(glob.glob(pattern, root_dir=directory, recursive=True)):  # noqa: PTH207  Path.glob follows no links
            if (directory / path).is_file():
                files.setdefault(path, directory / path)
    return files


def package_files(package: str) -> dict[str, Path]:
    """Return all files of a package by their path in it."""
    return {path: file for pattern in spec(package)["files"] for path, file in matches(pattern).items()}


def is_packageable(file: Path) -> bool:
    """Return whether the CLI packs a file.

    The CLI silently omits files that it reaches through a linked directory (bosh-cli, release/pkg/dir_reader.go).
    """
    source = ROOT / "src"
    return file.is_symlink() or os.path.relpath(file, source) == os.path.relpath(file.resolve(), source.resolve())


def pack(package: str, destination: Path) -> Path:
    """Write the source directory of a package, as on a compilation VM, and return it."""
    for path, file in package_files(package).items():
        (destination / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, destination / path)
        (destination / path).chmod(0o755 if file.stat().st_mode & 0o111 else 0o644)
    destination.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / "packages" / package / "packaging", destination / "packaging")
    return destination


def tools(folder: Path, *programs: Path, busybox: bool = False) -> Path:
    """Create a directory for PATH that contains only TOOLS and `programs`."""
    folder.mkdir(parents=True)
    for name in TOOLS:
        from_busybox = busybox and name not in ("bash", "sh", "env")
        (folder / name).symlink_to(shutil.which("busybox" if from_busybox else name) or name)
    for program in programs:
        (folder / program.name).symlink_to(program)
    return folder


def compile_package(
    package: str,
    *,
    source: Path,
    packages: Path,
    path: Path,
    director: bool = False,
    shell: str = "bash",
    hide: Path | None = None,
) -> CompileResult:
    """Run packaging as create-env does or, with `director`, as an agent does. There is no network.

    The program `hide` fails while packaging runs.
    """
    target = packages / package
    target.mkdir(parents=True)
    environ = {
        "PATH": str(path),
        "BOSH_COMPILE_TARGET": str(source),
        "BOSH_INSTALL_TARGET": str(target),
        "BOSH_PACKAGE_NAME": package,
    }
    environ |= {"BOSH_PACKAGE_VERSION": "1"} if director else {"BOSH_PACKAGES_DIR": str(packages)}
    command = ["bash", "-x", "packaging"] if shell == "bash" else [shell, "packaging"]
    mount = f"mount --bind /bin/false {hide.resolve()} && " if hide else ""
    assignments = [f"{name}={value}" for name, value in environ.items()]
    run = subprocess.run(
        [
            "unshare",
            "--net",
            "--mount",
            "sh",
            "-c",
            f'{mount}exec "$@"',
            "sh",
            shutil.which("env") or "env",
            "-i",
            *assignments,
            shutil.which(command[0]) or command[0],
            *command[1:],
        ],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    return CompileResult(run.returncode, run.stderr, target)


def interpreters() -> list[Path]:
    """Return all interpreters on this machine that the CPI supports."""
    paths = [*Path.home().glob(".pyenv/versions/3.1*/bin/python3.1?"), *Path("/usr/bin").glob("python3.1?")]
    return sorted(path for path in paths if re.fullmatch(r"python3\.1[0-9]", path.name))
