"""The fixtures: one file per scenario in a directory per server, and a manifest of their hashes.

The responses of SHARED_PATHS are the same in many recordings of a server. The file shared.json in its directory
contains them, and the recordings refer to them by hash. See recording/document.py.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from bosh_lxd_cpi.recording import document
from bosh_lxd_cpi.runtime.files import write_file

DIRECTORY = Path(__file__).resolve().parents[1] / "fixtures"
MANIFEST = DIRECTORY / "MANIFEST"
SHARED = "shared.json"
SHARED_PATHS = ("/1.0", "/1.0/networks/boshbr0", "/1.0/storage-pools")


def paths() -> list[Path]:
    """Return the paths of all fixtures."""
    return sorted(path for path in DIRECTORY.glob("*/*.json") if path.name != SHARED)


def shared_paths() -> list[Path]:
    """Return the paths of the files with shared values."""
    return sorted(DIRECTORY.glob(f"*/{SHARED}"))


def load(server: str, name: str) -> dict[str, Any]:
    """Return a fixture with all references replaced by the values."""
    return document.load(DIRECTORY / server / f"{name}.json")


def write(server: str, name: str, fixture: dict[str, Any]) -> None:
    """Write a fixture, and add its shared values to the server's file. `write_manifest` removes unused values."""
    directory = DIRECTORY / server
    directory.mkdir(parents=True, exist_ok=True)
    values = _read_json(directory / SHARED) if (directory / SHARED).exists() else {}
    content = with_references(fixture, values)
    _write_json(directory / SHARED, values)
    _write_json(directory / f"{name}.json", {"format": content.pop("format"), "shared": SHARED, **content})


def with_references(fixture: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return a fixture with references in place of shared values, and add these to `values`."""

    def interaction_with_references(interaction: dict[str, Any]) -> dict[str, Any]:
        request, body = interaction["request"], interaction.get("response", {}).get("body", {})
        if request["method"] != "GET" or request["path"] not in SHARED_PATHS or not body.get("metadata"):
            return interaction
        metadata = body["metadata"]
        if isinstance(metadata, dict) and metadata.get("api_extensions"):
            metadata = {**metadata, "api_extensions": _reference(metadata["api_extensions"], values)}
        body = {**body, "metadata": _reference(metadata, values)}
        return {**interaction, "response": {**interaction["response"], "body": body}}

    calls = [
        {**call, "interactions": [interaction_with_references(interaction) for interaction in call["interactions"]]}
        for call in fixture["calls"]
    ]
    return {**fixture, "calls": calls}


def _reference(value: Any, values: dict[str, Any]) -> dict[str, str]:
    key = digest(value)[:16]
    values[key] = value
    return {document.REFERENCE: key}


def references(value: Any) -> set[str]:
    """Return the references in a document."""
    if isinstance(value, dict):
        if value.keys() == {document.REFERENCE}:
            return {value[document.REFERENCE]}
        value = list(value.values())
    return {key for item in value for key in references(item)} if isinstance(value, list) else set()


def used_references(directory: Path) -> set[str]:
    """Return the references in the fixtures of a server, and in the shared values that they use."""
    values = _read_json(directory / SHARED)
    used = {key for path in directory.glob("*.json") if path.name != SHARED for key in references(_read_json(path))}
    return used | {key for reference in used for key in references(values[reference])}


def digest(value: Any) -> str:
    """Return the SHA-256 of a document. The layout of its file does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def manifest() -> str:
    """Return the hash and the name of every fixture, with all references replaced, and of every shared file."""
    digests = {path: digest(document.load(path)) for path in paths()}
    digests.update({path: digest(_read_json(path)) for path in shared_paths()})
    return "".join(f"{digests[path]}  {path.relative_to(DIRECTORY)}\n" for path in sorted(digests))


def write_manifest() -> None:
    """Remove unused shared values, and write the manifest."""
    for path in shared_paths():
        values, used = _read_json(path), used_references(path.parent)
        _write_json(path, {key: values[key] for key in sorted(used)})
    write_file(MANIFEST, manifest(), mode=0o644)


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_json(path: Path, value: Any) -> None:
    write_file(path, document.format_document(value), mode=0o644)
