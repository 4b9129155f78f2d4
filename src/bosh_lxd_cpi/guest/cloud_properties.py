"""cloud_properties as frozen values: every fault is refused, by name, before anything is made."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from bosh_lxd_cpi.errors import InvalidProperties
from bosh_lxd_cpi.model import labels, naming
from bosh_lxd_cpi.runtime.suggest import did_you_mean

INSTANCE_TYPE = re.compile(r"(?:c(?P<cpu>[0-9]{1,20}(?:\.[0-9]+)?))?-?(?:m(?P<ram>[0-9]{1,20}(?:\.[0-9]+)?))?")
MOST_MIB = 1 << 40
"""An exbibyte: nothing larger is a disk size, it is a mistake."""
MOST_CPUS = 4096
MOST_MTU, MOST_VLAN = 65535, 4094

OWNED_CONFIG = re.compile(
    r"limits\.(cpu|memory)|(volatile|user\.bosh|image)\..*|security\.protection\.delete", re.DOTALL
)
"""Instance options that the CPI or the server itself writes, and one that keeps BOSH from deleting what it made."""


class VmProperties(NamedTuple):
    """cloud_properties of a VM: of its AZ, VM type and VM extensions, merged by the director. Sizes are MiB."""

    instance_type: str = ""
    cpu: int = 0
    ram: int = 0
    root_disk: int = 0
    ephemeral_disk: int = 0
    storage_pool: str = ""
    ephemeral_storage_pool: str = ""
    target: str = ""
    network: str = ""
    profiles: tuple[str, ...] = ()
    config: Mapping[str, str] = {}
    devices: Mapping[str, Mapping[str, str]] = {}
    tags: Mapping[str, str] = {}

    def limits(self) -> dict[str, str]:
        """limits.cpu and limits.memory. `cpu` and `ram` win over the instance type's `c` (CPUs) and `m` (GiB).

        The server's own reading of `c2-m4` differs by version (LXD 5.0 takes m4 for 4096 MB), so it is not asked.
        """
        match = INSTANCE_TYPE.fullmatch(self.instance_type)
        cpu, ram = self.cpu, self.ram
        if match:
            cpu = cpu or math.ceil(float(match["cpu"] or 0))
            ram = ram or int(float(match["ram"] or 0) * 1024)
        return {**({"limits.cpu": str(cpu)} if cpu else {}), **({"limits.memory": f"{ram}MiB"} if ram else {})}

    def named_type(self) -> str:
        """An instance type such as `aws:t2.micro`, which only the server can look up."""
        return "" if INSTANCE_TYPE.fullmatch(self.instance_type) else self.instance_type


class DiskProperties(NamedTuple):
    """cloud_properties of a persistent disk."""

    storage_pool: str = ""
    target: str = ""
    name: str = ""
    config: Mapping[str, str] = {}


class NetworkProperties(NamedTuple):
    """cloud_properties of one network of a VM."""

    name: str = ""
    target: str = ""
    mtu: int = 0
    vlan: int = 0
    security_groups: tuple[str, ...] = ()
    mac_filtering: bool = False
    ipv4_filtering: bool = False
    ipv6_filtering: bool = False
    port_isolation: bool = False


class StemcellProperties(NamedTuple):
    """cloud_properties of a stemcell; `disk` is MiB. Keys that say nothing to LXD are left aside."""

    name: str = ""
    version: str = ""
    architecture: str = "x86_64"
    os_distro: str = ""
    disk: int = 0
    disk_format: str = ""
    root_device_name: str = ""
    image_alias: str = ""
    image_fingerprint: str = ""


Value = TypeVar("Value")


def parse_vm_properties(given: Any) -> VmProperties:
    """Raises InvalidProperties."""
    properties = _read(VmProperties, given, "VM")
    for key in properties.config:
        if OWNED_CONFIG.fullmatch(key):
            raise InvalidProperties(
                f"VM cloud_properties: config.{key} is not for operators to set",
                hint="Use instance_type or cpu and ram, and tags",
            )
    for name, device in properties.devices.items():
        if naming.RESERVED_DEVICES.fullmatch(name):
            raise InvalidProperties(
                f"VM cloud_properties: a device called {name} is made by the CPI itself", hint="Choose another name"
            )
        if "type" not in device:
            raise InvalidProperties(f"VM cloud_properties: devices.{name} has no type")
    limits = properties.limits()
    if (
        int(limits.get("limits.cpu", 0)) > MOST_CPUS
        or int(limits.get("limits.memory", "0").removesuffix("MiB")) > MOST_MIB
    ):
        raise InvalidProperties(f"VM cloud_properties: no server has that much: {limits}")
    if properties.instance_type and not properties.named_type() and not properties.limits():
        raise InvalidProperties(
            f"VM cloud_properties: instance_type {properties.instance_type!r} names no size",
            hint="Write it like c2-m4: CPUs and GiB",
        )
    return properties


def parse_disk_properties(given: Any) -> DiskProperties:
    """Raises InvalidProperties."""
    properties = _read(DiskProperties, given, "disk")
    if owned := next((key for key in properties.config if key == "size" or key.startswith(labels.PREFIX)), None):
        raise InvalidProperties(f"disk cloud_properties: config.{owned} is set by the CPI itself")
    return properties


def parse_network_properties(given: Any, name: str) -> NetworkProperties:
    """Raises InvalidProperties."""
    properties = _read(NetworkProperties, given, f"network {name}")
    for key, most in ("mtu", MOST_MTU), ("vlan", MOST_VLAN):
        if getattr(properties, key) > most:
            raise InvalidProperties(f"network {name} cloud_properties: {key} can be {most} at most")
    return properties


def parse_stemcell_properties(given: Any) -> StemcellProperties:
    """Raises InvalidProperties. Unknown keys pass: every stemcell has a few that are not for us."""
    known = {key: value for key, value in _mapping(given, "stemcell").items() if key in StemcellProperties._fields}
    return _read(StemcellProperties, known, "stemcell")


def parse_size(given: Any, what: str) -> int:
    """A size in MiB. Raises InvalidProperties."""
    size = _number(given, what)
    if not 0 < size <= MOST_MIB:
        raise InvalidProperties(f"{what} must be between 1 and {MOST_MIB} MiB, not {given}")
    return size


def _mapping(given: Any, what: str) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise InvalidProperties(f"{what} cloud_properties must be a mapping, not {type(given).__name__}")
    return given


def _read(kind: type[Value], given: Any, what: str) -> Value:
    defaults: dict[str, Any] = kind._field_defaults  # type: ignore[attr-defined]
    known = {name: _maps if name == "devices" else READERS[type(default)] for name, default in defaults.items()}
    values = {}
    for key, value in _mapping(given, what).items():
        if key not in known:
            raise InvalidProperties(f"{what} cloud_properties: unknown key {key}{did_you_mean(key, known)}")
        if value is not None:
            values[key] = known[key](value, f"{what} cloud_properties: {key}")
    return kind(**values)


def _word(given: Any, what: str) -> str:
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        given = str(given)
    if not isinstance(given, str):
        raise InvalidProperties(f"{what} must be a text, not {type(given).__name__}")
    return given


def _number(given: Any, what: str) -> int:
    if isinstance(given, str) and given.isascii() and given.isdigit():
        given = int(given[:20])
    if isinstance(given, float) and given.is_integer():
        given = int(given)
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= MOST_MIB:
        raise InvalidProperties(f"{what} must be a whole number from 0 to {MOST_MIB}, not {str(given)[:40]!r}")
    return given


def _boolean(given: Any, what: str) -> bool:
    if str(given).lower() not in ("true", "false"):
        raise InvalidProperties(f"{what} must be true or false")
    return str(given).lower() == "true"


def _words(given: Any, what: str) -> tuple[str, ...]:
    if not isinstance(given, list):
        raise InvalidProperties(f"{what} must be a list of texts")
    return tuple(_word(item, what) for item in given)


def _texts(given: Any, what: str) -> dict[str, str]:
    """LXD's own maps hold texts only; YAML writers leave out the quotes."""
    if not isinstance(given, dict):
        raise InvalidProperties(f"{what} must be a mapping of texts")
    return {
        str(key): str(value).lower() if isinstance(value, bool) else _word(value, f"{what}.{key}")
        for key, value in given.items()
    }


def _maps(given: Any, what: str) -> dict[str, dict[str, str]]:
    if not isinstance(given, dict):
        raise InvalidProperties(f"{what} must be a mapping of mappings")
    return {str(key): _texts(value, f"{what}.{key}") for key, value in given.items()}


READERS: dict[type, Callable[[Any, str], Any]] = {str: _word, int: _number, bool: _boolean, tuple: _words, dict: _texts}
"""By the type of a property's default."""
