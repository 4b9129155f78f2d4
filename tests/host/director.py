"""A minimal director: it starts one CPI process per call and exchanges JSON with it."""

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
OTHER_UUID = "0c6a1f0e-93f5-4d0c-8f25-1a3c5d7e9b11"
"""The UUID of another director."""
MBUS_PASSWORD = "mbus-p4ssw0rd-of-the-tests"
MBUS = f"nats://nats:{MBUS_PASSWORD}@10.245.0.1:4222"
REQUESTS = re.compile(r"(\d+) requests in ([\d.]+) s$", re.MULTILINE)


class Call(NamedTuple):
    """The result of one CPI process."""

    response: dict[str, Any]
    stdout: str
    stderr: str
    status: int
    seconds: float

    @property
    def requests(self) -> int:
        """The number of requests to the server, from the log."""
        match = REQUESTS.search(self.stderr)
        return int(match[1]) if match else 0


class CallError(Exception):
    """The CPI returned an error."""

    def __init__(self, method: str, call: Call) -> None:
        error = call.response["error"]
        super().__init__(f"{method}: {error['type']}: {error['message']}\n{call.stderr}")
        self.type, self.message, self.ok_to_retry, self.call = (
            error["type"],
            error["message"],
            error["ok_to_retry"],
            call,
        )


class Director:
    """Makes calls with one configuration. `prefix` runs a command in the network of the server."""

    instances: ClassVar[list[Director]] = []
    """All directors of this run."""

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
        self.requests: list[Any] = []
        """Arguments and context of every call."""
        self.instances.append(self)

    def command(self) -> list[str]:
        """Write the configuration file and return the program with its arguments."""
        file = self.directory / "cpi.json"
        file.touch(mode=0o600)
        if file.read_text("utf-8") != json.dumps(self.config):  # another call may read it
            file.write_text(json.dumps(self.config), encoding="utf-8")
        return [*self.prefix, str(self.program), "--config", str(file)]

    def environment(self) -> dict[str, str]:
        """Return the environment that external_cpi.rb passes to the CPI."""
        return {
            "PATH": os.environ["PATH"] if not (ROOT / ".venv").exists() else "/usr/sbin:/usr/bin:/sbin:/bin",
            "TMPDIR": str(self.directory),
            "HOME": str(self.directory),
        }

    def request(self, method: str, *arguments: Any) -> bytes:
        """Return a request as the director writes it."""
        context = {"director_uuid": self.uuid, "request_id": f"cpi-{100000 + len(self.calls)}", **self.context}
        self.requests.append([arguments, context])
        return json.dumps(
            {"method": method, "arguments": list(arguments), "context": context, "api_version": 2}
        ).encode()

    def start(self, method: str, *arguments: Any) -> subprocess.Popen[bytes]:
        """Start a call and return its process. Pass it to `finish`."""
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

    def finish(self, process: subprocess.Popen[bytes], method: str, start_time: float) -> Any:
        """Return the result of a call. Raises CallError."""
        stdout, stderr = process.communicate()
        call = Call(
            json.loads(stdout), stdout.decode(), stderr.decode(), process.returncode, time.monotonic() - start_time
        )
        self.calls.append(call)
        if call.response["error"]:
            raise CallError(method, call)
        return call.response["result"]

    def call(self, method: str, *arguments: Any) -> Any:
        """Return the result of a call. Raises CallError."""
        start_time = time.monotonic()
        return self.finish(self.start(method, *arguments), method, start_time)

    def run_program(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program of bin with the configuration, as the job does. It must not print secrets."""
        process = subprocess.run(
            self.program_command(name, *arguments),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        output = process.stdout + process.stderr
        assert MBUS_PASSWORD not in output and "PRIVATE KEY" not in output
        return process

    def program_command(self, name: str, *arguments: str) -> list[str]:
        """Return a program of bin with the configuration file and more arguments."""
        return [*self.prefix, str(ROOT / "bin" / name), *self.command()[-2:], *arguments]

    @property
    def last(self) -> Call:
        return self.calls[-1]


def configuration(facts: Any, **server: Any) -> dict[str, Any]:
    """Return the properties of the job for a test host."""
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


def manual_network(ip: str, *, gateway: str = "10.245.0.1", **overrides: Any) -> dict[str, Any]:
    """Return a manual network as the director sends it."""
    return {
        "type": "manual",
        "ip": ip,
        "netmask": "255.255.255.0",
        "prefix": "32",
        "gateway": gateway,
        "dns": [gateway],
        "default": ["dns", "gateway"],
        "cloud_properties": {},
        **overrides,
    }


def environment(**overrides: Any) -> dict[str, Any]:
    """Return the env argument of create_vm."""
    return {
        "bosh": {
            "blobstores": [{"provider": "local", "options": {"blobstore_path": "/var/vcap/micro_bosh/data/cache"}}],
            "password": "*",
            "group": "test-web",
            "tags": {"team": "a"},
            **overrides,
        }
    }


MAX_MEMORY = 64 << 10
"""Limit of the peak memory of a process in KiB."""

MEMORY_CPI = """\
#!/bin/sh
# bin/cpi that prints its peak memory to stderr at the end.
exec {root}/.venv/bin/python3 -IS -c '
import gc, os, sys
gc.set_threshold(100000)
sys.path.insert(0, "{root}")
from bosh_lxd_cpi.protocol.cli import main
main(sys.argv[1:], os.environ)
print(*[line for line in open("/proc/self/status") if line.startswith("VmHWM")], file=sys.stderr)' "$@"
"""


def cpi_with_memory(directory: Path) -> Path:
    """Return a program for `Director` that prints its peak memory. wait4 would count that of the parent, too."""
    program = directory / "memory-cpi"
    program.write_text(MEMORY_CPI.format(root=ROOT), "utf-8")
    program.chmod(0o755)
    return program


def peak_memory(director: Director) -> int:
    """Return the highest peak memory of the processes of a director, in KiB."""
    return max(int(re.findall(r"VmHWM:\s*(\d+) kB", call.stderr)[-1]) for call in director.calls)
