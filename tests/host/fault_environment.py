"""A real server with a stemcell and a VM on it, and calls that meet faults on their way there."""

from __future__ import annotations

import contextlib
import io
import json
import signal
from pathlib import Path
from typing import Any, NamedTuple

from bosh_lxd_cpi.admin.cleanup import main
from bosh_lxd_cpi.protocol import dispatch, rpc
from bosh_lxd_cpi.runtime.log import Log
from tests.host import server
from tests.host.director import ROOT, UUID, Director, Refused, configuration, environment, manual_network
from tests.host.proxy import NONE, Proxy
from tests.host.tiny_stemcell import STEMCELL, VM, Connection, stemcell_image

LONGEST_CALL = 300
"""Seconds after which a call counts as hanging."""

IMPATIENT = """\
#!/bin/sh
# bin/cpi, but it waits seconds for what may take half a minute: the tests would take hours otherwise.
exec {root}/.venv/bin/python3 -BIS -c '
import os, sys
sys.path.insert(0, "{root}")
from bosh_lxd_cpi.protocol import cli
cli._find_libraries()
from bosh_lxd_cpi.lxd import client, operations
client.PATIENCE = operations.PATIENCE = {patience}
operations.WAIT_SLICE, client.WAIT_MARGIN, client.UPLOAD_SECONDS = 10, 2, 4
client.Client._send.__kwdefaults__["timeout"] = {answer}
sys.exit(cli.main(sys.argv[1:], os.environ))' "$@"
"""


def impatient(directory: Path, patience: int, *, answer: float = 4.0) -> Path:
    """A bin/cpi that knocks at a closed door for `patience` seconds only, and waits `answer` seconds for what is no upload."""
    program = directory / f"cpi-{patience}"
    program.write_text(IMPATIENT.format(root=ROOT, patience=patience, answer=answer), "utf-8")
    program.chmod(0o755)
    return program


class Outcome(NamedTuple):
    """How a call ended; one that was killed has neither."""

    result: Any = None
    error: Refused | None = None


class Calm(Director):
    """A director whose calls meet no fault, and need no process."""

    def call(self, method: str, *arguments: Any) -> Any:
        """The result of a call. Raises CpiError."""
        file = self.command()[-1]
        return dispatch.call(
            rpc.parse(self.request(method, *arguments)), config_path=file, environ=self.environment(), log=Log(method)
        )

    def cleanup(self, *arguments: str) -> str:
        """What bin/cleanup says."""
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            assert main.main(["--config", self.command()[-1], *arguments]) == main.DONE
        return output.getvalue()


class World:
    """A server with a stemcell on it, a director whose calls meet a fault and one whose calls do not."""

    def __init__(self, host: server.Facts, directory: Path, proxy: Proxy) -> None:
        self.proxy, self.server = proxy, Connection(host)
        config = {**configuration(host, **proxy.settings()), "director_uuid": UUID}
        config["throttle_config"] = {"path": str(directory / "lxd_cpi")}
        self.programs = {patience: impatient(directory, patience) for patience in (2, 10)}
        self.troubled, self.calm = Director(config, directory), Calm(config, directory)
        self.stemcell = self.calm.call("create_stemcell", str(stemcell_image(directory)), STEMCELL)
        self.other_image = str(stemcell_image(directory, mib=17))
        self._address = 10
        self.shared_vm = self.vm()
        self.armed, self.requests = (NONE, 0), []

    def attempt(self, method: str, *arguments: Any) -> Outcome:
        """Make the call that meets the fault."""
        fault, at = self.armed
        self.troubled.program = self.programs[2 if fault.lasting else 10]
        self.proxy.arm(fault, at, then=lambda: process.send_signal(fault.signal))
        process = self.troubled.start(method, *arguments)
        try:
            if process.wait(LONGEST_CALL) == -signal.SIGKILL:
                return Outcome()
            return Outcome(self.troubled.run_operation(process, method, 0))
        except Refused as refused:
            return Outcome(error=refused)
        finally:
            process.kill()
            process.communicate()
            self.requests = [exchange.line for exchange in self.proxy.seen]
            self.proxy.heal()

    def power(self, action: str) -> None:
        """Stop or start the shared VM."""
        self.server.do("PUT", f"/1.0/instances/{self.shared_vm}/state", {"action": action, "force": action == "stop"})

    def disk(self) -> str:
        return self.calm.call("create_disk", 16, {}, self.shared_vm)

    def vm(self) -> str:
        return self.calm.call(*self.vm_call())[0]

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
        """Clean up what nobody works at any more."""
        self.server.wait_until_idle()
        return self.calm.cleanup(*(arguments or ("--min-age", "0")))

    def listed(self) -> list[dict[str, Any]]:
        """What bin/cleanup lists."""
        return json.loads(self.cleanup("--list", "--json"))

    def close(self) -> None:
        """Take away what the world is made of."""
        self.calm.call("delete_vm", self.shared_vm)
        self.calm.call("delete_stemcell", self.stemcell)
