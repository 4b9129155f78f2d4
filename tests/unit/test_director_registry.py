from __future__ import annotations

import os

import pytest

from bosh_lxd_cpi.runtime import director_registry

UUID = "7d0f3a52-5f1e-4c60-9c1e-2f4f6a1b0c3d"


def test_returns_each_director_once(tmp_path):
    for uuid in (UUID, "other", UUID):
        director_registry.remember(str(tmp_path), uuid)
    assert director_registry.directors(str(tmp_path)) == [UUID, "other"]


def test_ignores_locks_and_slots(tmp_path):
    (tmp_path / "slot-1").touch()
    (tmp_path / f"creating-vm-{UUID}").touch()
    assert director_registry.directors(str(tmp_path)) == []


@pytest.mark.parametrize("uuid", ["", "../../etc/passwd", "a/b", ".", "a\n", "ü", "x" * 65, "a\0b"])
def test_does_not_record_invalid_uuid(tmp_path, uuid):
    directory = tmp_path / "locks"
    directory.mkdir()
    director_registry.remember(str(directory), uuid)
    assert list(directory.iterdir()) == []
    assert list(tmp_path.iterdir()) == [directory]


def test_unusable_directory_is_not_an_error(tmp_path):
    (tmp_path / "file").touch()
    director_registry.remember(str(tmp_path / "file"), UUID)
    assert director_registry.directors(str(tmp_path / "file")) == []
    assert director_registry.directors(str(tmp_path / "missing")) == []


def test_does_not_follow_symbolic_links(tmp_path):
    (tmp_path / f"director-{UUID}").symlink_to(tmp_path / "target")
    director_registry.remember(str(tmp_path), UUID)
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_ignores_directory_that_all_users_can_write_to(tmp_path, mode):
    director_registry.remember(str(tmp_path), UUID)
    tmp_path.chmod(mode)
    assert director_registry.directors(str(tmp_path)) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_ignores_file_of_another_user(tmp_path):
    director_registry.remember(str(tmp_path), UUID)
    director_registry.remember(str(tmp_path), "planted")
    os.chown(tmp_path / "director-planted", 65534, 65534)
    assert director_registry.directors(str(tmp_path)) == [UUID]
