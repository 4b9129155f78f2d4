"""What all subcommands stand on: the environment, the configuration, and running commands in plain sight."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    "SERVER_URL": "URL of the server, https://HOST:8443, not localhost",
    "SERVER_TYPE": "lxd or incus (default: lxd)",
    "SERVER_INSECURE": "true to accept any server certificate (default: false)",
    "SERVER_CERT": "path of the server's certificate, to accept no other",
    "SERVER_CLIENT_CERT": "path of the client certificate (default: bosh-client.crt, as generate_certs writes it)",
    "SERVER_CLIENT_KEY": "path of its key (default: bosh-client.key)",
    "SERVER_ENABLE_AGENT": "set to have the server's own agent in the VMs",
    "SERVER_LOCAL_RELEASE": "path of a release tarball to use (default: build one)",
    "SERVER_STORAGE": "for init_lxd: driver of a pool to make, and its options (default: dir), as zfs source=/dev/sdb",
    "BOSH_DEPLOYMENT_DIR": "checkout of bosh-deployment (default: ~/Documents/Source/bosh-deployment)",
    "BOSH_JUMPBOX_ENABLE": "set to have a user for ssh on the director",
    "BOSH_SNAPSHOTS_ENABLE": "set to have disk snapshots",
    "BOSH_RESIZE_DISK_ENABLE": "set to have disks grow in place",
    "BOSH_LOG_LEVEL": "debug to have bosh log all requests, for capture_requests",
    "CF_DEPLOYMENT_DIR": "checkout of cf-deployment, for deploy_cf",
    "CONCOURSE_DIR": "checkout of concourse-bosh-deployment, for deploy_concourse",
    "CPI_DIR": "checkout of this repository (default: where this program is)",
    "CPI_CONFIG_DIR": "where bosh-vars.yml and its like are (default: CPI_DIR/manifests)",
}


class UtilError(Exception):
    """What is wrong, in one line."""


class Shell:
    """The current directory as a place to work in: creds/, state.json and downloads go there."""

    def __init__(self, environ: dict[str, str], *, dry_run: bool = False) -> None:
        self.environ = environ
        self.dry_run = dry_run
        self.cpi = Path(environ.get("CPI_DIR") or ROOT)
        self.configuration = Path(environ.get("CPI_CONFIG_DIR") or self.cpi / "manifests")
        self.client = "incus" if self.setting("SERVER_TYPE") == "incus" else "lxc"

    def setting(self, name: str, default: str = "") -> str:
        """An environment variable; SERVER_X may also be called LXD_X, as in go-lxd-cpi's early releases."""
        return self.environ.get(name) or self.environ.get(name.replace("SERVER_", "LXD_")) or default

    def needed(self, name: str) -> str:
        """An environment variable that has to be set. Raises UtilError."""
        if not self.setting(name):
            raise UtilError(f"{name} must be set: {ENVIRONMENT[name]}")
        return self.setting(name)

    def run(self, *command: str | Path) -> None:
        """Print a command and, unless this is a dry run, run it. Raises UtilError."""
        print("+", shlex.join(map(str, command)), flush=True)
        if not self.dry_run:
            self._start(command)

    def ask(self, *command: str | Path) -> str:
        """What a command that changes nothing says; empty if it fails. Raises UtilError if there is no such program."""
        return self._start(command, check=False, capture_output=True, text=True).stdout or ""

    def _start(
        self, command: tuple[str | Path, ...], check: bool = True, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                list(map(str, command)), env={"BOSH_NON_INTERACTIVE": "true", **self.environ}, check=check, **options
            )
        except FileNotFoundError:
            raise UtilError(f"there is no program {command[0]}") from None
        except subprocess.CalledProcessError as failure:
            said = f": {failure.stderr.strip()}" if failure.stderr else ""
            raise UtilError(f"{command[0]} failed with status {failure.returncode}{said}") from None

    def variables(self) -> dict[str, str]:
        """The plain values in bosh-vars.yml; lxd_* under their server_* names too, and the other way round."""
        text = (self.configuration / "bosh-vars.yml").read_text("utf-8")
        given = {name: value.strip("'\"") for name, value in re.findall(r"(?m)^(\w+):[ \t]*(.*?)[ \t]*(?:#.*)?$", text)}
        return given | {name.replace("server_", "lxd_"): value for name, value in given.items()}

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file that allows no more than `mode`, also if it was there before, unless this is a dry run."""
        print(f"+ write {path}")
        if not self.dry_run:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with Path(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)).open("w", encoding="utf-8") as file:
                os.fchmod(file.fileno(), os.fstat(file.fileno()).st_mode & mode)
                file.write(text)
