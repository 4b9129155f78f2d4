from __future__ import annotations

import json
from typing import Any

import pytest
from util_bench import Bench

UUID = "01ae91cd-0385-4f72-658a-b9496717212b"
LXC = "lxc --project boshdev"


def test_a_client_certificate_is_made_with_a_private_key_for_nobody_else(bench: Bench) -> None:
    bench.answers = {
        "bosh interpolate creds/bosh-cert.yml --path /bosh_client/certificate": "CERTIFICATE\n",
        "bosh interpolate creds/bosh-cert.yml --path /bosh_client/private_key": "KEY\n",
    }
    bench.util("generate_certs")
    here = bench.folder / "here"
    assert (here / "bosh-client.crt").read_text() == "CERTIFICATE\n"
    assert (here / "bosh-client.key").read_text() == "KEY\n"
    assert (here / "bosh-client.key").stat().st_mode & 0o777 == 0o600


def test_a_private_key_that_everybody_may_read_is_replaced_by_one_that_nobody_else_may(bench: Bench) -> None:
    key = bench.folder / "here/bosh-client.key"
    key.write_text("OLD")
    key.chmod(0o644)
    bench.util("generate_certs")
    assert key.read_text() == "" and key.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("kind", "client", "add"), [("lxd", "lxc", "add"), ("incus", "incus", "add-certificate")])
def test_a_bare_server_gets_all_that_bosh_needs(kind: str, client: str, add: str, bench: Bench) -> None:
    (bench.folder / "here/bosh-client.crt").write_text("PEM")
    calls = [
        " ".join(call[1:])
        for call in bench.util("init_lxd", SERVER_TYPE=kind, SERVER_STORAGE="zfs source=/dev/sdb", fail="show")
        if call[0] == client
    ]
    assert "config set core.https_address :8443" in calls
    assert "storage create default zfs source=/dev/sdb" in calls
    assert "network create boshdevbr0 --type=bridge ipv4.address=10.245.0.1/24 ipv4.nat=true ipv6.address=none" in calls
    assert any(call.startswith("project create boshdev ") for call in calls)
    assert "--project boshdev profile device add default root disk path=/ pool=default" in calls
    assert (
        f"config trust {add} {bench.folder}/here/bosh-client.crt --name=bosh --restricted --projects=boshdev" in calls
    )


def test_a_server_that_has_it_all_is_left_alone(bench: Bench) -> None:
    (bench.folder / "here/bosh-client.crt").write_text("-----BEGIN-----\nA\nB\n")
    bench.answers = {
        "lxc config get": ":8443\n",
        "lxc storage show": "x",
        "lxc network show": "x",
        "lxc project show": "x",
        f"{LXC} profile show": "x",
        f"{LXC} profile device get": "default\n",
        "lxc config trust list": json.dumps([{"certificate": "-----BEGIN-----\nA\nB"}]),
    }
    bench.util("init_lxd")
    assert bench.says == ""


def resources(**lists: Any) -> dict[str, str]:
    return {f"{LXC} {what.replace('_', ' ')}": json.dumps(rows) for what, rows in lists.items()}


@pytest.mark.parametrize("unlisted", ["boshdev list", "image list", "storage volume list"])
def test_destroy_asks_and_deletes_nothing_when_the_server_cannot_be_listed(unlisted: str, bench: Bench) -> None:
    here = bench.folder / "here"
    (here / "creds").mkdir()
    (here / "state.json").write_text("{}")
    lists = resources(list=[{"name": f"vm-{UUID}"}], image_list=[], storage_volume_list=[])
    bench.answers = {command: answer for command, answer in lists.items() if unlisted not in command}
    calls = bench.util("destroy", typed="yes\n", fail=unlisted, status=1)
    assert not [call for call in calls if "delete" in call]
    assert (here / "state.json").exists() and (here / "creds").exists()
    assert bench.says == ""
    assert bench.complains == "util: lxc failed with status 1: Error: stubborn\n"


def test_destroy_deletes_what_bosh_made_and_only_that(bench: Bench) -> None:
    here = bench.folder / "here"
    (here / "state.json").write_text("{}")
    bench.answers = resources(
        list=[{"name": f"vm-{UUID}"}, {"name": "pet"}, {"name": f"vm-{UUID}-mine"}],
        image_list=[{"fingerprint": "f1", "aliases": [{"name": f"img-{UUID}"}]}, {"fingerprint": "f2", "aliases": []}],
        storage_volume_list=[
            {"type": "custom", "name": f"vol-p-{UUID}"},
            {"type": "custom", "name": "photos"},
            {"type": "virtual-machine", "name": f"vol-p-{UUID}"},
        ],
    )
    assert not [call for call in bench.util("destroy", typed="no\n", status=1) if "delete" in call]
    assert (here / "state.json").exists()
    deletions = [call[3:] for call in bench.util("destroy", typed="yes\n") if "delete" in call]
    assert deletions == [
        ["delete", "--force", f"vm-{UUID}"],
        ["image", "delete", "f1"],
        ["storage", "volume", "delete", "default", f"vol-p-{UUID}"],
    ]
    assert not (here / "state.json").exists()
