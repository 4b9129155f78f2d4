#!/usr/bin/env python3
"""Measure each CPI call in the lifecycle of a VM. Each call is a process after an `info` call, as with a director.

The benchmark starts its own test host and installs the CPI as a release does. The server time of a call is the time
that the same requests take from a running process with an open connection. The rest is CPI time. CPI time is compared
to the time that Python takes to start, and to import urllib3, measured between the calls. All values are medians,
except peak memory, which is the maximum and includes at least the memory of this program.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.host import server
from tests.host.director import configuration, environment, manual_network
from tests.host.machine import HostError, unsupported_reason
from tests.host.tiny_stemcell import STEMCELL, VM, Connection, stemcell_image
from tests.release import bosh_release

ROOT = Path(__file__).resolve().parents[2]
NOTHING, LIBRARY = "python3 -I -S -c pass", "python3 -I -S -c 'import urllib3'"
LOOKUPS = ("has_vm", "has_disk", "get_disks")
MAX_INFO, MAX_LOOKUP, MAX_OTHER = 2.2, 1.0, 1.15
"""Limits of CPU time: of `info` relative to NOTHING, of look-ups and of other calls relative to LIBRARY."""
EMPTY = {
    "type": "virtual-machine",
    "source": {"type": "none"},
    "devices": {"root": {"type": "disk", "path": "/", "pool": "default", "size": "16MiB"}},
}


class Sample(NamedTuple):
    """One process: seconds, seconds of CPU, KiB."""

    wall: float
    cpu: float
    memory: int


class ServerTime(NamedTuple):
    """The same call from the running process: server time in seconds, number of requests, bytes of bodies."""

    server: float
    requests: int
    bytes: int


def main(argv: list[str]) -> int:
    """Return the exit status: 0, 1 if a ratio is above its limit, 2 if the benchmark could not run."""
    parser = argparse.ArgumentParser(
        prog="bin/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    parser.add_argument(
        "--lifecycles", type=int, default=10, help="number of lifecycles to measure (default: %(default)s)"
    )
    parser.add_argument(
        "--others",
        type=int,
        default=5,
        help="number of other instances and volumes on the server (default: %(default)s)",
    )
    parser.add_argument("--host", default="bench", help="name of the test host (default: %(default)s)")
    parser.add_argument("--warm", nargs=2, help=argparse.SUPPRESS)  # the process for server times
    options = parser.parse_args(argv)
    if options.lifecycles < 1:
        parser.error("--lifecycles must be at least 1")
    if options.others < 0:
        parser.error("--others must not be negative")
    if options.warm:
        return serve_warm(*options.warm)
    if reason := unsupported_reason():
        print(f"this machine cannot run a test host: {reason}", file=sys.stderr)
        return 2
    try:
        with server.temporary_host("incus", name=options.host) as facts, tempfile.TemporaryDirectory() as scratch:
            result = measure(facts, Path(scratch), lifecycles=options.lifecycles, others=options.others)
    except HostError as failure:
        print(failure, file=sys.stderr)
        return 2
    print(json.dumps(result, indent=1) if options.json else table(result))
    return 1 if result["too slow"] else 0


def run_lifecycle(call: Callable[..., Any], image: Path) -> None:
    """Make the calls of a director for a stemcell and a VM with a disk, from creation to deletion."""
    stemcell = call("create_stemcell", str(image), STEMCELL)
    vm, _ = call("create_vm", "agent", stemcell, VM, {"default": manual_network("10.245.0.61")}, [], environment())
    call(
        "set_vm_metadata",
        vm,
        {"director": "bosh", "deployment": "d", "job": "web", "index": "0", "id": "1", "name": "web/1"},
    )
    disk = call("create_disk", 16, {}, vm)
    call(
        "set_disk_metadata", disk, {"director": "bosh", "deployment": "d", "instance_id": "1", "instance_group": "web"}
    )
    call("attach_disk", vm, disk)
    call("get_disks", vm)
    call("has_disk", disk)
    call("has_vm", vm)
    call("delete_snapshot", call("snapshot_disk", disk, {"deployment": "d", "job": "web", "index": 0}))
    call("reboot_vm", vm)
    call("detach_disk", vm, disk)
    call("resize_disk", disk, 32)
    call("delete_disk", disk)
    call("delete_vm", vm)
    call("delete_stemcell", stemcell)


# -- processes ---------------------------------------------------------------------------------------------------------


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


def sample(command: list[str], stdin: bytes, environ: dict[str, str]) -> tuple[Sample, bytes]:
    """Run a process and return its cost and its stdout."""
    with (
        tempfile.TemporaryFile() as stdin_file,
        tempfile.TemporaryFile() as stdout_file,
        Path(os.devnull).open("w") as null,
    ):
        stdin_file.write(stdin)
        stdin_file.seek(0)
        start = time.monotonic()
        process = subprocess.Popen(command, stdin=stdin_file, stdout=stdout_file, stderr=null, env=environ)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        stdout_file.seek(0)
        return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss), stdout_file.read()


class Processes:
    """Runs each call as a process, and records its cost and its CPU time relative to the reference."""

    def __init__(self, prefix: list[str], home: Path, config: Path, scratch: Path) -> None:
        self.samples: dict[str, list[Sample]] = {}
        self.ratios: dict[str, list[float]] = {}
        python = os.path.realpath(home / "python3")
        self._cpi = [*prefix, str(home / "bin/cpi"), "--config", str(config)]
        self._environ = {"PATH": "/usr/bin:/bin", "TMPDIR": str(scratch)}
        self._base = {
            NOTHING: [*prefix, python, "-I", "-S", "-c", "pass"],
            LIBRARY: [
                *prefix,
                python,
                "-I",
                "-S",
                "-c",
                f"import sys; sys.path.insert(0, {str(home)!r}); import urllib3",
            ],
        }

    def call(self, method: str, *arguments: Any) -> Any:
        """Run the two reference processes, `info` and the call, and return the result of the call."""
        nothing, library = (self._sample(name, command, b"")[0] for name, command in self._base.items())
        info, _ = self._sample("info", self._cpi, request("info"))
        cost, stdout = self._sample(method, self._cpi, request(method, *arguments))
        # Compare processes that run close together, so that other load affects both.
        self.ratios.setdefault("info", []).append(info.cpu / nothing.cpu)
        self.ratios.setdefault(method, []).append(cost.cpu / library.cpu)
        return json.loads(stdout)["result"]

    def _sample(self, name: str, command: list[str], stdin: bytes) -> tuple[Sample, bytes]:
        cost, stdout = sample(command, stdin, self._environ)
        self.samples.setdefault(name, []).append(cost)
        return cost, stdout


def request(method: str, *arguments: Any) -> bytes:
    context = {"director_uuid": "bench", "request_id": "cpi-1"}
    return json.dumps({"method": method, "arguments": arguments, "context": context}).encode()


# -- running process -------------------------------------------------------------------------------------------------


def serve_warm(home: str, config: str) -> int:
    """For every image path on stdin, run a lifecycle in this process and print the server time of each call."""
    sys.path.insert(0, home)
    from bosh_lxd_cpi.actions.connection import connection_settings
    from bosh_lxd_cpi.config.schema import load
    from bosh_lxd_cpi.lxd.transport import HttpResponse, HttpTransport
    from bosh_lxd_cpi.protocol import dispatch, rpc
    from bosh_lxd_cpi.runtime.clock import Clock
    from bosh_lxd_cpi.runtime.log import Log

    class Timed(HttpTransport):
        seconds, bytes = 0.0, 0

        def request(self, method: str, path: str, *, body: Any = None, **arguments: Any) -> HttpResponse:
            start = time.monotonic()
            response = super().request(method, path, body=body, **arguments)
            self.seconds += time.monotonic() - start
            self.bytes += len(response.body)
            if body:
                self.bytes += len(body) if isinstance(body, bytes) else int(arguments["headers"]["Content-Length"])
            return response

    server = load(config).server
    transport = Timed(connection_settings(server, server.url))
    transport.request("GET", "/1.0")
    calls: dict[str, ServerTime] = {}
    for line in sys.stdin:
        calls.clear()

        def call(method: str, *arguments: Any) -> Any:
            transport.seconds = transport.bytes = transport.requests = 0
            result = dispatch.call(
                rpc.parse(request(method, *arguments)),
                config_path=config,
                environ={},
                log=Log("warm", level="error"),
                clock=Clock(),
                transport=transport,
            )
            calls[method] = ServerTime(transport.seconds, transport.requests, transport.bytes)
            return result

        run_lifecycle(call, Path(line.strip()))
        print(json.dumps(calls), flush=True)
    return 0


# -- benchmark ---------------------------------------------------------------------------------------------------------


def measure(facts: server.Facts, scratch: Path, *, lifecycles: int, others: int) -> dict[str, Any]:
    """Run the lifecycles, alternately as processes and in the running process."""
    home, image, config = install(scratch), stemcell_image(scratch), scratch / "cpi.json"
    config.write_text(json.dumps({**configuration(facts), "log_level": "error"}), encoding="utf-8")
    create_others(facts, others)
    prefix = ["nsenter", f"--net=/run/netns/{facts.netns}"]  # ip netns exec would also make a mount namespace each time
    processes, warm = Processes(prefix, home, config, scratch), []
    command = [*prefix, sys.executable, "-m", "tests.host.bench", "--warm", str(home), str(config)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as helper:
        assert helper.stdin and helper.stdout
        for number in range(lifecycles):
            print(f"bench: lifecycle {number + 1} of {lifecycles} ...", file=sys.stderr, flush=True)
            run_lifecycle(processes.call, image)
            helper.stdin.write(f"{image}\n")
            helper.stdin.flush()
            warm.append({method: ServerTime(*cost) for method, cost in json.loads(helper.stdout.readline()).items()})
        helper.stdin.close()
    return evaluate(processes, warm, lifecycles=lifecycles, others=others)


def create_others(facts: server.Facts, number: int) -> None:
    """Create a number of other instances and volumes."""
    connection = Connection(facts)
    for index in range(number):
        connection.run_operation("POST", "/1.0/instances", {"name": f"other-{index}", **EMPTY})
        connection.run_operation(
            "POST",
            "/1.0/storage-pools/default/volumes/custom",
            {"name": f"other-{index}", "content_type": "block", "config": {"size": "8MiB"}},
        )


def evaluate(
    processes: Processes, warm: list[dict[str, ServerTime]], *, lifecycles: int, others: int
) -> dict[str, Any]:
    """Return medians, ratios and the calls above their limit, in seconds, bytes and MiB."""
    median, samples = statistics.median, processes.samples

    def cost(name: str) -> dict[str, Any]:
        return {
            "wall": median(sample.wall for sample in samples[name]),
            "cpu": median(sample.cpu for sample in samples[name]),
            "memory": max(sample.memory for sample in samples[name]) / 1024,
        }

    base = {name: cost(name) for name in (NOTHING, LIBRARY)}
    info = {**cost("info"), "ratio": median(processes.ratios["info"])}
    calls: dict[str, dict[str, Any]] = {}
    for method in warm[0]:
        cpi_times = [sample.wall - times[method].server for sample, times in zip(samples[method], warm, strict=False)]
        calls[method] = {
            **cost(method),
            "ratio": median(processes.ratios[method]),
            "requests": max(times[method].requests for times in warm),
            "bytes": max(times[method].bytes for times in warm),
            "server": median(times[method].server for times in warm),
            "cpi": median(cpi_times),
            "cpi ratio": median(cpi_times) / base[LIBRARY]["wall"],
        }
    slow = [method for method, row in calls.items() if row["ratio"] > (MAX_LOOKUP if method in LOOKUPS else MAX_OTHER)]
    return {
        "lifecycles": lifecycles,
        "others": others,
        "base": base,
        "info": info,
        "calls": calls,
        "lifecycle": sum(row["wall"] for row in calls.values()) + len(calls) * info["wall"],
        "too slow": [*slow, *(["info"] if info["ratio"] > MAX_INFO else [])],
    }


def table(result: dict[str, Any]) -> str:
    """Return the result as a table in milliseconds, KiB and MiB."""
    return "\n".join(lines(result))


def lines(result: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the table in Markdown."""
    yield (
        f"Medians of {result['lifecycles']} lifecycles with {result['others']} other instances and volumes on the"
        f" server; a lifecycle took {result['lifecycle']:.1f} s.\n"
    )
    yield "| call | wall ms | server ms | CPI wall ms | ratio | CPU ms | CPU ratio | requests | KiB | peak MiB |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    rows = {**{f"`{name}`": row for name, row in result["base"].items()}, "info": result["info"], **result["calls"]}
    for name, row in rows.items():
        times_ms = [f"{row[key] * 1000:.0f}" if key in row else "" for key in ("server", "cpi")]
        cells = [
            f"{row['wall'] * 1000:.0f}",
            *times_ms,
            f"{row['cpi ratio']:.2f}" if "cpi ratio" in row else "",
            f"{row['cpu'] * 1000:.1f}",
            f"{row['ratio']:.2f}" if "ratio" in row else "",
            str(row.get("requests", "")),
            f"{row['bytes'] / 1024:.0f}" if "bytes" in row else "",
            f"{row['memory']:.0f}",
        ]
        yield re.sub(" +\\|", " |", f"| {name} | {' | '.join(cells)} |")
    yield (
        "\nRatio: of CPI wall ms to the wall ms of the second row. CPU ratio: of `info` to the first row, of all others"
        f" to the second. The CPU ratio has limits, because other load changes it little. Calls above their limit:"
        f" {', '.join(result['too slow']) or 'none'}."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
