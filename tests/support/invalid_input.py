"""Requests, properties, networks, tarballs and configurations that are wrong, each in its own way, by number."""

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
GOOD: dict[str, list[Any]] = {
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

NO_CID = (
    None,
    "",
    0,
    7,
    True,
    1.5,
    [],
    ["vm-1"],
    {},
    {"a": 1},
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
NO_MAPPING = (1, True, 1.5, "text", ["a"], [{}], "\ud800")
NO_SIZE = (
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
NO_TEXT = (["a"], {"a": 1}, True, [])
NO_ADDRESS = (
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
NO_WORDS = (1, "text", {"a": 1}, [["a"]], [{}], [None], [True])


def request(method: Any, arguments: Any, context: Any = None) -> bytes:
    return json.dumps({"method": method, "arguments": arguments, "context": context or {"director_uuid": "d"}}).encode()


def broken_json(dice: random.Random, config: dict[str, Any]) -> bytes:
    raw = bytearray(request(*dice.choice(list(GOOD.items()))))
    kind = dice.randrange(6)
    if kind == 0:
        return bytes(raw[: dice.randrange(len(raw))])
    if kind == 1:
        return dice.randbytes(dice.randrange(200))
    if kind == 2:
        return bytes(raw) + dice.choice([b"}", b"{}", b"\0", b"x", bytes(raw)])
    if kind == 3:
        return dice.choice([b"[", b'{"a":', b'{"arguments":[']) * dice.choice([10, 10_000, 100_000])
    if kind == 4:
        raw[raw.index(b"method") : raw.index(b"method") + 6] = dice.choice(
            [b"Method", b"\xff\xfe", b"meth\xc3", b"\\ud800"]
        )
        return bytes(raw)
    return dice.choice(
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


def wrong_shape(dice: random.Random, config: dict[str, Any]) -> bytes:
    method = dice.choice(list(GOOD))
    junk = dice.choice([1, "x", True, 1.5])
    return dice.choice(
        [
            json.dumps({"method": dice.choice([None, 1, [], {}, "", True]), "arguments": []}).encode(),
            request(
                dice.choice(
                    ["Info", "create_vm ", "__init__", "\ud800", "configure_networks", "x" * 9999, "vms.create_vm"]
                ),
                [],
            ),
            json.dumps({"method": method, "arguments": dice.choice([junk, {"a": 1}])}).encode(),
            json.dumps({"method": method, "arguments": GOOD[method], "context": dice.choice([junk, ["a"]])}).encode(),
            request(method, GOOD[method] + [None] * dice.choice([5, 50])),
            request(method, []),
            b'{"arguments":[],"context":{}}',
        ]
    )


def wrong_argument(dice: random.Random, config: dict[str, Any]) -> bytes:
    method = dice.choice(
        [method for method in GOOD if method not in ("create_stemcell", "calculate_vm_cloud_properties")]
    )
    arguments = copy.deepcopy(GOOD[method])
    at = dice.randrange(len(arguments))
    good = arguments[at]
    if method == "create_vm" and at in (0, 4):
        at, good = 1, arguments[1]
    if isinstance(good, int):
        arguments[at] = dice.choice(NO_SIZE)
    elif isinstance(good, dict):
        arguments[at] = dice.choice(NO_MAPPING)
    elif method == "create_disk":
        arguments[0] = dice.choice(NO_SIZE)
    else:
        arguments[at] = dice.choice(NO_CID)
    return request(method, arguments)


def wrong_number(dice: random.Random, config: dict[str, Any]) -> bytes:
    key = dice.choice(["cpu", "ram", "ephemeral_disk_size"])
    return request(
        "calculate_vm_cloud_properties",
        [
            dice.choice(
                [
                    {**GOOD["calculate_vm_cloud_properties"][0], key: dice.choice([None, "1", -1, 1.5, True, [], {}])},
                    *NO_MAPPING,
                    {},
                ]
            )
        ],
    )


def wrong_properties(dice: random.Random, config: dict[str, Any]) -> bytes:
    owned = dice.choice(["limits.cpu", "limits.memory", "user.bosh.director", "volatile.uuid", "image.os"])
    device = dice.choice(["root", "config", "ephemeral", "eth0", "p0123456789ab", "persistent-1"])
    key, value = dice.choice(
        [
            *(
                (key, value)
                for key in ("cpu", "ram", "root_disk", "ephemeral_disk")
                for value in ("x", -1, 1.5, True, [], {}, 1 << 41, "\ud800")
            ),
            *((key, value) for key in ("storage_pool", "target", "network", "instance_type") for value in NO_TEXT),
            *(("profiles", value) for value in NO_WORDS),
            *((key, value) for key in ("config", "devices", "tags") for value in (1, "a", [1], True)),
            ("config", {owned: "1"}),
            ("config", {"a": [1]}),
            ("devices", {device: {"type": "disk"}}),
            ("devices", {"x": {"path": "/"}}),
            ("devices", {"x": 1}),
            ("tags", {"a": {}}),
            ("cpu", 5000),
            ("instance_type", "c9999999"),
            ("instance_type", "-"),
            (dice.choice(["cpus", "RAM", "root-disk", "", "__class__", "\ud800", "x" * 5000, "ephemeral_disk "]), 1),
        ]
    )
    size = {} if key == "instance_type" else {"cpu": 1, "ram": 64}  # which would win
    return request("create_vm", ["agent", f"img-{CID}", {**VM, **size, key: value}, {"net": NETWORK}, [], {}])


def wrong_networks(dice: random.Random, config: dict[str, Any]) -> bytes:
    key, value = dice.choice(
        [
            *(("ip", value) for value in NO_ADDRESS),
            *((key, value) for key in ("netmask", "gateway") for value in NO_ADDRESS if value),
            *(("type", value) for value in ("static", 1, ["manual"], {"a": 1}, "MANUAL")),
            *(("cloud_properties", value) for value in NO_MAPPING),
            ("type", "vip"),
            *(("default", value) for value in (5, True, {"a": 1}, "gateway", [["gateway"]])),
            *(("dns", value) for value in (5, True, {"a": 1}, "10.0.0.1", [1], [["a"]])),
            *(("cloud_properties", {key: value}) for key in ("name", "target") for value in NO_TEXT),
            *(("cloud_properties", {key: value}) for key in ("mtu", "vlan") for value in ("x", -1, 1.5, True, [])),
            ("cloud_properties", {"security_groups": "a"}),
            ("cloud_properties", {"mac_filtering": "perhaps"}),
            ("cloud_properties", {"nam": "br0"}),
            ("cloud_properties", {"name": "no-such-bridge"}),
        ]
    )
    network = {**NETWORK, key: value}
    networks = dice.choice(
        [
            {"net": network},
            {"a": {**NETWORK, "nic_group": 1}, "net": {**network, "nic_group": dice.choice([1, [], {}])}},
            *([] if dice.random() < 0.9 else NO_MAPPING),
            {"net": network, "vip": {"type": "vip"}},
        ]
    )
    return request("create_vm", ["agent", f"img-{CID}", VM, networks, [], {}])


def wrong_configuration(dice: random.Random, config: dict[str, Any]) -> bytes:
    section, key, value = dice.choice(
        [
            *(("server", "url", value) for value in ("", None, "http://x", "lxd:8443", 5, ["https://x"], "\ud800", {})),
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


def wrong_context(dice: random.Random, config: dict[str, Any]) -> bytes:
    context = dice.choice(
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
            {"__class__": 1},
            {"": ""},
            {"\ud800": "x"},
            {"agent": {"ntp": 5}},
            {"log_level": "loud"},
            {"server": 5},
            {"project": [1]},
            {"capture": [1]},
            {"x" * 5000: 1},
        ]
    )
    return request("has_vm", [f"vm-{CID}"], {"director_uuid": "d", **context})


def wrong_stemcell(dice: random.Random, config: dict[str, Any], *, directory: Path) -> bytes:
    content = bytearray(tarball(dice))
    kind = dice.randrange(3)
    if kind == 0:
        del content[dice.randrange(len(content)) :]
    elif kind == 1:
        at = dice.randrange(len(content) - 8)
        content[at : at + 8] = dice.randbytes(8)
    path = directory / "image"
    path.write_bytes(bytes(content))
    properties = {**STEMCELL, "disk_format": dice.choice(["qcow2", "raw", "", "vmdk"])} if kind else STEMCELL
    if kind != 2:
        properties = {**properties, "disk": "damaged"} if dice.random() < 0.1 else properties
    return request(
        "create_stemcell",
        [dice.choice([str(path)] * 20 + ["", "/", "/nowhere", 5, None, "\0", [], "/dev/null", "\ud800"]), properties],
    )


def tarball(dice: random.Random) -> bytes:
    """A stemcell's image that is refused even when it is whole: no root.img, or one that is none."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=dice.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])) as tar:
        name = dice.choice(
            ["../root.img", "/root.img", "root.img/x", "ROOT.IMG", "a/root.img", "root.img", "\xff", "x" * 300]
        )
        member = tarfile.TarInfo(name)
        kind = dice.randrange(4) if name == "root.img" else 9
        content = (
            b""
            if kind == 0
            else dice.choice([b"QFI", b"QFI\xfc", b"conectix", b"\x7fELF", b"QFI\xfb" + b"\0\0\0\3" + b"\1" * 8])
        )
        content = content and content.ljust(4096, b"\1")
        member.size = len(content)
        if kind == 1:
            member.type, member.linkname = dice.choice([tarfile.SYMTYPE, tarfile.LNKTYPE]), "/etc/passwd"
        if kind == 2:
            member.type = dice.choice([tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
        if kind == 3:
            member.pax_headers = {"mtime": "nan", "size": dice.choice(["nan", "-5", "99999999999999999999"])}
        tar.addfile(member, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), 1)


Generator = Callable[[random.Random, dict[str, Any]], bytes]


def generators(directory: Path) -> list[Generator]:
    return [
        broken_json,
        wrong_shape,
        wrong_argument,
        wrong_number,
        wrong_properties,
        wrong_networks,
        wrong_configuration,
        wrong_context,
        lambda dice, config: wrong_stemcell(dice, config, directory=directory),
    ]


def cases(directory: Path, start: int, count: int) -> Iterator[tuple[str, bytes, Path]]:
    """Name, request and configuration file of each case; a case is the same in every run."""
    every = generators(directory)
    path = directory / "cpi.json"
    for number in range(start, start + count):
        config = copy.deepcopy(CONFIG)
        raw = every[number % len(every)](random.Random(number), config)
        path.write_text(json.dumps(config), encoding="utf-8")
        yield f"case {number}: {raw[:600]!r} {config}", raw, path
