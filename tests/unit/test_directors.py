from __future__ import annotations

import pytest

from bosh_lxd_cpi import directors

UUID = "7d0f3a52-5f1e-4c60-9c1e-2f4f6a1b0c3d"


def test_who_made_calls_here_is_known_once(tmp_path):
    for uuid in (UUID, "other", UUID):
        directors.remember(str(tmp_path), uuid)
    assert directors.known(str(tmp_path)) == [UUID, "other"]


def test_locks_and_slots_are_no_directors(tmp_path):
    (tmp_path / "slot-1").touch()
    (tmp_path / f"creating-vm-{UUID}").touch()
    assert directors.known(str(tmp_path)) == []


@pytest.mark.parametrize("uuid", ["", "../../etc/passwd", "a/b", ".", "a\n", "ü", "x" * 65, "a\0b"])
def test_what_no_uuid_can_be_names_no_file(tmp_path, uuid):
    inside = tmp_path / "locks"
    inside.mkdir()
    directors.remember(str(inside), uuid)
    assert list(inside.iterdir()) == [] and list(tmp_path.iterdir()) == [inside]


def test_a_directory_that_cannot_be_used_stops_nothing(tmp_path):
    (tmp_path / "file").touch()
    directors.remember(str(tmp_path / "file"), UUID)
    assert directors.known(str(tmp_path / "file")) == directors.known(str(tmp_path / "missing")) == []


def test_nothing_is_written_through_another_users_link(tmp_path):
    (tmp_path / f"director-{UUID}").symlink_to(tmp_path / "elsewhere")
    directors.remember(str(tmp_path), UUID)
    assert not (tmp_path / "elsewhere").exists()
