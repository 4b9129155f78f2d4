from __future__ import annotations

import json

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin.cleanup import owner
from bosh_lxd_cpi.config.schema import Config, ThrottleConfig
from bosh_lxd_cpi.model import naming
from bosh_lxd_cpi.runtime import director_registry
from bosh_lxd_cpi.runtime.clock import Clock

UUID = "7d0f3a52-5f1e-4c60-9c1e-2f4f6a1b0c3d"
OTHER = "516f8ee1-0000-4000-8000-000000000000"
BOTH = {naming.director_digest(UUID): UUID, naming.director_digest(OTHER): OTHER}


@pytest.mark.parametrize(
    "name, uuid",
    [
        (UUID, UUID),
        (UUID.upper(), UUID),
        (UUID[:8], UUID),
        (naming.director_digest(OTHER), OTHER),
        (f" {OTHER[:8].upper()}", OTHER),
    ],
)
def test_accepts_uuid_digest_or_prefix(name, uuid):
    assert owner.digest_of(name, BOTH) == naming.director_digest(uuid)


def test_rejects_an_ambiguous_prefix():
    with pytest.raises(errors.ConfigError, match="it can be 7d0f3a52-1 or 7d0f3a52-2"):
        owner.digest_of("7d0f3a52", {"a": "7d0f3a52-1", "b": "7d0f3a52-2"})
    assert owner.digest_of("7d0f3a5", BOTH) == naming.director_digest("7d0f3a5"), "shorter than a prefix"


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(owner, "AGENT_SETTINGS", (str(tmp_path / "none"), str(tmp_path / "settings.json")))
    return Config(throttle_config=ThrottleConfig(path=str(tmp_path / "locks")))


def test_selects_director_by_property_calls_or_resources(config, tmp_path):
    assert owner.director_of_this_machine(config, {}) == owner.director_of_this_machine(config, BOTH) == ""
    assert owner.director_of_this_machine(config, {"digest": "x"}) == "digest"
    (tmp_path / "locks").mkdir()
    director_registry.remember(str(tmp_path / "locks"), OTHER)
    assert owner.director_of_this_machine(config, BOTH) == naming.director_digest(OTHER)
    assert owner.director_of_this_machine(config._replace(director_uuid=UUID), BOTH) == naming.director_digest(UUID)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"vm": null}', '{"vm": {"name": "vm-1"}}', '{"vm": {"name": 5}}']
)
def test_excludes_the_owner_of_this_vm(config, tmp_path, text):
    agent_settings = {"vm": {"name": f"vm-{naming.new_id(Clock(), OTHER)}"}}
    (tmp_path / "settings.json").write_text(json.dumps(agent_settings), encoding="utf-8")
    assert owner.director_of_this_machine(config, BOTH) == naming.director_digest(UUID)
    other = naming.director_digest(OTHER)
    assert owner.director_of_this_machine(config, {other: OTHER}) == other, "no other candidate"
    (tmp_path / "settings.json").write_text(text, encoding="utf-8")
    assert owner.director_of_this_machine(config, BOTH) == ""
