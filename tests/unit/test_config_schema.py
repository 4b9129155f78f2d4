from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from bosh_lxd_cpi.config import schema
from bosh_lxd_cpi.config.schema import Agent, AgentConfig, Capture, Config, Server, ThrottleConfig
from bosh_lxd_cpi.errors import ConfigError

MINIMAL = {"server": {"url": "unix:///run/lxd"}, "agent": {"mbus": "nats://a"}}


def write(directory: Path, tree: Any) -> str:
    path = directory / "cpi.json"
    path.write_text(tree if isinstance(tree, str) else json.dumps(tree), encoding="utf-8")
    return str(path)


@pytest.fixture
def load(tmp_path: Path):
    """Load MINIMAL with these sections and properties changed, and a context."""

    def load(changed: dict[str, Any] | None = None, context: dict[str, Any] | None = None, **options: Any) -> Config:
        tree = json.loads(json.dumps(MINIMAL))
        for name, value in (changed or {}).items():
            tree[name] = {**tree.get(name, {}), **value} if isinstance(value, dict) else value
        return schema.load(write(tmp_path, tree), context, **options)

    return load


def problems(load, changed: dict[str, Any] | None = None, context: dict[str, Any] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load(changed, context)
    assert raised.value.code == "invalid_configuration"
    return raised.value.brief.partition(" is invalid: ")[2].split("; ")


def test_defaults_are_those_of_the_go_cpi(load):
    assert load() == Config(
        server=Server(
            type="",
            url="unix:///run/lxd",
            insecure_skip_verify=False,
            project_name="default",
            profile_name="default",
            network_name="",
            storage_pool_name="default",
            target="",
            managed_network_assignment="static",
            predeploy_stemcell=False,
            instance_config={},
        ),
        agent=Agent(mbus="nats://a", ntp=()),
        agent_config=AgentConfig(
            "CDROM", "config-2", "ec2/latest/meta-data.json", "ec2/latest/user-data", "/var/vcap/store/agent-data"
        ),
        throttle_config=ThrottleConfig(False, "", 4, "2m", "10m"),
        capture=Capture(""),
        log_level="info",
        keep_failed_vms=False,
    )


def test_reports_all_problems_at_once(load):
    assert problems(
        load,
        {
            "server": {"type": "vmware", "url": "http://x", "predeploy_stemcell": "maybe"},
            "agent": {"mbus": ""},
            "throttle_config": {"limit": 0},
        },
    ) == [
        "server.type must be one of lxd, incus",
        "server.predeploy_stemcell must be true or false",
        "throttle_config.limit must be a positive number",
        "server.url must be https://HOST:8443 or unix:///PATH, not http://x",
        "agent.mbus is missing",
    ]


def test_https_requires_client_certificate(load):
    assert problems(load, {"server": {"url": "https://lxd:8443"}}) == [
        "server.tls_client_cert is missing",
        "server.tls_client_key is missing",
    ]


@pytest.mark.parametrize("section", ["server", "agent", "agent_config", "throttle_config", "capture"])
@pytest.mark.parametrize("value", ["text", 5, [], [{}], True])
def test_rejects_section_that_is_not_an_object(tmp_path, section, value):
    with pytest.raises(ConfigError, match=f"{section} must be an object"):
        schema.load(write(tmp_path, {**MINIMAL, section: value}))


def test_null_means_default(load):
    changed = {"server": {"target": None, "predeploy_stemcell": None}, "log_level": None, "capture": None}
    assert load(changed) == load()


@pytest.mark.parametrize(
    "value, expected", [(True, True), ("true", True), ("True", True), (False, False), ("false", False)]
)
def test_accepts_booleans_as_strings(load, value, expected):
    assert load({"server": {"predeploy_stemcell": value}}).server.predeploy_stemcell is expected


@pytest.mark.parametrize("value", ["yes", "", 1, 0, [], {}, "t"])
def test_rejects_other_booleans(load, value):
    assert problems(load, {"server": {"predeploy_stemcell": value}}) == [
        "server.predeploy_stemcell must be true or false"
    ]


@pytest.mark.parametrize("value, expected", [(8, 8), ("8", 8), (999999999, 999999999)])
def test_accepts_numbers_as_strings(load, value, expected):
    assert load({"throttle_config": {"limit": value}}).throttle_config.limit == expected


@pytest.mark.parametrize(
    "value",
    [0, -1, 1.5, "1.5", "", "four", True, [], {}, "\u00b2", "\u0663", pytest.param("9" * 5000, id="very long"), 10**9],
)
def test_rejects_other_numbers(load, value):
    assert problems(load, {"throttle_config": {"limit": value}}) == ["throttle_config.limit must be a positive number"]


@pytest.mark.parametrize(
    "name", ["server.predeploy_stemcell", "throttle_config.limit", "throttle_config.hold", "log_level"]
)
def test_does_not_convert_lists(tmp_path, name):
    """With aliases, the text of a list can be as long as nine to the ninth power."""
    bomb = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 12))
    section, dot, key = name.partition(".")
    with pytest.raises(ConfigError, match=f"{name} must be") as raised:
        schema.load(write(tmp_path, bomb + (f"{section}: {{{key}: *a11}}" if dot else f"{name}: *a11")))
    assert "x" not in raised.value.brief.partition(f"{name} must be ")[2].partition(";")[0]


@pytest.mark.parametrize("value, expected", [("a", ("a",)), (["a", "b"], ("a", "b")), ([], ()), ("", ())])
def test_accepts_one_or_several_time_servers(load, value, expected):
    assert load({"agent": {"ntp": value}}).agent.ntp == expected


@pytest.mark.parametrize("value", [5, {"a": "b"}, [5], [None], [["a"]]])
def test_rejects_other_lists(load, value):
    assert problems(load, {"agent": {"ntp": value}}) == ["agent.ntp must be a list of strings"]


@pytest.mark.parametrize("value, expected", [("prod", "prod"), (5, "5"), (1.5, "1.5"), ("", "default")])
def test_accepts_strings_as_numbers(load, value, expected):
    assert load({"server": {"project_name": value}}).server.project_name == expected


@pytest.mark.parametrize("value", [True, [], {}, ["a"]])
def test_rejects_other_strings(load, value):
    assert problems(load, {"server": {"project_name": value}}) == ["server.project_name must be a string"]


@pytest.mark.parametrize(
    "name, value, choices",
    [
        ("server.type", "LXD", "lxd, incus"),
        ("server.managed_network_assignment", "none", "static, dhcp"),
        ("agent_config.type", "cdrom", "CDROM, FAT32"),
        ("log_level", "trace", "debug, info, warn, error"),
    ],
)
def test_rejects_unknown_choice(load, name, value, choices):
    section, dot, key = name.partition(".")
    assert problems(load, {section: {key: value} if dot else value}) == [f"{name} must be one of {choices}"]


@pytest.mark.parametrize("value", ["2m", "1h30m", "500ms", "0", 90, 1.5])
def test_accepts_durations_of_go(load, value):
    assert load({"throttle_config": {"hold": value}}).throttle_config.hold == str(value)


@pytest.mark.parametrize("value", ["soon", "2 m", "-2m", " ", "1d"])
def test_rejects_other_durations(load, value):
    assert problems(load, {"throttle_config": {"hold": value}})[0].startswith("throttle_config.hold: ")


def test_instance_options_become_strings(load):
    tree = {"server": {"instance_config": {"jammy": {"security.csm": True, "limits.cpu.nodes": 0}, "default": {}}}}
    assert load(tree).server.instance_config == {
        "jammy": {"security.csm": "true", "limits.cpu.nodes": "0"},
        "default": {},
    }


def test_accepts_numbers_as_stemcell_lines(tmp_path):
    content = "server: {url: 'unix:///a', instance_config: {24: {1: 2}}}\nagent: {mbus: x}"
    assert schema.load(write(tmp_path, content)).server.instance_config == {"24": {"1": "2"}}


@pytest.mark.parametrize(
    "value",
    [
        "text",
        [],
        {"jammy": "text"},
        {"jammy": ["a"]},
        {"jammy": {"a": None}},
        {"jammy": {"a": {}}},
        {"jammy": {"a": ["b"]}},
    ],
)
def test_rejects_other_instance_options(load, value):
    assert problems(load, {"server": {"instance_config": value}}) == [
        "server.instance_config must be an object of stemcell lines with objects of instance options, which are strings"
    ]


def test_reads_the_file_of_the_go_cpi(tmp_path):
    """All keys of its cpi.json.erb, with values of the types that it writes."""
    boot = {"jammy": {"security.csm": "true"}, "default": {"security.secureboot": "false"}}
    warnings: list[str] = []
    assert schema.load(
        write(
            tmp_path,
            {
                "Server": {
                    "Type": "incus",
                    "URL": "https://h:8443",
                    "InsecureSkipVerify": "true",
                    "TLSClientCert": "c",
                    "TLSClientKey": "k",
                    "Project": "p",
                    "Profile": "f",
                    "Target": "t",
                    "Network": "n",
                    "ManagedNetworkAssignment": "dhcp",
                    "StoragePool": "s",
                    "PredeployStemcell": True,
                    "InstanceConfig": boot,
                },
                "Agent": {"Mbus": "nats://a", "NTP": ["n1", "n2"]},
                "AgentConfig": {
                    "SourceType": "FAT32",
                    "Label": "l",
                    "MetadataPath": "m",
                    "UserdataPath": "u",
                    "FileStorePath": "/a",
                },
                "ThrottleConfig": {"Enabled": "true", "Path": "/t.sock", "Limit": 2, "Hold": "1m"},
            },
        ),
        warn=warnings.append,
    ) == Config(
        server=Server(
            type="incus",
            url="https://h:8443",
            insecure_skip_verify=True,
            tls_client_cert="c",
            tls_client_key="k",
            project_name="p",
            profile_name="f",
            target="t",
            network_name="n",
            managed_network_assignment="dhcp",
            storage_pool_name="s",
            predeploy_stemcell=True,
            instance_config=boot,
        ),
        agent=Agent(mbus="nats://a", ntp=("n1", "n2")),
        agent_config=AgentConfig(type="FAT32", label="l", metadata_path="m", userdata_path="u", filestore_path="/a"),
        throttle_config=ThrottleConfig(enabled=True, path="/t.sock", limit=2, hold="1m"),
    )
    assert warnings == []


def test_warns_about_unknown_keys_in_the_file(tmp_path):
    warnings: list[str] = []
    tree = {
        "server": {**MINIMAL["server"], "projet_name": "x", "zzz": 1, "qqq": None},
        "agent": MINIMAL["agent"],
        "agnet": {},
    }
    path = write(tmp_path, tree)
    schema.load(path, warn=warnings.append)
    assert [line.partition(" (")[0] for line in warnings] == [
        f"{path}: unknown property server.projet_name",
        f"{path}: unknown property server.zzz",
        f"{path}: unknown property server.qqq",
        f"{path}: unknown property agnet",
    ]
    assert warnings[0].endswith("(did you mean project_name?)")
    assert warnings[3].endswith("(did you mean agent?)")


# -- the context ---------------------------------------------------------------------------------------------------

DIRECTOR_CONTEXT = {
    "director_uuid": "d",
    "request_id": "cpi-1",
    "vm": {"stemcell": {"api_version": 3}},
    "api_version": 2,
    "stemcell": {},
}


def test_ignores_keys_of_the_director(load):
    assert load(context=DIRECTOR_CONTEXT) == load()


@pytest.mark.parametrize(
    "context",
    [
        {"url": "unix:///b", "project_name": "p"},
        {"url": "unix:///b", "project": "p"},
        {"server": {"url": "unix:///b", "project_name": "p"}},
        {"lxd_cpi": {"server": {"url": "unix:///b", "project_name": "p"}}},
        {"lxd_cpi": {"url": "unix:///b", "project": "p"}},
        {"url": "unix:///b", "server": {"project_name": "p"}},
        {"server": {"project_name": "p"}, "url": "unix:///b"},
        {"server": {"url": "unix:///z", "project_name": "p"}, "url": "unix:///b"},
    ],
)
def test_context_may_have_flat_or_nested_server_properties(load, context):
    changed = load({"server": {"target": "m1"}}, {**DIRECTOR_CONTEXT, **context}).server
    assert (changed.url, changed.project_name, changed.target) == ("unix:///b", "p", "m1")


@pytest.mark.parametrize(
    "context",
    [{"url": "unix:///b", "server": None}, {"server": None, "url": "unix:///b"}, {"url": "unix:///b", "lxd_cpi": None}],
)
def test_null_section_does_not_hide_flat_properties(load, context):
    assert load(context=context).server.url == "unix:///b"


@pytest.mark.parametrize(
    "context, certificate",
    [
        ({"url": "https://b"}, "PIN"),
        ({"ca_cert": "CA"}, ""),
        ({"insecure_skip_verify": True}, ""),
        ({"ca_cert": "CA", "server_cert": "ITS"}, "ITS"),
    ],
)
def test_context_with_ca_does_not_inherit_certificate(load, context, certificate):
    assert (
        load(
            {"server": {"tls_server_cert": "PIN", "tls_client_cert": "c", "tls_client_key": "k"}}, context
        ).server.tls_server_cert
        == certificate
    )


def test_context_replaces_single_properties(load):
    changed = load(
        {"agent_config": {"label": "a", "type": "FAT32"}, "log_level": "warn"},
        {"agent_config": {"label": "b"}, "log_level": "debug", "agent": {"ntp": ["t"]}},
    )
    assert (changed.agent_config.label, changed.agent_config.type, changed.log_level) == ("b", "FAT32", "debug")
    assert changed.agent == Agent("nats://a", ("t",))


@pytest.mark.parametrize(
    "context, problem",
    [
        ({"projct": "p"}, "unknown property server.projct (did you mean project_name?)"),
        ({"server": {"projct": "p"}}, "unknown property server.projct (did you mean project_name?)"),
        ({"server": "https://x"}, "server must be an object"),
        ({"server": "https://x", "url": "unix:///b"}, "server must be an object"),
        ({"url": "unix:///b", "server": []}, "server must be an object"),
        ({"agent": 5}, "agent must be an object"),
        ({"url": 5}, "server.url must be https://HOST:8443 or unix:///PATH, not 5"),
        ({"url": ["a"]}, "server.url must be https://HOST:8443 or unix:///PATH, not a"),
        ({"url": [5]}, "server.url must be a string"),
        ({"url": ["https://a", "unix:///b"]}, "server.url must be https://HOST:8443 or unix:///PATH, not unix:///b"),
        ({"predeploy_stemcell": "x"}, "server.predeploy_stemcell must be true or false"),
        ({"log_level": "loud"}, "log_level must be one of debug, info, warn, error"),
    ],
)
def test_rejects_invalid_context(load, context, problem):
    message = "; ".join(problems(load, context=context))
    assert problem in message
    assert problem.startswith("server.url must be https") or f"{problem} (from the cpi-config, " in message


@pytest.mark.parametrize("value", ["text", 5, ["a"]])
def test_rejects_lxd_cpi_that_is_not_an_object(load, value):
    assert problems(load, context={"lxd_cpi": value})[0].startswith("unknown property server.lxd_cpi")


def test_ignores_a_key_that_a_later_director_adds(load):
    ignored: list[str] = []
    assert load(context={**DIRECTOR_CONTEXT, "trace_id": "1"}, ignore=ignored.append) == load()
    assert ignored == ["trace_id"]


def test_null_in_context_keeps_value_of_file(load):
    assert load({"server": {"target": "m1"}}, {"target": None, "server": {"project_name": None}}).server.target == "m1"


def test_does_not_change_the_context(load):
    context = {"url": "unix:///b", "server": {"project_name": "p"}, "lxd_cpi": {"target": "m1"}}
    before = json.dumps(context)
    load(context=context)
    assert json.dumps(context) == before


# -- methods and PEM files -----------------------------------------------------------------------------------------


def test_client_key_and_mbus_are_secrets(load):
    changed = load({"server": {"tls_client_key": "KEY", "tls_client_cert": "CERT"}})
    assert set(changed.secrets()) >= {"KEY", "nats://a"}
    assert "CERT" not in changed.secrets()


@pytest.mark.parametrize(
    "path, tmpdir, expected",
    [
        ("", "/var/vcap/data/tmp", "/var/vcap/data/tmp/lxd_cpi"),
        ("", "", f"/tmp/lxd_cpi-{os.geteuid()}"),
        ("/locks", "/x", "/locks"),
        ("/run/throttle.sock", "/x", "/run/throttle.sock.d"),
    ],
)
def test_lock_directory_is_shared_by_all_workers(load, monkeypatch, path, tmpdir, expected):
    monkeypatch.setenv("TMPDIR", tmpdir)
    assert load({"throttle_config": {"path": path}}).lock_directory() == expected


@pytest.mark.parametrize("url", [["https://a:8443", "https://b:8443"], "https://a:8443 https://b:8443"])
def test_url_is_a_list_or_a_string(load, url):
    properties = {"url": url, "tls_client_cert": "c", "tls_client_key": "k"}
    assert load({"server": properties}).server.urls == ["https://a:8443", "https://b:8443"]


def test_path_of_a_socket_may_contain_a_space(load):
    assert load({"server": {"url": "unix:///a b"}}).server.urls == ["unix:///a b"]


def test_lock_directory_is_next_to_a_socket(load, tmp_path):
    path = str(tmp_path / "throttle")
    with socket.socket(socket.AF_UNIX) as go_socket:
        go_socket.bind(path)
    assert load({"throttle_config": {"path": path}}).lock_directory() == f"{path}.d"
