"""The property tree: from a file in one of several formats, and from the context of a request."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from bosh_lxd_cpi.errors import ConfigError
from bosh_lxd_cpi.runtime.suggest import is_similar

if TYPE_CHECKING:
    import yaml

MAX_BYTES = 1 << 20
MAX_YAML_NODES = 100_000
"""Nodes of a YAML document, counted again at every alias. Code that walks the document visits each of them."""
MAX_YAML_DIGITS = 40
"""Characters of a whole number in YAML. Python cannot print a number of any length."""

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
            content = file.read(MAX_BYTES + 1)
    except (OSError, UnicodeDecodeError) as failure:
        reason = getattr(failure, "strerror", None) or failure
        raise ConfigError(f"the configuration file {path} cannot be read: {reason}") from failure
    if len(content) > MAX_BYTES:
        raise ConfigError(f"the configuration file {path} is larger than {MAX_BYTES >> 20} MiB")
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
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
        loader = yaml.SafeLoader(content)
        node = loader.get_single_node()
        if node is not None and _size(node, {}) > MAX_YAML_NODES:
            raise ConfigError(f"the configuration file {path} has more than {MAX_YAML_NODES} values")
        return loader.construct_document(node) if node else None
    except (yaml.YAMLError, ValueError, RecursionError) as failure:  # a date such as 2026-02-31 causes a ValueError
        mark = getattr(failure, "problem_mark", None)
        location = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"the configuration file {path} is neither JSON nor YAML{location}") from None


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Return the number of nodes below a node of a YAML document, with those below aliases.

    `sizes` caches the sizes of nodes.

    Raises ValueError for a whole number with too many digits.
    """
    if id(node) not in sizes:
        sizes[id(node)] = MAX_YAML_NODES + 1  # for an alias of a node that contains it
        children = node.value
        if isinstance(children, str):
            if node.tag.endswith(":int") and len(children) > MAX_YAML_DIGITS:
                raise ValueError("a number has too many digits")
            children = ()
        pieces = (piece for child in children for piece in (child if isinstance(child, tuple) else (child,)))
        sizes[id(node)] = 1 + sum(_size(piece, sizes) for piece in pieces)
    return sizes[id(node)]


def from_context(
    context: dict[str, Any],
    *,
    sections: Iterable[str],
    server_properties: Iterable[str],
    ignore: Callable[[str], object],
) -> dict[str, Any]:
    """Return the property tree in a request's context.

    Keys in `sections` are sections or properties at the top level of the tree; all other keys are server properties.
    `ignore` is called for a key at the top level that is no property, because a later director may add one. A key that
    resembles a property stays in the tree, because it could be meant to select another server.
    """
    properties = {key: value for key, value in context.items() if key not in DIRECTOR_KEYS and value is not None}
    names = {*sections, *server_properties, *SHORT_NAMES, "lxd_cpi"}
    for key in sorted(properties.keys() - names):
        if not is_similar(key, names):
            del properties[key]
            ignore(key)
    if isinstance(properties.get("lxd_cpi"), dict):
        properties.update(properties.pop("lxd_cpi"))
    server = {SHORT_NAMES.get(key, key): value for key, value in properties.items() if key not in sections}
    tree = {key: value for key, value in properties.items() if key in sections and value is not None}
    if server and isinstance(tree.setdefault("server", {}), dict):
        tree["server"] = {**tree["server"], **server}
    return tree


def pem(value: str) -> str:
    """Return a PEM string, or the content of the file with this path. Raises ConfigError."""
    if "-----BEGIN" in value:
        return value
    try:
        with open(os.path.expanduser(value), encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError) as failure:
        raise ConfigError(f"a certificate or key is neither PEM nor the path of a PEM file: {failure}") from failure
