"""A disposable, real LXD or Incus server with virtual machines: start, use, restart, take down.

Its data is in STATE/NAME, its processes in the network namespace "bosh-NAME". Every function raises HostError, with a
message meant for people, when it cannot do its work.
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
from tests.host.machine import HostError, locked, need, possible, run, say, tail, wait_until
from tests.host.processes import daemon_runs, inside, keeper, netns, signal_daemon, start, sweep

__all__ = [
    "Facts",
    "HostError",
    "client",
    "client_command",
    "disposable",
    "down",
    "facts",
    "names",
    "netns_command",
    "possible",
    "restart",
    "running",
    "start_daemon",
    "stop_daemon",
    "up",
]

STATE = pathlib.Path(os.environ.get("BOSH_LXD_CPI_STATE", "/var/lib/bosh-lxd-cpi/hosts"))
CLIENT_ENVIRONMENT = {"HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}

Configure = Callable[[str, str, str], None]
"""Of a host's name, its kind and its storage driver."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a client of the server needs to know; paths are those of this machine."""

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
    """Start a server of this kind, set it up if it is new, and return its facts once it answers.

    A server that was taken down without wiping comes back with its data; one that runs already is left alone.
    `configure` sets up a new one in place of what is usual.
    Raises HostError if this machine cannot carry it, or with the daemon's last words if it does not come up.
    """
    name = name or kind
    if kind not in KINDS:
        raise HostError(f"{kind}: no such kind of server; there are {', '.join(KINDS)}")
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name):
        raise HostError(f"{name}: a name is up to 31 lower-case letters, digits and dashes, and begins with a letter")
    if reason := possible():
        raise HostError(reason)
    need("ip", "openssl")
    root, state = rootfs.build(kind), STATE / name
    with locked(state):
        known = _stored(name)
        if known and (known.kind, known.driver) != (kind, pool):
            raise HostError(f"{name}: exists as {known.kind} with a {known.driver} pool; down --wipe it first")
        if known and keeper(name):
            if not daemon_runs(name):
                start_daemon(name)
            return known
        sweep(name, state)
        if not known:
            _remove_half_made(state)
        say(f"starting {name} ({kind})")
        try:
            start(name, kind, tree=root, state=state)
            version = _wait_ready(name, kind)
            if not known:
                (configure or _configure)(name, kind, pool)
        except BaseException:
            sweep(name, state)
            raise
        return _store(_facts(name, kind, version=version, driver=pool))


def down(name: str, *, wipe: bool = False) -> None:
    """End a host and everything in its network but the caller, also what a crash left behind; with wipe its data too.

    Its virtual machines lose their power; like a real server it starts them again when it comes up. No such host: fine.
    """
    with locked(STATE / name):
        if not wipe:
            signal_daemon(name, signal.SIGTERM)
            wait_until(lambda: not daemon_runs(name), seconds=30)
        sweep(name, STATE / name)
        if wipe or not _stored(name):
            shutil.rmtree(STATE / name)


@contextlib.contextmanager
def disposable(kind: str, *, name: str, pool: str = "btrfs") -> Iterator[Facts]:
    """A new server for one run. One of this name that a killed run left is wiped first; one in use is a HostError."""
    with socket.socket(socket.AF_UNIX) as mark:  # an abstract name: a process that is killed gives it back
        try:
            mark.bind(f"\0{netns(name)}")
        except OSError:
            raise HostError(f"{name}: another run uses it; runs beside each other need names of their own") from None
        down(name, wipe=True)
        try:
            yield up(kind, name=name, pool=pool)
        finally:
            down(name, wipe=True)


def restart(name: str, *, hard: bool = False) -> None:
    """Stop the daemon (hard: by SIGKILL) and start it again; its virtual machines run on meanwhile."""
    stop_daemon(name, hard=hard)
    start_daemon(name)


def stop_daemon(name: str, *, hard: bool = False) -> None:
    """Stop just the daemon, so that nothing answers at the host's address; virtual machines run on."""
    signal_daemon(name, signal.SIGKILL if hard else signal.SIGTERM)
    if not wait_until(lambda: not daemon_runs(name), seconds=30):
        raise HostError(f"{name}: the daemon did not stop within 30 s")


def start_daemon(name: str) -> None:
    """Start the daemon again after stop_daemon, and wait until it answers."""
    kind, pid = facts(name).kind, keeper(name)
    if not pid:
        raise HostError(f"{name}: is down; bring it up first")
    os.kill(pid, signal.SIGHUP)
    _wait_ready(name, kind)


def facts(name: str) -> Facts:
    """The facts of a host; raises HostError if there is none of that name."""
    known = _stored(name)
    if not known:
        raise HostError(f"{name}: no such host; there is {', '.join(names()) or 'none'}")
    return known


def names() -> list[str]:
    """The names of all hosts of this machine, running or not."""
    return sorted(file.parent.name for file in STATE.glob("*/facts.json"))


def running(name: str) -> bool:
    """Whether the host is up, with its daemon running."""
    return daemon_runs(name)


def client(name: str, *arguments: str, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the server's own command-line client and capture what it says; HostError if it fails, unless check is off."""
    return run(*client_command(name, *arguments), check=check, stdin=stdin, env=CLIENT_ENVIRONMENT)


def client_command(name: str, *arguments: str) -> list[str]:
    """The command that runs the server's own client in the host's file system; /tmp there is the machine's."""
    return inside(name, KINDS[facts(name).kind].client, *arguments)


def netns_command(name: str) -> list[str]:
    """What to put before a command so that it runs in the host's network: there the server is at Facts.url."""
    return ["ip", "netns", "exec", netns(name)]


def _wait_ready(name: str, kind: str, seconds: float = 60) -> str:
    """The server's version, once it answers."""
    began, log = time.monotonic(), STATE / name / "daemon.log"
    while True:
        answer = _query(name, kind, "/1.0") if keeper(name) else None
        if answer and answer.returncode == 0:
            return json.loads(answer.stdout)["environment"]["server_version"]
        waited = time.monotonic() - began
        if waited > seconds or (waited > 15 and not daemon_runs(name)):
            words = f"did not answer within {seconds:.0f} s" if daemon_runs(name) else "ended"
            raise HostError(f"{name}: the daemon {words}; the end of {log}:\n{tail(log)}")
        time.sleep(0.2)


def _query(name: str, kind: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(*inside(name, KINDS[kind].client, "query", *arguments), check=False, env=CLIENT_ENVIRONMENT)


def _configure(name: str, kind: str, driver: str) -> None:
    certificate, key = STATE / name / "client.crt", STATE / name / "client.key"
    run(
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:secp384r1",
        "-nodes",
        "-days",
        "3650",
        "-subj",
        "/CN=bosh",
        "-keyout",
        key,
        "-out",
        certificate,
    )
    for method, path, body in configuration.requests(driver, certificate.read_text(encoding="utf-8")):
        done = _query(name, kind, "--wait", "--request", method, "--data", json.dumps(body), path)
        if done.returncode:
            raise HostError(f"{name}: {method} {path}: {done.stderr.strip()}")


def _remove_half_made(state: pathlib.Path) -> None:
    """Remove what an interrupted first start left."""
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


def _stored(name: str) -> Facts | None:
    """The facts of a host that once came up completely."""
    try:
        return Facts(**json.loads((STATE / name / "facts.json").read_text(encoding="utf-8")))
    except (FileNotFoundError, TypeError):  # TypeError: made by another version of this tool
        return None


def _store(known: Facts) -> Facts:
    file = STATE / known.name / "facts.json"
    new = file.with_suffix(".new")
    new.write_text(json.dumps(dataclasses.asdict(known), indent=1) + "\n", encoding="utf-8")
    new.rename(file)
    return known
