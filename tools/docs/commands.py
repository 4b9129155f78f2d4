"""The page of the programs, from their --help."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tools.docs.markdown import block

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("util", "doctor", "cleanup", "replay", "vendor", "demo", "bench", "cpi")

HEAD = """\
# Commands

`bin/docs` generates this page from the programs.

The programs are in `bin` of the checkout. `cpi`, `cleanup` and `doctor` are also in `/var/vcap/jobs/lxd_cpi/bin` of the
director. [Messages and hints](errors.md) lists what they print about problems.

`doctor`, `cleanup` and `replay` have the same exit status: 0 for success, 1 for problems that they found, 2 if they
could not run, and 130 after an interruption. A terminal gets colors, unless NO_COLOR is set, and lines that fit its
width; a pipe or a file gets plain, complete lines. `--json` prints one JSON document, which
[output.schema.json](output.schema.json) describes.
"""


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    for program in PROGRAMS:
        text = help_of(program, "--help")
        parts.append(f"## {program}\n\n{block(text)}")
        if program == "util":
            subcommands = re.findall(r"^  ([a-z]\w+) ", text.partition("Environment variables")[0], re.MULTILINE)
            parts += [f"### util {name}\n\n{block(help_of('util', 'help', name))}" for name in subcommands]
    return "\n".join(parts)


def help_of(program: str, *arguments: str) -> str:
    """Return the help of a program, without the values of variables."""
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "COLUMNS": "100", "PYTHON_COLORS": "0"}
    output = subprocess.run(
        [ROOT / "bin" / program, *arguments], capture_output=True, text=True, check=True, env=environ
    ).stdout
    return re.sub(r"(?m) +$", "", output.partition("\nConfiguration in ")[0])
