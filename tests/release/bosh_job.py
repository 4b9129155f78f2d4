"""The job rendered as BOSH renders it, and started as its callers start it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
JOB = ROOT / "jobs/lxd_cpi"
SPEC: dict[str, Any] = yaml.safe_load((JOB / "spec").read_text("utf-8"))

CONNECTION = {
    "lxd_cpi": {"server": {"url": "https://127.0.0.1:1", "tls_client_cert": "C", "tls_client_key": "K"}},
    "agent": {"mbus": "nats://10.0.0.1:4222"},
}
"""The least that an operator has to say."""


class TemplateError(Exception):
    """Ruby's last words."""


def render(template: str, given: dict[str, Any], caller: str = "director") -> str:
    """One template's text. Raises TemplateError."""
    defaults = {name: definition.get("default") for name, definition in SPEC["properties"].items()}
    run = subprocess.run(
        ["ruby", str(Path(__file__).with_name("render.rb")), str(JOB / "templates" / template)],
        input=json.dumps({"caller": caller, "spec": defaults, "given": given}),
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise TemplateError(run.stderr)
    return run.stdout


def render_job(jobs: Path, given: dict[str, Any], caller: str = "director") -> Path:
    """The job's directory with all its files, in the modes that a director's agent gives them to user vcap."""
    job = jobs / "lxd_cpi"
    for template, place in SPEC["templates"].items():
        path = job / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render(template, given, caller), encoding="utf-8")
        path.chmod(0o755 if place.startswith("bin/") else 0o644)
    return job


def examples() -> dict[str, Any]:
    """A property tree with every property set to its example, or else its default."""
    tree: dict[str, Any] = {}
    for name, definition in SPEC["properties"].items():
        *sections, key = name.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[key] = definition.get("example", definition.get("default"))
    return tree


def call(
    command: list[str], request: dict[str, Any], *, environ: dict[str, str], uid: int = 0
) -> tuple[dict[str, Any], str]:
    """The answer and what was said on stderr. Anything but status 0 and one JSON document on stdout is a failure."""
    user = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid else []
    run = subprocess.run(
        [*user, *command], input=json.dumps(request), capture_output=True, text=True, check=True, env=environ, cwd="/"
    )
    return json.loads(run.stdout), run.stderr


def worker_environ(tmpdir: Path) -> dict[str, str]:
    """All that a director gives its CPI."""
    return {"PATH": os.defpath, "TMPDIR": str(tmpdir), "HOME": "/nonexistent"}
