"""usage: util [--dry-run] SUBCOMMAND [ARGUMENT ...]

Set up a server, deploy a director and deployments, and delete them again. Each command is printed before it runs.
With --dry-run, commands are printed only. Write subcommands with _ or with -. `source ./util.sh` defines the shell
function `util`.
"""

from __future__ import annotations

import difflib
import inspect
import os
import signal
import sys
from collections.abc import Callable
from typing import NamedTuple

import completion
from captures import Captures
from deployments import Deployments
from environments import Environments
from server import Server
from shell import ENVIRONMENT, UtilError

BOSH_HAS_DRY_RUN = ("deploy_postgres", "deploy_concourse", "deploy_cf")
"""Subcommands that pass --dry-run on to `bosh deploy` when it follows the subcommand."""


class Util(Server, Deployments, Environments, Captures):
    """All subcommands. Each is a method do_NAME."""

    def do_completion(self, shell: str = "bash") -> None:
        """Print the completion script of bash (default) or zsh.

        Run source <(util completion bash) in the shell or in its start-up file.
        """
        print(completion.script(shell, subcommands=subcommands(self), clients=self.environments()), end="")

    def do_help(self, subcommand: str = "") -> None:
        """Show subcommands, variables and their values, or the usage of one subcommand."""
        if subcommand:
            method = find(self, subcommand)
            print(usage(method), inspect.getdoc(method), sep="\n\n")
            return
        print(__doc__, "\nSubcommands (util help SUBCOMMAND shows the usage of one):")
        for name, method in subcommands(self).items():
            print(f"  {name:18}{(method.__doc__ or '').splitlines()[0].rstrip('.')}")
        print("\nEnvironment variables:")
        for name, meaning in ENVIRONMENT.items():
            print(f"  {name:24}{meaning}" + (f"\n{'':26}= {self.setting(name)}" if self.setting(name) else ""))
        print(f"\nConfiguration in {self.configuration / 'bosh-vars.yml'}:")
        for name, value in self.variables().items():
            print(f"  {name:24}{value}")


class CommandLine(NamedTuple):
    """A parsed command line."""

    subcommand: str
    arguments: list[str]
    dry_run: bool


def parse(argv: list[str]) -> CommandLine:
    """Split a command line. Options before the subcommand are those of util. Raise UtilError for unknown ones."""
    words, dry_run = list(argv), False
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option in ("-h", "--help"):
            words.insert(0, "help")
        elif option != "--dry-run":
            raise UtilError(f"there is no option {option}; see util --help")
        dry_run = dry_run or option == "--dry-run"
    name, *arguments = words or ["help"]
    name = name.replace("-", "_")
    if {"-h", "--help"} & set(arguments):
        return CommandLine("help", [] if name == "help" else [name], dry_run)
    if name not in BOSH_HAS_DRY_RUN and "--dry-run" in arguments:
        arguments.remove("--dry-run")
        dry_run = True
    return CommandLine(name, arguments, dry_run)


def subcommands(util: Util) -> dict[str, Callable[..., None]]:
    """Return the methods by subcommand, in alphabetical order."""
    return {name.removeprefix("do_"): getattr(util, name) for name in sorted(dir(util)) if name.startswith("do_")}


def find(util: Util, name: str) -> Callable[..., None]:
    """Return the method of a subcommand. Raise UtilError with the most similar name if there is none."""
    methods = subcommands(util)
    canonical = name.replace("-", "_")
    if canonical in methods:
        return methods[canonical]
    similar = difflib.get_close_matches(canonical, methods, n=1)
    raise UtilError(
        f"there is no subcommand {name}; " + (f"did you mean {similar[0]}?" if similar else "see util help")
    )


def usage(method: Callable[..., None]) -> str:
    """Return the usage line of a subcommand, made from the parameters of its method."""
    words = ["usage: util [--dry-run]", method.__name__.removeprefix("do_")]
    for parameter in inspect.signature(method).parameters.values():
        name = parameter.name.upper()
        variadic = parameter.kind is inspect.Parameter.VAR_POSITIONAL
        words.append(f"[{name.removesuffix('S')} ...]" if variadic else f"[{name}]")
    return " ".join(words)


def run(argv: list[str]) -> None:
    """Run the subcommand of a command line. Raise UtilError or OSError."""
    name, arguments, dry_run = parse(argv)
    method = find(Util(dict(os.environ), dry_run=dry_run), name)
    try:
        inspect.signature(method).bind(*arguments)
    except TypeError:
        raise UtilError(f"too many arguments: {' '.join(arguments)}; {usage(method)}") from None
    method(*arguments)


def main(argv: list[str]) -> int:
    """Return the exit status: 0, 1 after an error, 130 after Ctrl-C."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `util | head` ends without a traceback
    try:
        run(argv)
    except UtilError as error:
        print(f"util: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"util: {error.filename}: {error.strerror}" if error.filename else f"util: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nutil: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
