"""The command line of bin/cpi: argv and stdin in, one answer out."""

from __future__ import annotations

import os
import sys

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.protocol import rpc

TYPE_CHECKING = False  # as in rpc
if TYPE_CHECKING:
    from collections.abc import Mapping

USAGE = """\
usage: cpi [--config FILE] < REQUEST

A BOSH CPI for LXD and Incus. Reads one JSON request on stdin and writes one JSON answer to stdout; everything else it
says goes to stderr. The exit status is 0 also when the answer is an error, because BOSH wants it so.

  --config FILE   the job's properties as JSON or YAML (-configPath, as go-lxd-cpi has it, does too)
  --version       print the version
  --help          print this

  echo '{"method":"info","arguments":[],"context":{}}' | cpi
"""


def main(argv: list[str], environ: Mapping[str, str]) -> int:
    """Serve one call; always answers 0."""
    if set(argv) & {"-h", "--help"}:
        print(USAGE, end="")
        return 0
    if argv == ["--version"]:
        from bosh_lxd_cpi import __version__

        print(__version__)
        return 0
    stdout = rpc.claim_stdout()
    with open(0, "rb", closefd=False) as stdin:  # sys.stdin is None when it came closed
        raw = stdin.read()
    given = answer(raw, argv, environ)
    if not rpc.write(stdout, given) and given != rpc.INFO:
        from bosh_lxd_cpi.protocol import methods

        if reverse := methods.reverse(raw, given):
            answer(reverse, argv, environ)  # Ctrl-C ends create-env at once, and not us: nobody knows what was made
    return 0


def answer(raw: bytes, argv: list[str], environ: Mapping[str, str]) -> bytes:
    """The answer to a request, whatever it is and whatever happens."""
    try:
        request = rpc.parse(raw)
        if request.method == "info":
            return rpc.INFO
    except Exception as failure:  # noqa: BLE001  before every call: no fault in here may silence the CPI
        return rpc.failure(failure)
    return _serve(request, argv, environ)


def _serve(request: rpc.Request, argv: list[str], environ: Mapping[str, str]) -> bytes:
    _find_libraries()
    from bosh_lxd_cpi.protocol import methods
    from bosh_lxd_cpi.runtime.log import Log

    log = Log(f"{request.method[:60]} {request.id[:60]}")
    try:
        with _termination_as_error():
            return rpc.success(methods.call(request, config_path=config_path(argv), environ=environ, log=log))
    except errors.CpiError as failure:
        log.error(f"{failure.type}: {failure.message}" + (f"\n{failure.detail}" if failure.detail else ""))
        return rpc.failure(failure, log.redact)
    except BaseException as failure:  # noqa: BLE001  whatever it is, BOSH gets an answer
        import traceback

        log.error(traceback.format_exc())
        return rpc.failure(failure, log.redact)


def _find_libraries() -> None:
    """Add site-packages. bin/cpi starts Python without (-S): info needs none of them, and a release has its own."""
    home = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    if sys.flags.no_site and not os.path.isdir(os.path.join(home, "urllib3")):
        import site

        site.main()


def config_path(argv: list[str]) -> str:
    """The file that the arguments name. Raises ConfigError for arguments that make no sense."""
    words = [piece for word in argv for piece in (word.split("=", 1) if word.startswith("-") else [word])]
    if not words:
        return ""
    if len(words) == 2 and words[0] in ("--config", "-config", "-configPath", "--configPath"):
        return words[1]
    raise errors.ConfigError(f"cannot make sense of the arguments {' '.join(argv)}", hint="bin/cpi --help shows them")


class _termination_as_error:
    """Turn SIGTERM, SIGINT and SIGHUP into an exception, once, so that what was begun is undone and BOSH gets an answer.

    Afterwards only the answer is left to write, and they are ignored.
    """

    def __enter__(self) -> None:
        import signal

        self._signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        for number in self._signals:
            signal.signal(number, self._raise)

    def _raise(self, number: int, frame: object) -> None:
        import signal

        self.__exit__()
        raise errors.Interrupted(f"stopped by {signal.Signals(number).name}")

    def __exit__(self, *_: object) -> None:
        import signal

        for number in self._signals:
            signal.signal(number, signal.SIG_IGN)
