"""Start, use, restart and stop test hosts: real LXD or Incus servers with virtual machines.

The data of a host is in STATE/NAME, its processes are in the network namespace "bosh-NAME". Every function raises
HostError if it fails.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

from tests.host import configuration, rootfs
from tests.host.kinds import KINDS
from tests.host.machine import (
    HostError,
    exclusive_directory,
    install_packages,
    print_progress,
    run,
    tail,
    unsupported_reason,
    wait_until,
)
from tests.host.processes import daemon_runs, enter_command, init_pid, netns, signal_daemon, start, tear_down
from tests.support.certificates import create_certificate

__all__ = [
    "Facts",
    "HostError",
    "client",
    "client_command",
    "down",
    "facts",
    "names",
    "netns_command",
    "restart",
    "running",
    "start_daemon",
    "stop_daemon",
    "temporary_host",
    "unsupported_reason",
    "up",
]

STATE = pathlib.Path(os.environ.get("BOSH_LXD_CPI_STATE", "/var/lib/bosh-lxd-cpi/hosts"))
CLIENT_ENVIRONMENT = {"HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}

Configure = Callable[[str, str, str], None]
"""A function of the host's name, kind and storage driver that configures a new server."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """The connection data of a server. Paths are paths on this machine."""

    name: str
    kind: str
    type: str
    netns: str
    url: str
    version: str
    client_cert: str
    client_key: str
    server_cert: str
    project: str
    profile: str
    pool: str
    driver: str
    network: str
    cidr: str
    gateway: str


def up(kind: str, *, name: str | None = None, pool: str = "btrfs", configure: Configure | None = None) -> Facts:
    """Start a server of this kind, configure it if it is new, and return its facts once it responds.

    A stopped server continues with its data. A running server is not changed. `configure` replaces the default
    configuration of a new server. Raises HostError if this machine cannot run a test host, or with the end of the
    daemon's log if it does not start.
    """
    name = name or kind
    if kind not in KINDS:
        raise HostError(f"{kind}: unknown kind of server; the kinds are {', '.join(KINDS)}")
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name):
        raise HostError(f"{name}: a name has up to 31 lower-case letters, digits and dashes, and starts with a letter")
    if reason := unsupported_reason():
        raise HostError(reason)
    install_packages("ip", "openssl")
    root, state = rootfs.build(kind), STATE / name
    with exclusive_directory(state):
        host_facts = _load_facts(name)
        if host_facts and (host_facts.kind, host_facts.driver) != (kind, pool):
            raise HostError(
                f"{name}: exists as {host_facts.kind} with a {host_facts.driver} pool; delete it with down --wipe"
            )
        if host_facts and init_pid(name):
            if not daemon_runs(name):
                start_daemon(name)
            return host_facts
        tear_down(name, state)
        if not host_facts:
            _remove_incomplete(state)
        print_progress(f"starting {name} ({kind})")
        try:
            start(name, kind, tree=root, state=state)
            version = _wait_ready(name, kind)
            if not host_facts:
                (configure or _configure)(name, kind, pool)
        except BaseException:
            tear_down(name, state)
            raise
        return _save_facts(_facts(name, kind, version=version, driver=pool))


def down(name: str, *, wipe: bool = False) -> None:
    """Stop a host and all processes in its network except the caller. `wipe` also deletes its data.

    Its virtual machines are killed. The server starts them again at the next `up`. Nothing happens if there is no such
    host.
    """
    with exclusive_directory(STATE / name):
        if not wipe:
            signal_daemon(name, signal.SIGTERM)
            wait_until(lambda: not daemon_runs(name), seconds=30)
        tear_down(name, STATE / name)
        if wipe or not _load_facts(name):
            shutil.rmtree(STATE / name)


@contextlib.contextmanager
def temporary_host(kind: str, *, name: str, pool: str = "btrfs") -> Iterator[Facts]:
    """A context manager: a new server that is deleted at the end.

    A host of this name is deleted first. Raises HostError if another process uses it.
    """
    with socket.socket(socket.AF_UNIX) as owner_mark:  # the kernel frees an abstract name when the process ends
        try:
            owner_mark.bind(f"\0{netns(name)}")
        except OSError:
            raise HostError(f"{name}: another run uses this host; concurrent runs need different names") from None
        down(name, wipe=True)
        try:
            yield up(kind, name=name, pool=pool)
        finally:
            down(name, wipe=True)


def restart(name: str, *, hard: bool = False) -> None:
    """Restart the daemon; `hard` stops it with SIGKILL. Virtual machines continue to run."""
    stop_daemon(name, hard=hard)
    start_daemon(name)


def stop_daemon(name: str, *, hard: bool = False) -> None:
    """Stop the daemon; `hard` uses SIGKILL. Virtual machines continue to run."""
    signal_daemon(name, signal.SIGKILL if hard else signal.SIGTERM)
    if not wait_until(lambda: not daemon_runs(name), seconds=30):
        raise HostError(f"{name}: the daemon did not stop within 30 s")


def start_daemon(name: str) -> None:
    """Start the daemon after stop_daemon and wait until it responds."""
    kind, pid = facts(name).kind, init_pid(name)
    if not pid:
        raise HostError(f"{name}: the host is down; start it with up")
    os.kill(pid, signal.SIGHUP)
    _wait_ready(name, kind)


def facts(name: str) -> Facts:
    """Return the facts of a host. Raises HostError if there is no such host."""
    host_facts = _load_facts(name)
    if not host_facts:
        raise HostError(f"{name}: no such host; the hosts are: {', '.join(names()) or 'none'}")
    return host_facts


def names() -> list[str]:
    """Return the names of all hosts on this machine, running or not."""
    return sorted(file.parent.name for file in STATE.glob("*/facts.json"))


def running(name: str) -> bool:
    """Return whether the daemon of the host runs."""
    return daemon_runs(name)


def client(name: str, *arguments: str, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the client lxc or incus and return its output. Raises HostError if it fails, unless `check` is false."""
    return run(*client_command(name, *arguments), check=check, stdin=stdin, env=CLIENT_ENVIRONMENT)


def client_command(name: str, *arguments: str) -> list[str]:
    """Return the command that runs lxc or incus in the host's file system. /tmp is shared with this machine."""
    return enter_command(name, KINDS[facts(name).kind].client, *arguments)


def netns_command(name: str) -> list[str]:
    """Return the prefix that runs a command in the network of the host, where the server is at Facts.url."""
    return ["ip", "netns", "exec", netns(name)]


def _wait_ready(name: str, kind: str, seconds: float = 60) -> str:
    """Wait until the server responds and return its version."""
    start_time, log = time.monotonic(), STATE / name / "daemon.log"
    while True:
        result = _query(name, kind, "/1.0") if init_pid(name) else None
        if result and result.returncode == 0:
            return json.loads(result.stdout)["environment"]["server_version"]
        seconds_waited = time.monotonic() - start_time
        if seconds_waited > seconds or (seconds_waited > 15 and not daemon_runs(name)):
            reason = f"did not respond within {seconds:.0f} s" if daemon_runs(name) else "ended"
            raise HostError(f"{name}: the daemon {reason}; the end of {log}:\n{tail(log)}")
        time.sleep(0.2)


def _query(name: str, kind: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(*enter_command(name, KINDS[kind].client, "query", *arguments), check=False, env=CLIENT_ENVIRONMENT)


def _configure(name: str, kind: str, driver: str) -> None:
    certificate, key = STATE / name / "client.crt", STATE / name / "client.key"
    create_certificate(certificate, key, name="bosh", days=3650)
    for method, path, body in configuration.requests(driver, certificate.read_text(encoding="utf-8")):
        result = _query(name, kind, "--wait", "--request", method, "--data", json.dumps(body), path)
        if result.returncode:
            raise HostError(f"{name}: {method} {path}: {result.stderr.strip()}")


def _remove_incomplete(state: pathlib.Path) -> None:
    """Delete the files of an interrupted first start."""
    for entry in state.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _facts(name: str, kind: str, *, version: str, driver: str) -> Facts:
    state = STATE / name
    return Facts(
        name=name,
        kind=kind,
        type=KINDS[kind].type,
        netns=netns(name),
        url=f"https://{configuration.ADDRESS}",
        version=version,
        client_cert=str(state / "client.crt"),
        client_key=str(state / "client.key"),
        server_cert=str(state / "var/server.crt"),
        project=configuration.PROJECT,
        profile=configuration.PROFILE,
        pool=configuration.POOL,
        driver=driver,
        network=configuration.NETWORK,
        cidr=configuration.CIDR,
        gateway=configuration.GATEWAY,
    )


def _load_facts(name: str) -> Facts | None:
    """Return the facts of a host, or None if its first start did not complete."""
    try:
        return Facts(**json.loads((STATE / name / "facts.json").read_text(encoding="utf-8")))
    except (FileNotFoundError, TypeError):  # TypeError: another version of this program wrote the file
        return None


def _save_facts(host_facts: Facts) -> Facts:
    file = STATE / host_facts.name / "facts.json"
    new = file.with_suffix(".new")
    new.write_text(json.dumps(dataclasses.asdict(host_facts), indent=1) + "\n", encoding="utf-8")
    new.rename(file)
    return host_facts
