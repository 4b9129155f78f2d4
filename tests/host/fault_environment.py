"""A real server with a stemcell and a VM, and CPI calls with injected faults."""

from __future__ import annotations

import contextlib
import io
import json
import signal
from pathlib import Path
from typing import Any, NamedTuple

from bosh_lxd_cpi.admin.cleanup.main import main
from bosh_lxd_cpi.protocol import dispatch, rpc
from bosh_lxd_cpi.runtime.log import Log
from tests.host import server
from tests.host.director import ROOT, UUID, CallError, Director, configuration, environment, manual_network
from tests.host.proxy import NONE, Proxy
from tests.host.tiny_stemcell import STEMCELL, VM, Connection, stemcell_image

MAX_CALL_SECONDS = 300
"""Limit of the duration of a call."""

SHORT_TIMEOUTS = """\
#!/bin/sh
# bin/cpi with short timeouts and retries. With the real ones the tests take hours.
exec {root}/.venv/bin/python3 -BIS -c '
import os, sys
sys.path.insert(0, "{root}")
from bosh_lxd_cpi.protocol import cli
cli._find_libraries()
from bosh_lxd_cpi.lxd import client, operations, session
from bosh_lxd_cpi.runtime.retry import RetryPolicy
session.Session.__init__.__kwdefaults__["retry"] = RetryPolicy(total_seconds={retry_seconds})
operations.WAIT_SLICE, client.WAIT_MARGIN, client.UPLOAD_SECONDS = 10, 2, 4
client.STORAGE_SECONDS = float("{storage_seconds}")
session.Session.send.__kwdefaults__["timeout"] = {read_seconds}
sys.exit(cli.main(sys.argv[1:], os.environ))' "$@"
"""


def cpi_with_short_timeouts(
    directory: Path, retry_seconds: int, *, read_seconds: float = 4.0, storage_seconds: float | None = None
) -> Path:
    """Return a CPI that retries for `retry_seconds` and waits `read_seconds` for a response, except for uploads."""
    program = directory / f"cpi-{retry_seconds}"
    text = SHORT_TIMEOUTS.format(
        root=ROOT,
        retry_seconds=retry_seconds,
        read_seconds=read_seconds,
        storage_seconds=read_seconds if storage_seconds is None else storage_seconds,
    )
    program.write_text(text, "utf-8")
    program.chmod(0o755)
    return program


class Outcome(NamedTuple):
    """The result or the error of a call. A killed call has neither."""

    result: Any = None
    error: CallError | None = None


class InProcessDirector(Director):
    """A director that runs the calls in this process."""

    def call(self, method: str, *arguments: Any) -> Any:
        """Return the result of a call. Raises CpiError."""
        file = self.command()[-1]
        return dispatch.call(
            rpc.parse(self.request(method, *arguments)), config_path=file, environ=self.environment(), log=Log(method)
        )

    def cleanup(self, *arguments: str) -> str:
        """Return the output of bin/cleanup."""
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            assert main(["--config", self.command()[-1], *arguments]) == 0
        return output.getvalue()


class FaultEnvironment:
    """A server with a stemcell and a VM, and two directors that use the proxy.

    `director` makes calls without faults. `next_fault` is a fault and the number of the request that it affects. It
    applies to `call_with_fault`, which sets `requests` to the requests of the call.
    """

    def __init__(self, host: server.Facts, directory: Path, proxy: Proxy) -> None:
        self.proxy, self.server = proxy, Connection(host)
        config = {**configuration(host, **proxy.settings()), "director_uuid": UUID}
        self.lock_directory = str(directory / "lxd_cpi")
        config["throttle_config"] = {"path": self.lock_directory}
        self.programs = {seconds: cpi_with_short_timeouts(directory, seconds) for seconds in (2, 10)}
        self.faulty_director, self.director = Director(config, directory), InProcessDirector(config, directory)
        self.stemcell = self.director.call("create_stemcell", str(stemcell_image(directory)), STEMCELL)
        self.other_image = str(stemcell_image(directory, mib=17))
        self._address = 10
        self.shared_vm = self.vm()
        self.next_fault, self.requests = (NONE, 0), []

    def call_with_fault(self, method: str, *arguments: Any) -> Outcome:
        """Make a call with the fault `next_fault`."""
        fault, number = self.next_fault
        self.faulty_director.program = self.programs[2 if fault.permanent else 10]
        self.proxy.arm(fault, number, then=lambda: process.send_signal(fault.signal))
        process = self.faulty_director.start(method, *arguments)
        try:
            if process.wait(MAX_CALL_SECONDS) == -signal.SIGKILL:
                return Outcome()
            return Outcome(self.faulty_director.finish(process, method, 0))
        except CallError as error:
            return Outcome(error=error)
        finally:
            process.kill()
            process.communicate()
            self.requests = [exchange.line for exchange in self.proxy.exchanges]
            self.proxy.disarm()

    def has_completed_vm(self) -> bool:
        """Return whether create_vm made the request that completes the VM. LXD receives another one after it."""
        return any(line.startswith("PATCH /instances/") for line in self.requests)

    def power(self, action: str) -> None:
        """Stop or start the shared VM."""
        self.server.run_operation(
            "PUT", f"/1.0/instances/{self.shared_vm}/state", {"action": action, "force": action == "stop"}
        )

    def disk(self) -> str:
        return self.director.call("create_disk", 16, {}, self.shared_vm)

    def vm(self) -> str:
        return self.director.call(*self.vm_call())[0]

    def vm_call(self) -> tuple[Any, ...]:
        self._address = 10 + (self._address + 1) % 200
        return (
            "create_vm",
            "agent",
            self.stemcell,
            VM,
            {"n": manual_network(f"10.245.0.{self._address}")},
            [],
            environment(),
        )

    def cleanup(self, *arguments: str) -> str:
        """Run bin/cleanup once the server is idle and return its output."""
        self.server.wait_until_idle()
        return self.director.cleanup(*(arguments or ("--min-age", "0")))

    def list_resources(self) -> list[dict[str, Any]]:
        """Return the resources that bin/cleanup lists."""
        return json.loads(self.cleanup("--list", "--json"))

    def close(self) -> None:
        """Delete the stemcell and the VM."""
        self.director.call("delete_vm", self.shared_vm)
        self.director.call("delete_stemcell", self.stemcell)
