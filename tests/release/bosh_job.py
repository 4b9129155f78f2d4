"""Render the job as BOSH does, and run it as its callers do."""

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
"""The required properties."""


class TemplateError(Exception):
    """The error output of Ruby."""


def render(template: str, properties: dict[str, Any], caller: str = "director") -> str:
    """Return a rendered template. Raise TemplateError."""
    defaults = {name: definition.get("default") for name, definition in SPEC["properties"].items()}
    run = subprocess.run(
        ["ruby", str(Path(__file__).with_name("render.rb")), str(JOB / "templates" / template)],
        input=json.dumps({"caller": caller, "spec": defaults, "properties": properties}),
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise TemplateError(run.stderr)
    return run.stdout


def render_job(jobs: Path, properties: dict[str, Any], caller: str = "director") -> Path:
    """Write all files of the job with the permissions that the agent sets. Return the job's directory."""
    job = jobs / "lxd_cpi"
    for template, path_in_job in SPEC["templates"].items():
        path = job / path_in_job
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render(template, properties, caller), encoding="utf-8")
        path.chmod(0o755 if path_in_job.startswith("bin/") else 0o644)
    return job


def examples() -> dict[str, Any]:
    """Return a property tree in which each property has its example or, without one, its default."""
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
    """Run a command with a CPI request. Return the response and stderr. Raise an error unless stdout is JSON."""
    user = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid else []
    run = subprocess.run(
        [*user, *command], input=json.dumps(request), capture_output=True, text=True, check=True, env=environ, cwd="/"
    )
    return json.loads(run.stdout), run.stderr


def worker_environ(tmpdir: Path) -> dict[str, str]:
    """Return the environment of a CPI process that a director starts."""
    return {"PATH": os.defpath, "TMPDIR": str(tmpdir), "HOME": "/nonexistent"}
