from __future__ import annotations

import json

import pytest

from bosh_lxd_cpi.config import sources
from bosh_lxd_cpi.errors import ConfigError


@pytest.fixture
def read(tmp_path):
    """The tree in a file with this text."""

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
def test_the_file_may_be_json_or_yaml_with_or_without_the_jobs_name(read, text):
    assert read(text) == {"server": {"url": "unix:///run/lxd"}, "agent": {"mbus": "nats://a"}}


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "neither JSON nor YAML at line 1"),
        ("a: b: c", "neither JSON nor YAML at line 1"),
        ("a: 2026-02-31", "neither JSON nor YAML"),
        ("\x00", "neither JSON nor YAML"),
        ("", "must hold a mapping, not NoneType"),
        ("[]", "must hold a mapping, not list"),
        ("text", "must hold a mapping, not str"),
        ("? [a]\n: b", "neither JSON nor YAML at line 1"),
        ("!!python/object:os.system {}", "neither JSON"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(read, text, message):
    with pytest.raises(ConfigError, match=message):
        read(text)


@pytest.mark.parametrize(
    "own, expected",
    [
        ({}, {"mbus": "nats://a", "ntp": ["t"]}),
        ({"agent": {"mbus": "nats://b"}}, {"mbus": "nats://b", "ntp": ["t"]}),
        ({"agent": "wrong"}, "wrong"),
    ],
)
def test_properties_of_a_manifest_hold_what_concerns_all_jobs_beside_lxd_cpi(read, own, expected):
    """As `bosh interpolate --path /cloud_provider/properties` prints them."""
    server = {"url": "unix:///run/lxd"}
    tree = {
        "lxd_cpi": {"server": server, **own},
        "agent": {"mbus": "nats://a", "blobstore": {}},
        "ntp": ["t"],
        "blobstore": {},
    }
    assert read(json.dumps(tree)) == {"server": server, "agent": expected}


@pytest.mark.parametrize("short, name", sorted(sources.SHORT_NAMES.items()))
def test_short_names_stand_for_server_properties_in_a_context(short, name):
    assert sources.of_context({short: "x", "request_id": "cpi-1"}, ("server",)) == {"server": {name: "x"}}
