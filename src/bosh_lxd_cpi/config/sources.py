"""Where the job's properties stand: in a file, in one of its forms, and in the context of a request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from bosh_lxd_cpi.errors import ConfigError

DIRECTORS_OWN = ("director_uuid", "request_id", "vm", "api_version", "stemcell")
"""Keys that the director or the CLI adds to the context (docs/development/bosh-contract.md §1.2, §1.3)."""

SHORT_NAMES = {
    "project": "project_name",
    "profile": "profile_name",
    "network": "network_name",
    "storage_pool": "storage_pool_name",
    "pool": "storage_pool_name",
    "client_cert": "tls_client_cert",
    "client_certificate": "tls_client_cert",
    "client_key": "tls_client_key",
    "server_cert": "tls_server_cert",
    "server_certificate": "tls_server_cert",
    "ca_cert": "tls_ca_cert",
}
"""Other names for server properties that a context may use: cpi-configs of other CPIs do without the suffix."""

GO_NAMES = {**SHORT_NAMES, "source_type": "type", "file_store_path": "filestore_path"}
"""What go-lxd-cpi's job calls properties in its cpi.json, once its `StoragePool` is written `storage_pool`."""
CAPITALS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
"""Where a new word begins in `TLSClientCert`."""


def read(path: str) -> dict[str, Any]:
    """The property tree in a JSON or YAML file: as the job writes it, as a manifest has it, with `lxd_cpi` and beside it
    what concerns all jobs, or go-lxd-cpi's cpi.json.

    Raises ConfigError.
    """
    if not path:
        raise ConfigError("no configuration file was named", hint="start bin/cpi with --config FILE")
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as failure:
        raise ConfigError(f"the configuration file {path} cannot be read: {failure}") from failure
    try:
        tree = json.loads(text)
    except ValueError:
        tree = _yaml(path, text)
    if isinstance(tree, dict) and isinstance(tree.get("lxd_cpi"), dict):
        tree = {**tree["lxd_cpi"], "agent": _agent(tree)}
    if not isinstance(tree, dict):
        raise ConfigError(f"the configuration file {path} must hold a mapping, not {type(tree).__name__}")
    return _of_go(tree) if "Server" in tree else tree


def _agent(tree: dict[str, Any]) -> Any:
    """What the job takes from agent.mbus and ntp of all jobs, unless lxd_cpi has its own."""
    given, everybodys = tree["lxd_cpi"].get("agent"), tree.get("agent")
    if not isinstance(given or {}, dict):
        return given
    mbus = everybodys.get("mbus") if isinstance(everybodys, dict) else None
    found = {key: value for key, value in (("mbus", mbus), ("ntp", tree.get("ntp"))) if value is not None}
    return {**found, **(given or {})}


def _of_go(tree: dict[str, Any]) -> dict[str, Any]:
    def ours(key: str) -> str:
        words = CAPITALS.sub("_", str(key)).lower()
        return GO_NAMES.get(words, words)

    return {
        ours(name): {ours(key): value for key, value in given.items()} if isinstance(given, dict) else given
        for name, given in tree.items()
    }


def _yaml(path: str, text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as failure:  # a date such as 2026-02-31 is a ValueError
        where = getattr(failure, "problem_mark", None)
        at = f" at line {where.line + 1}" if where else ""
        raise ConfigError(f"the configuration file {path} is neither JSON nor YAML{at}") from None


def of_context(context: dict[str, Any], sections: Iterable[str]) -> dict[str, Any]:
    """A request's context as a property tree: flat keys are server properties, `sections` may be given whole."""
    given = {key: value for key, value in context.items() if key not in DIRECTORS_OWN and value is not None}
    if isinstance(given.get("lxd_cpi"), dict):
        given.update(given.pop("lxd_cpi"))
    flat = {SHORT_NAMES.get(key, key): value for key, value in given.items() if key not in sections}
    tree = {key: value for key, value in given.items() if key in sections and value is not None}
    if flat and isinstance(tree.setdefault("server", {}), dict):
        tree["server"] = {**tree["server"], **flat}
    return tree
