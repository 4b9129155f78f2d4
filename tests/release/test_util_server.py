from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.release.util_runner import UtilRunner

UUID = "01ae91cd-0385-4f72-658a-b9496717212b"
LXC = "lxc --project boshdev"


def test_generates_a_certificate_with_a_private_key(runner: UtilRunner) -> None:
    runner.outputs = {
        "bosh interpolate creds/bosh-cert.yml --path /bosh_client/certificate": "CERTIFICATE\n",
        "bosh interpolate creds/bosh-cert.yml --path /bosh_client/private_key": "KEY\n",
    }
    runner.util("generate_certs")
    key = runner.work / "bosh-client.key"
    assert (runner.work / "bosh-client.crt").read_text() == "CERTIFICATE\n"
    assert key.read_text() == "KEY\n"
    assert key.stat().st_mode & 0o777 == 0o600


def test_restricts_permissions_of_an_existing_key(runner: UtilRunner) -> None:
    key = runner.work / "bosh-client.key"
    key.write_text("OLD")
    key.chmod(0o644)
    runner.util("generate_certs")
    assert key.read_text() == "" and key.stat().st_mode & 0o777 == 0o600


def test_keeps_the_key_when_bosh_cannot_print_a_new_one(runner: UtilRunner) -> None:
    (runner.work / "bosh-client.key").write_text("OLD")
    runner.util("generate_certs", fail="/bosh_client/private_key", status=1)
    assert (runner.work / "bosh-client.key").read_text() == "OLD"


@pytest.mark.parametrize(
    ("server_type", "client", "add"), [("lxd", "lxc", "add"), ("incus", "incus", "add-certificate")]
)
def test_initialises_an_empty_server(server_type: str, client: str, add: str, runner: UtilRunner) -> None:
    (runner.work / "bosh-client.crt").write_text("PEM")
    calls = [
        " ".join(call[1:])
        for call in runner.util("init_lxd", SERVER_TYPE=server_type, SERVER_STORAGE="zfs source=/dev/sdb", fail="show")
        if call[0] == client
    ]
    assert "config set core.https_address=:8443" in calls
    assert "storage create default zfs source=/dev/sdb" in calls
    address = "ipv4.address=10.245.0.1/24 ipv4.dhcp.ranges=10.245.0.180-10.245.0.199"
    bridge = f"{address} ipv4.nat=true ipv6.address=none dns.mode=none"
    assert f"network create boshdevbr0 --type=bridge {bridge}" in calls
    assert any(call.startswith("project create boshdev ") for call in calls)
    assert "--project boshdev profile device add default root disk path=/ pool=default" in calls
    certificate = runner.work / "bosh-client.crt"
    assert f"config trust {add} {certificate} --name=bosh --restricted --projects=boshdev" in calls


def test_gives_a_renewed_certificate_another_name(runner: UtilRunner) -> None:
    (runner.work / "bosh-client.crt").write_text("NEW")
    runner.outputs = {"lxc config trust list": json.dumps([{"name": "bosh", "certificate": "OLD"}])}
    [trust] = [call for call in runner.util("init_lxd", fail="show") if call[3:4] == ["add"]]
    assert trust[5] == "--name=bosh-a253ff09"


MEMBERS = json.dumps([{"server_name": "node1"}, {"server_name": "node2"}])


def test_initialises_a_cluster(runner: UtilRunner) -> None:
    (runner.work / "bosh-client.crt").write_text("PEM")
    runner.outputs = {"lxc cluster list": MEMBERS}
    environ = {"SERVER_STORAGE": "zfs source=/dev/sdb volume.zfs.use_refquota=true"}
    calls = [" ".join(call[1:]) for call in runner.util("init_lxd", fail="show", **environ)]
    settings = "ipv4.address=10.245.0.1/24 ipv4.dhcp.ranges=10.245.0.180-10.245.0.199"
    assert [call for call in calls if " create " in call][:6] == [
        "storage create default zfs source=/dev/sdb --target=node1",
        "storage create default zfs source=/dev/sdb --target=node2",
        "storage create default zfs volume.zfs.use_refquota=true",
        "network create boshdevbr0 --type=bridge --target=node1",
        "network create boshdevbr0 --type=bridge --target=node2",
        f"network create boshdevbr0 --type=bridge {settings} ipv4.nat=true ipv6.address=none dns.mode=none",
    ]


def test_completes_a_pending_pool(runner: UtilRunner) -> None:
    (runner.work / "bosh-client.crt").write_text("PEM")
    pending = json.dumps({"status": "Pending", "locations": ["node1"]})
    runner.outputs = {"lxc cluster list": MEMBERS, "lxc query /1.0/storage-pools/default": pending}
    calls = [" ".join(call[1:]) for call in runner.util("init_lxd", fail="show")]
    assert [call for call in calls if call.startswith("storage create")] == [
        "storage create default dir --target=node2",
        "storage create default dir",
    ]


def test_changes_nothing_on_an_initialised_server(runner: UtilRunner) -> None:
    (runner.work / "bosh-client.crt").write_text("-----BEGIN-----\nA\nB\n")
    runner.outputs = {
        "lxc config get": ":8443\n",
        "lxc query /1.0/storage-pools/default": '{"status": "Created"}',
        "lxc query /1.0/networks/boshdevbr0": '{"status": "Created"}',
        "lxc project show": "x",
        f"{LXC} profile show": "x",
        f"{LXC} profile device get": "default\n",
        "lxc config trust list": json.dumps([{"certificate": "-----BEGIN-----\nA\nB"}]),
    }
    runner.util("init_lxd", stdin="input of the operator's script\n")
    assert runner.stdout.splitlines() == [
        "The server has pool default, network boshdevbr0, project boshdev and profile default for BOSH.",
        "It trusts the certificate bosh-client.crt. Next: util doctor, then util deploy_bosh.",
    ]


GROUP_COMMANDS = [
    "auth group create bosh",
    "auth group permission add bosh project boshdev operator",
    "auth group permission add bosh project default can_view",
    "auth group permission add bosh network boshdevbr0 can_view project=default",
]


def test_init_creates_an_identity_in_a_group(runner: UtilRunner) -> None:
    (runner.work / "bosh-client.crt").write_text("PEM")
    runner.outputs = {"lxc query /1.0": '{"api_extensions": ["access_management_tls"]}'}
    calls = [" ".join(call[1:]) for call in runner.util("init_lxd", "--identity") if call[1] in ("auth", "config")]
    create = f"auth identity create tls/bosh {runner.work / 'bosh-client.crt'} --group=bosh"
    assert [call for call in calls if call.startswith("auth") and "list" not in call] == [*GROUP_COMMANDS, create]
    assert not [call for call in calls if "trust" in call]


def test_init_completes_a_group_and_keeps_an_identity(runner: UtilRunner) -> None:
    (runner.work / "bosh-client.crt").write_text("-----BEGIN-----\nA\nB\n")
    permissions = [
        {"entity_type": "project", "url": "/1.0/projects/boshdev", "entitlement": "operator"},
        {"entity_type": "network", "url": "/1.0/networks/boshdevbr0?project=default", "entitlement": "can_view"},
    ]
    runner.outputs = {
        "lxc query /1.0": '{"api_extensions": ["access_management_tls"]}',
        "lxc auth group list": json.dumps([{"name": "bosh", "permissions": permissions}]),
        "lxc auth identity list": identities("Client certificate", groups=["bosh"]),
    }
    calls = [" ".join(call[1:]) for call in runner.util("init_lxd", "--identity") if call[1] == "auth"]
    assert [call for call in calls if "list" not in call] == [GROUP_COMMANDS[2]]


def identities(kind: str, **fields: Any) -> str:
    """Return a list with one identity, whose certificate is that of the tests."""
    certificate = "-----BEGIN-----\nA\nB"
    return json.dumps([{"name": "x", "id": "0123456789abcdef", "type": kind, "tls_certificate": certificate, **fields}])


@pytest.mark.parametrize("groups", [None, [], ["other"]])
def test_init_adds_an_identity_to_the_group(runner: UtilRunner, groups: list[str] | None) -> None:
    (runner.work / "bosh-client.crt").write_text("-----BEGIN-----\nA\nB\n")
    runner.outputs = {
        "lxc query /1.0": '{"api_extensions": ["access_management_tls"]}',
        "lxc auth identity list": identities("Client certificate", groups=groups),
    }
    calls = [" ".join(call[1:]) for call in runner.util("init_lxd", "--identity") if call[1] == "auth"]
    assert [call for call in calls if "list" not in call] == [*GROUP_COMMANDS, "auth identity group add tls/x bosh"]


def test_init_gives_an_identity_another_name_if_it_is_taken(runner: UtilRunner) -> None:
    (runner.work / "bosh-client.crt").write_text("-----BEGIN-----\nC\n")
    runner.outputs = {
        "lxc query /1.0": '{"api_extensions": ["access_management_tls"]}',
        "lxc auth identity list": identities("Client certificate (restricted)", name="bosh"),
    }
    calls = [" ".join(call[1:]) for call in runner.util("init_lxd", "--identity") if call[1] == "auth"]
    assert re.match("auth identity create tls/bosh-[0-9a-f]{8} ", calls[-1])


def test_init_rejects_an_identity_for_a_trusted_certificate(runner: UtilRunner) -> None:
    (runner.work / "bosh-client.crt").write_text("-----BEGIN-----\nA\nB\n")
    runner.outputs = {
        "lxc query /1.0": '{"api_extensions": ["access_management_tls"]}',
        "lxc auth identity list": identities("Client certificate (restricted)"),
    }
    changes = [call for call in runner.util("init_lxd", "--identity", status=1) if call[1] not in ("query", "auth")]
    assert changes == []
    assert "`lxc config trust remove 0123456789ab`, then repeat util init_lxd --identity" in runner.stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [("--identity", "the server has no identities"), ("--identities", "there is no option --identities")],
)
def test_init_rejects_identity_before_changes(option: str, message: str, runner: UtilRunner) -> None:
    (runner.work / "bosh-client.crt").write_text("PEM")
    runner.outputs = {"lxc query /1.0": '{"api_extensions": []}'}
    assert [call for call in runner.util("init_lxd", option, status=1) if call[1] != "query"] == []
    assert runner.stderr.startswith(f"util: {message}")


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "there is no file bosh-client.crt: run util generate_certs"),
        ({"SERVER_CLIENT_CERT": "absent"}, "there is no file absent: run util generate_certs"),
        ({"SERVER_TYPE": "foo"}, "SERVER_TYPE is 'foo': set it to lxd or incus"),
    ],
    ids=["default certificate", "SERVER_CLIENT_CERT", "SERVER_TYPE"],
)
def test_init_reports_wrong_settings_before_changes(environ: dict[str, str], message: str, runner: UtilRunner) -> None:
    assert runner.util("init_lxd", status=1, **environ) == []
    assert runner.stderr.startswith(f"util: {message}")


def resources(**lists: Any) -> dict[str, str]:
    return {f"{LXC} {what.replace('_', ' ')}": json.dumps(rows) for what, rows in lists.items()}


@pytest.mark.parametrize("listing", ["boshdev list", "image list", "storage volume list"])
def test_destroy_deletes_nothing_when_a_listing_fails(listing: str, runner: UtilRunner) -> None:
    (runner.work / "creds").mkdir()
    (runner.work / "state.json").write_text("{}")
    lists = resources(list=[{"name": f"vm-{UUID}"}], image_list=[], storage_volume_list=[])
    runner.outputs = {command: output for command, output in lists.items() if listing not in command}
    calls = runner.util("destroy", stdin="yes\n", fail=listing, status=1)
    assert not [call for call in calls if "delete" in call]
    assert (runner.work / "state.json").exists() and (runner.work / "creds").exists()
    assert runner.stdout == ""
    assert runner.stderr == "util: lxc failed with status 1: Error: not allowed\n"


LISTS = resources(
    list=[{"name": f"vm-{UUID}"}, {"name": "pet"}, {"name": f"vm-{UUID}-mine"}],
    image_list=[{"fingerprint": "f1", "aliases": [{"name": f"img-{UUID}"}]}, {"fingerprint": "f2", "aliases": []}],
    storage_volume_list=[
        {"type": "custom", "name": f"vol-p-{UUID}"},
        {"type": "custom", "name": "photos"},
        {"type": "virtual-machine", "name": f"vol-p-{UUID}"},
    ],
)


def test_destroy_deletes_resources_of_bosh_only(runner: UtilRunner) -> None:
    (runner.work / "state.json").write_text("{}")
    runner.outputs = LISTS
    assert not [call for call in runner.util("destroy", stdin="no\n", status=1) if "delete" in call]
    assert (runner.work / "state.json").exists()
    deletions = [call[3:] for call in runner.util("destroy", stdin="yes\n") if "delete" in call]
    assert deletions == [
        ["delete", "--force", f"vm-{UUID}"],
        ["image", "delete", "f1"],
        ["storage", "volume", "delete", "default", f"vol-p-{UUID}"],
    ]
    assert not (runner.work / "state.json").exists()


def test_destroy_lists_what_it_deletes_before_it_asks(runner: UtilRunner) -> None:
    (runner.work / "state.json").write_text("{}")
    runner.outputs = LISTS
    runner.util("destroy", stdin="no\n", status=1)
    listing, _, _ = runner.stdout.partition("Type yes")
    assert listing.splitlines() == [
        "This deletes 3 resources in project boshdev:",
        f"  VM vm-{UUID}",
        f"  image img-{UUID}",
        f"  disk vol-p-{UUID}",
        "It also deletes these local files: state.json.",
    ]


def test_destroy_deletes_nothing_without_a_terminal(runner: UtilRunner) -> None:
    runner.outputs = LISTS
    calls = runner.util("destroy", stdin="", status=1)
    assert not [call for call in calls if "delete" in call]
    assert runner.stderr == (
        "util: nothing was deleted: there is no terminal to confirm on; set BOSH_NON_INTERACTIVE=true to confirm\n"
    )


@pytest.mark.parametrize("arguments", [("destroy", "--dry-run"), ("--dry-run", "destroy")], ids=" ".join)
def test_destroy_dry_run_deletes_nothing(arguments: tuple[str, ...], runner: UtilRunner) -> None:
    (runner.work / "state.json").write_text("{}")
    runner.outputs = LISTS
    assert not [call for call in runner.util(*arguments) if "delete" in call]
    assert f"+ lxc --project boshdev delete --force vm-{UUID}" in runner.stdout
    assert (runner.work / "state.json").exists()
