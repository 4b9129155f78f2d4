"""The commands of a page of the documentation, and a machine to run them on: a test host, with a stub for bosh."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.host import server
from tests.host.kinds import KINDS
from tests.host.processes import enter_command
from tests.release import bosh_release

STUBS = Path(__file__).parent / "stubs"
BLOCK = re.compile(
    r"(?<=\n\n) {4}\$ .*\n(?:(?: {4}.*)?\n)*"
    r"|(?:(?<=\n\n)|\A)(?: {4,}\S.*\n)+|(?<=\n)```bash\n(?:.*\n)*?```\n"
)
"""A session with output, an indented block, or a fenced block of bash."""


def commands(page: str) -> list[str]:
    """Return the commands of a page, in their order. A command can have several lines."""
    found: list[str] = []
    for block in _blocks(page):
        if block.startswith("$ "):  # a session: a command and the beginning of its output
            found.append(block.partition("\n")[0].removeprefix("$ "))
        elif _document(block) is None:
            lines = re.sub(r"^ *#.*\n", "", block, flags=re.MULTILINE).replace("\\\n", "\\\0").splitlines()
            found += [line.replace("\0", "\n") for line in lines]
    return found


def sessions(page: str) -> list[str]:
    """Return the output that a page shows below a command."""
    return [block.partition("\n")[2].strip() for block in _blocks(page) if block.startswith("$ ")]


def documents(page: str) -> list[Any]:
    """Return the YAML and JSON documents of a page."""
    return [document for block in _blocks(page) if (document := _document(block)) is not None]


def _blocks(page: str) -> list[str]:
    """Return the indented blocks of a page, and the fenced blocks of bash."""
    matches = BLOCK.finditer((bosh_release.ROOT / page).read_text("utf-8"))
    return [re.sub(r"^```.*\n", "", textwrap.dedent(match[0]), flags=re.MULTILINE) for match in matches]


def _document(block: str) -> Any:
    """Return the content of a block if it is an object or an array, else None."""
    try:
        content = yaml.safe_load(block)
    except yaml.YAMLError:
        return None
    return content if isinstance(content, dict | list) else None


FOR_INCUS = {
    r"\blxc config trust add\b": "incus config trust add-certificate",
    r"\blxc (.*storage volume) snapshot ": r"incus \1 snapshot create ",
    r"\blxc (.*storage volume) restore ": r"incus \1 snapshot restore ",
    r"\blxc\b": "incus",
}
"""What the pages say to write for Incus."""


class Machine:
    """A directory on this machine, in the network of a test host, where lxc or incus has full access to its server."""

    def __init__(self, folder: Path, host: server.Facts, settings: Mapping[str, str]) -> None:
        self.folder, self.host, self.settings = folder, host, settings
        self.environ = {"HOME": str(folder), "PATH": f"{folder / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"}
        name = KINDS[host.kind].client
        enter = " ".join(enter_command(host.name))
        client = (
            f"""PATH=/usr/sbin:/usr/bin:/sbin:/bin exec {enter} sh -c 'cd "$0" && exec {name} "$@"' "$PWD" "$@"\n"""
        )
        self._write_program(name, f"#!/bin/sh\n{client}")
        for stub in STUBS.iterdir():
            text = stub.read_text("utf-8").replace("#!/usr/bin/env python3", f"#!{sys.executable}", 1)
            self._write_program(stub.name, text.replace("CHECKOUT", str(bosh_release.ROOT)))

    def _write_program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)

    def run(self, lines: list[str]) -> str:
        """Run commands in one shell, as a reader would, and return the output. The shell stops at the first failure."""
        script = "\n".join(self._localized(line) for line in lines)
        process = subprocess.run(
            [*server.netns_command(self.host.name), "bash", "-e", "-c", f"set -v\n{script}\n"],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert process.returncode == 0, f"{script}\n\n{process.stdout}"
        return process.stdout

    def _localized(self, line: str) -> str:
        """Return a command for this machine: with the settings, and with the commands of its server."""
        for pattern, value in reversed(self.settings.items()):
            line = re.sub(rf"(?<![\w-])(?:{pattern})(?![\w-])", value, line)
        line = re.sub(r"\bSERVER_TYPE=\w+", f"SERVER_TYPE={self.host.type}", line)
        if self.host.type == "lxd":
            return re.sub(r"\bincus(?= )", "lxc", line)
        for pattern, value in FOR_INCUS.items():
            line = re.sub(pattern, value, line)
        return line
