"""The job's property tree as one frozen value.

The file is JSON or YAML, key for key the properties under `lxd_cpi.` in the job spec. The properties of a cpi-config
arrive with every request, flat at the top level of its context, and overlay the file for that one call. In the file an
unknown key is only warned about, so that a new release still starts with an old file; in the context it is refused,
because it was meant to send this very call elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from bosh_lxd_cpi.config import sources
from bosh_lxd_cpi.errors import ConfigError
from bosh_lxd_cpi.runtime.suggest import did_you_mean


class Server(NamedTuple):
    """Where the VMs are to live."""

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
    instance_config: dict[str, dict[str, str]] = {}


class Agent(NamedTuple):
    """What every agent is told."""

    mbus: str = ""
    ntp: tuple[str, ...] = ()


class AgentConfig(NamedTuple):
    """How the config drive looks."""

    type: str = "CDROM"
    label: str = "config-2"
    metadata_path: str = "ec2/latest/meta-data.json"
    userdata_path: str = "ec2/latest/user-data"
    filestore_path: str = "/var/vcap/store/agent-data"


DURATIONS = ("throttle_config.hold", "throttle_config.wait")


class ThrottleConfig(NamedTuple):
    """How many calls may make the server work at once; durations are texts such as 2m."""

    enabled: bool = False
    path: str = ""
    limit: int = 4
    hold: str = "2m"
    wait: str = "10m"


class Capture(NamedTuple):
    """Where to record calls; empty means not at all."""

    path: str = ""


class Config(NamedTuple):
    """Everything that an operator may set."""

    server: Server = Server()
    agent: Agent = Agent()
    agent_config: AgentConfig = AgentConfig()
    throttle_config: ThrottleConfig = ThrottleConfig()
    capture: Capture = Capture()
    log_level: str = "info"
    keep_failed_vms: bool = False
    director_uuid: str = ""
    """Whose resources bin/cleanup may remove; a call says itself which director it comes from."""

    def secrets(self) -> tuple[str, ...]:
        """Values that must never be seen in a log, an answer or a capture."""
        return (self.server.tls_client_key, self.agent.mbus)

    def lock_directory(self) -> str:
        """Return the directory of the lock files of all calls on this machine.

        Without throttle_config.path it is $TMPDIR/lxd_cpi, which all workers of a director share, with and without BPM
        (docs/development/bosh-contract.md §1.7). If the path names the Go CPI's socket, it is a directory beside it.
        """
        from bosh_lxd_cpi.runtime.throttle import directory

        path = self.throttle_config.path
        return directory(path) if path else os.path.join(os.environ.get("TMPDIR") or "/tmp", "lxd_cpi")


SECTIONS: dict[str, type] = {
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


def load(path: str, context: dict[str, Any] | None = None, warn: Callable[[str], object] = lambda text: None) -> Config:
    """The configuration in a file, overlaid by a request's context.

    Raises ConfigError with every fault at once; `warn` is told of unknown keys in the file.
    """
    config, faults = examine(path, context, warn)
    if faults:
        raise ConfigError(
            f"the configuration in {path} has faults: " + "; ".join(faults),
            hint="bin/doctor shows what each property must be",
        )
    return config


def examine(
    path: str, context: dict[str, Any] | None = None, warn: Callable[[str], object] = lambda text: None
) -> tuple[Config, list[str]]:
    """As `load`, but with every fault beside a configuration that has defaults in their place.

    Raises ConfigError only for a file that cannot be read.
    """
    tree = sources.read(path)
    faults: list[str] = []
    values = _values(tree, faults, unknown=lambda text: warn(f"{path}: {text}"))
    theirs: list[str] = []
    overlaid = _values(sources.of_context(context or {}, Config._fields), theirs, unknown=theirs.append)
    faults += [f"{fault} (from the cpi-config, by the request's context)" for fault in theirs]
    if {"tls_ca_cert", "insecure_skip_verify"} & overlaid.get("server", {}).keys():  # it says itself what to believe
        values.get("server", {}).pop("tls_server_cert", None)
    for section, properties in overlaid.items():
        values[section] = {**values.get(section, {}), **properties} if isinstance(properties, dict) else properties
    config = Config(**{name: SECTIONS[name](**value) if name in SECTIONS else value for name, value in values.items()})
    return config, list(dict.fromkeys(faults + _missing(config)))


def _values(tree: dict[str, Any], faults: list[str], unknown: Callable[[str], object]) -> dict[str, Any]:
    """The known properties of a tree with their values checked and converted."""
    values: dict[str, Any] = {}
    for name, given in tree.items():
        if name in SECTIONS and isinstance(given, dict):
            section = SECTIONS[name]
            values[name] = {
                key: _value(f"{name}.{key}", value, section._field_defaults[key], faults)
                for key, value in given.items()
                if key in section._fields and value is not None
            }
            for key in (key for key in given if key not in section._fields):
                unknown(f"unknown property {name}.{key}{did_you_mean(key, section._fields)}")
        elif name in SECTIONS:
            if given is not None:
                faults.append(f"{name} must be a mapping")
        elif name in Config._fields:
            if given is not None:
                values[name] = _value(name, given, Config._field_defaults[name], faults)
        else:
            unknown(f"unknown property {name}{did_you_mean(name, Config._fields)}")
    return values


def _value(name: str, given: Any, default: Any, faults: list[str]) -> Any:
    """A value in the type of its default; go-lxd-cpi's job writes booleans and numbers as texts, which is accepted."""
    if isinstance(default, bool):
        if str(given).lower() in ("true", "false"):
            return str(given).lower() == "true"
        faults.append(f"{name} must be true or false")
    elif isinstance(default, int):
        text = str(given)
        if text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0:
            return int(text)
        faults.append(f"{name} must be a positive number")
    elif isinstance(default, tuple):
        given = [given] if isinstance(given, str) and given else given or []
        if isinstance(given, list) and all(isinstance(item, str) for item in given):
            return tuple(given)
        faults.append(f"{name} must be a list of texts")
    elif isinstance(default, dict):
        return _instance_config(name, given, faults)
    elif isinstance(given, (str, int, float)) and not isinstance(given, bool):
        if given == "":
            return default
        if name in CHOICES and str(given) not in CHOICES[name]:
            faults.append(f"{name} must be one of {', '.join(filter(None, CHOICES[name]))}")
        if name in DURATIONS:
            _check_duration(name, given, faults)
        return str(given)
    else:
        faults.append(f"{name} must be a text")
    return default


def _check_duration(name: str, given: Any, faults: list[str]) -> None:
    from bosh_lxd_cpi.runtime.throttle import duration

    try:
        duration(given)
    except ValueError as failure:
        faults.append(f"{name}: {failure}")


def _instance_config(name: str, given: Any, faults: list[str]) -> dict[str, dict[str, str]]:
    if isinstance(given, dict) and all(isinstance(keys, dict) for keys in given.values()):
        if all(isinstance(value, (str, int, float)) for keys in given.values() for value in keys.values()):
            return {str(line): {str(key): _text(value) for key, value in keys.items()} for line, keys in given.items()}
    faults.append(f"{name} must map stemcell lines to instance options, and those to texts")
    return {}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _missing(config: Config) -> list[str]:
    server = config.server
    faults = []
    if not server.url.startswith(("https://", "unix://")):
        faults.append(
            "server.url must be https://HOST:8443 or unix:///PATH" + (f", not {server.url}" if server.url else "")
        )
    elif server.url.startswith("https://"):
        faults += [
            f"server.{name} is missing" for name in ("tls_client_cert", "tls_client_key") if not getattr(server, name)
        ]
    if not config.agent.mbus:
        faults.append("agent.mbus is missing")
    return faults


def pem(text: str) -> str:
    """PEM text as it is, or from the file that the text names. Raises ConfigError."""
    if "-----BEGIN" in text:
        return text
    try:
        with open(os.path.expanduser(text), encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError) as failure:
        raise ConfigError(f"expected PEM text or the path of a PEM file: {failure}") from failure
