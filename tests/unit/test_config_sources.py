from __future__ import annotations

import json

import pytest

from bosh_lxd_cpi.config import sources
from bosh_lxd_cpi.errors import ConfigError


@pytest.fixture
def read(tmp_path):
    """Return the tree in a file with this content."""

    def read(text):
        (tmp_path / "cpi.json").write_text(text, encoding="utf-8")
        return sources.read(str(tmp_path / "cpi.json"))

    return read


@pytest.mark.parametrize(
    "text",
    [
        '{"lxd_cpi": {"server": {"url": "unix:///run/lxd"}, "agent": {"mbus": "nats://a"}}}',
        "server:\n  url: unix:///run/lxd\nagent:\n  mbus: nats://a\n",
        "---\nlxd_cpi:\n  server: {url: 'unix:///run/lxd'}\n  agent: {mbus: nats://a}\n",
        "\ufeffserver: {url: 'unix:///run/lxd'}\nagent: {mbus: nats://a}",
    ],
)
def test_reads_json_and_yaml_with_or_without_job_name(read, text):
    assert read(text) == {"server": {"url": "unix:///run/lxd"}, "agent": {"mbus": "nats://a"}}


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "neither JSON nor YAML at line 1"),
        ("a: b: c", "neither JSON nor YAML at line 1"),
        ("a: 2026-02-31", "neither JSON nor YAML"),
        ("\x00", "neither JSON nor YAML"),
        ("", "must contain an object"),
        ("[]", "must contain an object"),
        ("text", "must contain an object"),
        ("? [a]\n: b", "neither JSON nor YAML at line 1"),
        ("!!python/object:os.system {}", "neither JSON"),
    ],
)
def test_rejects_invalid_file(read, text, message):
    with pytest.raises(ConfigError, match=message):
        read(text)


@pytest.mark.parametrize(
    "properties, agent",
    [
        ({}, {"mbus": "nats://a", "ntp": ["t"]}),
        ({"agent": {"mbus": "nats://b"}}, {"mbus": "nats://b", "ntp": ["t"]}),
        ({"agent": "wrong"}, "wrong"),
    ],
)
def test_reads_properties_of_a_manifest(read, properties, agent):
    """The format of `bosh interpolate --path /cloud_provider/properties`."""
    server = {"url": "unix:///run/lxd"}
    tree = {
        "lxd_cpi": {"server": server, **properties},
        "agent": {"mbus": "nats://a", "blobstore": {}},
        "ntp": ["t"],
        "blobstore": {},
    }
    assert read(json.dumps(tree)) == {"server": server, "agent": agent}


BOMB = "a0: &a0 [x, x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
MERGE_BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    "text, message",
    [
        (BOMB, "has more than 100000 values"),
        (MERGE_BOMB, "has more than 100000 values"),
        ("a: &a [*a]", "has more than 100000 values"),
        ("[" * 10_000, "neither JSON nor YAML"),
        ('{"a":' * 10_000, "neither JSON nor YAML"),
        ("a: 0x" + "f" * 5000, "neither JSON nor YAML"),
        ("a: 1" + ":59" * 3000, "neither JSON nor YAML"),
        ("a: " + "x" * (1 << 20), "is larger than 1 MiB"),
    ],
    ids=["aliases", "merged keys", "recursive", "nested", "nested JSON", "hexadecimal", "sexagesimal", "large"],
)
def test_bounds_the_document(read, text, message):
    with pytest.raises(ConfigError, match=message):
        read(text)


def test_aliases_are_allowed(read):
    text = "base: &base {url: 'unix:///run/lxd'}\nserver: {<<: *base, target: m1}\nagent: {ntp: [&t a, *t]}"
    tree = read(text)
    assert tree["server"] == {"url": "unix:///run/lxd", "target": "m1"} and tree["agent"] == {"ntp": ["a", "a"]}


def from_context(context):
    """Return the tree and the keys that are ignored."""
    ignored = []
    tree = sources.from_context(
        context, sections=("server", "agent"), server_properties=("url", "tls_client_key"), ignore=ignored.append
    )
    return tree, ignored


@pytest.mark.parametrize("short, name", sorted(sources.SHORT_NAMES.items()))
def test_context_may_use_short_names(short, name):
    assert from_context({short: "x", "request_id": "cpi-1"}) == ({"server": {name: "x"}}, [])


def test_ignores_other_keys_of_the_context():
    assert from_context({"trace_id": "1", "url": "x", "deployment": {"name": "d"}}) == (
        {"server": {"url": "x"}},
        ["deployment", "trace_id"],
    )


@pytest.mark.parametrize("key", ["ulr", "URL", "server.url", "tls-client-key", "TLSClientKey", "agents", "lxd_cp"])
def test_keeps_keys_that_resemble_a_property(key):
    """The schema rejects them."""
    assert from_context({key: "x"}) == ({"server": {key: "x"}}, [])


def test_keeps_unknown_keys_below_the_job_name():
    assert from_context({"lxd_cpi": {"trace_id": 1}}) == ({"server": {"trace_id": 1}}, [])


def test_pem_returns_text_or_content_of_file(tmp_path, monkeypatch):
    (tmp_path / "a.crt").write_text("-----BEGIN X", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sources.pem("  -----BEGIN Y") == "  -----BEGIN Y"
    assert sources.pem(str(tmp_path / "a.crt")) == sources.pem("~/a.crt") == "-----BEGIN X"


@pytest.mark.parametrize("value", ["/no/such/file", "", "a\0b", pytest.param("x" * 5000, id="long")])
def test_pem_rejects_other_values(value):
    with pytest.raises(ConfigError, match="neither PEM nor the path of a PEM file"):
        sources.pem(value)
