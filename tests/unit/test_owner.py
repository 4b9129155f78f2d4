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


def test_who_made_calls_here_is_known_once(tmp_path):
    for uuid in (UUID, "other", UUID):
        director_registry.remember(str(tmp_path), uuid)
    assert director_registry.known(str(tmp_path)) == [UUID, "other"]


def test_locks_and_slots_are_no_directors(tmp_path):
    (tmp_path / "slot-1").touch()
    (tmp_path / f"creating-vm-{UUID}").touch()
    assert director_registry.known(str(tmp_path)) == []


@pytest.mark.parametrize("uuid", ["", "../../etc/passwd", "a/b", ".", "a\n", "ü", "x" * 65, "a\0b"])
def test_what_no_uuid_can_be_names_no_file(tmp_path, uuid):
    inside = tmp_path / "locks"
    inside.mkdir()
    director_registry.remember(str(inside), uuid)
    assert list(inside.iterdir()) == [] and list(tmp_path.iterdir()) == [inside]


def test_a_directory_that_cannot_be_used_stops_nothing(tmp_path):
    (tmp_path / "file").touch()
    director_registry.remember(str(tmp_path / "file"), UUID)
    assert director_registry.known(str(tmp_path / "file")) == director_registry.known(str(tmp_path / "missing")) == []


def test_nothing_is_written_through_another_users_link(tmp_path):
    (tmp_path / f"director-{UUID}").symlink_to(tmp_path / "elsewhere")
    director_registry.remember(str(tmp_path), UUID)
    assert not (tmp_path / "elsewhere").exists()


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
def test_a_director_is_named_by_uuid_or_digest_or_the_beginning_that_a_list_shows(name, uuid):
    assert owner.named(name, BOTH) == naming.director_digest(uuid)


def test_a_beginning_of_several_is_none():
    with pytest.raises(errors.ConfigError, match="may be 7d0f3a52-1 or 7d0f3a52-2"):
        owner.named("7d0f3a52", {"a": "7d0f3a52-1", "b": "7d0f3a52-2"})
    assert owner.named("7d0f3a5", BOTH) == naming.director_digest("7d0f3a5"), "too short to mean anybody"


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setattr(owner, "AGENT_SETTINGS", (str(tmp_path / "none"), str(tmp_path / "settings.json")))
    return Config(throttle_config=ThrottleConfig(path=str(tmp_path / "locks")))


def test_this_machine_works_for_whom_its_property_or_its_calls_say_or_for_the_only_one(settings, tmp_path):
    assert owner.this_machines(settings, {}) == owner.this_machines(settings, BOTH) == ""
    assert owner.this_machines(settings, {"digest": "x"}) == "digest"
    (tmp_path / "locks").mkdir()
    director_registry.remember(str(tmp_path / "locks"), OTHER)
    assert owner.this_machines(settings, BOTH) == naming.director_digest(OTHER)
    assert owner.this_machines(settings._replace(director_uuid=UUID), BOTH) == naming.director_digest(UUID)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"vm": null}', '{"vm": {"name": "vm-1"}}', '{"vm": {"name": 5}}']
)
def test_a_directors_vm_does_not_work_for_create_env_that_made_it(settings, tmp_path, text):
    made = {"vm": {"name": f"vm-{naming.new_id(Clock(), OTHER)}"}}
    (tmp_path / "settings.json").write_text(json.dumps(made), encoding="utf-8")
    assert owner.this_machines(settings, BOTH) == naming.director_digest(UUID)
    assert owner.this_machines(settings, {naming.director_digest(OTHER): OTHER}) == naming.director_digest(OTHER), (
        "nobody else is there"
    )
    (tmp_path / "settings.json").write_text(text, encoding="utf-8")
    assert owner.this_machines(settings, BOTH) == ""
