"""Whatever goes in, one JSON document comes out and the status is 0; most of it through bin/cpi as a real process."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.protocol import cli, dispatch

HOME = Path(__file__).parents[2]
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
"""All that a director gives, but for TMPDIR and HOME."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A checkout whose bin/cpi finds the Python that runs this test."""
    (tmp_path / "bin").mkdir()
    shutil.copy(HOME / "bin" / "cpi", tmp_path / "bin")
    (tmp_path / "bosh_lxd_cpi").symlink_to(HOME / "bosh_lxd_cpi")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


def run(
    home: Path, request: bytes | str, *arguments: str, env: dict[str, str] | None = None
) -> tuple[dict[str, Any], str]:
    """The answer of bin/cpi and what it said on stderr."""
    raw = request.encode() if isinstance(request, str) else request
    done = subprocess.run(
        [home / "bin" / "cpi", *arguments],
        input=raw,
        capture_output=True,
        check=False,
        env={**ENVIRONMENT, **(env or {})},
    )
    assert done.returncode == 0, done.stderr
    return answer_in(done.stdout), done.stderr.decode()


def answer_in(stdout: bytes) -> dict[str, Any]:
    assert stdout.count(b"\n") == 1 and stdout.endswith(b"\n")
    answer = json.loads(stdout)
    assert answer.keys() == {"result", "error", "log"} and answer["log"] == ""
    assert answer["error"] is None or answer["error"].keys() == {"type", "message", "ok_to_retry"}
    return answer


def ask(method: str, *arguments: Any) -> bytes:
    return json.dumps(
        {"method": method, "arguments": arguments, "context": {"director_uuid": "d", "request_id": "cpi-1"}}
    ).encode()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose server is a socket that nobody listens on."""
    path = tmp_path / "cpi.json"
    path.write_text(
        json.dumps({"server": {"url": f"unix://{tmp_path}/socket"}, "agent": {"mbus": "nats://u:sesame@h"}}),
        encoding="utf-8",
    )
    return path


class Daemon:
    """A mock of the server: answers what the test tells it to, when the test wants it to."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._socket.settimeout(20)
        self._peer: socket.socket | None = None

    def next_request(self) -> str:
        """Method and path of the next request, on this connection or a new one."""
        text = self._read() if self._peer else ""
        if not text:
            self._drop()
            self._peer, _ = self._socket.accept()
            self._peer.settimeout(20)
            text = self._read()
        return text.partition(" HTTP/")[0].partition("?")[0]

    def _read(self) -> str:
        assert self._peer
        text = b""
        while b"\r\n\r\n" not in text or len(text.partition(b"\r\n\r\n")[2]) < self._length(text):
            piece = self._peer.recv(65536)
            if not piece:
                return ""
            text += piece
        return text.decode()

    @staticmethod
    def _length(text: bytes) -> int:
        match = re.search(rb"Content-Length: (\d+)", text)
        return int(match[1]) if match else 0

    def answer(self, metadata: Any) -> None:
        assert self._peer
        body = json.dumps({"type": "sync", "metadata": metadata, "error": "", "operation": ""}).encode()
        self._peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def _drop(self) -> None:
        if self._peer:
            self._peer.close()

    def close(self) -> None:
        self._drop()
        self._socket.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path / "socket")
    yield daemon
    daemon.close()


@pytest.fixture
def start(home: Path, config: Path) -> Iterator[Callable[[bytes], subprocess.Popen[bytes]]]:
    """Starts bin/cpi with a request and does not wait for it."""
    processes = []

    def start(request: bytes) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [home / "bin" / "cpi", "--config", config],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
        )
        processes.append(process)
        assert process.stdin
        process.stdin.write(request)
        process.stdin.close()
        process.stdin = None
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def until_it_waits(process: subprocess.Popen[bytes]) -> None:
    """Wait until the process sleeps in the kernel. Python handles an earlier signal only when the sleep ends."""
    state = Path(f"/proc/{process.pid}/stat")
    while process.poll() is None and state.read_text(encoding="utf-8").rpartition(") ")[2][0] != "S":
        time.sleep(0.005)


def test_info_needs_no_configuration(home):
    answer, said = run(home, ask("info"), "--config", "/missing")
    assert answer["result"] == {"stemcell_formats": ["openstack-qcow2", "openstack-raw"], "api_version": 2}
    assert said == ""


def test_calculate_vm_cloud_properties_needs_no_configuration(home):
    answer, _ = run(home, ask("calculate_vm_cloud_properties", {"cpu": 2, "ram": 512, "ephemeral_disk_size": 1024}))
    assert answer["result"] == {"cpu": 2, "ram": 512, "ephemeral_disk": 1024}


@pytest.mark.parametrize(
    "request_bytes, kind, message",
    [
        (b"", "Bosh::Clouds::CpiError", "the request on stdin is not JSON"),
        (b"{", "Bosh::Clouds::CpiError", "the request on stdin is not JSON"),
        (b"\xff", "Bosh::Clouds::CpiError", "the request on stdin is not JSON"),
        (b"[" * 200_000, "Bosh::Clouds::CpiError", "the request on stdin is not JSON"),
        (b"[]", "Bosh::Clouds::CpiError", "the request on stdin must be a JSON object, not list"),
        (ask("no_such_method"), "Bosh::Clouds::NotImplemented", "this CPI has no method no_such_method"),
        (ask("current_vm_id"), "Bosh::Clouds::NotImplemented", "this CPI has no method current_vm_id"),
        (ask("has_vm"), "Bosh::Clouds::CpiError", "has_vm takes 1 arguments, not 0"),
        (ask("has_vm", "vm-1"), "Bosh::Clouds::CpiError", "no configuration file was named"),
        (
            ask("calculate_vm_cloud_properties", {"cpu": "2"}),
            "Bosh::Clouds::CpiError",
            "calculate_vm_cloud_properties needs whole",
        ),
    ],
)
def test_responds_to_every_input(home, request_bytes, kind, message):
    answer, _ = run(home, request_bytes)
    assert (answer["result"], answer["error"]["type"], answer["error"]["ok_to_retry"]) == (None, kind, False)
    assert answer["error"]["message"].startswith(message)


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"{", "neither JSON nor YAML"),
        (b"[]", "must contain an object"),
        (b"", "must contain an object"),
        (b"{}", "go-lxd-cpi before v3 called lxd_cpi.lxd.url); agent.mbus is missing"),
    ],
)
def test_reports_a_broken_configuration(home, tmp_path, content, message):
    path = tmp_path / "cpi.yml"
    if content is not None:
        path.write_bytes(content)
    answer, said = run(home, ask("has_vm", "vm-1"), "--config", str(path))
    assert answer["error"]["type"] == "Bosh::Clouds::CpiError" and message in answer["error"]["message"]
    assert answer["error"]["message"] in said


def test_reports_an_unreadable_configuration(home, tmp_path):
    answer, _ = run(home, ask("has_vm", "vm-1"), "--config", str(tmp_path))
    assert "cannot be read: Is a directory" in answer["error"]["message"]


@pytest.mark.parametrize("flag", [["--config"], ["-config"], ["-configPath"], ["--configPath"]])
def test_accepts_every_form_of_the_config_option(flag):
    assert cli.config_path([*flag, "/a=b"]) == "/a=b"
    assert cli.config_path([f"{flag[0]}=/a=b"]) == "/a=b"


def test_has_no_config_path_without_arguments():
    assert cli.config_path([]) == ""


@pytest.mark.parametrize("argv", [["file"], ["--config"], ["--config", "a", "b"], ["--conf", "a"], ["a", "--config"]])
def test_reports_unknown_arguments(argv):
    answer = answer_in(cli.respond(ask("has_vm", "vm-1"), argv, {}) + b"\n")
    assert answer["error"]["message"].startswith(f"unknown arguments: {' '.join(argv)}")


def test_prints_help_and_version(home):
    help_text = subprocess.run([home / "bin" / "cpi", "--help"], capture_output=True, text=True, check=True).stdout
    version = subprocess.run([home / "bin" / "cpi", "--version"], capture_output=True, text=True, check=True).stdout
    assert help_text.startswith("usage: cpi [--config FILE] < REQUEST")
    assert version.count(".") == 2


def test_reports_a_response_of_another_shape(start, daemon):
    process = start(ask("get_disks", "vm-1"))
    assert daemon.next_request() == "GET /1.0/instances/vm-1"
    daemon.answer(None)
    stdout, stderr = process.communicate(timeout=20)
    assert answer_in(stdout)["error"]["message"].startswith("GET /1.0/instances/vm-1: the response is missing")
    assert b"Traceback" not in stderr
    assert process.returncode == 0


def test_redacts_secrets_in_response_and_log(home, config, tmp_path):
    answer, said = run(home, ask("reboot_vm", "sesame open"), "--config", str(config))
    assert answer["error"]["message"] == "vm_cid must be a CID, not '<redacted> open'"
    assert "sesame" not in said and "<redacted> open" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_responds_after_a_signal(start, daemon, real_time, number):
    process = start(ask("has_vm", "vm-1"))
    daemon.next_request()
    until_it_waits(process)
    process.send_signal(number)
    stdout, _ = process.communicate(timeout=20)
    assert answer_in(stdout)["error"]["message"] == f"the call was stopped by {number.name}"
    assert process.returncode == 0


def test_rolls_back_after_a_signal(start, daemon, real_time):
    process = start(ask("create_disk", 64, {}))
    line = daemon.next_request()
    assert line == "POST /1.0/storage-pools/default/volumes/custom"
    until_it_waits(process)
    process.send_signal(signal.SIGTERM)
    assert daemon.next_request().startswith("DELETE /1.0/storage-pools/default/volumes/custom/vol-p-")
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGHUP)
    daemon.answer(None)
    stdout, stderr = process.communicate(timeout=20)
    assert answer_in(stdout)["error"]["message"] == "the call was stopped by SIGTERM"
    assert b"rolling back: disk vol-p-" in stderr
    assert process.returncode == 0


@pytest.mark.parametrize("gone", [True, False])
def test_deletes_what_a_missing_caller_cannot_know(start, daemon, gone):
    """`bosh create-env` ends at Ctrl-C. The CPI has its own process group (bosh-utils, exec_process_unix.go)."""
    process = start(ask("create_disk", 64, {}))
    disks = "/1.0/storage-pools/default/volumes/custom"
    assert daemon.next_request() == f"POST {disks}"
    if gone:
        process.stdout.close()
        process.stdout = None
    daemon.answer(None)
    if gone:
        assert daemon.next_request().startswith(f"DELETE {disks}/vol-p-")
        daemon.answer(None)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 0 and stderr.count(b"1 requests in") == 1 + gone


def test_ignores_a_signal_after_the_result(monkeypatch):
    def late(*_: object, **__: object) -> bytes:
        signal.raise_signal(signal.SIGTERM)
        return b"the answer"

    monkeypatch.setattr(cli.rpc, "failure", late)
    assert cli.respond(ask("has_vm"), [], {}) == b"the answer"


def test_responds_to_every_exception(monkeypatch):
    for problem in (SystemExit(3), KeyboardInterrupt(), MemoryError(), RecursionError("deep"), ValueError("odd")):

        def fail(*_: object, problem: BaseException = problem, **__: object) -> None:
            raise problem

        monkeypatch.setattr(dispatch, "call", fail)
        answer = answer_in(cli.respond(ask("has_vm", "x"), [], {}) + b"\n")
        assert answer["error"]["message"].startswith(
            f"internal error of the CPI, please report it with its log: {type(problem).__name__}: "
        )


def test_reports_a_result_that_is_not_json(monkeypatch):
    monkeypatch.setattr(dispatch, "call", lambda *_, **__: {1, 2})
    assert "not JSON serializable" in answer_in(cli.respond(ask("has_vm", "x"), [], {}) + b"\n")["error"]["message"]


def test_writes_the_detail_to_the_log_only(monkeypatch, capsys):
    def fail(*_: object, **__: object) -> None:
        raise errors.CloudError("brief", detail="long story", code="network_type")

    monkeypatch.setattr(dispatch, "call", fail)
    assert (
        answer_in(cli.respond(ask("has_vm", "x"), [], {}) + b"\n")["error"]["message"] == "brief. Use manual or dynamic"
    )
    said = [line.partition(": ")[2] for line in capsys.readouterr().err.splitlines()]
    assert said == ["Bosh::Clouds::CloudError: brief. Use manual or dynamic", "long story"]


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_responds_with_closed_descriptors(home, closed):
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" {closed}', home / "bin" / "cpi"],
        input=b"",
        capture_output=True,
        check=False,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0
    assert answer_in(done.stdout)["error"]["message"].startswith("the request on stdin is not JSON")


def test_responds_with_closed_stderr(home):
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" 2>&-', home / "bin" / "cpi"],
        input=ask("has_vm", "x"),
        capture_output=True,
        check=False,
        env=ENVIRONMENT,
    )
    assert answer_in(done.stdout)["error"]["message"].startswith("no configuration file was named")


def test_exits_0_when_stderr_is_full(home):
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" 2>/dev/full', home / "bin" / "cpi"],
        input=ask("has_vm", "x"),
        capture_output=True,
        check=False,
        env=ENVIRONMENT,
    )
    assert answer_in(done.stdout)["error"]
    assert done.returncode == 0


def test_exits_0_with_closed_stdout(home):
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" >&-', home / "bin" / "cpi"],
        input=ask("info"),
        capture_output=True,
        check=False,
        env=ENVIRONMENT,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_ignores_the_callers_python_settings(home, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "json.py").write_text("raise SystemExit('not the json you want')", encoding="utf-8")
    (other / "sitecustomize.py").write_text("print('hello')", encoding="utf-8")
    answer, _ = run(
        home, ask("ping"), env={"PYTHONPATH": str(other), "PYTHONHOME": "/nonexistent", "PYTHONSTARTUP": "x"}
    )
    assert answer["result"] == "pong"


def fake_python(path: Path, version: str) -> None:
    """A python3 that says it is of another version."""
    path.write_text(
        f"#!{sys.executable}\nimport sys\nsys.version_info = ({version})\nexec(sys.argv[sys.argv.index('-c') + 1])\n",
        encoding="utf-8",
    )
    path.chmod(0o755)


NO_PYTHON = "no Python 3.10 or newer on this machine: install python3, or use a release that contains one"


@pytest.mark.parametrize("request_bytes", [ask("info"), b"", b"no newline at the end", b"\n\n\n", ask("x") * 10_000])
def test_responds_without_python(home, tmp_path, request_bytes):
    (home / ".venv").unlink()
    answer, said = run(home, request_bytes, env={"PATH": str(tmp_path), "BOSH_PACKAGES_DIR": "/nonexistent"})
    assert (answer["error"], said) == (
        {"type": "Bosh::Clouds::CpiError", "message": NO_PYTHON, "ok_to_retry": False},
        "",
    )


def test_skips_a_python_that_is_too_old(home, tmp_path):
    (home / ".venv").unlink()
    path = tmp_path / "path"
    path.mkdir()
    fake_python(path / "python3", "3, 9, 18")
    env = {"PATH": str(path), "BOSH_PACKAGES_DIR": "/nonexistent"}
    assert run(home, ask("info"), env=env)[0]["error"]["message"] == NO_PYTHON
    (path / "python3.12").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    (path / "python3.12").chmod(0o755)
    assert run(home, ask("ping"), env=env)[0]["result"] == "pong"


def test_python_starts_isolated_and_without_site_packages(home):
    (home / ".venv").unlink()
    (home / ".venv" / "bin").mkdir(parents=True)
    (home / ".venv" / "bin" / "python3").write_text('#!/bin/sh\necho "$1" "$2"\n', encoding="utf-8")
    (home / ".venv" / "bin" / "python3").chmod(0o755)
    assert subprocess.run([home / "bin" / "cpi"], capture_output=True, text=True, check=True).stdout == "-IS -c\n"


def test_starts_through_links_and_as_argument_of_sh(home, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "first").symlink_to("second")
    (tmp_path / "elsewhere" / "second").symlink_to(home / "bin" / "cpi")
    (tmp_path / "programs").symlink_to(home / "bin")
    for command, directory in (
        ([tmp_path / "elsewhere" / "first"], "/"),
        (["sh", "first"], tmp_path / "elsewhere"),
        (["./first"], tmp_path / "elsewhere"),
        ([tmp_path / "programs" / "cpi"], "/"),
        (["sh", "cpi"], home / "bin"),
        (["sh", "bin/cpi"], home),
    ):
        done = subprocess.run(command, cwd=directory, input=ask("ping"), capture_output=True, check=True)
        assert answer_in(done.stdout)["result"] == "pong", command


@pytest.mark.parametrize("program", ["doctor", "cleanup"])
def test_programs_for_operators_start_through_links(home, tmp_path, program):
    shutil.copy(HOME / "bin" / program, home / "bin")
    (tmp_path / "link").symlink_to(home / "bin" / program)
    for command in ([tmp_path / "link", "--help"], ["sh", "link", "--help"]):
        done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=True)
        assert done.stdout.startswith("usage: "), done.stderr


def test_responds_when_copied_without_the_package(tmp_path):
    (tmp_path / "bin").mkdir()
    shutil.copy(HOME / "bin" / "cpi", tmp_path / "bin")
    answer, _ = run(tmp_path, ask("info"))
    assert answer["error"]["message"].startswith("bin/cpi was copied without the package bosh_lxd_cpi")


def test_prefers_vendored_libraries(home, config):
    (home / "urllib3").mkdir()
    (home / "urllib3" / "__init__.py").write_text("raise ImportError('the vendored one')", encoding="utf-8")
    answer, _ = run(home, ask("has_vm", "vm-1"), "--config", str(config))
    assert (
        answer["error"]["message"]
        == "internal error of the CPI, please report it with its log: ImportError: the vendored one"
    )
