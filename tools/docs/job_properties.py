"""The page of the job's properties, from jobs/lxd_cpi/spec."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from bosh_lxd_cpi.config import schema
from tools.docs.markdown import block

SPEC = Path(__file__).resolve().parents[2] / "jobs/lxd_cpi/spec"

HEAD = """\
# Job properties

`bin/docs` generates this page from [jobs/lxd_cpi/spec](../../jobs/lxd_cpi/spec).

The CPI has two callers, so the manifest of the director sets the properties twice: under
`instance_groups/name=bosh/properties` for the director, and under `cloud_provider/properties` for `bosh create-env`.
[manifests/cpi.yml](../../manifests/cpi.yml) sets the required properties, and the files in
[manifests/ops](../../manifests/ops) set the others. If a director uses several servers, a
[cpi-config](../../manifests/cpi-config.yml) can set the properties of each server, without the prefix
`lxd_cpi.server.`.

The [cloud-config](cloud-properties.md) describes the properties of VMs, disks and networks.
"""

GROUPS = (
    ("Server", ("lxd_cpi.server.",)),
    ("Agent settings", ("lxd_cpi.agent.", "agent.", "ntp")),
    ("Config drive", ("lxd_cpi.agent_config.",)),
    ("Throttling", ("lxd_cpi.throttle_config.",)),
    ("Cleanup", ("lxd_cpi.cleanup.", "lxd_cpi.cpis", "lxd_cpi.director_uuid")),
    ("Logging and debugging", ("lxd_cpi.log_level", "lxd_cpi.keep_failed_vms", "lxd_cpi.capture.")),
    ("Proxies", ("env.",)),
)


def page() -> str:
    """Return the page. Raise ValueError if a property belongs to no group."""
    parts, remaining = [HEAD], dict(yaml.safe_load(SPEC.read_text("utf-8"))["properties"])
    for title, prefixes in GROUPS:
        group = {name: remaining.pop(name) for name in list(remaining) if name.startswith(prefixes)}
        parts += [f"## {title}\n", *(_section(name, definition) for name, definition in group.items())]
    if remaining:
        raise ValueError(f"no group for {', '.join(remaining)}")
    return "\n".join(parts)


def _section(name: str, definition: dict[str, Any]) -> str:
    """Return the section of a property: its name, description, values, default and example."""
    facts = []
    if choices := [choice for choice in schema.CHOICES.get(name.removeprefix("lxd_cpi."), ()) if choice]:
        facts.append(f"Values: {', '.join(f'`{choice}`' for choice in choices)}")
    if "default" in definition:
        facts.append(f"Default: {_value(definition['default'])}")
    example, example_block = definition.get("example"), ""
    if isinstance(example, dict) or "\n" in str(example):
        text = yaml.safe_dump(example, sort_keys=False) if isinstance(example, dict) else str(example)
        example_block = f"\nExample:\n\n{block(text)}"
    elif example is not None:
        facts.append(f"Example: {_value(example)}")
    last = f"\n{'. '.join(facts)}.\n" if facts else ""
    return f"### {name}\n\n{definition['description'].strip()}\n{last}{example_block}"


def _value(content: Any) -> str:
    """Return a value as YAML on one line, or none if it is empty."""
    if content in ("", [], {}):
        return "none"
    return f"`{content}`" if isinstance(content, str) else f"`{json.dumps(content)}`"
