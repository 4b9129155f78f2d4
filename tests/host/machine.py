"""The machine that runs test hosts: requirements, packages and commands."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

PACKAGE_OF = {
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "openssl": "openssl",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}
PROBES = {
    "namespaces": "true",
    "overlayfs": "mount -t tmpfs tmpfs /tmp && cd /tmp && mkdir low up work all"
    " && mount -t overlay -o lowerdir=low,upperdir=up,workdir=work overlay all",
    "bridges": "! command -v ip || ip link add probe type bridge",
    "tap devices": "! command -v ip || ip tuntap add probe mode tap",
}
# The path of a root shell started with su lacks sbin.
os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


class HostError(Exception):
    """An operation on a test host failed. The message names the object and the reason."""


def print_progress(text: str) -> None:
    """Print progress to stderr."""
    print(f"testhost: {text}", file=sys.stderr, flush=True)


def run(
    *command: object, check: bool = True, stdin: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command and return its output as text. Raises HostError if it fails, unless `check` is false."""
    words = [str(word) for word in command]
    try:
        result = subprocess.run(words, text=True, capture_output=True, check=False, input=stdin, env=env)
    except FileNotFoundError:
        raise HostError(f"{words[0]}: no such command on this machine") from None
    if check and result.returncode:
        raise HostError(f"{' '.join(words)}: {(result.stderr or result.stdout or 'failed').strip()}")
    return result


def install_packages(*resources: str) -> None:
    """Install the packages of missing commands and files, which are keys of PACKAGE_OF. Raises HostError."""
    missing = [
        PACKAGE_OF[resource]
        for resource in resources
        if not shutil.which(resource) and not pathlib.Path(resource).exists()
    ]
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise HostError(f"install {' '.join(missing)}: this machine has no apt-get")
    print_progress(f"installing {' '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "-q", "update", env=environment)
    run("apt-get", "-q", "install", "-y", "--no-install-recommends", *missing, env=environment)


def unsupported_reason() -> str | None:
    """Return why this machine cannot run a test host, or None."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "a test host needs Linux on x86-64"
    if os.geteuid() != 0:
        return "a test host needs root"
    if tuple(int(number) for number in platform.release().split("-")[0].split(".")[:2]) < (5, 5):
        return f"a test host needs Linux 5.5 or newer (seccomp notifications), not {platform.release()}"
    for feature, script in PROBES.items():
        isolate = ("unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork")
        if run(*isolate, "sh", "-ec", script, check=False).returncode:
            return f"a test host needs {feature}, which this machine does not support"
    return None


@contextlib.contextmanager
def exclusive_directory(folder: pathlib.Path) -> Iterator[None]:
    """A context manager: create a directory and lock it. The holder of the lock may delete the directory."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print_progress(f"waiting for the lock of {folder}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), pathlib.Path(folder).stat()):
                break
        os.close(descriptor)
    try:
        yield
    finally:
        os.close(descriptor)


def wait_until(condition: Callable[[], object], *, seconds: float) -> bool:
    """Return whether the condition became true within this time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def tail(log: pathlib.Path) -> str:
    """Return the last 15 lines of a log file, indented."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"  {line}" for line in lines[-15:]) or "  (empty)"
