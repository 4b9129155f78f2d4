"""Make the pictures of terminal sessions in docs/images from real runs.

    python3 -m tests.host.pictures

`bin/demo` and `bin/doctor` run on a test host with Incus 6.0, so root on x86-64 Linux is required. test_pictures.py
fails when a picture does not have the lines that the programs print.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.host import server
from tests.host.director import ROOT, configuration
from tests.support import terminal

IMAGES = ROOT / "docs/images"
SETTINGS = {
    "BOSH_DEPLOYMENT_DIR": "../bosh-deployment",
    "CPI_DIR": "../bosh-lxd-cpi",
    "SERVER_URL": "https://lxd.lan:8443",
    "SERVER_CERT": "server.crt",
}
"""The environment of docs/how-to/deploy.md."""


def demo() -> tuple[str, str]:
    """Return the command and the output of the demo."""
    done = subprocess.run([ROOT / "bin/demo"], capture_output=True, text=True, check=True)
    return "bin/demo", done.stdout


def doctor(facts: server.Facts) -> tuple[str, str]:
    """Return the command and the output of the doctor on a server that has no problems."""
    options = f"--cidr {facts.cidr} --gateway {facts.gateway} --ip 10.245.0.6"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "properties.json"
        file.write_text(json.dumps(configuration(facts)), encoding="utf-8")
        command = [*server.netns_command(facts.name), ROOT / "bin/doctor", "--config", file, *options.split()]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return f"bin/doctor --config properties.yml {options}", done.stdout.replace(str(file), "properties.yml")


def deploy_bosh() -> tuple[str, str]:
    """Return the command and the output of a dry run of util, in the directories of docs/how-to/deploy.md."""
    with tempfile.TemporaryDirectory() as folder:
        lab = Path(folder) / "lab"
        lab.mkdir()
        (lab.parent / "bosh-lxd-cpi").symlink_to(ROOT)
        environ = {"PATH": os.environ["PATH"], "HOME": folder, **SETTINGS}
        command = [ROOT / "bin/util", "--dry-run", "deploy_bosh"]
        done = subprocess.run(command, cwd=lab, env=environ, capture_output=True, text=True, check=True)
    return "util --dry-run deploy_bosh", done.stdout.replace(str(lab), "/home/me/lab")


def lines(picture: str) -> list[str]:
    """Return the lines of a picture without numbers, names, letters of disks and dots of progress, which differ."""
    return [
        re.sub(r"(?<=/dev/sd)[a-z]|[0-9a-f]{6,}|[-0-9a-f]{36}|\d+(\.\d+)*|fe80::\S+| ?\.\.\.+", "#", line)
        for line in terminal.text(picture)
    ]


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with server.temporary_host("incus", name="pictures") as facts:
        runs: dict[str, Callable[[], tuple[str, str]]] = {
            "demo": demo,
            "doctor": lambda: doctor(facts),
            "deploy-bosh": deploy_bosh,
        }
        for name, run in runs.items():
            command, output = run()
            (IMAGES / f"{name}.svg").write_text(terminal.svg(command, output), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
