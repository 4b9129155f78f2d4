"""A process that makes the calls of lifecycles with an open connection, to measure the time of the server."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.host import server
from tests.host.bench import lifecycle
from tests.host.bench.processes import namespace


class ServerTime(NamedTuple):
    """One call: server time in seconds, number of requests, bytes of bodies."""

    server: float
    requests: int
    bytes: int


class Warm:
    """The other end of the process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run_lifecycle(self, image: Path) -> dict[str, ServerTime]:
        """Return the server time of each method."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{image}\n")
        self._process.stdin.flush()
        return {method: ServerTime(*cost) for method, cost in json.loads(self._process.stdout.readline()).items()}


@contextlib.contextmanager
def start(facts: server.Facts, home: Path, config: Path) -> Iterator[Warm]:
    """Run the process, with the CPI in the directory `home`."""
    command = [*namespace(facts), sys.executable, "-m", "tests.host.bench.warm", str(home), str(config)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Warm(process)
        assert process.stdin
        process.stdin.close()


def serve(home: str, config: str) -> None:
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

    properties = load(config).server
    transport = Timed(connection_settings(properties, properties.url))
    transport.request("GET", "/1.0")
    calls: dict[str, ServerTime] = {}
    for line in sys.stdin:
        calls.clear()

        def call(method: str, *arguments: Any) -> Any:
            transport.seconds = transport.bytes = transport.requests = 0
            result = dispatch.call(
                rpc.parse(lifecycle.request(method, *arguments)),
                config_path=config,
                environ={},
                log=Log("warm", level="error"),
                clock=Clock(),
                transport=transport,
            )
            calls[method] = ServerTime(transport.seconds, transport.requests, transport.bytes)
            return result

        lifecycle.run(call, Path(line.strip()))
        print(json.dumps(calls), flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
