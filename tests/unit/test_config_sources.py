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


@pytest.mark.parametrize("short, name", sorted(sources.SHORT_NAMES.items()))
def test_context_may_use_short_names(short, name):
    assert sources.from_context({short: "x", "request_id": "cpi-1"}, ("server",)) == {"server": {name: "x"}}
