from __future__ import annotations

import io
import json
import urllib.parse

import pytest

from bosh_lxd_cpi.runtime import log as module
from bosh_lxd_cpi.runtime.log import Log, passwords_in, secrets_in, strings_in


def said(log: Log) -> list[str]:
    """The lines without their time."""
    return [line.split(" ", 1)[1] for line in log._stream.getvalue().splitlines()]


def test_lines_have_time_level_and_call(log):
    log.warn("first\nsecond")
    lines = log.stream.getvalue().splitlines()
    assert [line[20:] for line in lines] == [" warn  test: first", " warn  test: second"]
    assert lines[0][4::3][:5] == "--T::" or lines[0][19] == "Z"


@pytest.mark.parametrize(
    "level, heard",
    [
        ("debug", ["debug", "info", "warn", "error"]),
        ("info", ["info", "warn", "error"]),
        ("warn", ["warn", "error"]),
        ("error", ["error"]),
    ],
)
def test_omits_lines_below_the_level(level, heard):
    for log in Log("x", level=level, stream=io.StringIO()), Log("x", stream=io.StringIO()):
        log.set_level(level)
        for written in module.LEVELS:
            getattr(log, written)(written)
        assert [line.split(": ")[1] for line in said(log)] == heard


SECRET = 'pa"ss\\w\u00f6rd/1 +%&?'


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        f"x{SECRET}y",
        json.dumps({"a": SECRET}),
        json.dumps({"a": SECRET}, ensure_ascii=False),
        repr(SECRET),
        repr({"a": [SECRET]}),
        urllib.parse.quote(SECRET, safe=""),
        f"nats://u:{urllib.parse.quote(SECRET, safe='')}@h",
    ],
    ids=[
        "plain",
        "inside",
        "JSON",
        "JSON with umlauts",
        "traceback",
        "document in a traceback",
        "URL",
        "URL with user",
    ],
)
def test_hides_every_form_of_a_secret(log, form):
    log.hide([SECRET])
    log.error(form)
    text = log.stream.getvalue()
    assert "<redacted>" in text
    assert all(piece not in text for piece in ('pa"ss', 'pa\\"ss', "ss%5Cw", "rd/1", "rd%2F1"))


def test_hides_the_password_of_a_url(log):
    log.hide(["nats://nats:p%40ss-word@10.0.0.6:4222"])
    assert (
        log.redact("p%40ss-word and p@ss-word at nats://nats:p%40ss-word@10.0.0.6:4222, not nats@10.0.0.6")
        == "<redacted> and <redacted> at <redacted>, not nats@10.0.0.6"
    )


def test_hides_every_line_of_a_secret(log):
    key = "-----BEGIN PRIVATE KEY-----\nMIIabcdef\n  MIIghijkl\r\nxyz=\n-----END PRIVATE KEY-----\n"
    log.hide([key])
    for text in key, json.dumps(key), repr(key), "only MIIghijkl":
        redacted = log.redact(text)
        assert "MII" not in redacted and "xyz=" not in redacted
    assert log.redact("-----BEGIN PRIVATE KEY-----") == "-----BEGIN PRIVATE KEY-----"


def test_cuts_an_excerpt_after_the_redaction(log):
    log.hide(["s3cret-password"])
    assert log.excerpt("a s3cret-password", 8) == "a <redac"


def test_hides_secrets_in_the_name_of_the_call():
    log = Log("x" * 110 + " s3cret-password", stream=io.StringIO())
    log.hide(["s3cret-password"])
    log.warn("first")
    assert "x <redacted: first" in said(log)[0]


def test_ignores_short_secrets(log):
    log.hide(["", "*", "abc", "     ", "a\n    \nb"])
    assert log.redact("a * b abc      d") == "a * b abc      d"


def test_hides_the_longest_secret_first(log):
    log.hide(["sesame", "sesame open"])
    assert log.redact("sesame open, sesame") == "<redacted>, <redacted>"


def test_hides_secrets_with_special_characters(log):
    log.hide(["\ud800abcd", "\x00\x01\x02\x03", "\u2028line\u2028"])
    assert "abcd" not in log.redact("x \ud800abcd") and "<redacted>" in log.redact("\u2028line")


@pytest.mark.parametrize(
    "key",
    [
        "api_key",
        "apikey",
        "X-Api-Key",
        "passwd",
        "db_pwd",
        "ssh_private",
        "Authorization",
        "psk",
        "wifi.psk",
        "pin",
        "signature",
        "session_cookie",
        "hmac_key",
        "clientKey",
    ],
)
def test_finds_a_secret_by_key(key):
    assert list(secrets_in({key: "sesame"})) == ["sesame"]


@pytest.mark.parametrize(
    "key",
    [
        "auth",
        "public_key",
        "limits.cpu.pin_strategy",
        "keyboard",
        "pinned",
        "signature_algorithm",
        "user.bosh.odd_key_",
    ],
)
def test_ignores_a_key_that_only_resembles_one(key):
    assert list(secrets_in({key: "value"})) == []


def test_finds_secrets_by_key_at_any_depth():
    document = [
        {
            "env": {
                "bosh": {
                    "password": "p1",
                    "mbus": {"cert": {"private_key": "k", "ca": "c"}, "urls": ["u1", "u2"]},
                    "blobstores": [{"options": {"secret_access_key": "s", "endpoint": "e", "Account_Key": "a"}}],
                }
            }
        },
        {"vm_password": None, "tokens": 5, "name": "n"},
        "text",
        5,
        None,
    ]
    assert sorted(secrets_in(document)) == ["a", "c", "k", "p1", "s", "u1", "u2"]


@pytest.mark.parametrize(
    "url, passwords",
    [
        ("nats://nats:secret@10.0.0.6:4222", ["secret"]),
        ("https://u:p:w@h", ["p:w"]),
        ("https://u:p@w@h", ["p@w"]),
        ("https://user@h", []),
        ("https://h:8443", []),
        ("no url", []),
        ("https://:empty@h", ["empty"]),
    ],
)
def test_finds_passwords_in_urls(url, passwords):
    assert list(passwords_in(url)) == passwords
    assert list(secrets_in({"url": url})) == passwords


def test_finds_all_strings_of_a_document():
    assert list(strings_in({"a": ["b", {"c": "d"}], "e": 5, "f": None})) == ["b", "d"]


class Broken(io.StringIO):
    def __init__(self, problem: Exception) -> None:
        super().__init__()
        self.problem = problem

    def write(self, text: str) -> int:
        raise self.problem


@pytest.mark.parametrize(
    "problem", [BrokenPipeError(), ValueError("I/O operation on closed file"), OSError(28, "no space left")]
)
def test_continues_when_the_log_cannot_be_written(problem):
    Log("x", stream=Broken(problem)).error("hello")
