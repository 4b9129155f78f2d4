"""Environment variables, configuration files and external commands, shared by all subcommands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    "SERVER_URL": "URL of the server as VMs reach it, https://HOST:8443; not localhost (of a cluster also several)",
    "SERVER_TYPE": "lxd or incus (default: lxd)",
    "SERVER_INSECURE": "true to accept any server certificate (default: false)",
    "SERVER_CERT": "path of the server's certificate, to accept no other",
    "SERVER_CLIENT_CERT": "path of the client certificate (default: bosh-client.crt, as written by generate_certs)",
    "SERVER_CLIENT_KEY": "path of the client certificate's key (default: bosh-client.key)",
    "SERVER_ENABLE_AGENT": "any value to run the LXD or Incus agent in the VMs",
    "SERVER_LOCAL_RELEASE": "path of a release tarball to deploy (default: build one)",
    "SERVER_STORAGE": "for init_lxd: driver and options of the pool to create, e.g. zfs source=/dev/sdb (default: dir)",
    "BOSH_DEPLOYMENT_DIR": "checkout of bosh-deployment (default: ~/Documents/Source/bosh-deployment)",
    "BOSH_JUMPBOX_ENABLE": "any value to create the SSH user jumpbox on the director, and to connect through it",
    "BOSH_SNAPSHOTS_ENABLE": "any value to enable disk snapshots",
    "BOSH_RESIZE_DISK_ENABLE": "any value to grow disks in place",
    "BOSH_LOG_LEVEL": "debug to make bosh log all requests, for capture_requests",
    "BOSH_NON_INTERACTIVE": "any value to make destroy delete without confirmation",
    "CF_DEPLOYMENT_DIR": "checkout of cf-deployment, for deploy_cf",
    "CONCOURSE_DIR": "checkout of concourse-bosh-deployment, for deploy_concourse",
    "STATE_DIR": "directory of state.json and creds/, to which paths are relative (default: the current one)",
    "CPI_DIR": "checkout of this repository (default: the checkout that contains this program)",
    "CPI_CONFIG_DIR": "directory of bosh-vars.yml and the other configuration files (default: CPI_DIR/manifests)",
}
SERVER_TYPES = ("lxd", "incus")
CLIENTS = ("lxc", "incus")
"""The clients of the servers. They read the configuration of a new object from stdin if it is no terminal."""
PRIVATE_UMASK = 0o077


class UtilError(Exception):
    """An error that is reported to the operator as one line, without a traceback."""


class Shell:
    """Run commands in the current directory, which holds creds/, state.json and downloads."""

    def __init__(self, environ: dict[str, str], *, dry_run: bool = False) -> None:
        self.environ = environ
        self.dry_run = dry_run
        if environ.get("STATE_DIR"):
            if not Path(environ["STATE_DIR"]).is_dir():
                raise UtilError(f"STATE_DIR is {environ['STATE_DIR']}, which is not a directory")
            os.chdir(environ["STATE_DIR"])
        self.cpi = Path(environ.get("CPI_DIR") or ROOT)
        self.configuration = Path(environ.get("CPI_CONFIG_DIR") or self.cpi / "manifests")

    def setting(self, name: str, default: str = "") -> str:
        """Return an environment variable. SERVER_X may also be set as LXD_X, as in early releases of the Go CPI."""
        return self.environ.get(name) or self.environ.get(name.replace("SERVER_", "LXD_")) or default

    def required_setting(self, name: str) -> str:
        """Return an environment variable. Raise UtilError if it is not set."""
        if not self.setting(name):
            raise UtilError(f"{name} must be set: {ENVIRONMENT[name]}")
        return self.setting(name)

    @property
    def server_type(self) -> str:
        """Return lxd or incus. Raise UtilError for any other value of SERVER_TYPE."""
        server_type = self.setting("SERVER_TYPE", "lxd")
        if server_type not in SERVER_TYPES:
            raise UtilError(f"SERVER_TYPE is {server_type!r}: set it to lxd or incus")
        return server_type

    @property
    def client(self) -> str:
        """The command-line client of the server, lxc or incus."""
        return "incus" if self.server_type == "incus" else "lxc"

    def require_file(self, path: Path, remedy: str) -> Path:
        """Return the path. Raise UtilError if it is not a file, except in a dry run."""
        if not (self.dry_run or path.is_file()):
            raise UtilError(f"there is no file {path}: {remedy}")
        return path

    def run(self, *command: str | Path, umask: int = -1) -> None:
        """Print a command and, unless this is a dry run, run it. Raise UtilError if it fails."""
        print("+", shlex.join(map(str, command)), flush=True)
        if not self.dry_run:
            self._start(command, umask=umask)

    def run_private(self, *command: str | Path) -> None:
        """Like run(), for commands that write to creds/: only the current user can access what they write."""
        if not self.dry_run:
            self.protect_credentials()
        self.run(*command, umask=PRIVATE_UMASK)

    def query(self, *command: str | Path) -> str:
        """Return the output of a command that changes nothing, or an empty string if the command fails."""
        return self._start(command, check=False, capture=True)

    def output(self, *command: str | Path) -> str:
        """Return the output of a command that changes nothing. Raise UtilError if it fails."""
        return self._start(command, capture=True)

    def _start(
        self, command: tuple[str | Path, ...], *, check: bool = True, capture: bool = False, umask: int = -1
    ) -> str:
        try:
            process = subprocess.run(
                [str(word) for word in command],
                env={"BOSH_NON_INTERACTIVE": "true", **self.environ},
                stdin=subprocess.DEVNULL if command[0] in CLIENTS else None,
                check=check,
                capture_output=capture,
                text=True,
                umask=umask,
            )
        except FileNotFoundError:
            raise UtilError(f"there is no program {command[0]} in PATH") from None
        except subprocess.CalledProcessError as error:
            reason = f": {error.stderr.strip()}" if error.stderr else ""
            raise UtilError(f"{command[0]} failed with status {error.returncode}{reason}") from None
        return process.stdout or ""

    def variables(self, file: str = "bosh-vars.yml") -> dict[str, str]:
        """Return the scalars of a variables file. Each server_NAME is also returned as lxd_NAME."""
        path = self.configuration / file
        if not path.is_file():
            raise UtilError(f"there is no file {path}: set CPI_CONFIG_DIR to the directory of {file}")
        rows = re.findall(r"(?m)^(\w+):[ \t]*(.*?)[ \t]*(?:#.*)?$", path.read_text("utf-8"))
        variables = {name: value.strip("'\"") for name, value in rows}
        return variables | {name.replace("server_", "lxd_"): value for name, value in variables.items()}

    def required_variables(self, *names: str, file: str = "bosh-vars.yml") -> list[str]:
        """Return values of a variables file. Raise UtilError if one is missing."""
        variables = self.variables(file)
        for name in names:
            if not variables.get(name):
                raise UtilError(f"{self.configuration / file} does not set {name}")
        return [variables[name] for name in names]

    def write(self, path: str, content: str, mode: int = 0o600) -> None:
        """Write a file with at most the permissions `mode`, also if it exists, unless this is a dry run."""
        print(f"+ write {path}")
        if self.dry_run:
            return
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), os.fstat(file.fileno()).st_mode & mode)
            file.write(content)

    def protect_credentials(self) -> None:
        """Make creds/ and its files accessible to the current user only."""
        directory = Path("creds")
        directory.mkdir(mode=0o700, exist_ok=True)
        directory.chmod(0o700)
        for file in directory.iterdir():
            if file.is_file():
                file.chmod(file.stat().st_mode & 0o600)
