"""The CPI writes no secrets to stdout, stderr, captures, locks or other files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.host.director import MBUS_PASSWORD, CallError, Director, environment, manual_network
from tests.host.tiny_stemcell import STEMCELL, VM, stemcell_image

SECRET_KEYS = {
    "password",
    "secret",
    "secret_access_key",
    "private_key",
    "token",
    "credentials_source_token",
    "tls_client_key",
    "client_key",
    "blobstore_password",
    "access_key_id_secret",
    "api_key",
    "passwd",
    "authorization",
    "psk",
}
MIN_LENGTH = 8
"""Minimum length in characters. Shorter strings occur by chance."""
FILES_OF_TESTS = ("cpi.json", "image", "root.img", "key", "bosh.key")
"""Prefixes of the files that the tests write to the directory of a director."""

KEY = (
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAsecretline1111\nc2VjcmV0bGluZTIyMjIyMjIyMg==\n"
    "-----END RSA PRIVATE KEY-----\n"
)
ENV_WITH_SECRETS = environment(
    password="$6$salt$hash-of-a-password",
    mbus={"cert": {"private_key": KEY, "certificate": "public"}},
    blobstores=[
        {"provider": "dav", "options": {"user": "agent", "password": 'dav-p4ssw0rd"with\\signs'}},
        {"provider": "s3", "options": {"secret_access_key": "s3/secret+key=ünïcödé"}},
    ],
    headers={"api_key": "api-key-of-the-tests", "authorization": "Basic dGVzdHM6cDRzc3cwcmQ="},
    wifi={"psk": "psk-of-the-tests", "passwd": "passwd-of-the-tests"},
)


def secrets(director: Director) -> set[str]:
    """Return the secrets in the configuration and the calls of a director, line by line.

    The names of the keys identify secrets. The redaction of the CPI is not used.
    """
    values = {MBUS_PASSWORD, *values_of_keys(SECRET_KEYS, [director.config, director.requests])}
    lines = {line for value in values for line in value.splitlines() if not line.startswith("-----")}
    parts = {line for line in lines if len(line) >= MIN_LENGTH}
    return parts | {json.dumps(part)[1:-1] for part in parts}


def values_of_keys(keys: set[str], document: Any) -> Iterator[str]:
    """Yield the strings under these keys at any depth."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key in keys and isinstance(value, str):
                yield value
            else:
                yield from values_of_keys(keys, value)
    elif isinstance(document, (list, tuple)):
        for item in document:
            yield from values_of_keys(keys, item)


def output_of(director: Director) -> Iterator[tuple[str, str]]:
    """Yield name and content of the output and the files of a director's calls."""
    for call in director.calls:
        yield "stdout", call.stdout
        yield "stderr", call.stderr
    for path in sorted(director.directory.rglob("*")):
        if path.is_file() and not path.name.startswith(FILES_OF_TESTS):
            yield str(path), path.read_bytes().decode("utf-8", "replace")


def leaks(director: Director) -> list[str]:
    """Return the secrets in the output of a director, abbreviated."""
    values = secrets(director)
    return [f"{name}: {secret[:12]}..." for name, text in output_of(director) for secret in values if secret in text]


def call_error(director: Director, method: str, *arguments: Any) -> str:
    """Return the error message of a call."""
    with pytest.raises(CallError) as exc_info:
        director.call(method, *arguments)
    return exc_info.value.message


@pytest.mark.parametrize("level", ["debug", "info"])
def test_lifecycle_with_captures_and_errors_writes_no_secrets(host, cpi, tmp_path, level):
    cpi.config |= {
        "log_level": level,
        "capture": {"path": str(tmp_path / "captures")},
        "throttle_config": {"enabled": True, "path": str(tmp_path / "locks")},
    }
    network = {"n": manual_network("10.245.0.91")}
    stemcell = cpi.call("create_stemcell", str(stemcell_image(tmp_path)), STEMCELL)
    vm, _ = cpi.call("create_vm", "agent", stemcell, VM, network, [], ENV_WITH_SECRETS)
    cpi.call("set_vm_metadata", vm, {"deployment": "d", "job": "web", "index": "0", "token": "metadata-t0ken"})
    assert call_error(
        cpi, "create_vm", "agent", stemcell, {**VM, "password": "pr0perty-p4ss"}, network, [], ENV_WITH_SECRETS
    )
    assert call_error(cpi, "create_vm", "agent", stemcell, VM, {"n": manual_network("10.99.0.1")}, [], ENV_WITH_SECRETS)
    assert call_error(cpi, "create_vm", "agent", "img-gone", VM, network, [], ENV_WITH_SECRETS)
    assert call_error(cpi, "create_disk", {"password": "d1sk-size-passw0rd"}, {}, vm)
    cpi.context = {"client_key": KEY}
    assert "certificate" in call_error(cpi, "has_vm", vm)
    cpi.context = {"future": {"password": "future-p4ss"}}
    assert cpi.call("has_vm", vm) is True
    cpi.context = {"tls_client_kye": {"password": "c0ntext-p4ss"}}
    assert "tls_client_key" in call_error(cpi, "has_vm", vm)
    cpi.context = {}
    cpi.call("delete_vm", vm)
    cpi.call("delete_stemcell", stemcell)
    captures = list((tmp_path / "captures").iterdir())
    assert len(captures) >= 7 and list((tmp_path / "locks").glob("slot-*"))
    assert leaks(cpi) == []
    assert "d1sk-size" not in "".join(text for _, text in output_of(cpi))


def test_detects_leak(tmp_path):
    director = Director({"server": {"tls_client_key": KEY}}, tmp_path)
    (tmp_path / "lock").write_text("held by nats://u:MIIEowIBAAKCAQEAsecretline1111@h", encoding="utf-8")
    assert leaks(director) == [f"{tmp_path}/lock: MIIEowIBAAKC..."]
    Director.instances.remove(director)


def test_no_output_of_the_run_contains_secrets():
    """This test runs last."""
    assert [leak for director in Director.instances for leak in leaks(director)] == []
