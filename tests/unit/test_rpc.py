from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.protocol import rpc

HOME = Path(__file__).parents[2]


def outcome(parser, text: str):
    """What a parser makes of a text, or that it refuses it; not-a-number is made equal to itself."""
    try:
        return repr(parser(text))
    except ValueError:
        return "refused"


def random_value(rng: random.Random, depth: int = 0):
    kinds = ["text", "int", "float", "constant"] + ["list", "dict"] * (depth < 4)
    kind = rng.choice(kinds)
    if kind == "list":
        return [random_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == "dict":
        return {random_text(rng): random_value(rng, depth + 1) for _ in range(rng.randrange(4))}
    return {
        "text": random_text(rng),
        "int": rng.choice([0, -1, 2**63, -(10**40), rng.randrange(10**6)]),
        "float": rng.choice([0.5, -0.0, 1e300, 1e-7, math.inf, -math.inf, math.nan, rng.random()]),
        "constant": rng.choice([True, False, None]),
    }[kind]


def random_text(rng: random.Random) -> str:
    return "".join(
        rng.choices(
            ["a", "\\", '"', "\n", "\0", "\x7f", "\u00e9", "\ud800", "\udfff", "\U0001f600", "/", "{", "\u2028"],
            k=rng.randrange(6),
        )
    )


def test_1000_random_documents_read_as_the_standard_library_reads_them():
    for seed in range(1000):
        rng = random.Random(seed)
        text = json.dumps(random_value(rng), ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 1]))
        assert outcome(rpc.loads, text) == outcome(json.loads, text), f"seed {seed}"


def test_1000_broken_documents_are_refused_as_the_standard_library_refuses_them():
    refused = 0
    for seed in range(1000):
        rng = random.Random(seed)
        text = json.dumps(random_value(rng), ensure_ascii=False)
        at = rng.randrange(len(text))
        text = (
            text[:at]
            + rng.choice(["", "\x0b", "\u00a0", '"', "}", ",", "NaN", "1", " ", "\\u12", "-", "."])
            + text[at + 1 :]
        )
        refused += outcome(json.loads, text) == "refused"
        assert outcome(rpc.loads, text) == outcome(json.loads, text), f"seed {seed}: {text!r}"
    assert 200 < refused < 1000


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n",
        "{}",
        " {} ",
        "\t\r\n[]\t\r\n",
        "\u00a0{}",
        "{}\u00a0",
        "\x0b{}",
        "{}\x0c",
        "\ufeff{}",
        "X{}",
        "{}{}",
        "{} x",
        "nul",
        "null",
        "NaN",
        "[Infinity, -Infinity]",
        "-",
        "01",
        "1.",
        ".5",
        "1e5",
        "1E400",
        "-0",
        "9" * 4000,
        "9" * 5000,
        '"\\ud800"',
        '"\\ud83d\\ude00"',
        '"\t"',
        '"\\u00e9\u00e9"',
        "'a'",
        "[1,]",
        '{"a":1,}',
        '{"a":1,"a":2}',
        '{"a":{"b":1},"a":{"c":2}}',
        "{1:2}",
        '{"a" 1}',
        "[1 2]",
        '"',
        "[",
    ],
)
def test_corners_read_as_the_standard_library_reads_them(text):
    assert outcome(rpc.loads, text) == outcome(json.loads, text)


@pytest.mark.parametrize("text", ["", "{", "[1,", '{"a"', '"x', "[nul]", '{"a":1}}'])
def test_broken_documents_are_refused_also_before_json_is_imported(text):
    """The scanner then has no exception to raise."""
    code = (
        "import sys\nfrom bosh_lxd_cpi.protocol import rpc\nassert 'json' not in sys.modules\n"
        "try: rpc.loads(sys.argv[1])\nexcept ValueError: print('refused', end='')"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(HOME)!r})\n{code}", text],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "refused"


def test_reading_needs_no_c_accelerator(monkeypatch):
    monkeypatch.setitem(sys.modules, "_json", None)
    assert rpc.loads('{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}


def test_a_later_python_may_ask_for_more_than_we_know_of(monkeypatch):
    """As 3.15 does for an array_hook; this one misses what it always asked for."""
    monkeypatch.delattr(rpc._Plain, "parse_float")
    assert rpc.loads('{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}


def test_a_request_is_its_method_arguments_and_context():
    request = rpc.parse(
        b'{"method":"has_vm","arguments":["vm-1"],"context":{"request_id":"cpi-7","director_uuid":"d-1"},"api_version":2}'
    )
    assert (request.method, request.arguments, request.id, request.director) == ("has_vm", ["vm-1"], "cpi-7", "d-1")
    assert request.context == {"request_id": "cpi-7", "director_uuid": "d-1"}


@pytest.mark.parametrize("raw", [b'{"method":"ping"}', b'{"method":"ping","arguments":null,"context":null}'])
def test_a_request_may_leave_out_arguments_and_context(raw):
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
        (b"{}", "the request names no method"),
        (b'{"method":""}', "the request names no method"),
        (b'{"method":null}', "the request names no method"),
        (b'{"method":["info"]}', "the request names no method"),
        (b'{"method":"m","arguments":{}}', "the request's arguments must be an array"),
        (b'{"method":"m","arguments":"x"}', "the request's arguments must be an array"),
        (b'{"method":"m","arguments":0}', "the request's arguments must be an array"),
        (b'{"method":"m","context":[]}', "the request's context must be an object"),
        (b'{"method":"m","context":false}', "the request's context must be an object"),
    ],
)
def test_what_is_no_request_is_refused_in_one_sentence(raw, message):
    with pytest.raises(errors.BadRequest) as raised:
        rpc.parse(raw)
    if "is not JSON" in message:
        assert raised.value.message.startswith(message) and len(raised.value.message) < 300
    else:
        assert raised.value.message == message


def test_a_result_comes_with_an_empty_log_and_no_error():
    assert json.loads(rpc.success(["vm-1", {"a": None}])) == {"result": ["vm-1", {"a": None}], "error": None, "log": ""}


@pytest.mark.parametrize(
    "error, expected",
    [
        (errors.VMNotFound("there is no VM x"), ("Bosh::Clouds::VMNotFound", "there is no VM x", False)),
        (errors.CloudError("no.", hint="Do this"), ("Bosh::Clouds::CloudError", "no. Do this", False)),
        (errors.VMCreationFailed("busy", ok_to_retry=True), ("Bosh::Clouds::VMCreationFailed", "busy", True)),
        (KeyError("name"), ("Bosh::Clouds::CpiError", "unexpected KeyError: 'name'", False)),
        (KeyboardInterrupt(), ("Bosh::Clouds::CpiError", "unexpected KeyboardInterrupt: ", False)),
    ],
)
def test_an_error_has_type_message_and_whether_to_retry(error, expected):
    answer = json.loads(rpc.failure(error))
    assert (answer["result"], answer["log"]) == (None, "")
    assert (answer["error"]["type"], answer["error"]["message"], answer["error"]["ok_to_retry"]) == expected
    assert answer["error"].keys() == {"type", "message", "ok_to_retry"}


def test_the_message_is_redacted_before_it_is_escaped():
    answer = rpc.failure(errors.CloudError('the password is pa"ss'), lambda text: text.replace('pa"ss', "*"))
    assert json.loads(answer)["error"]["message"] == "the password is *"


@pytest.mark.parametrize(
    "length, whole", [(rpc.LONGEST_MESSAGE, True), (rpc.LONGEST_MESSAGE + 1, False), (10**6, False)]
)
def test_of_a_long_message_beginning_and_end_are_told(length, whole):
    message = json.loads(rpc.failure(errors.CloudError("begin" + "x" * (length - 9) + "/end")))["error"]["message"]
    assert message.startswith("beginx") and message.endswith("x/end")
    assert (len(message) == length) is whole and len(message) <= rpc.LONGEST_MESSAGE + 5


def test_an_answer_is_ascii_so_that_no_locale_can_break_it():
    assert rpc.success("\u00e9\ud800").isascii()
    assert rpc.failure(errors.CloudError("\u00e9\ud800")).isascii()


def test_an_answer_is_written_whole_although_a_pipe_takes_it_in_pieces(monkeypatch, tmp_path):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:7])))
    descriptor = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    assert rpc.write(descriptor, b"0123456789" * 10)
    assert (tmp_path / "out").read_bytes() == b"0123456789" * 10 + b"\n"
    with pytest.raises(OSError):
        os.fstat(descriptor)


def test_a_full_disk_instead_of_a_reader_is_no_error():
    assert not rpc.write(os.open("/dev/full", os.O_WRONLY), b"x")


def test_nobody_listening_is_no_error():
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


def test_after_the_claim_stray_prints_writes_and_children_reach_stderr_only():
    done = subprocess.run([sys.executable, "-B", "-c", CLAIM], cwd=HOME, capture_output=True, text=True, check=True)
    assert done.stdout == '{"the":"answer"}\n'
    assert done.stderr.splitlines() == ["a stray print", "a stray write", "a stray child"]


@pytest.mark.parametrize("closed", [{0}, {1}, {2}, {0, 1}, {1, 2}, {0, 1, 2}])
def test_descriptors_that_came_closed_lead_nowhere_and_are_never_reused(closed):
    code = (
        "import os\nfrom bosh_lxd_cpi.protocol import rpc\nours = rpc.claim_stdout()\n"
        "new = os.open('/dev/null', os.O_RDONLY)\n"
        "assert ours > 2 and new > 2, (ours, new)\n"
        "assert all(os.fstat(fd) for fd in (0, 1, 2))\n"
    )
    before = "import os, sys\n" + "".join(f"os.close({fd})\n" for fd in sorted(closed))
    done = subprocess.run([sys.executable, "-B", "-c", before + code], cwd=HOME, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0
