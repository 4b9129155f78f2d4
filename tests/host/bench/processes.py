"""Runs a CPI as a director does, one process for each call, and measures each process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.host import server
from tests.host.bench.lifecycle import request
from tests.host.director import configuration
from tests.host.machine import HostError
from tests.release import bosh_release

ROOT = Path(__file__).resolve().parents[3]
REQUESTS = re.compile(r"(\d+) requests in [\d.]+ s$", re.MULTILINE)


class Sample(NamedTuple):
    """One process: seconds, seconds of CPU, KiB, and from its log the numbers of requests and of repeated ones."""

    wall: float
    cpu: float
    memory: int
    requests: int = 0
    retries: int = 0


def install(directory: Path) -> Path:
    """Compile the packages of the release into a directory and return the home of the CPI."""
    if subprocess.run([ROOT / "bin/vendor", "--check"], capture_output=True, check=False).returncode:
        subprocess.run([ROOT / "bin/vendor"], check=True, stdout=sys.stderr)
    target = directory / "packages/bosh_lxd_cpi"
    target.mkdir(parents=True)
    subprocess.run(
        ["bash", "packaging"],
        check=True,
        cwd=bosh_release.pack("bosh_lxd_cpi", directory / "source"),
        env={**os.environ, "BOSH_PACKAGES_DIR": str(target.parent), "BOSH_INSTALL_TARGET": str(target)},
    )
    return target


def namespace(facts: server.Facts) -> list[str]:
    """Return the prefix of commands in the network of a test host. `ip netns exec` makes a mount namespace, too."""
    return ["nsenter", f"--net=/run/netns/{facts.netns}"]


def write_configuration(facts: server.Facts, directory: Path, **properties: Any) -> Path:
    """Write the configuration of the CPI for a test host and return its path."""
    path = directory / f"cpi-{len(list(directory.iterdir()))}.json"
    path.write_text(json.dumps({**configuration(facts), **properties}), encoding="utf-8")
    return path


def sample(command: list[str], stdin: bytes, environ: Mapping[str, str]) -> tuple[Sample, bytes, str]:
    """Run a process and return its cost, its stdout and its stderr."""
    with (
        tempfile.TemporaryFile() as stdin_file,
        tempfile.TemporaryFile() as stdout_file,
        tempfile.TemporaryFile() as stderr_file,
    ):
        stdin_file.write(stdin)
        stdin_file.seek(0)
        start = time.monotonic()
        process = subprocess.Popen(command, stdin=stdin_file, stdout=stdout_file, stderr=stderr_file, env=environ)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        stdout_file.seek(0)
        stderr_file.seek(0)
        log = stderr_file.read().decode("utf-8", "replace")
        requests = sum(int(number) for number in REQUESTS.findall(log))
        cost = Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, requests, log.count("; trying again"))
        return cost, stdout_file.read(), log


class Cpi:
    """A CPI that is a program."""

    def __init__(self, command: list[str], scratch: Path, **environ: str) -> None:
        self.command, self._environ = command, {"PATH": "/usr/bin:/bin", "TMPDIR": str(scratch), **environ}
        self.samples: dict[str, list[Sample]] = {}

    def call(self, method: str, *arguments: Any) -> Any:
        """Return the result of a call. Raises HostError if the CPI returns an error."""
        _, stdout, log = self.run(method, self.command, request(method, *arguments))
        try:
            response = json.loads(stdout)
        except ValueError:
            response = {"error": {"message": f"no response\n{log[-2000:]}"}}
        if response.get("error"):
            raise HostError(f"{' '.join(self.command)}: {method}: {response['error'].get('message')}")
        return response["result"]

    def run(self, name: str, command: list[str], stdin: bytes) -> tuple[Sample, bytes, str]:
        """Run a process and record its cost under a name."""
        cost, stdout, log = sample(command, stdin, self._environ)
        self.samples.setdefault(name, []).append(cost)
        return cost, stdout, log
