"""The command line that the programs for operators share: options, error handling and exit status."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping

from bosh_lxd_cpi import errors, hints
from bosh_lxd_cpi.runtime.log import Log

OK, PROBLEMS_FOUND, COULD_NOT_RUN, INTERRUPTED = 0, 1, 2, 130
"""Exit status. argparse exits with 2, too; 130 is what shells report for SIGINT."""
JOB_CONFIG = "/var/vcap/jobs/lxd_cpi/config/cpi.json"
SLOW_SECONDS = 2.0
"""Time after which a user at a terminal wonders what the program is doing."""


class Program:
    """One run of a program: its name, its log, and the fields for the hints of its errors."""

    def __init__(self, name: str, *, log_level: str = "info", slow_seconds: float = SLOW_SECONDS) -> None:
        self.name, self.log, self.slow_seconds = name, Log(name, level=log_level), slow_seconds
        self.hint_fields: Callable[[], Mapping[str, str]] = dict
        """Returns the fields. Set it as soon as the configuration has been read."""

    def parser(self, **texts: str) -> argparse.ArgumentParser:
        """Return a parser with the options --config and --cpi-config, and those of `output_parser`."""
        parser = output_parser(self.name, **texts)
        parser.add_argument(
            "--config", metavar="FILE", default=JOB_CONFIG, help="file with the job's properties (default: %(default)s)"
        )
        parser.add_argument(
            "--cpi-config",
            metavar="FILE",
            default="",
            help="also work on the servers of this cpi-config, in which all variables are replaced",
        )
        return parser

    def run(self, action: Callable[[], int]) -> int:
        """Return the exit status of the action. An error that ends the program becomes one line on stderr."""
        try:
            status = action()
            sys.stdout.flush()  # at exit, Python would print a traceback if the reader has closed the pipe
            return status
        except BrokenPipeError:
            # Python flushes stdout at exit, which would fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except (errors.CpiError, OSError) as failure:
            self.print_error(failure)
        except (KeyboardInterrupt, errors.Interrupted):
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would replace the exit status
            return INTERRUPTED
        return COULD_NOT_RUN

    def print_error(self, failure: errors.CpiError | OSError) -> None:
        """Print an error with its hint to stderr."""
        message = str(failure)
        if isinstance(failure, errors.CpiError):
            message = hints.message(failure, **self.hint_fields())
        print(self.log.redact(f"{self.name}: {message}"), file=sys.stderr)

    @contextlib.contextmanager
    def progress(self, activity: str) -> Iterator[None]:
        """Show the activity on a terminal if it lasts longer than `slow_seconds`, and remove the line at its end."""
        if not sys.stderr.isatty():
            yield
            return
        text, shown = f"{self.name}: {activity} ...", threading.Event()

        def show() -> None:
            shown.set()
            _write(text)

        timer = threading.Timer(self.slow_seconds, show)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            if shown.is_set():
                _write(f"\r{' ' * len(text)}\r")


def _write(text: str) -> None:
    print(text, end="", file=sys.stderr, flush=True)


def output_parser(
    name: str, *, description: str, epilog: str, json_help: str, verbose_help: str, quiet_help: str
) -> argparse.ArgumentParser:
    """Return a parser with the options that select the output: --json, --verbose and --quiet."""
    parser = argparse.ArgumentParser(
        prog=name, description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help=f"{json_help} (docs/reference/output.schema.json)")
    output.add_argument("-v", "--verbose", action="store_true", help=verbose_help)
    output.add_argument("-q", "--quiet", action="store_true", help=quiet_help)
    return parser
