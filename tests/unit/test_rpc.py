from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.protocol import rpc

HOME = Path(__file__).parents[2]
INTERNAL = "internal error of the CPI, please report it with its log: "


def test_reads_method_arguments_and_context():
    request = rpc.parse(
        b'{"method":"has_vm","arguments":["vm-1"],"context":{"request_id":"cpi-7","director_uuid":"d-1"},"api_version":2}'
    )
    assert (request.method, request.arguments, request.id, request.director) == ("has_vm", ["vm-1"], "cpi-7", "d-1")
    assert request.context == {"request_id": "cpi-7", "director_uuid": "d-1"}


@pytest.mark.parametrize("raw", [b'{"method":"ping"}', b'{"method":"ping","arguments":null,"context":null}'])
def test_arguments_and_context_are_optional(raw):
    request = rpc.parse(raw)
    assert (request.arguments, request.context, request.id, request.director) == ([], {}, "-", "")


@pytest.mark.parametrize(
    "raw, message",
    [
        (b"", "the request on stdin is not JSON: Expecting value"),
        (b"{", "the request on stdin is not JSON: Expecting property name"),
        (b'{"method":"ping"} trailing', "the request on stdin is not JSON: Extra data"),
        (b"\xff\xfe{}", "the request on stdin is not JSON: 'utf-8' codec can't decode byte 0xff"),
        (b"[" * 100_000, "the request on stdin is not JSON: "),
        (b'{"a":' * 100_000, "the request on stdin is not JSON: "),
        (b"[]", "the request on stdin must be a JSON object, not list"),
        (b"null", "the request on stdin must be a JSON object, not NoneType"),
        (b'"info"', "the request on stdin must be a JSON object, not str"),
        (b"{}", "the request has no method"),
        (b'{"method":""}', "the request has no method"),
        (b'{"method":null}', "the request has no method"),
        (b'{"method":["info"]}', "the request has no method"),
        (b'{"method":"m","arguments":{}}', "the request's arguments must be an array"),
        (b'{"method":"m","arguments":"x"}', "the request's arguments must be an array"),
        (b'{"method":"m","arguments":0}', "the request's arguments must be an array"),
        (b'{"method":"m","context":[]}', "the request's context must be an object"),
        (b'{"method":"m","context":false}', "the request's context must be an object"),
    ],
)
def test_rejects_a_malformed_request(raw, message):
    with pytest.raises(errors.BadRequest) as raised:
        rpc.parse(raw)
    if "is not JSON" in message:
        assert raised.value.brief.startswith(message) and len(raised.value.brief) < 300
    else:
        assert raised.value.brief == message


def test_result_has_empty_log_and_no_error():
    assert json.loads(rpc.success(["vm-1", {"a": None}])) == {"result": ["vm-1", {"a": None}], "error": None, "log": ""}


@pytest.mark.parametrize(
    "error, expected",
    [
        (errors.VMNotFound("there is no VM x"), ("Bosh::Clouds::VMNotFound", "there is no VM x", False)),
        (
            errors.CloudError("no.", code="network_type"),
            ("Bosh::Clouds::CloudError", "no. Use manual or dynamic", False),
        ),
        (errors.VMCreationFailed("busy", ok_to_retry=True), ("Bosh::Clouds::VMCreationFailed", "busy", True)),
        (KeyError("name"), ("Bosh::Clouds::CpiError", f"{INTERNAL}KeyError: 'name'", False)),
        (KeyboardInterrupt(), ("Bosh::Clouds::CpiError", f"{INTERNAL}KeyboardInterrupt: ", False)),
    ],
)
def test_error_has_type_message_and_ok_to_retry(error, expected):
    answer = json.loads(rpc.failure(error))
    assert (answer["result"], answer["log"]) == (None, "")
    assert (answer["error"]["type"], answer["error"]["message"], answer["error"]["ok_to_retry"]) == expected
    assert answer["error"].keys() == {"type", "message", "ok_to_retry"}


def test_redacts_the_message_before_json_escapes_it():
    answer = rpc.failure(errors.CloudError('the password is pa"ss'), redact=lambda text: text.replace('pa"ss', "*"))
    assert json.loads(answer)["error"]["message"] == "the password is *"


@pytest.mark.parametrize(
    "length, whole", [(rpc.MAX_MESSAGE_CHARACTERS, True), (rpc.MAX_MESSAGE_CHARACTERS + 1, False), (10**6, False)]
)
def test_keeps_both_ends_of_a_long_message(length, whole):
    message = json.loads(rpc.failure(errors.CloudError("begin" + "x" * (length - 9) + "/end")))["error"]["message"]
    assert message.startswith("beginx") and message.endswith("x/end")
    assert (len(message) == length) is whole and len(message) <= rpc.MAX_MESSAGE_CHARACTERS + 5


def test_response_is_ascii():
    assert rpc.success("\u00e9\ud800").isascii()
    assert rpc.failure(errors.CloudError("\u00e9\ud800")).isascii()


def test_writes_the_whole_response_in_pieces(monkeypatch, tmp_path):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:7])))
    descriptor = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    assert rpc.write(descriptor, b"0123456789" * 10)
    assert (tmp_path / "out").read_bytes() == b"0123456789" * 10 + b"\n"
    with pytest.raises(OSError):
        os.fstat(descriptor)


def test_write_survives_a_full_disk():
    assert not rpc.write(os.open("/dev/full", os.O_WRONLY), b"x")


def test_write_survives_a_closed_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    assert not rpc.write(writing, b"x" * 100_000)
    with pytest.raises(OSError):
        os.fstat(writing)


CLAIM = """
import os, subprocess, sys
from bosh_lxd_cpi.protocol import rpc
ours = rpc.claim_stdout()
print("a stray print")
sys.stdout.flush()
os.write(1, b"a stray write\\n")
subprocess.run(["echo", "a stray child"])
rpc.write(ours, b'{"the":"answer"}')
"""


def test_other_output_goes_to_stderr_after_the_claim():
    done = subprocess.run([sys.executable, "-B", "-c", CLAIM], cwd=HOME, capture_output=True, text=True, check=True)
    assert done.stdout == '{"the":"answer"}\n'
    assert done.stderr.splitlines() == ["a stray print", "a stray write", "a stray child"]


@pytest.mark.parametrize("closed", [{0}, {1}, {2}, {0, 1}, {1, 2}, {0, 1, 2}])
def test_claim_opens_closed_standard_descriptors(closed):
    code = (
        "import os\nfrom bosh_lxd_cpi.protocol import rpc\nours = rpc.claim_stdout()\n"
        "new = os.open('/dev/null', os.O_RDONLY)\n"
        "assert ours > 2 and new > 2, (ours, new)\n"
        "assert all(os.fstat(fd) for fd in (0, 1, 2))\n"
    )
    before = "import os, sys\n" + "".join(f"os.close({fd})\n" for fd in sorted(closed))
    done = subprocess.run([sys.executable, "-B", "-c", before + code], cwd=HOME, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0
