"""The CPIs that a program works on: the job's own one, and those of a cpi-config."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from bosh_lxd_cpi.config import sources
from bosh_lxd_cpi.errors import ConfigError
from bosh_lxd_cpi.runtime.log import strings_in

TYPE = "lxd"
"""The type of this CPI in a cpi-config: the name of the job without _cpi."""
VARIABLE = re.compile(r"\(\([^()]+\)\)")


class Target(NamedTuple):
    """A CPI: its name and properties in the cpi-config. The job's own CPI has neither."""

    name: str = ""
    properties: dict[str, Any] | None = None
    is_only_one: bool = True

    def print_title(self, url: str) -> None:
        """Print a line that names the CPI and its server, unless there is only one CPI."""
        if not self.is_only_one:
            print(f"CPI {self.name or 'of the job'}, {url}", flush=True)


def read(cpi_config: str) -> list[Target]:
    """Return the job's own CPI and the CPIs of this type in a file, if one is named. Raises ConfigError."""
    others = list(_cpis(cpi_config)) if cpi_config else []
    return [Target(is_only_one=not others), *others]


def _cpis(path: str) -> Iterator[Target]:
    entries = sources.read(path).get("cpis")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f"{path} is not a cpi-config: it has no list cpis of objects")
    for entry in entries:
        name, properties = str(entry.get("name", "")), entry.get("properties") or {}
        if entry.get("type") != TYPE:
            continue
        if not isinstance(properties, dict):
            raise ConfigError(f"the properties of CPI {name} in {path} must be an object")
        if variable := next(filter(None, map(VARIABLE.search, strings_in(properties))), None):
            raise ConfigError(
                f"CPI {name} in {path} contains the variable {variable[0]}", code="cpi_config_variable", file=path
            )
        yield Target(name, properties, is_only_one=False)
