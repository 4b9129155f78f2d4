"""Generate invalid requests, properties, networks, tarballs and configurations. Each case has a number."""

from __future__ import annotations

import copy
import gzip
import io
import json
import random
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CID = "0188a1b2-c3d4-8000-8000-0123456789ab"
STEMCELL = {"name": "bosh-openstack-kvm-ubuntu-jammy-go_agent", "version": "1.1", "disk": 3072, "disk_format": "qcow2"}
VM = {
    "root_disk": 32,
    "ephemeral_disk": 16,
    "config": {"boot.autostart": "true"},
    "tags": {"a": "b"},
    "devices": {"tpm": {"type": "tpm", "path": "/dev/tpm0"}},
}
NETWORK = {
    "type": "manual",
    "ip": "10.0.0.5",
    "netmask": "255.255.255.0",
    "gateway": "10.0.0.1",
    "dns": ["10.0.0.1"],
    "default": ["dns", "gateway"],
    "cloud_properties": {"name": "br0"},
}
CONFIG = {
    "server": {"url": "unix:///nowhere", "project_name": "bosh", "network_name": "br0", "insecure_skip_verify": False},
    "agent": {"mbus": "nats://nats:sesame@10.0.0.6:4222", "ntp": ["pool.ntp.org"]},
    "throttle_config": {"enabled": False, "limit": 4, "hold": "2m"},
    "agent_config": {"type": "CDROM", "label": "config-2"},
}
VALID_ARGUMENTS: dict[str, list[Any]] = {
    "create_stemcell": ["/nowhere/image", STEMCELL],
    "delete_stemcell": [f"img-{CID}"],
    "create_vm": ["agent", f"img-{CID}", VM, {"net": NETWORK}, [], {"bosh": {}}],
    "delete_vm": [f"vm-{CID}"],
    "has_vm": [f"vm-{CID}"],
    "reboot_vm": [f"vm-{CID}"],
    "set_vm_metadata": [f"vm-{CID}", {"job": "web", "index": "0"}],
    "create_disk": [1024, {}, f"vm-{CID}"],
    "delete_disk": [f"vol-p-{CID}"],
    "has_disk": [f"vol-p-{CID}"],
    "attach_disk": [f"vm-{CID}", f"vol-p-{CID}"],
    "detach_disk": [f"vm-{CID}", f"vol-p-{CID}"],
    "get_disks": [f"vm-{CID}"],
    "resize_disk": [f"vol-p-{CID}", 2048],
    "update_disk": [f"vol-p-{CID}", 2048, {}],
    "set_disk_metadata": [f"vol-p-{CID}", {"deployment": "d"}],
    "snapshot_disk": [f"vol-p-{CID}", {"deployment": "d"}],
    "delete_snapshot": [f"vol-p-{CID}_snap-{CID}"],
    "calculate_vm_cloud_properties": [{"cpu": 1, "ram": 512, "ephemeral_disk_size": 1024}],
}

NON_STRINGS = (None, "", 0, 7, True, 1.5, [], ["vm-1"], {}, {"a": 1})
INVALID_CIDS = (
    *NON_STRINGS,
    "..",
    ".",
    "...",
    "../../1.0",
    "a/b",
    "vm 1",
    "vm-1\n",
    "vm-1?x=y",
    "vm-1#",
    "vm-%2e",
    "vm-\0",
    "vm-ü",
    "vm-\ud800",
    "x" * 201,
    "-" * 9999,
)
NON_OBJECTS = (1, True, 1.5, "text", ["a"], [{}], "\ud800")
INVALID_SIZES = (
    None,
    "",
    0,
    -1,
    1.5,
    "1.5",
    "1e3",
    "ten",
    "1GiB",
    True,
    [],
    [1],
    {},
    {"size": 1},
    1 << 41,
    10**30,
    float("inf"),
    "9" * 5000,
    "٣",
    float("nan"),
)
NON_STRINGS = (["a"], {"a": 1}, True, [])
INVALID_ADDRESSES = (
    None,
    "",
    5,
    True,
    [],
    {},
    "10.0.0",
    "10.0.0.256",
    "10.0.0.5/24",
    "::g",
    "localhost",
    "1" * 5000,
    "\ud800",
    ["10.0.0.5"],
)
INVALID_STRING_LISTS = (1, "text", {"a": 1}, [["a"]], [{}], [None], [True])


def request(method: Any, arguments: Any, context: Any = None) -> bytes:
    return json.dumps({"method": method, "arguments": arguments, "context": context or {"director_uuid": "d"}}).encode()


def invalid_json(rng: random.Random, config: dict[str, Any]) -> bytes:
    raw = bytearray(request(*rng.choice(list(VALID_ARGUMENTS.items()))))
    kind = rng.randrange(6)
    if kind == 0:
        return bytes(raw[: rng.randrange(len(raw))])
    if kind == 1:
        return rng.randbytes(rng.randrange(200))
    if kind == 2:
        return bytes(raw) + rng.choice([b"}", b"{}", b"\0", b"x", bytes(raw)])
    if kind == 3:
        return rng.choice([b"[", b'{"a":', b'{"arguments":[']) * rng.choice([10, 10_000, 100_000])
    if kind == 4:
        raw[raw.index(b"method") : raw.index(b"method") + 6] = rng.choice(
            [b"Method", b"\xff\xfe", b"meth\xc3", b"\\ud800"]
        )
        return bytes(raw)
    return rng.choice(
        [
            b"",
            b"null",
            b"[]",
            b"7",
            b'"info"',
            b"true",
            b"NaN",
            b"\xef\xbb\xbf{}",
            b"{}",
            b"1" * 5000,
            b"-",
            b"\xff\xfe{",
        ]
    )


def invalid_document(rng: random.Random, config: dict[str, Any]) -> bytes:
    method = rng.choice(list(VALID_ARGUMENTS))
    value = rng.choice([1, "x", True, 1.5])
    return rng.choice(
        [
            json.dumps({"method": rng.choice([None, 1, [], {}, "", True]), "arguments": []}).encode(),
            request(
                rng.choice(
                    ["Info", "create_vm ", "__init__", "\ud800", "configure_networks", "x" * 9999, "vms.create_vm"]
                ),
                [],
            ),
            json.dumps({"method": method, "arguments": rng.choice([value, {"a": 1}])}).encode(),
            json.dumps(
                {"method": method, "arguments": VALID_ARGUMENTS[method], "context": rng.choice([value, ["a"]])}
            ).encode(),
            request(method, VALID_ARGUMENTS[method] + [None] * rng.choice([5, 50])),
            request(method, []),
            b'{"arguments":[],"context":{}}',
        ]
    )


def invalid_argument(rng: random.Random, config: dict[str, Any]) -> bytes:
    method = rng.choice(
        [method for method in VALID_ARGUMENTS if method not in ("create_stemcell", "calculate_vm_cloud_properties")]
    )
    arguments = copy.deepcopy(VALID_ARGUMENTS[method])
    index = rng.randrange(len(arguments))
    valid = arguments[index]
    if method == "create_vm" and index in (0, 4):
        index, valid = 1, arguments[1]
    if isinstance(valid, int):
        arguments[index] = rng.choice(INVALID_SIZES)
    elif isinstance(valid, dict):
        arguments[index] = rng.choice(NON_OBJECTS)
    elif method == "create_disk":
        arguments[0] = rng.choice(INVALID_SIZES)
    elif method.startswith(("has_", "delete_")):  # a string that cannot be a CID names an object that does not exist
        arguments[index] = rng.choice(NON_STRINGS)
    else:
        arguments[index] = rng.choice(INVALID_CIDS)
    return request(method, arguments)


def invalid_resources(rng: random.Random, config: dict[str, Any]) -> bytes:
    key = rng.choice(["cpu", "ram", "ephemeral_disk_size"])
    return request(
        "calculate_vm_cloud_properties",
        [
            rng.choice(
                [
                    {
                        **VALID_ARGUMENTS["calculate_vm_cloud_properties"][0],
                        key: rng.choice([None, "1", -1, 1.5, True, [], {}]),
                    },
                    *NON_OBJECTS,
                    {},
                ]
            )
        ],
    )


def invalid_properties(rng: random.Random, config: dict[str, Any]) -> bytes:
    reserved_key = rng.choice(["limits.cpu", "limits.memory", "user.bosh.director", "volatile.uuid", "image.os"])
    device = rng.choice(["root", "config", "ephemeral", "eth0", "p0123456789ab", "persistent-1"])
    key, value = rng.choice(
        [
            *(
                (key, value)
                for key in ("cpu", "ram", "root_disk", "ephemeral_disk")
                for value in ("x", -1, 1.5, True, [], {}, 1 << 41, "\ud800")
            ),
            *((key, value) for key in ("storage_pool", "target", "network", "instance_type") for value in NON_STRINGS),
            *(("profiles", value) for value in INVALID_STRING_LISTS),
            *((key, value) for key in ("config", "devices", "tags") for value in (1, "a", [1], True)),
            ("config", {reserved_key: "1"}),
            ("config", {"a": [1]}),
            ("devices", {device: {"type": "disk"}}),
            ("devices", {"x": {"path": "/"}}),
            ("devices", {"x": 1}),
            ("tags", {"a": {}}),
            ("cpu", 5000),
            ("instance_type", "c9999999"),
            ("instance_type", "-"),
            (rng.choice(["cpus", "RAM", "root-disk", "", "__class__", "\ud800", "x" * 5000, "ephemeral_disk "]), 1),
        ]
    )
    size = {} if key == "instance_type" else {"cpu": 1, "ram": 64}  # these would override instance_type
    return request("create_vm", ["agent", f"img-{CID}", {**VM, **size, key: value}, {"net": NETWORK}, [], {}])


def invalid_networks(rng: random.Random, config: dict[str, Any]) -> bytes:
    key, value = rng.choice(
        [
            *(("ip", value) for value in INVALID_ADDRESSES),
            *((key, value) for key in ("netmask", "gateway") for value in INVALID_ADDRESSES if value),
            *(("type", value) for value in ("static", 1, ["manual"], {"a": 1}, "MANUAL")),
            *(("cloud_properties", value) for value in NON_OBJECTS),
            ("type", "vip"),
            *(("default", value) for value in (5, True, {"a": 1}, "gateway", [["gateway"]])),
            *(("dns", value) for value in (5, True, {"a": 1}, "10.0.0.1", [1], [["a"]])),
            *(("cloud_properties", {key: value}) for key in ("name", "target") for value in NON_STRINGS),
            *(("cloud_properties", {key: value}) for key in ("mtu", "vlan") for value in ("x", -1, 1.5, True, [])),
            ("cloud_properties", {"security_groups": "a"}),
            ("cloud_properties", {"mac_filtering": "perhaps"}),
            ("cloud_properties", {"nam": "br0"}),
            ("cloud_properties", {"name": "no-such-bridge"}),
        ]
    )
    network = {**NETWORK, key: value}
    networks = rng.choice(
        [
            {"net": network},
            {"a": {**NETWORK, "nic_group": 1}, "net": {**network, "nic_group": rng.choice([1, [], {}])}},
            *([] if rng.random() < 0.9 else NON_OBJECTS),
            {"net": network, "vip": {"type": "vip"}},
        ]
    )
    return request("create_vm", ["agent", f"img-{CID}", VM, networks, [], {}])


def invalid_configuration(rng: random.Random, config: dict[str, Any]) -> bytes:
    section, key, value = rng.choice(
        [
            *(("server", "url", value) for value in ("", None, "http://x", "lxd:8443", 5, "\ud800", {})),
            *(("server", "url", value) for value in (["https://x", 5], "https://x unix:///y")),
            *(
                ("server", key, value)
                for key in ("project_name", "network_name", "type", "target")
                for value in ([], {}, True)
            ),
            *(
                ("server", key, "perhaps")
                for key in ("insecure_skip_verify", "predeploy_stemcell", "type", "managed_network_assignment")
            ),
            *(("server", "instance_config", value) for value in (1, "a", [1], {"jammy": 1})),
            ("agent", "mbus", None),
            ("agent", "mbus", ["a"]),
            *(("agent", "ntp", value) for value in (1, {"a": 1}, [1], [["a"]])),
            ("agent_config", "type", "floppy"),
            *(("throttle_config", "limit", value) for value in (0, -1, "x", [], 1.5, "٣٣x")),
            *(("throttle_config", "hold", value) for value in ("soon", -1, [], "1 h")),
            ("throttle_config", "enabled", 5),
        ]
    )
    config[section][key] = value
    return request("has_vm", [f"vm-{CID}"])


def invalid_context(rng: random.Random, config: dict[str, Any]) -> bytes:
    context = rng.choice(
        [
            {"urll": "x"},
            {"url": ["x"]},
            {"url": "ftp://x"},
            {"server": {"urll": 1}},
            {"agent": {"mbuss": "x"}},
            {"pool": {}},
            {"insecure_skip_verify": 7},
            {"lxd_cpi": {"server": {"nope": 1}}},
            {"throttle_config": {"limit": "x"}},
            {"lxd_cpi": {"__class__": 1}},
            {"server": {"": ""}},
            {"server": {"\ud800": "x"}},
            {"proejct_name": "x"},
            {"URL": "unix:///x"},
            {"agent": {"ntp": 5}},
            {"log_level": "loud"},
            {"server": 5},
            {"project": [1]},
            {"capture": [1]},
            {"server": {"x" * 5000: 1}},
        ]
    )
    return request("has_vm", [f"vm-{CID}"], {"director_uuid": "d", **context})


def invalid_stemcell(rng: random.Random, config: dict[str, Any], *, directory: Path) -> bytes:
    content = bytearray(tarball(rng))
    kind = rng.randrange(3)
    if kind == 0:
        del content[rng.randrange(len(content)) :]
    elif kind == 1:
        index = rng.randrange(len(content) - 8)
        content[index : index + 8] = rng.randbytes(8)
    path = directory / "image"
    path.write_bytes(bytes(content))
    properties = {**STEMCELL, "disk_format": rng.choice(["qcow2", "raw", "", "vmdk"])} if kind else STEMCELL
    if kind != 2:
        properties = {**properties, "disk": "damaged"} if rng.random() < 0.1 else properties
    return request(
        "create_stemcell",
        [rng.choice([str(path)] * 20 + ["", "/", "/nowhere", 5, None, "\0", [], "/dev/null", "\ud800"]), properties],
    )


def tarball(rng: random.Random) -> bytes:
    """Return the image of a stemcell without root.img, or with an invalid root.img."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=rng.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])) as tar:
        name = rng.choice(
            ["../root.img", "/root.img", "root.img/x", "ROOT.IMG", "a/root.img", "root.img", "\xff", "x" * 300]
        )
        member = tarfile.TarInfo(name)
        kind = rng.randrange(4) if name == "root.img" else 9
        content = (
            b""
            if kind == 0
            else rng.choice([b"QFI", b"QFI\xfc", b"conectix", b"\x7fELF", b"QFI\xfb" + b"\0\0\0\3" + b"\1" * 8])
        )
        content = content and content.ljust(4096, b"\1")
        member.size = len(content)
        if kind == 1:
            member.type, member.linkname = rng.choice([tarfile.SYMTYPE, tarfile.LNKTYPE]), "/etc/passwd"
        if kind == 2:
            member.type = rng.choice([tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
        if kind == 3:
            member.pax_headers = {"mtime": "nan", "size": rng.choice(["nan", "-5", "99999999999999999999"])}
        tar.addfile(member, io.BytesIO(content))
    return gzip.compress(archive.getvalue(), 1)


Generator = Callable[[random.Random, dict[str, Any]], bytes]


def generators(directory: Path) -> list[Generator]:
    return [
        invalid_json,
        invalid_document,
        invalid_argument,
        invalid_resources,
        invalid_properties,
        invalid_networks,
        invalid_configuration,
        invalid_context,
        lambda rng, config: invalid_stemcell(rng, config, directory=directory),
    ]


def cases(directory: Path, start: int, count: int) -> Iterator[tuple[str, bytes, Path]]:
    """Yield name, request and configuration file of each case. Cases are the same in every run."""
    all_generators = generators(directory)
    path = directory / "cpi.json"
    for number in range(start, start + count):
        config = copy.deepcopy(CONFIG)
        raw = all_generators[number % len(all_generators)](random.Random(number), config)
        path.write_text(json.dumps(config), encoding="utf-8")
        yield f"case {number}: {raw[:600]!r} {config}", raw, path
