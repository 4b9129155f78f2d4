from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bosh_lxd_cpi.runtime import lock_files
from bosh_lxd_cpi.runtime.lock_files import FREE, HELD, MISSING

OTHER = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that all users can write to, as /tmp."""
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    path.chmod(0o1777)
    yield path
    shutil.rmtree(path)


def use(directory: Path) -> list[str]:
    """Lock a file in the directory and list its files, as a call does. Raises OSError."""
    lock_files.make_directory(str(directory))
    descriptor = lock_files.lock(str(directory / "lock-1"))
    assert descriptor is not None
    os.close(descriptor)
    return lock_files.names(str(directory), "lock-")


def test_state_of_a_lock(tmp_path):
    path = str(tmp_path / "lock-1")
    assert lock_files.state(path) == MISSING
    descriptor = lock_files.lock(path)
    assert lock_files.state(path, remove_if_free=True) == HELD
    os.close(descriptor)
    assert lock_files.state(path) == FREE
    assert lock_files.state(path, remove_if_free=True) == FREE
    assert lock_files.state(path) == MISSING


def test_names_are_sorted_and_start_with_the_prefix(tmp_path):
    for name in ("lock-2", "lock-1", "slot-1"):
        (tmp_path / name).touch()
    assert lock_files.names(str(tmp_path), "lock-") == ["lock-1", "lock-2"]


@pytest.mark.parametrize(
    "plant",
    [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/etc/passwd")],
    ids=["fifo", "directory", "symbolic link"],
)
def test_uses_regular_files_only(tmp_path, plant):
    path = tmp_path / "lock-1"
    plant(path)
    for access in (lock_files.lock, lock_files.state, lock_files.create, lock_files.read):
        with pytest.raises(OSError, match=r"regular file|symbolic|Is a directory"):
            access(str(path))
    assert lock_files.names(str(tmp_path), "lock-") == []


@as_root
def test_uses_no_file_of_another_user(tmp_path):
    path = tmp_path / "lock-1"
    path.touch()
    path.chmod(0o666)
    os.chown(path, OTHER, OTHER)
    for access in (lock_files.lock, lock_files.state):
        with pytest.raises(OSError, match="it belongs to another user"):
            access(str(path))
    assert lock_files.names(str(tmp_path), "lock-") == []


@as_root
def test_group_of_the_directory_shares_files(tmp_path):
    directory = tmp_path / "locks"
    directory.mkdir()
    directory.chmod(0o2770)
    os.chown(directory, 0, OTHER)
    (directory / "lock-1").touch()
    os.chown(directory / "lock-1", OTHER, OTHER)
    assert use(directory) == ["lock-1"]


def test_rejects_a_file_removed_between_open_and_lock(tmp_path, monkeypatch):
    openers = iter([lambda path: (real(path), Path(path).unlink())[0]])  # no other way to hit the instant between
    real = lock_files.create
    monkeypatch.setattr(lock_files, "create", lambda path: next(openers, real)(path))  # noqa: PLW0108  next() per call
    assert lock_files.lock(str(tmp_path / "lock-1")) is None
    descriptor = lock_files.lock(str(tmp_path / "lock-1"))
    assert descriptor is not None
    assert os.fstat(descriptor).st_ino == (tmp_path / "lock-1").stat().st_ino
    os.close(descriptor)


def test_default_directory_of_a_private_parent(tmp_path):
    assert lock_files.default_directory(str(tmp_path)) == f"{tmp_path}/lxd_cpi"
    assert lock_files.default_directory(str(tmp_path / "missing")) == f"{tmp_path}/missing/lxd_cpi"


def test_default_directory_of_a_public_parent_has_the_user_id(public):
    assert lock_files.default_directory(str(public)) == f"{public}/lxd_cpi-{os.geteuid()}"


def test_directory_in_a_public_parent_is_private(public):
    assert use(public / "locks") == ["lock-1"]
    assert (public / "locks").stat().st_mode & 0o7777 == 0o700


@as_root
def test_rejects_the_directory_of_another_user(public, tmp_path):
    for parent in (public, tmp_path):
        (parent / "locks").mkdir()
        os.chown(parent / "locks", OTHER, OTHER)
        with pytest.raises(OSError, match="it belongs to another user"):
            use(parent / "locks")


@as_root
@pytest.mark.parametrize("owner, group, mode", [(OTHER, OTHER, 0o700), (0, OTHER, 0o770)], ids=["owner", "group"])
def test_accepts_the_directory_of_those_who_own_its_parent(tmp_path, owner, group, mode):
    """The directories of a BOSH job belong to root and the group vcap, its TMPDIR to vcap."""
    parent = tmp_path / "job"
    parent.mkdir()
    parent.chmod(mode)
    os.chown(parent, owner, group)
    (parent / "locks").mkdir(mode=0o700)
    os.chown(parent / "locks", OTHER, OTHER)
    assert use(parent / "locks") == ["lock-1"]


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o707])
def test_rejects_a_directory_that_all_users_can_write_to(tmp_path, mode):
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks").chmod(mode)
    with pytest.raises(OSError, match="every user can write to it"):
        use(tmp_path / "locks")


@as_root
def test_rejects_a_group_that_the_parent_does_not_have(tmp_path):
    parent = tmp_path / "tmp"
    parent.mkdir()
    parent.chmod(0o1777)
    (parent / "locks").mkdir()
    (parent / "locks").chmod(0o770)
    os.chown(parent, OTHER, 0)
    os.chown(parent / "locks", OTHER, OTHER)
    with pytest.raises(OSError, match="its group can write to it"):
        use(parent / "locks")


def test_rejects_a_symbolic_link_to_a_directory(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "locks").symlink_to("real")
    for access in (use, lambda path: lock_files.state(str(path / "lock-1"))):
        with pytest.raises(OSError, match="it is a symbolic link"):
            access(tmp_path / "locks")


def test_touch_sets_the_time_of_a_file(tmp_path):
    path = str(tmp_path / "failed-1")
    with pytest.raises(FileNotFoundError):
        lock_files.modified(path)
    lock_files.touch(path)
    os.utime(path, (5, 5))
    assert lock_files.modified(path) == 5
    lock_files.touch(path)
    assert lock_files.modified(path) > 5
