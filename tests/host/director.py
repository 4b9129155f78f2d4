"""A director as far as a CPI sees one: a process for every call, JSON in, JSON out, nothing in the environment."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
UUID = "7d0f3a52-5f1e-4c60-9c1e-2f4f6a1b0c3d"
MBUS_PASSWORD = "mbus-p4ssw0rd-of-the-tests"
MBUS = f"nats://nats:{MBUS_PASSWORD}@10.245.0.1:4222"
REQUESTS = re.compile(r"(\d+) requests in ([\d.]+) s$", re.MULTILINE)


class Call(NamedTuple):
    """What one process did."""

    answer: dict[str, Any]
    stdout: str
    stderr: str
    status: int
    seconds: float

    @property
    def requests(self) -> int:
        """Requests that the CPI says it sent to the server."""
        found = REQUESTS.search(self.stderr)
        return int(found[1]) if found else 0


class Refused(Exception):
    """The CPI answered with an error."""

    def __init__(self, method: str, call: Call) -> None:
        error = call.answer["error"]
        super().__init__(f"{method}: {error['type']}: {error['message']}\n{call.stderr}")
        self.type, self.message, self.ok_to_retry, self.call = (
            error["type"],
            error["message"],
            error["ok_to_retry"],
            call,
        )


class Director:
    """Makes calls with one configuration; `prefix` runs a command where the server can be reached."""

    every: ClassVar[list[Director]] = []
    """All that there were in this run."""

    def __init__(
        self,
        config: dict[str, Any],
        directory: Path,
        *,
        prefix: Sequence[str] = (),
        cpi: Path = ROOT / "bin/cpi",
        uuid: str = UUID,
    ) -> None:
        self.config, self.directory, self.prefix, self.program, self.uuid = config, directory, list(prefix), cpi, uuid
        self.calls: list[Call] = []
        self.context: dict[str, Any] = {}
        self.asked: list[Any] = []
        """Arguments and context of every call."""
        self.every.append(self)

    def command(self) -> list[str]:
        """The program and its arguments; writes the configuration file."""
        file = self.directory / "cpi.json"
        file.touch(mode=0o600)
        if file.read_text("utf-8") != json.dumps(self.config):  # another call may be reading it
            file.write_text(json.dumps(self.config), encoding="utf-8")
        return [*self.prefix, str(self.program), "--config", str(file)]

    def environment(self) -> dict[str, str]:
        """What external_cpi.rb leaves of a worker's environment."""
        return {
            "PATH": os.environ["PATH"] if not (ROOT / ".venv").exists() else "/usr/sbin:/usr/bin:/sbin:/bin",
            "TMPDIR": str(self.directory),
            "HOME": str(self.directory),
        }

    def request(self, method: str, *arguments: Any) -> bytes:
        """The JSON that a director would write."""
        context = {"director_uuid": self.uuid, "request_id": f"cpi-{100000 + len(self.calls)}", **self.context}
        self.asked.append([arguments, context])
        return json.dumps(
            {"method": method, "arguments": list(arguments), "context": context, "api_version": 2}
        ).encode()

    def start(self, method: str, *arguments: Any) -> subprocess.Popen[bytes]:
        """A call that goes on while the test does something else; `finish` takes its answer."""
        process = subprocess.Popen(
            self.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment(),
        )
        assert process.stdin
        process.stdin.write(self.request(method, *arguments))
        process.stdin.close()
        process.stdin = None
        return process

    def run_operation(self, process: subprocess.Popen[bytes], method: str, started: float) -> Any:
        """The result of a call. Raises Refused."""
        stdout, stderr = process.communicate()
        call = Call(
            json.loads(stdout), stdout.decode(), stderr.decode(), process.returncode, time.monotonic() - started
        )
        self.calls.append(call)
        if call.answer["error"]:
            raise Refused(method, call)
        return call.answer["result"]

    def call(self, method: str, *arguments: Any) -> Any:
        """The result of a call. Raises Refused."""
        started = time.monotonic()
        return self.run_operation(self.start(method, *arguments), method, started)

    @property
    def last(self) -> Call:
        return self.calls[-1]


def configuration(facts: Any, **server: Any) -> dict[str, Any]:
    """The job's properties for a test host."""
    return {
        "server": {
            "type": facts.type,
            "url": facts.url,
            "tls_client_cert": Path(facts.client_cert).read_text("utf-8"),
            "tls_client_key": Path(facts.client_key).read_text("utf-8"),
            "tls_server_cert": Path(facts.server_cert).read_text("utf-8"),
            "project_name": facts.project,
            "profile_name": facts.profile,
            "network_name": facts.network,
            "storage_pool_name": facts.pool,
            **server,
        },
        "agent": {"mbus": MBUS, "ntp": ["10.245.0.1"]},
    }


def manual_network(ip: str, *, gateway: str = "10.245.0.1", **more: Any) -> dict[str, Any]:
    """A network as the director sends it."""
    return {
        "type": "manual",
        "ip": ip,
        "netmask": "255.255.255.0",
        "prefix": "32",
        "gateway": gateway,
        "dns": [gateway],
        "default": ["dns", "gateway"],
        "cloud_properties": {},
        **more,
    }


def environment(**more: Any) -> dict[str, Any]:
    """The env argument of create_vm."""
    return {
        "bosh": {
            "blobstores": [{"provider": "local", "options": {"blobstore_path": "/var/vcap/micro_bosh/data/cache"}}],
            "password": "*",
            "group": "test-web",
            "tags": {"team": "a"},
            **more,
        }
    }


MOST_MEMORY = 64 << 10
"""KiB that a process may ever hold."""

WEIGHED = """\
#!/bin/sh
# bin/cpi, but its last word on stderr is the most memory that it ever held.
exec {root}/.venv/bin/python3 -IS -c '
import os, sys
sys.path.insert(0, "{root}")
from bosh_lxd_cpi.protocol.cli import main
main(sys.argv[1:], os.environ)
print(*[line for line in open("/proc/self/status") if line.startswith("VmHWM")], file=sys.stderr)' "$@"
"""


def weighed(directory: Path) -> Path:
    """A bin/cpi for `Director` that records its peak memory. wait4 also counts the parent's memory before exec."""
    program = directory / "weighed-cpi"
    program.write_text(WEIGHED.format(root=ROOT), "utf-8")
    program.chmod(0o755)
    return program


def peak(director: Director) -> int:
    """KiB that the hungriest of its processes held."""
    return max(int(re.findall(r"VmHWM:\s*(\d+) kB", call.stderr)[-1]) for call in director.calls)
