"""Thousands of requests, properties, networks, tarballs and configurations that are wrong, each in its own way.

Each gets one answer with an error that was foreseen, and nothing is made on the server. The server here is a mock that can
be read but notes every attempt to change it: what real servers say to such things is not the question.
"""
from __future__ import annotations

import copy
import gzip
import http.server
import io
import json
import os
import random
import socketserver
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bosh_lxd_cpi import cli
from bosh_lxd_cpi.lxd import transport
from bosh_lxd_cpi.lxd.transport import Response

HOME = Path(__file__).parents[2]
CASES = 1500
LONG_CASES = 20_000
PROCESSES = 27
LONG_PROCESSES = 400
MOST_MEMORY = 64 << 10
"""KiB that a process may ever hold."""

CID = "0188a1b2-c3d4-8000-8000-0123456789ab"
STEMCELL = {"name": "bosh-openstack-kvm-ubuntu-jammy-go_agent", "version": "1.1", "disk": 3072, "disk_format": "qcow2"}
VM = {"root_disk": 32, "ephemeral_disk": 16, "config": {"boot.autostart": "true"}, "tags": {"a": "b"},
      "devices": {"tpm": {"type": "tpm", "path": "/dev/tpm0"}}}
NETWORK = {"type": "manual", "ip": "10.0.0.5", "netmask": "255.255.255.0", "gateway": "10.0.0.1", "dns": ["10.0.0.1"],
           "default": ["dns", "gateway"], "cloud_properties": {"name": "br0"}}
CONFIG = {"server": {"url": "unix:///nowhere", "project_name": "bosh", "network_name": "br0", "insecure_skip_verify": False},
          "agent": {"mbus": "nats://nats:sesame@10.0.0.6:4222", "ntp": ["pool.ntp.org"]},
          "throttle_config": {"enabled": False, "limit": 4, "hold": "2m"}, "agent_config": {"type": "CDROM", "label": "config-2"}}
GOOD: dict[str, list[Any]] = {
    "create_stemcell": ["/nowhere/image", STEMCELL], "delete_stemcell": [f"img-{CID}"],
    "create_vm": ["agent", f"img-{CID}", VM, {"net": NETWORK}, [], {"bosh": {}}], "delete_vm": [f"vm-{CID}"], "has_vm": [f"vm-{CID}"],
    "reboot_vm": [f"vm-{CID}"], "set_vm_metadata": [f"vm-{CID}", {"job": "web", "index": "0"}], "create_disk": [1024, {}, f"vm-{CID}"],
    "delete_disk": [f"vol-p-{CID}"], "has_disk": [f"vol-p-{CID}"], "attach_disk": [f"vm-{CID}", f"vol-p-{CID}"],
    "detach_disk": [f"vm-{CID}", f"vol-p-{CID}"], "get_disks": [f"vm-{CID}"], "resize_disk": [f"vol-p-{CID}", 2048],
    "update_disk": [f"vol-p-{CID}", 2048, {}], "set_disk_metadata": [f"vol-p-{CID}", {"deployment": "d"}],
    "snapshot_disk": [f"vol-p-{CID}", {"deployment": "d"}], "delete_snapshot": [f"vol-p-{CID}_snap-{CID}"],
    "calculate_vm_cloud_properties": [{"cpu": 1, "ram": 512, "ephemeral_disk_size": 1024}]}

NO_CID = (None, "", 0, 7, True, 1.5, [], ["vm-1"], {}, {"a": 1}, "..", ".", "...", "../../1.0", "a/b", "vm 1", "vm-1\n", "vm-1?x=y",
          "vm-1#", "vm-%2e", "vm-\0", "vm-ü", "vm-\ud800", "x" * 201, "-" * 9999)
NO_MAPPING = (1, True, 1.5, "text", ["a"], [{}], "\ud800")
NO_SIZE = (None, "", 0, -1, 1.5, "1.5", "1e3", "ten", "1GiB", True, [], [1], {}, {"size": 1}, 1 << 41, 10**30, float("inf"), "9" * 5000,
           "٣", float("nan"))
NO_TEXT = (["a"], {"a": 1}, True, [])
NO_ADDRESS = (None, "", 5, True, [], {}, "10.0.0", "10.0.0.256", "10.0.0.5/24", "::g", "localhost", "1" * 5000, "\ud800", ["10.0.0.5"])
NO_WORDS = (1, "text", {"a": 1}, [["a"]], [{}], [None], [True])


class ReadOnly:
    """A mock: a server with an image and a network, and nothing else."""

    attempts: list[str] = []

    def __init__(self, *_: Any) -> None:
        self.requests = 0

    def request(self, method: str, path: str, *, body: Any = None, **_: Any) -> Response:
        if "/." in path:
            self.attempts.append(f"{method} {path} leads elsewhere")
        if method != "GET":
            if body is not None and not isinstance(body, bytes):
                for _chunk in body:  # an upload that breaks off makes nothing
                    pass
            self.attempts.append(f"{method} {path}")
            return self._error(403, "read-only")
        metadata: Any = {
            "/1.0": {"auth": "trusted", "api_extensions": ["custom_volume_iso", "instance_create_start"],
                     "environment": {"server": "incus", "driver": "qemu", "server_clustered": False}},
            f"/1.0/images/aliases/img-{CID}": {"target": "f" * 64, "description": STEMCELL["name"]},
            "/1.0/images": [], "/1.0/storage-pools": [{"name": "default"}],
            "/1.0/networks": [{"name": "br0", "type": "bridge", "managed": True, "config": {"ipv4.address": "10.0.0.1/24"}}]}.get(path)
        if metadata is None:
            return self._error(404, "not found")
        return Response(200, {}, json.dumps({"type": "sync", "status_code": 200, "metadata": metadata}).encode())

    @staticmethod
    def _error(code: int, text: str) -> Response:
        return Response(code, {}, json.dumps({"type": "error", "error": text, "error_code": code}).encode())


# -- what is wrong: each function answers a request, and perhaps changes the configuration ------------------------------


def request(method: Any, arguments: Any, context: Any = None) -> bytes:
    return json.dumps({"method": method, "arguments": arguments, "context": context or {"director_uuid": "d"}}).encode()


def broken_json(dice: random.Random, config: dict[str, Any]) -> bytes:
    raw = bytearray(request(*dice.choice(list(GOOD.items()))))
    kind = dice.randrange(6)
    if kind == 0:
        return bytes(raw[:dice.randrange(len(raw))])
    if kind == 1:
        return dice.randbytes(dice.randrange(200))
    if kind == 2:
        return bytes(raw) + dice.choice([b"}", b"{}", b"\0", b"x", bytes(raw)])
    if kind == 3:
        return dice.choice([b"[", b"{\"a\":", b"{\"arguments\":[" ]) * dice.choice([10, 10_000, 100_000])
    if kind == 4:
        raw[raw.index(b"method"):raw.index(b"method") + 6] = dice.choice([b"Method", b"\xff\xfe", b"meth\xc3", b"\\ud800"])
        return bytes(raw)
    return dice.choice([b"", b"null", b"[]", b"7", b"\"info\"", b"true", b"NaN", b"\xef\xbb\xbf{}", b"{}", b"1" * 5000, b"-", b"\xff\xfe{"])


def wrong_shape(dice: random.Random, config: dict[str, Any]) -> bytes:
    method = dice.choice(list(GOOD))
    junk = dice.choice([1, "x", True, 1.5])
    return dice.choice([
        json.dumps({"method": dice.choice([None, 1, [], {}, "", True]), "arguments": []}).encode(),
        request(dice.choice(["Info", "create_vm ", "__init__", "\ud800", "configure_networks", "x" * 9999, "vms.create_vm"]), []),
        json.dumps({"method": method, "arguments": dice.choice([junk, {"a": 1}])}).encode(),
        json.dumps({"method": method, "arguments": GOOD[method], "context": dice.choice([junk, ["a"]])}).encode(),
        request(method, GOOD[method] + [None] * dice.choice([5, 50])), request(method, []), b'{"arguments":[],"context":{}}'])


def wrong_argument(dice: random.Random, config: dict[str, Any]) -> bytes:
    method = dice.choice([method for method in GOOD if method not in ("create_stemcell", "calculate_vm_cloud_properties")])
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
    return request("calculate_vm_cloud_properties", [dice.choice([
        {**GOOD["calculate_vm_cloud_properties"][0], key: dice.choice([None, "1", -1, 1.5, True, [], {}])}, *NO_MAPPING, {}])])


def wrong_properties(dice: random.Random, config: dict[str, Any]) -> bytes:
    owned = dice.choice(["limits.cpu", "limits.memory", "user.bosh.director", "volatile.uuid", "image.os"])
    device = dice.choice(["root", "config", "ephemeral", "eth0", "p0123456789ab", "persistent-1"])
    key, value = dice.choice([
        *((key, value) for key in ("cpu", "ram", "root_disk", "ephemeral_disk") for value in ("x", -1, 1.5, True, [], {}, 1 << 41, "\ud800")),
        *((key, value) for key in ("storage_pool", "target", "network", "instance_type") for value in NO_TEXT),
        *(("profiles", value) for value in NO_WORDS), *((key, value) for key in ("config", "devices", "tags") for value in (1, "a", [1], True)),
        ("config", {owned: "1"}), ("config", {"a": [1]}), ("devices", {device: {"type": "disk"}}), ("devices", {"x": {"path": "/"}}),
        ("devices", {"x": 1}), ("tags", {"a": {}}), ("cpu", 5000), ("instance_type", "c9999999"), ("instance_type", "-"),
        (dice.choice(["cpus", "RAM", "root-disk", "", "__class__", "\ud800", "x" * 5000, "ephemeral_disk "]), 1)])
    size = {} if key == "instance_type" else {"cpu": 1, "ram": 64}  # which would win
    return request("create_vm", ["agent", f"img-{CID}", {**VM, **size, key: value}, {"net": NETWORK}, [], {}])


def wrong_networks(dice: random.Random, config: dict[str, Any]) -> bytes:
    key, value = dice.choice([
        *(("ip", value) for value in NO_ADDRESS), *((key, value) for key in ("netmask", "gateway") for value in NO_ADDRESS if value),
        *(("type", value) for value in ("static", 1, ["manual"], {"a": 1}, "MANUAL")), *(("cloud_properties", value) for value in NO_MAPPING),
        ("type", "vip"), *(("default", value) for value in (5, True, {"a": 1}, "gateway", [["gateway"]])),
        *(("dns", value) for value in (5, True, {"a": 1}, "10.0.0.1", [1], [["a"]])),
        *(("cloud_properties", {key: value}) for key in ("name", "target") for value in NO_TEXT),
        *(("cloud_properties", {key: value}) for key in ("mtu", "vlan") for value in ("x", -1, 1.5, True, [])),
        ("cloud_properties", {"security_groups": "a"}), ("cloud_properties", {"mac_filtering": "perhaps"}),
        ("cloud_properties", {"nam": "br0"}), ("cloud_properties", {"name": "no-such-bridge"})])
    network = {**NETWORK, key: value}
    networks = dice.choice([{"net": network}, {"a": {**NETWORK, "nic_group": 1}, "net": {**network, "nic_group": dice.choice([1, [], {}])}},
                            *([] if dice.random() < 0.9 else NO_MAPPING), {"net": network, "vip": {"type": "vip"}}])
    return request("create_vm", ["agent", f"img-{CID}", VM, networks, [], {}])


def wrong_configuration(dice: random.Random, config: dict[str, Any]) -> bytes:
    section, key, value = dice.choice([
        *(("server", "url", value) for value in ("", None, "http://x", "lxd:8443", 5, ["https://x"], "\ud800", {})),
        *(("server", key, value) for key in ("project_name", "network_name", "type", "target") for value in ([], {}, True)),
        *(("server", key, "perhaps") for key in ("insecure_skip_verify", "predeploy_stemcell", "type", "managed_network_assignment")),
        *(("server", "instance_config", value) for value in (1, "a", [1], {"jammy": 1})), ("agent", "mbus", None), ("agent", "mbus", ["a"]),
        *(("agent", "ntp", value) for value in (1, {"a": 1}, [1], [["a"]])), ("agent_config", "type", "floppy"),
        *(("throttle_config", "limit", value) for value in (0, -1, "x", [], 1.5, "٣٣x")),
        *(("throttle_config", "hold", value) for value in ("soon", -1, [], "1 h")), ("throttle_config", "enabled", 5)])
    config[section][key] = value
    return request("has_vm", [f"vm-{CID}"])


def wrong_context(dice: random.Random, config: dict[str, Any]) -> bytes:
    context = dice.choice([{"urll": "x"}, {"url": ["x"]}, {"url": "ftp://x"}, {"server": {"urll": 1}}, {"agent": {"mbuss": "x"}}, {"pool": {}},
                           {"insecure_skip_verify": 7}, {"lxd_cpi": {"server": {"nope": 1}}}, {"throttle_config": {"limit": "x"}},
                           {"__class__": 1}, {"": ""}, {"\ud800": "x"}, {"agent": {"ntp": 5}}, {"log_level": "loud"}, {"server": 5},
                           {"project": [1]}, {"capture": [1]}, {"x" * 5000: 1}])
    return request("has_vm", [f"vm-{CID}"], {"director_uuid": "d", **context})


def wrong_stemcell(dice: random.Random, config: dict[str, Any], *, directory: Path) -> bytes:
    content = bytearray(tarball(dice))
    kind = dice.randrange(3)
    if kind == 0:
        del content[dice.randrange(len(content)):]
    elif kind == 1:
        at = dice.randrange(len(content) - 8)
        content[at:at + 8] = dice.randbytes(8)
    path = directory / "image"
    path.write_bytes(bytes(content))
    properties = {**STEMCELL, "disk_format": dice.choice(["qcow2", "raw", "", "vmdk"])} if kind else STEMCELL
    if kind != 2:
        properties = {**properties, "disk": "damaged"} if dice.random() < 0.1 else properties
    return request("create_stemcell", [dice.choice([str(path)] * 20 + ["", "/", "/nowhere", 5, None, "\0", [], "/dev/null", "\ud800"]), properties])


def tarball(dice: random.Random) -> bytes:
    """A stemcell's image that is refused even when it is whole: no root.img, or one that is none."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=dice.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])) as tar:
        name = dice.choice(["../root.img", "/root.img", "root.img/x", "ROOT.IMG", "a/root.img", "root.img", "\xff", "x" * 300])
        member = tarfile.TarInfo(name)
        kind = dice.randrange(4) if name == "root.img" else 9
        content = b"" if kind == 0 else dice.choice([b"QFI", b"QFI\xfc", b"conectix", b"\x7fELF", b"QFI\xfb" + b"\0\0\0\3" + b"\1" * 8])
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
    return [broken_json, wrong_shape, wrong_argument, wrong_number, wrong_properties, wrong_networks, wrong_configuration, wrong_context,
            lambda dice, config: wrong_stemcell(dice, config, directory=directory)]


def cases(directory: Path, start: int, count: int) -> Iterator[tuple[str, bytes, Path]]:
    """Name, request and configuration file of each case; a case is the same in every run."""
    every = generators(directory)
    path = directory / "cpi.json"
    for number in range(start, start + count):
        config = copy.deepcopy(CONFIG)
        raw = every[number % len(every)](random.Random(number), config)
        path.write_text(json.dumps(config), encoding="utf-8")
        yield f"case {number}: {raw[:600]!r} {config}", raw, path


def check(case: str, raw: bytes) -> None:
    """One line of JSON with an error that somebody thought of, and no more."""
    assert raw.count(b"\n") <= 1, case
    answer = json.loads(raw)
    assert answer.keys() == {"result", "error", "log"} and answer["error"], f"{case}: {answer}"
    assert answer["error"]["type"].startswith("Bosh::Clouds::"), case
    message = answer["error"]["message"]
    assert message and "Traceback" not in message and not message.startswith("unexpected "), f"{case}: {message}"
    assert len(message) < 4000 and "sesame" not in message, case


def ask_all(directory: Path, monkeypatch: pytest.MonkeyPatch, start: int, count: int) -> None:
    monkeypatch.setattr(transport, "HttpTransport", ReadOnly)
    monkeypatch.setattr(ReadOnly, "attempts", [])
    for case, raw, config in cases(directory, start, count):
        check(case, cli.answer(raw, ["--config", str(config)], {}))
        assert ReadOnly.attempts == [], case


def test_what_is_wrong_is_refused_with_a_reason_before_anything_is_made(tmp_path, monkeypatch):
    ask_all(tmp_path, monkeypatch, 0, CASES)


@pytest.mark.long
def test_so_is_everything_else_that_is_wrong(tmp_path, monkeypatch):
    ask_all(tmp_path, monkeypatch, CASES, LONG_CASES - CASES - LONG_PROCESSES)


def test_a_request_that_is_right_reaches_the_server(tmp_path, monkeypatch):
    """Else the tests above would pass with a CPI that refuses everything."""
    monkeypatch.setattr(transport, "HttpTransport", ReadOnly)
    monkeypatch.setattr(ReadOnly, "attempts", [])
    (tmp_path / "cpi.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    cli.answer(request("create_vm", GOOD["create_vm"]), ["--config", str(tmp_path / "cpi.json")], {})
    assert ReadOnly.attempts[0] == "POST /1.0/storage-pools/default/volumes/custom"


def run(raw: bytes, config: Path) -> tuple[int, bytes, int]:
    """Exit status, stdout and peak memory (KiB) of bin/cpi as a process."""
    arguments = [sys.executable, "-BIS", "-c", "import os, sys; sys.path.insert(0, sys.argv[1]); from bosh_lxd_cpi.cli import main;"
                 " sys.exit(main(sys.argv[2:], os.environ))", str(HOME), "--config", str(config)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin and process.stdout
        try:
            process.stdin.write(raw)
            process.stdin.close()
        except BrokenPipeError:
            pass
        answer = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, answer, usage.ru_maxrss


class Handler(http.server.BaseHTTPRequestHandler):
    """The mock behind a socket."""

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        answer = ReadOnly().request(self.command, self.path.partition("?")[0], body=self.rfile.read(length))
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def listening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The configuration's server is there."""
    monkeypatch.setattr(ReadOnly, "attempts", [])
    monkeypatch.setitem(CONFIG, "server", {**CONFIG["server"], "url": f"unix://{tmp_path}/socket"})
    with socketserver.UnixStreamServer(f"{tmp_path}/socket", Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield
        server.shutdown()
        thread.join()


def run_all(directory: Path, start: int, count: int) -> None:
    for case, raw, config in cases(directory, start, count):
        status, answer, _ = run(raw, config)
        assert status == 0, case
        check(case, answer)
        assert ReadOnly.attempts == [], case


@pytest.mark.usefixtures("listening")
def test_processes_do_the_same(tmp_path):
    run_all(tmp_path, LONG_CASES - LONG_PROCESSES, PROCESSES)


@pytest.mark.long
@pytest.mark.usefixtures("listening")
def test_many_processes_do_the_same(tmp_path):
    run_all(tmp_path, LONG_CASES - LONG_PROCESSES + PROCESSES, LONG_PROCESSES - PROCESSES)


def bomb(path: Path, *, member: str) -> None:
    """A gzip tar of 10 MB that unpacks to 10 GiB of zeros."""
    header = tarfile.TarInfo(member)
    header.size = 100 * (100 << 20)
    zeros = gzip.compress(bytes(100 << 20), 1)
    with path.open("wb") as file:
        file.write(gzip.compress(header.tobuf()))
        for _ in range(100):
            file.write(zeros)


@pytest.mark.parametrize("member", ["root.img", "something-else"])
def test_a_bomb_is_refused_and_never_held(tmp_path, member):
    bomb(tmp_path / "image", member=member)
    (tmp_path / "cpi.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    properties = {key: value for key, value in STEMCELL.items() if key != "version"}  # so that the server is not asked first
    status, answer, peak = run(request("create_stemcell", [str(tmp_path / "image"), properties]), tmp_path / "cpi.json")
    assert status == 0
    check("bomb", answer)
    assert "root.img" in json.loads(answer)["error"]["message"]
    assert peak < MOST_MEMORY
