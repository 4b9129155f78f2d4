"""The command line of bin/cpi: arguments and stdin in, one response out."""

from __future__ import annotations

import os
import sys
import time

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.protocol import rpc

TYPE_CHECKING = False  # see rpc
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

USAGE = """\
usage: cpi [--config FILE] < REQUEST

A BOSH CPI for LXD and Incus. Reads one JSON request from stdin and writes one JSON response to stdout. Log lines go to
stderr. The exit status is 0 even if the response is an error, because BOSH requires it.

  --config FILE   the job's properties as JSON or YAML (-configPath, the option of the Go CPI, works too)
  --version       print the version
  --help          print this help

  echo '{"method":"info","arguments":[],"context":{}}' | cpi
"""


def run(argv: list[str], environ: Mapping[str, str]) -> NoReturn:
    """Serve one call and end the process with its exit status, which is always 0.

    Everything is written and flushed, and the kernel closes the files. So the shutdown of Python is skipped. It takes 5
    ms to release all modules, and changes the status to 120 if stderr is full.
    """
    os._exit(main(argv, environ))


def main(argv: list[str], environ: Mapping[str, str]) -> int:
    """Serve one call. Return the exit status, which is always 0."""
    if set(argv) & {"-h", "--help"}:
        print(USAGE, end="", flush=True)
        return 0
    if argv == ["--version"]:
        from bosh_lxd_cpi import __version__

        print(__version__, flush=True)
        return 0
    stdout = rpc.claim_stdout()
    with open(0, "rb", closefd=False) as stdin:  # sys.stdin is None if the caller closed it
        raw = stdin.read()
    started = time.time()
    response = respond(raw, argv, environ)
    if not rpc.write(stdout, response) and response != rpc.INFO:
        from bosh_lxd_cpi.protocol import methods

        if reverse := methods.reverse(raw, response, started=started):
            # Ctrl-C ends create-env, but not this process. Nobody knows the CID, so the object has to go.
            respond(reverse, argv, environ)
    return 0


def respond(raw: bytes, argv: list[str], environ: Mapping[str, str]) -> bytes:
    """Return the response to a request. Raises nothing."""
    try:
        request = rpc.parse(raw)
        if request.method == "info":
            return rpc.INFO
    except Exception as failure:  # noqa: BLE001  BOSH needs a response to every request
        return rpc.failure(failure)
    return _serve(request, argv, environ)


def _serve(request: rpc.Request, argv: list[str], environ: Mapping[str, str]) -> bytes:
    _find_libraries()
    from bosh_lxd_cpi import hints
    from bosh_lxd_cpi.protocol import dispatch
    from bosh_lxd_cpi.runtime import signals
    from bosh_lxd_cpi.runtime.log import Log

    log = Log(f"{request.method} {request.id}")
    try:
        with signals.interruptible():
            return rpc.success(dispatch.call(request, config_path=config_path(argv), environ=environ, log=log))
    except (errors.CpiError, errors.Interrupted) as failure:
        detail = getattr(failure, "detail", "")
        log.error(f"{failure.type}: {hints.message(failure)}" + (f"\n{detail}" if detail else ""))
        return rpc.failure(failure, redact=log.redact)
    except BaseException as failure:  # noqa: BLE001  BOSH needs a response to every request
        import traceback

        log.error(traceback.format_exc())
        return rpc.failure(failure, redact=log.redact)


def _find_libraries() -> None:
    """Add site-packages to sys.path, unless the libraries are vendored. bin/cpi starts Python without (-S)."""
    home = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    if sys.flags.no_site and not os.path.isdir(os.path.join(home, "urllib3")):
        import site

        site.main()


def config_path(argv: list[str]) -> str:
    """Return the path of the configuration file, or an empty string. Raises ConfigError for unknown arguments."""
    words = [piece for word in argv for piece in (word.split("=", 1) if word.startswith("-") else [word])]
    if not words:
        return ""
    if len(words) == 2 and words[0] in ("--config", "-config", "-configPath", "--configPath"):
        return words[1]
    raise errors.ConfigError(f"unknown arguments: {' '.join(argv)}", code="usage")
