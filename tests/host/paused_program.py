"""A program that the server runs, such as btrfs or qemu-img, paused at one of its calls."""

from __future__ import annotations

import pathlib
from types import TracebackType

from tests.host import processes
from tests.host.machine import HostError, run, wait_until

WRAPPER = """\
#!/bin/sh
case "$*" in {pattern})
  if mkdir /run/{program}.call 2>/dev/null; then
    echo $$ > /run/{program}.call/pid
    while [ -e /run/{program}.paused ]; do sleep 0.1; done
  fi ;;
esac
exec /usr/bin/{program} "$@"
"""


class PausedProgram:
    """A context manager. The first call with arguments that match a pattern of the shell waits for `resume`."""

    def __init__(self, host: str, program: str, pattern: str) -> None:
        self._host, self._program = host, program
        self._run = file_system(host) / "run"
        self._wrapper, self._paused, self._call = (
            self._run / name for name in (f"shims/{program}", f"{program}.paused", f"{program}.call")
        )
        self._text = WRAPPER.format(program=program, pattern=pattern.replace(" ", r"\ "))

    def __enter__(self) -> PausedProgram:
        self._paused.touch()
        self._wrapper.write_text(self._text, encoding="utf-8")
        self._wrapper.chmod(0o755)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.resume()
        self._wrapper.unlink()
        (self._call / "pid").unlink(missing_ok=True)
        if self._call.exists():
            self._call.rmdir()

    def wait(self) -> None:
        """Wait until the server makes the call. Raises HostError if it does not."""
        if not wait_until((self._call / "pid").exists, seconds=60):
            raise HostError(f"{self._host}: the server did not call {self._program}")

    def resume(self) -> None:
        """Let the call continue."""
        self._paused.unlink(missing_ok=True)

    def kill(self) -> None:
        """Kill the call."""
        pid = (self._call / "pid").read_text(encoding="utf-8").strip()
        run(*processes.enter_command(self._host, "sh", "-c", f"kill -KILL {pid}"))


def file_system(host: str) -> pathlib.Path:
    """Return the path of the host's root file system as its processes see it."""
    return pathlib.Path(f"/proc/{processes.init_pid(host)}/root")
