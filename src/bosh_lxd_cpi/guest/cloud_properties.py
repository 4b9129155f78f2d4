"""cloud_properties of VMs, disks, networks and stemcells as immutable values.

Every invalid property is rejected, with its name, before anything is created.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from bosh_lxd_cpi.errors import InvalidProperties
from bosh_lxd_cpi.model import labels, naming
from bosh_lxd_cpi.runtime.suggest import did_you_mean, quote, type_of

INSTANCE_TYPE = r"(?:c(?P<cpu>[0-9]{1,20}(?:\.[0-9]+)?))?-?(?:m(?P<ram>[0-9]{1,20}(?:\.[0-9]+)?))?"
"""`c2-m4`: number of CPUs and GiB of memory. The length limit keeps the numbers finite. The patterns here are strings,
because few calls use them."""
MAX_MIB = 1 << 40
"""One EiB. A larger size is an error in the manifest."""
MAX_CPUS = 4096
MAX_MTU, MAX_VLAN = 65535, 4094

MASK = {"type": "none"}
"""A device that masks the profile's device of the same name."""

OWNED_CONFIG = r"(?s)limits\.(cpu|memory)|(volatile|user\.bosh|image)\..*|security\.protection\.delete"
"""Instance options that the CPI or the server sets, and one that prevents BOSH from deleting the VM."""


class VmProperties(NamedTuple):
    """cloud_properties of a VM: of its AZ, VM type and VM extensions, merged by the director. Sizes are MiB."""

    instance_type: str = ""
    """A size, `c2-m4` for 2 CPUs and 4 GiB, or a type that the server knows, `aws:t2.micro`. Example: c2-m4"""
    cpu: int = 0
    """Number of CPUs. It overrides `instance_type`. Example: 4"""
    ram: int = 0
    """Memory. It overrides `instance_type`. Unit: MiB. Example: 8_192"""
    root_disk: int = 0
    """Least size of the root disk. With 0, the pool and the image decide. Unit: MiB. Example: 20_480"""
    ephemeral_disk: int = 0
    """Size of a disk for /var/vcap/data. With 0, it is on the root disk. Unit: MiB. Example: 102_400"""
    storage_pool: str = ""
    """Pool of the root disk and the ephemeral disk, instead of `server.storage_pool_name`. Example: fast"""
    ephemeral_storage_pool: str = ""
    """Pool of the ephemeral disk, instead of `storage_pool`. Example: scratch"""
    target: str = ""
    """Cluster member, or `@GROUP`, instead of `server.target`. Example: '@rack2'"""
    network: str = ""
    """LXD network of BOSH networks without `name`, instead of `server.network_name`. Example: boshdevbr0"""
    profiles: tuple[str, ...] = ()
    """Profiles, instead of `server.profile_name`. Example: [default, gpu]"""
    config: Mapping[str, str] = {}
    """Instance options. The CPI sets `limits.*` and its own labels. Example: {boot.autostart.priority: "10"}"""
    devices: Mapping[str, Mapping[str, str]] = {}
    """More devices, by name. `{type: none}` masks a device of the profile. Example: {gpu0: {type: gpu}}"""
    tags: Mapping[str, str] = {}
    """Labels, stored as `user.bosh.KEY`. Example: {team: storage}"""

    def limits(self) -> dict[str, str]:
        """Return limits.cpu and limits.memory.

        `cpu` and `ram` take precedence over the numbers in `instance_type`. The CPI interprets `c2-m4` itself, because
        the result of the server depends on its version: LXD 5.0 makes 4096 MB of m4.
        """
        match = re.fullmatch(INSTANCE_TYPE, self.instance_type)
        cpu, ram = self.cpu, self.ram
        if match:
            cpu = cpu or math.ceil(float(match["cpu"] or 0))
            ram = ram or int(float(match["ram"] or 0) * 1024)
        return {**({"limits.cpu": str(cpu)} if cpu else {}), **({"limits.memory": f"{ram}MiB"} if ram else {})}

    def named_type(self) -> str:
        """Return an instance type such as `aws:t2.micro`, which only the server knows, or an empty string."""
        return "" if re.fullmatch(INSTANCE_TYPE, self.instance_type) else self.instance_type


class DiskProperties(NamedTuple):
    """cloud_properties of a persistent disk."""

    storage_pool: str = ""
    """Pool of the disk, instead of `server.storage_pool_name`. Example: fast"""
    target: str = ""
    """Cluster member, or `@GROUP`, of a disk that is created without a VM. Example: lxd1"""
    name: str = ""
    """Accepted and ignored, as by the Go CPI. Example: database"""
    config: Mapping[str, str] = {}
    """Options of the volume. Example: {zfs.blocksize: 16KiB}"""


class NetworkProperties(NamedTuple):
    """cloud_properties of one network of a VM."""

    name: str = ""
    """LXD network or bridge of the host, instead of `server.network_name`. Example: boshdevbr0"""
    target: str = ""
    """Cluster member, or `@GROUP`, of the VMs in this network. Example: lxd1"""
    mtu: int = 0
    """MTU of the NIC. 0 is the MTU of the network. Unit: byte. Example: 1_400"""
    vlan: int = 0
    """VLAN ID of the NIC. 0 is none. Example: 20"""
    security_groups: tuple[str, ...] = ()
    """Network ACLs of the NIC. Example: [web]"""
    mac_filtering: bool = False
    """Whether to drop packets with another MAC address than that of the NIC. Example: true"""
    ipv4_filtering: bool = False
    """Whether to drop packets with another IPv4 address than that of the VM. Example: true"""
    ipv6_filtering: bool = False
    """Whether to drop packets with another IPv6 address than that of the VM. Example: true"""
    port_isolation: bool = False
    """Whether to drop packets to other NICs with this property on the same bridge. Example: true"""


class StemcellProperties(NamedTuple):
    """cloud_properties of a stemcell, without the keys that do not matter to LXD. `disk` is MiB."""

    name: str = ""
    """Name of the stemcell. Its line, `jammy`, decides the firmware. Example: bosh-openstack-kvm-ubuntu-jammy"""
    version: str = ""
    """Version of the stemcell. Example: '1.943'"""
    architecture: str = "x86_64"
    """Architecture of the image. Example: x86_64"""
    os_distro: str = ""
    """Operating system of the image. Example: ubuntu"""
    disk: int = 0
    """Size of the disk in the image. Unit: MiB. Example: 5_120"""
    disk_format: str = ""
    """Format of the disk in the image, `qcow2` or `raw`. Example: qcow2"""
    root_device_name: str = ""
    """Root device, stored as a property of the image. Example: /dev/sda1"""
    image_alias: str = ""
    """For a light stemcell: alias of an image on the server. Example: noble"""
    image_fingerprint: str = ""
    """For a light stemcell: fingerprint of an image on the server. Example: 36b6f2a1c9d0"""


Properties = TypeVar("Properties", VmProperties, DiskProperties, NetworkProperties, StemcellProperties)


def parse_vm_properties(document: Any) -> VmProperties:
    """Return the cloud_properties of a VM. Raises InvalidProperties."""
    properties = _parse(VmProperties, document, "VM")
    for key in properties.config:
        if re.fullmatch(OWNED_CONFIG, key):
            raise InvalidProperties(
                f"VM cloud_properties: config.{key} cannot be set, because the CPI or the server sets it",
                code="owned_option",
                key=key,
            )
    for name, device in properties.devices.items():
        if naming.is_reserved_device(name) and device.get("type") != MASK["type"]:
            raise InvalidProperties(
                f"VM cloud_properties: the device name {name} is reserved for the CPI", code="owned_device", device=name
            )
        if "type" not in device:
            raise InvalidProperties(f"VM cloud_properties: devices.{name} has no type")
    _validate_limits(properties)
    return properties


def _validate_limits(properties: VmProperties) -> None:
    limits = properties.limits()
    cpu, ram = int(limits.get("limits.cpu", 0)), int(limits.get("limits.memory", "0").removesuffix("MiB"))
    if cpu > MAX_CPUS or ram > MAX_MIB:
        raise InvalidProperties(
            f"VM cloud_properties: {cpu} CPUs and {ram} MiB of memory are more than {MAX_CPUS} CPUs and {MAX_MIB} MiB"
        )
    if properties.instance_type and not properties.named_type() and not limits:
        raise InvalidProperties(
            f"VM cloud_properties: instance_type {properties.instance_type!r} contains no size", code="instance_type"
        )


def parse_disk_properties(document: Any) -> DiskProperties:
    """Return the cloud_properties of a persistent disk. Raises InvalidProperties."""
    properties = _parse(DiskProperties, document, "disk")
    for key in properties.config:
        if key == "size" or key.startswith(labels.PREFIX):
            raise InvalidProperties(f"disk cloud_properties: config.{key} cannot be set, because the CPI sets it")
    return properties


def parse_network_properties(document: Any, name: str) -> NetworkProperties:
    """Return the cloud_properties of the network with this name. Raises InvalidProperties."""
    properties = _parse(NetworkProperties, document, f"network {name}")
    for key, value, maximum in ("mtu", properties.mtu, MAX_MTU), ("vlan", properties.vlan, MAX_VLAN):
        if value > maximum:
            raise InvalidProperties(f"network {name} cloud_properties: {key} must be at most {maximum}, not {value}")
    return properties


def parse_stemcell_properties(document: Any) -> StemcellProperties:
    """Return the cloud_properties of a stemcell. Raises InvalidProperties.

    Unknown keys are ignored, because every stemcell has some for other CPIs.
    """
    properties = _object(document, "stemcell")
    return _parse(
        StemcellProperties,
        {key: value for key, value in properties.items() if key in StemcellProperties._fields},
        "stemcell",
    )


def parse_size(value: Any, name: str) -> int:
    """Return a size in MiB. `name` stands for it in the error message. Raises InvalidProperties."""
    size = _integer(value, name)
    if not 0 < size <= MAX_MIB:
        raise InvalidProperties(f"{name} must be from 1 to {MAX_MIB} MiB, not {value}")
    return size


def _object(document: Any, owner: str) -> dict[str, Any]:
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise InvalidProperties(f"{owner} cloud_properties must be an object, not {type_of(document)}")
    return document


def _parse(kind: type[Properties], document: Any, owner: str) -> Properties:
    """Return the properties in a document. A null value means the default."""
    parsers = {name: _parser(name, default) for name, default in kind._field_defaults.items()}
    values = {}
    for key, value in _object(document, owner).items():
        if key not in parsers:
            raise InvalidProperties(f"{owner} cloud_properties: unknown key {key}{did_you_mean(key, parsers)}")
        if value is not None:
            values[key] = parsers[key](value, f"{owner} cloud_properties: {key}")
    return kind(**values)


def _parser(name: str, default: Any) -> Callable[[Any, str], Any]:
    return _objects_of_strings if name == "devices" else PARSERS[type(default)]


def _string(value: Any, name: str) -> str:
    """Return a string. Numbers are accepted, because YAML authors often leave out the quotes."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise InvalidProperties(f"{name} must be a string, not {type_of(value)}")
    return value


def _integer(value: Any, name: str) -> int:
    number = value
    if isinstance(number, str) and number.isascii() and number.isdigit():
        number = int(number[:20])  # enough digits for a number that is too large
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= MAX_MIB:
        raise InvalidProperties(f"{name} must be a whole number from 0 to {MAX_MIB}, not {quote(value)}")
    return number


def _boolean(value: Any, name: str) -> bool:
    if str(value).lower() not in ("true", "false"):
        raise InvalidProperties(f"{name} must be true or false")
    return str(value).lower() == "true"


def _strings(value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise InvalidProperties(f"{name} must be a list of strings")
    return tuple(_string(item, name) for item in value)


def _object_of_strings(value: Any, name: str) -> dict[str, str]:
    """Return an object whose values are strings, as the server requires. Booleans become `true` and `false`."""
    if not isinstance(value, dict):
        raise InvalidProperties(f"{name} must be an object of strings")
    return {
        str(key): str(item).lower() if isinstance(item, bool) else _string(item, f"{name}.{key}")
        for key, item in value.items()
    }


def _objects_of_strings(value: Any, name: str) -> dict[str, dict[str, str]]:
    if not isinstance(value, dict):
        raise InvalidProperties(f"{name} must be an object of objects")
    return {str(key): _object_of_strings(item, f"{name}.{key}") for key, item in value.items()}


PARSERS: dict[type, Callable[[Any, str], Any]] = {
    str: _string,
    int: _integer,
    bool: _boolean,
    tuple: _strings,
    dict: _object_of_strings,
}
"""How to parse a property, by the type of its default."""
