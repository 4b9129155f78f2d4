"""Connections: verification of the server, errors, and several servers for one director."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import pytest

from tests.host import server
from tests.host.conftest import inventory
from tests.host.director import MBUS_PASSWORD, CallError, environment, manual_network
from tests.host.kinds import IDENTITIES
from tests.support.certificates import create_certificate


def call_error(cpi, **settings):
    cpi.config["server"].update(settings)
    with pytest.raises(CallError) as exc_info:
        cpi.call("has_vm", "vm-1")
    return exc_info.value


@pytest.fixture
def untrusted_certificate(tmp_path):
    """A certificate that the server does not trust."""
    create_certificate(tmp_path / "crt", tmp_path / "key", name="untrusted_certificate")
    return {"tls_client_cert": (tmp_path / "crt").read_text(), "tls_client_key": (tmp_path / "key").read_text()}


@pytest.mark.every_server
def test_verifies_server_by_pin_or_ca_or_not(host, cpi):
    pem = Path(host.server_cert).read_text(encoding="utf-8")
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    digest_with_colons = ":".join(digest[index : index + 2] for index in range(0, 64, 2)).upper()
    for settings in (
        {"tls_server_cert": pem},
        {"tls_server_cert": host.server_cert},
        {"tls_server_cert": digest},
        {"tls_server_cert": digest_with_colons},
        {"tls_ca_cert": pem},
        {"insecure_skip_verify": True},
    ):
        cpi.config["server"].update(
            {"tls_server_cert": "", "tls_ca_cert": "", "insecure_skip_verify": False, **settings}
        )
        assert cpi.call("has_vm", "vm-1") is False, settings


def test_sends_no_request_to_unverified_server(host, cpi):
    mismatch = call_error(cpi, tls_server_cert="00" * 32)
    assert "not the pinned one" in mismatch.message and "tls_server_cert" in mismatch.message
    unverified = call_error(cpi, tls_server_cert="")
    assert "cannot be verified" in unverified.message and "tls_server_cert" in unverified.message


def test_names_property_of_invalid_key(cpi):
    assert "tls_client_key" in call_error(cpi, tls_client_key="-----BEGIN RUBBISH-----\n").message
    assert "tls_client_cert is missing" in call_error(cpi, tls_client_cert="").message


@pytest.mark.every_server
def test_untrusted_certificate_error_explains_how_to_trust(host, cpi, untrusted_certificate, stemcell_cids):
    assert "config trust add" in call_error(cpi, **untrusted_certificate).message
    with pytest.raises(CallError, match="config trust add"):
        cpi.call(
            "create_vm",
            "a",
            stemcell_cids["jammy"],
            {"instance_type": "c1-m1"},
            {"n": manual_network("10.245.0.9")},
            [],
            {},
        )


@pytest.fixture(params=["untrusted", "of another project"])
def hidden_cids(request, host, cpi, untrusted_certificate, tmp_path, stemcell_cids):
    """CIDs of objects that exist, for a director whose certificate must not see them."""
    disk = cpi.call("create_disk", 16, {}, None)
    cids = {"vm": "vm-1", "disk": disk, "stemcell": stemcell_cids["noble"]}
    cids["snapshot"] = cpi.call("snapshot_disk", disk, {})
    owner = dict(cpi.config["server"])
    cpi.config["server"].update(untrusted_certificate)
    if request.param == "of another project":
        word = "add-certificate" if host.type == "incus" else "add"
        server.client(
            host.name, "config", "trust", word, str(tmp_path / "crt"), "--restricted", "--projects", "default"
        )
    yield cids
    cpi.config["server"] = owner
    if request.param == "of another project":
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(untrusted_certificate["tls_client_cert"])).hexdigest()
        server.client(host.name, "config", "trust", "remove", digest)
    cpi.call("delete_disk", disk)


@pytest.mark.every_server
def test_hidden_object_does_not_count_as_missing(host, cpi, hidden_cids):
    before = inventory(host)
    for method, *objects in (
        ("has_vm", "vm"),
        ("delete_vm", "vm"),
        ("get_disks", "vm"),
        ("reboot_vm", "vm"),
        ("detach_disk", "vm", "disk"),
        ("has_disk", "disk"),
        ("delete_disk", "disk"),
        ("delete_snapshot", "snapshot"),
        ("delete_stemcell", "stemcell"),
    ):
        is_snapshot_of_lxd = method == "delete_snapshot" and host.kind in IDENTITIES
        hint = r"server\.project_name|by an identity" if is_snapshot_of_lxd else r"server\.project_name"
        with pytest.raises(CallError, match=hint) as exc_info:
            cpi.call(method, *(hidden_cids[name] for name in objects))
        assert (method, exc_info.value.type) == (method, "Bosh::Clouds::CloudError")
    assert inventory(host) == before


@pytest.mark.every_server
@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [("project_name", "nope", "project create nope"), ("storage_pool_name", "nope", "storage list")],
)
def test_wrong_project_or_pool_is_an_error(cpi, setting, value, message):
    cpi.config["server"][setting] = value
    project_methods = ("has_vm", "delete_vm", "delete_stemcell", "delete_disk") if setting == "project_name" else ()
    for method, cid in (("has_disk", "vol-p-1"), *((method, "vm-1") for method in project_methods)):
        with pytest.raises(CallError, match=message) as exc_info:
            cpi.call(method, cid)
        assert exc_info.value.type == "Bosh::Clouds::CloudError"


def test_refused_connection_names_the_address(cpi):
    cpi.config["server"]["url"] = "https://127.0.0.1:1"
    process = cpi.start("has_vm", "vm-1")
    with pytest.raises(CallError, match=r"cannot connect to https://127.0.0.1:1: Connection refused") as exc_info:
        cpi.finish(process, "has_vm", 0)
    assert "core.https_address" in exc_info.value.message


@pytest.mark.every_server
def test_connects_over_unix_socket(host, cpi):
    socket = Path(host.server_cert).parent / "unix.socket"
    cpi.config["server"] |= {
        "url": f"unix://{socket}",
        "tls_client_cert": "",
        "tls_client_key": "",
        "tls_server_cert": "",
    }
    disk = cpi.call("create_disk", 16, {}, None)
    assert cpi.call("has_disk", disk) is True
    cpi.call("delete_disk", disk)


def test_request_context_selects_another_server(host, cpi):
    context = {"url": cpi.config["server"]["url"], "project": "default", "storage_pool": host.pool}
    cpi.config["server"] |= {"url": "https://127.0.0.1:1", "project_name": "nope"}
    cpi.context = context
    disk = cpi.call("create_disk", 16, {}, None)
    assert cpi.call("has_disk", disk) is True
    cpi.context = {**context, "project": host.project}
    assert cpi.call("has_disk", disk) is False
    cpi.context = context
    cpi.call("delete_disk", disk)
    cpi.context = {**context, "projcet": "x"}
    with pytest.raises(CallError, match="did you mean project"):
        cpi.call("has_disk", disk)


def test_writes_no_keys_or_secrets(cpi, stemcell_cids, tmp_path):
    env = environment(mbus={"cert": {"private_key": "-----BEGIN KEY-----\nc2VjcmV0LWtleS1saW5l\n-----END KEY-----\n"}})
    env["bosh"]["password"] = "a-password-hash"
    cpi.config["log_level"] = "debug"
    vm, _ = cpi.call(
        "create_vm",
        "a",
        stemcell_cids["jammy"],
        {"instance_type": "c1-m0.375"},
        {"n": manual_network("10.245.0.70")},
        [],
        env,
    )
    cpi.call("delete_vm", vm)
    with pytest.raises(CallError):
        cpi.call(
            "create_vm",
            "a",
            stemcell_cids["jammy"],
            {"instance_type": "c1-m0.375", "config": {"x": MBUS_PASSWORD}},
            {"n": manual_network("10.245.0.70")},
            [],
            env,
        )
    secrets = [
        MBUS_PASSWORD,
        "c2VjcmV0LWtleS1saW5l",
        "a-password-hash",
        cpi.config["server"]["tls_client_key"].splitlines()[1],
    ]
    output = "".join(call.stdout + call.stderr for call in cpi.calls)
    files = "".join(
        path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file() and path.name != "cpi.json"
    )
    for secret in secrets:
        assert secret not in output and secret not in files


@pytest.mark.every_server
def test_waits_for_restarting_server(host, cpi):
    server.stop_daemon(host.name)
    process = cpi.start("create_disk", 16, {}, None)
    server.start_daemon(host.name)
    disk = cpi.finish(process, "create_disk", 0)
    cpi.call("delete_disk", disk)
