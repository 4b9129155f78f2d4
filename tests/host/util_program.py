"""Runs bin/util with the client of a test host."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from tests.host import server
from tests.host.director import ROOT


def run_util(host: server.Facts, directory: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run bin/util with `settings` in its environment. `directory` contains bosh-vars.yml and receives its files."""
    program = directory / ("incus" if host.type == "incus" else "lxc")
    command = shlex.join(map(str, server.client_command(host.name)))
    program.write_text(f'#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin exec {command} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    environ = {
        "PATH": f"{directory}:{os.environ['PATH']}",
        "HOME": str(directory),
        "SERVER_TYPE": host.type,
        "CPI_CONFIG_DIR": str(directory),
        **settings,
    }
    return subprocess.run(
        [ROOT / "bin/util", *words], env=environ, cwd=directory, capture_output=True, text=True, check=False
    )
