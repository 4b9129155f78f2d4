"""usage: util [--dry-run] SUBCOMMAND [ARGUMENT ...]

Runs the commands that set up a server, deploy a director and deployments on it, and tear all down again; prints each
before it runs. ARGUMENTs of deploy_* go to bosh. `source ./util.sh` makes `util` available in your shell.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from director import Director
from server import Server
from shell import ENVIRONMENT, UtilError


class Util(Server, Director):
    """All subcommands, each a method do_NAME."""

    def do_help(self) -> None:
        """Show subcommands, variables and what they are set to."""
        print(__doc__, "\nSubcommands:")
        for name, method in subcommands(self).items():
            print(f"  {name:18}{(method.__doc__ or '').splitlines()[0].rstrip('.')}")
        print("\nEnvironment variables:")
        for name, meaning in ENVIRONMENT.items():
            print(f"  {name:24}{meaning}" + (f"\n{'':26}= {self.setting(name)}" if self.setting(name) else ""))
        print(f"\nConfiguration in {self.configuration / 'bosh-vars.yml'}:")
        for name, value in self.variables().items():
            print(f"  {name:24}{value}")


def subcommands(util: Util) -> dict[str, Callable[..., None]]:
    """The methods by their subcommand, in alphabetical order."""
    return {name.removeprefix("do_"): getattr(util, name) for name in sorted(dir(util)) if name.startswith("do_")}


def main(argv: list[str]) -> int:
    """Exit status: 0, or 1 with a line on stderr."""
    words = [word for word in argv if word not in ("--dry-run", "--help", "-h")]
    name, *arguments = words or ["help"]
    util = Util(dict(os.environ), dry_run="--dry-run" in argv)
    if {"--help", "-h"} & set(argv):
        name, arguments = "help", []
    method = subcommands(util).get(name.replace("-", "_"))
    try:
        if method is None:
            raise UtilError(f"there is no subcommand {name}; see util help")
        method(*arguments)
    except (UtilError, OSError, KeyError, ValueError, TypeError) as failure:
        print(f"util: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
