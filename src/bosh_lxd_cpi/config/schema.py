"""The configuration as one immutable value.

The file is JSON or YAML and contains the properties under `lxd_cpi.` of the job spec. The properties of a cpi-config
are in the context of every request, at its top level, and replace those of the file for this call. An unknown property
in the file causes a warning, so that a new release works with an old file. In the context it is an error, because it
could be meant to select another server; only a key at the top level that resembles no property is ignored, because a
later director may add one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bosh_lxd_cpi.config import sources
from bosh_lxd_cpi.errors import ConfigError
from bosh_lxd_cpi.runtime.suggest import did_you_mean


class Server(NamedTuple):
    """The LXD or Incus server, and what it uses for VMs by default."""

    type: str = ""
    url: str = ""
    insecure_skip_verify: bool = False
    tls_client_cert: str = ""
    tls_client_key: str = ""
    tls_server_cert: str = ""
    tls_ca_cert: str = ""
    project_name: str = "default"
    profile_name: str = "default"
    network_name: str = ""
    storage_pool_name: str = "default"
    target: str = ""
    managed_network_assignment: str = "static"
    predeploy_stemcell: bool = False
    instance_config: Mapping[str, Mapping[str, str]] = {}

    @property
    def urls(self) -> list[str]:
        """The URLs in `url`, which spaces separate: several for a cluster."""
        return [self.url] if self.url.startswith("unix://") else self.url.split()


class Agent(NamedTuple):
    """Settings for every BOSH agent."""

    mbus: str = ""
    ntp: tuple[str, ...] = ()


class AgentConfig(NamedTuple):
    """Format and content of the config drive."""

    type: str = "CDROM"
    label: str = "config-2"
    metadata_path: str = "ec2/latest/meta-data.json"
    userdata_path: str = "ec2/latest/user-data"
    filestore_path: str = "/var/vcap/store/agent-data"


DURATIONS = ("throttle_config.hold", "throttle_config.wait")


class ThrottleConfig(NamedTuple):
    """Limits for concurrent calls. Durations are strings such as 2m."""

    enabled: bool = False
    path: str = ""
    limit: int = 4
    hold: str = "2m"
    wait: str = "10m"


class Capture(NamedTuple):
    """The directory for recorded calls. If it is empty, calls are not recorded."""

    path: str = ""


class Config(NamedTuple):
    """All properties that an operator can set."""

    server: Server = Server()
    agent: Agent = Agent()
    agent_config: AgentConfig = AgentConfig()
    throttle_config: ThrottleConfig = ThrottleConfig()
    capture: Capture = Capture()
    log_level: str = "info"
    keep_failed_vms: bool = False
    director_uuid: str = ""
    """For bin/cleanup: the director whose resources it removes. A call contains the UUID of its director."""

    def secrets(self) -> tuple[str, ...]:
        """Return the values that must not occur in logs, responses and recordings."""
        return (self.server.tls_client_key, self.agent.mbus)

    def lock_directory(self) -> str:
        """Return the directory with the locks of all calls on this machine.

        The default is $TMPDIR/lxd_cpi, which all workers of a director share, with and without BPM
        (docs/development/bosh-contract.md §1.7), and $TMPDIR/lxd_cpi-<user ID> in a directory of all users such as
        /tmp. For the path of the Go CPI's socket it is a directory next to it.
        """
        if path := self.throttle_config.path:
            from bosh_lxd_cpi.runtime.throttle import directory

            return directory(path)
        from bosh_lxd_cpi.runtime.lock_files import default_directory

        return default_directory(os.environ.get("TMPDIR") or "/tmp")


SECTIONS: dict[str, Any] = {
    "server": Server,
    "agent": Agent,
    "agent_config": AgentConfig,
    "throttle_config": ThrottleConfig,
    "capture": Capture,
}
CHOICES = {
    "server.type": ("", "lxd", "incus"),
    "server.managed_network_assignment": ("static", "dhcp"),
    "agent_config.type": ("CDROM", "FAT32"),
    "log_level": ("debug", "info", "warn", "error"),
}


def _drop(text: str) -> None:
    pass


def load(
    path: str,
    context: dict[str, Any] | None = None,
    *,
    warn: Callable[[str], object] = _drop,
    ignore: Callable[[str], object] = _drop,
) -> Config:
    """Return the configuration in a file, with the properties in a request's context.

    `warn` is called for every unknown property in the file, `ignore` for every key of the context that is no property.
    Raises ConfigError with all errors at once.
    """
    config, problems = examine(path, context, warn=warn, ignore=ignore)
    if problems:
        raise ConfigError(
            f"the configuration in {path} is invalid: {'; '.join(problems)}", code="invalid_configuration", file=path
        )
    return config


def examine(
    path: str,
    context: dict[str, Any] | None = None,
    *,
    warn: Callable[[str], object] = _drop,
    ignore: Callable[[str], object] = _drop,
) -> tuple[Config, list[str]]:
    """Return the configuration, with defaults for invalid properties, and what is wrong with them.

    Raises ConfigError only if the file cannot be read.
    """
    problems: list[str] = []
    values = _parse(sources.read(path), problems, unknown=lambda text: warn(f"{path}: {text}"))
    context_problems: list[str] = []
    context_tree = sources.from_context(
        context or {}, sections=Config._fields, server_properties=Server._fields, ignore=ignore
    )
    overrides = _parse(context_tree, context_problems, unknown=context_problems.append)
    problems += [f"{problem} (from the cpi-config, by the request's context)" for problem in context_problems]
    if {"tls_ca_cert", "insecure_skip_verify"} & overrides.get("server", {}).keys():
        # A context that says how to verify its server does not inherit the certificate of the file's server.
        values.get("server", {}).pop("tls_server_cert", None)
    for section, properties in overrides.items():
        values[section] = {**values.get(section, {}), **properties} if isinstance(properties, dict) else properties
    config = Config(**{name: SECTIONS[name](**value) if name in SECTIONS else value for name, value in values.items()})
    return config, list(dict.fromkeys(problems + _missing(config)))


def _parse(tree: dict[str, Any], problems: list[str], unknown: Callable[[str], object]) -> dict[str, Any]:
    """Return the valid properties of a tree. Append to `problems`, and call `unknown` for unknown properties."""
    values: dict[str, Any] = {}
    for name, value in tree.items():
        if name in SECTIONS and isinstance(value, dict):
            values[name] = _parse_section(name, value, problems, unknown)
        elif name in SECTIONS:
            if value is not None:
                problems.append(f"{name} must be an object")
        elif name in Config._fields:
            if value is not None:
                values[name] = _parse_value(name, value, Config._field_defaults[name], problems)
        else:
            unknown(f"unknown property {name}{did_you_mean(name, Config._fields)}")
    return values


def _parse_section(
    name: str, properties: dict[str, Any], problems: list[str], unknown: Callable[[str], object]
) -> dict[str, Any]:
    section = SECTIONS[name]
    values = {
        key: _parse_value(f"{name}.{key}", value, section._field_defaults[key], problems)
        for key, value in properties.items()
        if key in section._fields and value is not None
    }
    for key in properties:
        if key not in section._fields:
            unknown(f"unknown property {name}.{key}{did_you_mean(key, section._fields)}")
    return values


def _parse_value(name: str, value: Any, default: Any, problems: list[str]) -> Any:
    """Return a value in the type of its default. The Go CPI's job writes booleans and numbers as strings."""
    problem = ""
    # An object or an array is never converted to a string: with YAML's aliases, few bytes make strings of gigabytes.
    if isinstance(default, bool):
        word = str(value).lower() if isinstance(value, (bool, str)) else ""
        if word in ("true", "false"):
            return word == "true"
        problem = f"{name} must be true or false"
    elif isinstance(default, int):
        digits = str(value) if isinstance(value, (int, str)) else ""
        if digits.isascii() and digits.isdigit() and len(digits) < 10 and int(digits) > 0:
            return int(digits)
        problem = f"{name} must be a positive number"
    elif isinstance(default, tuple):
        items = [value] if isinstance(value, str) and value else value or []
        if isinstance(items, list) and all(isinstance(item, str) for item in items):
            return tuple(items)
        problem = f"{name} must be a list of strings"
    elif isinstance(default, dict):
        return _parse_instance_config(name, value, problems)
    else:
        return _parse_string(name, value, default, problems)
    problems.append(problem)
    return default


def _parse_string(name: str, value: Any, default: Any, problems: list[str]) -> Any:
    if name == "server.url" and isinstance(value, list) and all(isinstance(url, str) for url in value):
        value = " ".join(value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        problems.append(f"{name} must be a string")
        return default
    if value == "":
        return default
    if name in CHOICES and str(value) not in CHOICES[name]:
        problems.append(f"{name} must be one of {', '.join(filter(None, CHOICES[name]))}")
    if name in DURATIONS:
        _check_duration(name, value, problems)
    return str(value)


def _check_duration(name: str, value: str | int | float, problems: list[str]) -> None:
    from bosh_lxd_cpi.runtime.throttle import duration

    try:
        duration(value)
    except ValueError as failure:
        problems.append(f"{name}: {failure}")


def _parse_instance_config(name: str, value: Any, problems: list[str]) -> dict[str, dict[str, str]]:
    """Return instance options by stemcell line."""
    if isinstance(value, dict) and all(isinstance(options, dict) for options in value.values()):
        options_of_all = [option for options in value.values() for option in options.values()]
        if all(isinstance(option, (str, int, float)) for option in options_of_all):
            return {
                str(line): {str(key): _option(option) for key, option in options.items()}
                for line, options in value.items()
            }
    problems.append(f"{name} must be an object of stemcell lines with objects of instance options, which are strings")
    return {}


def _option(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _missing(config: Config) -> list[str]:
    server, urls = config.server, config.server.urls
    schemes = ("https://", "unix://") if len(urls) == 1 else ("https://",)
    problems = []
    if not urls:
        problems.append("server.url is missing (lxd_cpi.server.url, which go-lxd-cpi before v3 called lxd_cpi.lxd.url)")
    elif invalid := [url for url in urls if not url.startswith(schemes)]:
        problems.append(f"server.url must be https://HOST:8443 or unix:///PATH, not {' '.join(invalid)}")
    elif urls[0].startswith("https://"):
        problems += [
            f"server.{name} is missing" for name in ("tls_client_cert", "tls_client_key") if not getattr(server, name)
        ]
    if not config.agent.mbus:
        problems.append("agent.mbus is missing")
    return problems
