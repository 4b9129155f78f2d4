"""The fixtures on disk: one file a scenario, in a directory a server, and a manifest of their hashes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from bosh_lxd_cpi.protocol.capture import text

PLACE = Path(__file__).resolve().parents[1] / "fixtures"
MANIFEST = PLACE / "MANIFEST"


def paths() -> list[Path]:
    """All fixtures."""
    return sorted(PLACE.glob("*/*.json"))


def load(server: str, name: str) -> dict[str, Any]:
    return json.loads((PLACE / server / f"{name}.json").read_text(encoding="utf-8"))


def write(server: str, name: str, fixture: dict[str, Any]) -> None:
    """Write a fixture in the place of any of its name."""
    path = PLACE / server / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(text(fixture), encoding="utf-8")
    new.replace(path)


def digest(path: Path) -> str:
    """The hash of what a fixture says, whatever its layout."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_manifest() -> None:
    """List every fixture with its hash."""
    lines = [f"{digest(path)}  {path.relative_to(PLACE)}\n" for path in paths()]
    MANIFEST.write_text("".join(lines), encoding="utf-8")
