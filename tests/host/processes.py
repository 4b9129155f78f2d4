"""The processes of a test host: start, find and kill them, and run commands in their namespaces.

The processes of a host are those in its network namespace. The first is its init process (see host_init.py). When it
ends, the kernel kills the others and removes their mounts.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator

from tests.host.machine import HostError, run, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
INIT_MODULE = "tests.host.host_init"
NAMESPACES = pathlib.Path("/run/netns")


def netns(name: str) -> str:
    """Return the name of the network namespace of the host."""
    return f"bosh-{name}"


def start(name: str, kind: str, *, tree: pathlib.Path, state: pathlib.Path) -> None:
    """Start the init process, which starts the daemon. The state directory must exist."""
    for folder in ("root", "var", "log"):
        (state / folder).mkdir(exist_ok=True)
    add_network(name)
    isolate = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]
    enter = ["setsid", "--fork", "ip", "netns", "exec", netns(name), *isolate]
    command = [*enter, sys.executable, "-m", INIT_MODULE, kind, tree, state]
    with pathlib.Path(state / "daemon.log").open("ab") as log:
        subprocess.run(
            [str(word) for word in command], check=True, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )


def tear_down(name: str, state: pathlib.Path) -> None:
    """Kill all processes in the network of the host except the caller, and remove the network and its loop devices."""
    if not wait_until(lambda: not _kill(_members(name)), seconds=20):
        raise HostError(f"{name}: processes {_members(name)} did not end within 20 s")
    delete_network(name)
    if not wait_until(lambda: not _detach(_loops(state)), seconds=20):
        raise HostError(f"{name}: loop devices {_loops(state)} are still in use after 20 s")


def add_network(name: str) -> None:
    """Create the network namespace of a host."""
    with _namespaces_locked():
        run("ip", "netns", "add", netns(name))
    run("ip", "-n", netns(name), "link", "set", "lo", "up")


def delete_network(name: str) -> None:
    """Delete the network namespace of a host, if it exists. The interfaces in it disappear with it."""
    with _namespaces_locked():
        run("ip", "netns", "delete", netns(name), check=False)
        if NAMESPACES.exists() and not any(NAMESPACES.iterdir()):
            run("umount", NAMESPACES, check=False)  # ip netns add mounts the directory; it may be unmounted already


@contextlib.contextmanager
def _namespaces_locked() -> Iterator[None]:
    """Keep other runs from adding and deleting network namespaces."""
    directory = os.open(NAMESPACES.parent, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def init_pid(name: str) -> int | None:
    """Return the process id of the init process, or None if it does not run."""
    return next(
        (pid for pid in _members(name) if _pid_in_namespace(pid) == 1 and INIT_MODULE in _read(pid, "cmdline")), None
    )


def daemon_runs(name: str) -> bool:
    """Return whether the daemon runs. The daemon counts as running until the init process reaps it."""
    return _daemon_number(name) is not None


def signal_daemon(name: str, number: signal.Signals) -> None:
    """Send a signal to the daemon, if it runs."""
    daemon = _daemon_number(name)
    for pid in _members(name):
        if daemon and _pid_in_namespace(pid) == daemon:
            os.kill(pid, number)


def enter_command(name: str, *command: str) -> list[str]:
    """Return the command that runs a command in the namespaces of the host. Raises HostError if it is down."""
    pid = init_pid(name)
    if not pid:
        raise HostError(f"{name}: the host is down; start it with up")
    return ["nsenter", f"--target={pid}", "--mount", "--net", "--pid", "--uts", "--ipc", "--", *command]


def kill_vms(name: str) -> None:
    """Kill the processes of all virtual machines."""
    _kill([pid for pid in _members(name) if _read(pid, "comm").startswith("qemu-system")])


def _daemon_number(name: str) -> int | None:
    """Return the process id of the daemon in its process namespace."""
    pid = init_pid(name)
    number = _read(pid, "root/run/daemon.pid") if pid else ""
    return int(number) if number else None


def _members(name: str) -> list[int]:
    """Return all processes in the network of the host except the caller and its ancestors."""
    pids = {int(pid) for pid in run("ip", "netns", "pids", netns(name), check=False).stdout.split()}
    return sorted(pid for pid in pids - _ancestry(os.getpid()) if _read(pid, "stat"))  # ip itself may be among them


def _ancestry(pid: int) -> set[int]:
    """Return a process and its ancestors."""
    ancestors = set()
    while pid:
        ancestors.add(pid)
        pid = int(_read(pid, "stat").rpartition(")")[2].split()[1])
    return ancestors


def _pid_in_namespace(pid: int) -> int | None:
    """Return the process id of a process in its own process namespace."""
    numbers = next((line.split() for line in _read(pid, "status").splitlines() if line.startswith("NSpid:")), None)
    return int(numbers[-1]) if numbers else None


def _read(pid: int, file: str) -> str:
    try:
        return pathlib.Path(f"/proc/{pid}/{file}").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _kill(pids: list[int]) -> list[int]:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return pids


def _loops(state: pathlib.Path) -> list[str]:
    """Return the loop devices of the pool files of the host."""
    return [
        device
        for file in state.glob("var/disks/*")
        for device in run("losetup", "--associated", file, "--noheadings", "--output", "NAME").stdout.split()
    ]


def _detach(devices: list[str]) -> list[str]:
    for device in devices:
        run("losetup", "--detach", device, check=False)
    return devices
