"""Which director this machine works for, so that bin/cleanup needs no option.

No property holds the UUID of a director: the director makes one up when it first starts. Its own VM, which create-env
created, has another owner. But each call brings the UUID along, and the name of a VM tells its owner.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.config.schema import Config
from bosh_lxd_cpi.model import naming
from bosh_lxd_cpi.runtime import director_registry

SHORTEST_PREFIX = 8
"""Characters of a UUID that are enough to select a director: bin/cleanup --list shows as many."""
AGENT_SETTINGS = ("/var/vcap/bosh/settings/settings.json", "/var/vcap/bosh/settings.json")
"""Where a BOSH agent stores its settings (docs/development/bosh-contract.md §3)."""


def digest_of(name: str, directors: Mapping[str, str]) -> str:
    """Return the digest of a director. `name` is its UUID, its digest, or the first characters of either.

    `directors` are the UUIDs by digest. A name that matches none of them counts as a UUID. Raises ConfigError if it
    matches several.
    """
    prefix = name.strip().lower()
    matches = {
        digest
        for digest, uuid in directors.items()
        if len(prefix) >= SHORTEST_PREFIX and (uuid.lower().startswith(prefix) or digest.startswith(prefix))
    }
    if len(matches) > 1:
        candidates = " or ".join(sorted(directors[digest] for digest in matches))
        raise errors.ConfigError(f"the director {name} is ambiguous: it can be {candidates}")
    return matches.pop() if matches else naming.director_digest(name)


def director_of_this_machine(config: Config, directors: Mapping[str, str]) -> str:
    """Return the digest of the director that this machine works for, or "" if there are several candidates.

    In this order: the property director_uuid; the only director whose calls ran here; the only director with resources
    on the server, without the owner of this VM.
    """
    callers = director_registry.directors(config.lock_directory())
    if config.director_uuid or len(callers) == 1:
        return naming.director_digest(config.director_uuid or callers[0])
    candidates = directors.keys() - {_owner_of_this_vm()} or directors.keys()
    return next(iter(candidates)) if len(candidates) == 1 else ""


def _owner_of_this_vm() -> str:
    """Return the digest of the owner of this VM, or "". On a director's VM that is create-env."""
    for path in AGENT_SETTINGS:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            settings = json.loads(Path(path).read_text(encoding="utf-8"))
            if origin := naming.origin(settings["vm"]["name"]):
                return origin.director
    return ""
