from __future__ import annotations

import json
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
    """Loads a tree, MINIMAL with these sections and properties changed, under a context."""

    def load(changed: dict[str, Any] | None = None, context: dict[str, Any] | None = None, **more: Any) -> Config:
        tree = json.loads(json.dumps(MINIMAL))
        for name, value in (changed or {}).items():
            tree[name] = {**tree.get(name, {}), **value} if isinstance(value, dict) else value
        return schema.load(write(tmp_path, tree), context, **more)

    return load


def faults(load, changed: dict[str, Any] | None = None, context: dict[str, Any] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load(changed, context)
    return raised.value.brief.partition(" has faults: ")[2].split("; ")


def test_what_is_not_set_has_go_lxd_cpis_defaults(load):
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


def test_every_fault_is_told_at_once(load):
    assert faults(
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


def test_https_needs_a_client_certificate(load):
    assert faults(load, {"server": {"url": "https://lxd:8443"}}) == [
        "server.tls_client_cert is missing",
        "server.tls_client_key is missing",
    ]


@pytest.mark.parametrize("section", ["server", "agent", "agent_config", "throttle_config", "capture"])
@pytest.mark.parametrize("value", ["text", 5, [], [{}], True])
def test_a_section_that_is_no_mapping_is_a_fault(tmp_path, section, value):
    with pytest.raises(ConfigError, match=f"{section} must be a mapping"):
        schema.load(write(tmp_path, {**MINIMAL, section: value}))


def test_null_means_not_set(load):
    changed = {"server": {"target": None, "predeploy_stemcell": None}, "log_level": None, "capture": None}
    assert load(changed) == load()


@pytest.mark.parametrize(
    "value, read", [(True, True), ("true", True), ("True", True), (False, False), ("false", False)]
)
def test_truth_may_be_written_as_a_text(load, value, read):
    assert load({"server": {"predeploy_stemcell": value}}).server.predeploy_stemcell is read


@pytest.mark.parametrize("value", ["yes", "", 1, 0, [], {}, "t"])
def test_other_truth_is_a_fault(load, value):
    assert faults(load, {"server": {"predeploy_stemcell": value}}) == [
        "server.predeploy_stemcell must be true or false"
    ]


@pytest.mark.parametrize("value, read", [(8, 8), ("8", 8), (999999999, 999999999)])
def test_numbers_may_be_written_as_texts(load, value, read):
    assert load({"throttle_config": {"limit": value}}).throttle_config.limit == read


@pytest.mark.parametrize("value", [0, -1, 1.5, "1.5", "", "four", True, [], {}, "\u00b2", "\u0663", "9" * 5000, 10**9])
def test_other_numbers_are_a_fault(load, value):
    assert faults(load, {"throttle_config": {"limit": value}}) == ["throttle_config.limit must be a positive number"]


@pytest.mark.parametrize("value, read", [("a", ("a",)), (["a", "b"], ("a", "b")), ([], ()), ("", ())])
def test_time_servers_are_one_or_several(load, value, read):
    assert load({"agent": {"ntp": value}}).agent.ntp == read


@pytest.mark.parametrize("value", [5, {"a": "b"}, [5], [None], [["a"]]])
def test_other_lists_are_a_fault(load, value):
    assert faults(load, {"agent": {"ntp": value}}) == ["agent.ntp must be a list of texts"]


@pytest.mark.parametrize("value, read", [("prod", "prod"), (5, "5"), (1.5, "1.5"), ("", "default")])
def test_texts_may_be_written_as_numbers(load, value, read):
    assert load({"server": {"project_name": value}}).server.project_name == read


@pytest.mark.parametrize("value", [True, [], {}, ["a"]])
def test_other_texts_are_a_fault(load, value):
    assert faults(load, {"server": {"project_name": value}}) == ["server.project_name must be a text"]


@pytest.mark.parametrize(
    "name, value, choices",
    [
        ("server.type", "LXD", "lxd, incus"),
        ("server.managed_network_assignment", "none", "static, dhcp"),
        ("agent_config.type", "cdrom", "CDROM, FAT32"),
        ("log_level", "trace", "debug, info, warn, error"),
    ],
)
def test_a_choice_that_is_none_is_a_fault(load, name, value, choices):
    section, dot, key = name.partition(".")
    assert faults(load, {section: {key: value} if dot else value}) == [f"{name} must be one of {choices}"]


@pytest.mark.parametrize("value", ["2m", "1h30m", "500ms", "0", 90, 1.5])
def test_durations_are_as_go_writes_them(load, value):
    assert load({"throttle_config": {"hold": value}}).throttle_config.hold == str(value)


@pytest.mark.parametrize("value", ["soon", "2 m", "-2m", " ", "1d"])
def test_other_durations_are_a_fault(load, value):
    assert faults(load, {"throttle_config": {"hold": value}})[0].startswith("throttle_config.hold: ")


def test_instance_options_become_texts(load):
    given = {"server": {"instance_config": {"jammy": {"security.csm": True, "limits.cpu.nodes": 0}, "default": {}}}}
    assert load(given).server.instance_config == {
        "jammy": {"security.csm": "true", "limits.cpu.nodes": "0"},
        "default": {},
    }


def test_yaml_may_make_numbers_of_stemcell_lines(tmp_path):
    text = "server: {url: 'unix:///a', instance_config: {24: {1: 2}}}\nagent: {mbus: x}"
    assert schema.load(write(tmp_path, text)).server.instance_config == {"24": {"1": "2"}}


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
def test_other_instance_options_are_a_fault(load, value):
    assert faults(load, {"server": {"instance_config": value}}) == [
        "server.instance_config must map stemcell lines to instance options, and those to texts"
    ]


def test_the_file_that_go_lxd_cpis_job_writes_is_understood(tmp_path):
    """Every key of its cpi.json.erb, with values in the types that it gives them."""
    boot = {"jammy": {"security.csm": "true"}, "default": {"security.secureboot": "false"}}
    warned: list[str] = []
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
        warn=warned.append,
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
    assert warned == []


def test_unknown_keys_in_the_file_are_only_warned_about_in_their_order(tmp_path):
    told: list[str] = []
    tree = {
        "server": {**MINIMAL["server"], "projet_name": "x", "zzz": 1, "qqq": None},
        "agent": MINIMAL["agent"],
        "agnet": {},
    }
    path = write(tmp_path, tree)
    schema.load(path, warn=told.append)
    assert [line.partition(" (")[0] for line in told] == [
        f"{path}: unknown property server.projet_name",
        f"{path}: unknown property server.zzz",
        f"{path}: unknown property server.qqq",
        f"{path}: unknown property agnet",
    ]
    assert told[0].endswith("(did you mean project_name?)") and told[3].endswith("(did you mean agent?)")


# -- the context ---------------------------------------------------------------------------------------------------------

DIRECTORS = {
    "director_uuid": "d",
    "request_id": "cpi-1",
    "vm": {"stemcell": {"api_version": 3}},
    "api_version": 2,
    "stemcell": {},
}


def test_what_the_director_itself_puts_there_changes_nothing(load):
    assert load(context=DIRECTORS) == load()


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
def test_server_properties_may_stand_flat_or_in_their_section(load, context):
    changed = load({"server": {"target": "m1"}}, {**DIRECTORS, **context}).server
    assert (changed.url, changed.project_name, changed.target) == ("unix:///b", "p", "m1")


@pytest.mark.parametrize(
    "context",
    [{"url": "unix:///b", "server": None}, {"server": None, "url": "unix:///b"}, {"url": "unix:///b", "lxd_cpi": None}],
)
def test_an_empty_section_does_not_swallow_what_stands_beside_it(load, context):
    assert load(context=context).server.url == "unix:///b"


@pytest.mark.parametrize(
    "context, pin",
    [
        ({"url": "https://b"}, "PIN"),
        ({"ca_cert": "CA"}, ""),
        ({"insecure_skip_verify": True}, ""),
        ({"ca_cert": "CA", "server_cert": "ITS"}, "ITS"),
    ],
)
def test_a_context_that_says_how_to_check_a_server_does_not_inherit_the_files_pin(load, context, pin):
    assert (
        load(
            {"server": {"tls_server_cert": "PIN", "tls_client_cert": "c", "tls_client_key": "k"}}, context
        ).server.tls_server_cert
        == pin
    )


def test_other_sections_are_overlaid_key_by_key(load):
    changed = load(
        {"agent_config": {"label": "a", "type": "FAT32"}, "log_level": "warn"},
        {"agent_config": {"label": "b"}, "log_level": "debug", "agent": {"ntp": ["t"]}},
    )
    assert (changed.agent_config.label, changed.agent_config.type, changed.log_level) == ("b", "FAT32", "debug")
    assert changed.agent == Agent("nats://a", ("t",))


@pytest.mark.parametrize(
    "context, fault",
    [
        ({"projct": "p"}, "unknown property server.projct (did you mean project_name?)"),
        ({"server": {"projct": "p"}}, "unknown property server.projct (did you mean project_name?)"),
        ({"server": "https://x"}, "server must be a mapping"),
        ({"server": "https://x", "url": "unix:///b"}, "server must be a mapping"),
        ({"url": "unix:///b", "server": []}, "server must be a mapping"),
        ({"agent": 5}, "agent must be a mapping"),
        ({"url": 5}, "server.url must be https://HOST:8443 or unix:///PATH, not 5"),
        ({"url": ["a"]}, "server.url must be a text"),
        ({"predeploy_stemcell": "x"}, "server.predeploy_stemcell must be true or false"),
        ({"log_level": "loud"}, "log_level must be one of debug, info, warn, error"),
    ],
)
def test_what_was_meant_for_this_call_and_makes_no_sense_is_refused(load, context, fault):
    told = "; ".join(faults(load, context=context))
    assert fault in told and (fault.startswith("server.url must be https") or f"{fault} (from the cpi-config, " in told)


@pytest.mark.parametrize("value", ["text", 5, ["a"]])
def test_our_own_name_with_anything_but_a_mapping_is_refused(load, value):
    assert faults(load, context={"lxd_cpi": value})[0].startswith("unknown property server.lxd_cpi")


def test_null_in_the_context_leaves_the_files_value(load):
    assert load({"server": {"target": "m1"}}, {"target": None, "server": {"project_name": None}}).server.target == "m1"


def test_the_context_itself_is_left_as_it_was(load):
    context = {"url": "unix:///b", "server": {"project_name": "p"}, "lxd_cpi": {"target": "m1"}}
    before = json.dumps(context)
    load(context=context)
    assert json.dumps(context) == before


# -- what else it knows --------------------------------------------------------------------------------------------------


def test_the_clients_key_and_the_message_bus_are_secrets(load):
    changed = load({"server": {"tls_client_key": "KEY", "tls_client_cert": "CERT"}})
    assert set(changed.secrets()) >= {"KEY", "nats://a"} and "CERT" not in changed.secrets()


@pytest.mark.parametrize(
    "path, tmpdir, expected",
    [
        ("", "/var/vcap/data/tmp", "/var/vcap/data/tmp/lxd_cpi"),
        ("", "", "/tmp/lxd_cpi"),
        ("/locks", "/x", "/locks"),
        ("/run/throttle.sock", "/x", "/run/throttle.sock.d"),
    ],
)
def test_locks_are_where_all_workers_of_a_director_see_them(load, monkeypatch, path, tmpdir, expected):
    monkeypatch.setenv("TMPDIR", tmpdir)
    assert load({"throttle_config": {"path": path}}).lock_directory() == expected


def test_locks_are_beside_a_socket_whatever_it_is_called(load, tmp_path):
    path = str(tmp_path / "throttle")
    with socket.socket(socket.AF_UNIX) as left_by_go:
        left_by_go.bind(path)
    assert load({"throttle_config": {"path": path}}).lock_directory() == f"{path}.d"


def test_pem_text_is_taken_as_it_is_and_a_path_is_read(tmp_path, monkeypatch):
    (tmp_path / "a.crt").write_text("-----BEGIN X", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert schema.pem("  -----BEGIN Y") == "  -----BEGIN Y"
    assert schema.pem(str(tmp_path / "a.crt")) == schema.pem("~/a.crt") == "-----BEGIN X"


@pytest.mark.parametrize("text", ["/no/such/file", "", "a\0b", "x" * 5000])
def test_what_is_neither_pem_nor_a_path_is_refused(text):
    with pytest.raises(ConfigError, match="expected PEM text or the path of a PEM file"):
        schema.pem(text)
