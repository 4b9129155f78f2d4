"""Which director this machine works for, so that cleanup knows whose it is without being told.

No property says a director's UUID: it makes one up when it first starts, and the director VM itself, made by create-env,
belongs to another one. But each call brings it along, and a VM's name says who made it.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Mapping

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.config.schema import Config
from bosh_lxd_cpi.model import naming
from bosh_lxd_cpi.runtime import director_registry

SHORTEST = 8
"""Digits of a UUID that may stand for it: as many as bin/cleanup --list shows."""
AGENT_SETTINGS = ("/var/vcap/bosh/settings/settings.json", "/var/vcap/bosh/settings.json")
"""Where a BOSH agent keeps what it was told (facts: bosh-contract 3.3)."""


def named(name: str, directors: Mapping[str, str]) -> str:
    """The digest of the director whose UUID or digest this is, or the beginning of it; `directors` are UUIDs by digest.

    Raises ConfigError when it is the beginning of several.
    """
    begins = name.strip().lower()
    matches = {
        digest
        for digest, uuid in directors.items()
        if len(begins) >= SHORTEST and (uuid.lower().startswith(begins) or digest.startswith(begins))
    }
    if len(matches) > 1:
        raise errors.ConfigError(f"{name} may be {' or '.join(sorted(directors[digest] for digest in matches))}")
    return matches.pop() if matches else naming.director_digest(name)


def this_machines(settings: Config, directors: Mapping[str, str]) -> str:
    """The digest of the director that this machine works for; empty when it may be one of several."""
    calling = director_registry.known(settings.lock_directory())
    if settings.director_uuid or len(calling) == 1:
        return naming.director_digest(settings.director_uuid or calling[0])
    likely = directors.keys() - {_maker()} or directors.keys()
    return next(iter(likely)) if len(likely) == 1 else ""


def _maker() -> str:
    """The digest of who made this very VM, if it is one of ours: on a director's VM that is create-env, and not itself."""
    for path in AGENT_SETTINGS:
        with (
            contextlib.suppress(OSError, ValueError, KeyError, TypeError),
            pathlib.Path(path).open(encoding="utf-8") as file,
        ):
            if made := naming.origin(json.load(file)["vm"]["name"]):
                return made.director
    return ""
