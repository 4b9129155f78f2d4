"""The property tree: from a file in one of several formats, and from the context of a request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from bosh_lxd_cpi.errors import ConfigError

DIRECTOR_KEYS = ("director_uuid", "request_id", "vm", "api_version", "stemcell")
"""Keys that the director or the CLI writes into a context (docs/development/bosh-contract.md §1.2 and §1.3)."""

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
"""Alternative names of server properties in a context: the cpi-configs of other CPIs omit the prefix or suffix."""

GO_NAMES = {**SHORT_NAMES, "source_type": "type", "file_store_path": "filestore_path"}
"""The Go CPI's names in its cpi.json, in lower case with underscores."""
WORD_BOUNDARY = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
"""A boundary of words in a name such as `TLSClientCert`."""


def read(path: str) -> dict[str, Any]:
    """Return the property tree in a JSON or YAML file. Raises ConfigError.

    The file is the job's cpi.json, the properties of a manifest (`lxd_cpi` next to `agent` and `ntp`), or the Go CPI's
    cpi.json.
    """
    if not path:
        raise ConfigError("no configuration file was named", code="no_configuration")
    try:
        with open(path, encoding="utf-8") as file:
            content = file.read()
    except (OSError, UnicodeDecodeError) as failure:
        raise ConfigError(f"the configuration file {path} cannot be read: {failure}") from failure
    try:
        tree = json.loads(content)
    except ValueError:
        tree = _parse_yaml(path, content)
    if isinstance(tree, dict) and isinstance(tree.get("lxd_cpi"), dict):
        tree = {**tree["lxd_cpi"], "agent": _agent(tree)}
    if not isinstance(tree, dict):
        raise ConfigError(f"the configuration file {path} must contain an object")
    return _from_go_cpi(tree) if "Server" in tree else tree


def _agent(tree: dict[str, Any]) -> Any:
    """Return the agent section. As in the job, its defaults are agent.mbus and ntp of the manifest."""
    agent, manifest_agent = tree["lxd_cpi"].get("agent"), tree.get("agent")
    if not isinstance(agent or {}, dict):
        return agent
    mbus = manifest_agent.get("mbus") if isinstance(manifest_agent, dict) else None
    defaults = {key: value for key, value in (("mbus", mbus), ("ntp", tree.get("ntp"))) if value is not None}
    return {**defaults, **(agent or {})}


def _from_go_cpi(tree: dict[str, Any]) -> dict[str, Any]:
    def rename(key: str) -> str:
        words = WORD_BOUNDARY.sub("_", str(key)).lower()
        return GO_NAMES.get(words, words)

    return {
        rename(name): {rename(key): item for key, item in value.items()} if isinstance(value, dict) else value
        for name, value in tree.items()
    }


def _parse_yaml(path: str, content: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(content)
    except (yaml.YAMLError, ValueError) as failure:  # a date such as 2026-02-31 causes a ValueError
        mark = getattr(failure, "problem_mark", None)
        location = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"the configuration file {path} is neither JSON nor YAML{location}") from None


def from_context(context: dict[str, Any], sections: Iterable[str]) -> dict[str, Any]:
    """Return the property tree in a request's context.

    Keys in `sections` are sections or properties at the top level of the tree; all other keys are server properties.
    """
    properties = {key: value for key, value in context.items() if key not in DIRECTOR_KEYS and value is not None}
    if isinstance(properties.get("lxd_cpi"), dict):
        properties.update(properties.pop("lxd_cpi"))
    server = {SHORT_NAMES.get(key, key): value for key, value in properties.items() if key not in sections}
    tree = {key: value for key, value in properties.items() if key in sections and value is not None}
    if server and isinstance(tree.setdefault("server", {}), dict):
        tree["server"] = {**tree["server"], **server}
    return tree
