"""Captures of real servers, and a part of bin/record --check: the servers respond as in the fixtures."""

from __future__ import annotations

from pathlib import Path

import pytest

from bosh_lxd_cpi.admin import replay
from bosh_lxd_cpi.recording.document import load
from tests.host.director import MBUS, MBUS_PASSWORD, CallError, environment, manual_network
from tests.replay import fixtures, recording
from tests.replay.shape import shape_diff

ROOT = Path(__file__).resolve().parents[2]

SCENARIOS = ("stemcells", "vm", "vm_refused", "disk")


@pytest.mark.every_server
def test_server_responds_as_recorded(host, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with recording.directors(host, tmp_path) as create_director:
        differences = {
            name: diff
            for name in SCENARIOS
            if (diff := shape_diff(fixtures.load(host.kind, name), recording.record(name, create_director(name))))
        }
    assert differences == {}, "\n".join(differences.values())


@pytest.mark.every_server
def test_capture_contains_no_secrets_and_can_be_replayed(host, cpi, stemcell_cids, tmp_path):
    cpi.config["capture"] = {"path": str(tmp_path / "captures")}
    key = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMG\n-----END PRIVATE KEY-----\n"
    vm, _ = cpi.call(
        "create_vm",
        "a",
        stemcell_cids["jammy"],
        {"instance_type": "c1-m0.25"},
        {"n": manual_network("10.245.0.61")},
        [],
        environment(mbus={"cert": {"private_key": key}}),
    )
    cpi.call("delete_vm", vm)
    with pytest.raises(CallError):
        cpi.call("reboot_vm", vm)
    files = sorted((tmp_path / "captures").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    documents = [load(path) for path in files]
    calls = [document["calls"][0] for document in documents]
    assert [call["stdin"]["method"] for call in calls] == ["create_vm", "delete_vm", "reboot_vm"]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert {document["recorded"]["server"]["version"] for document in documents} == {host.version}
    client_key = Path(host.client_key).read_text(encoding="utf-8").splitlines()[1:-1]
    secrets = [MBUS, MBUS_PASSWORD, "MIGHAgEAMBMG", *client_key]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    assert [secret for secret in secrets if secret in text] == []
    assert [replay.play(call).differences for call in calls] == [[], [], []]
