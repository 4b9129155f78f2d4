"""Users of one machine who share /tmp: their locks, and files and directories of other users."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.director import CallError, Director
from tests.host.fault_environment import FaultEnvironment

NOBODY = 65534
OTHER_USER = 65533


class UserDirector(Director):
    """A director that runs the CPI as a user, with a TMPDIR that all users can write to."""

    def __init__(self, env: FaultEnvironment, directory: Path, *, uid: int, temporary: Path) -> None:
        config = {**env.director.config, "throttle_config": {"enabled": True, "wait": "2s"}}
        # The capability lets the user read this checkout and its Python, which can be below /root.
        capability = [f"--{kind}-caps=+dac_read_search" for kind in ("inh", "ambient")]
        identity = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *capability]
        super().__init__(config, directory, prefix=identity)
        self.uid, self.locks = uid, temporary / f"lxd_cpi-{uid}"
        os.chown(directory, uid, uid)

    def command(self) -> list[str]:
        command = super().command()
        os.chown(command[-1], self.uid, self.uid)
        return command

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "TMPDIR": str(self.locks.parent)}


@pytest.fixture
def users(env: FaultEnvironment) -> Iterator[dict[int, UserDirector]]:
    """The directors of root and of another user, by user ID."""
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    directory.chmod(0o1777)
    directors = {}
    for uid in (0, NOBODY):
        own = directory / f"director-{uid}"
        own.mkdir()
        directors[uid] = UserDirector(env, own, uid=uid, temporary=directory)
    yield directors
    shutil.rmtree(directory)


def test_each_user_has_a_lock_directory(users):
    for uid, director in users.items():
        director.call("delete_disk", director.call("create_disk", 16, {}, None))
        status = director.locks.stat()
        assert (status.st_uid, status.st_mode & 0o7777) == (uid, 0o700)
        assert "without the lock" not in director.last.stderr


def test_locks_of_another_users_directory_are_refused(env, users):
    director = users[NOBODY]
    director.locks.mkdir()
    director.locks.chmod(0o777)
    os.chown(director.locks, OTHER_USER, OTHER_USER)
    with pytest.raises(CallError, match=r"it belongs to another user.*Set throttle_config"):
        director.call("create_disk", 16, {}, None)
    director.config["throttle_config"] = {}
    disk = director.call("create_disk", 16, {}, None)
    with pytest.raises(CallError, match=r"cannot be used: it belongs to another user\. Set throttle_config"):
        director.call("attach_disk", env.shared_vm, disk)
    director.call("set_disk_metadata", disk, {"deployment": "d"})
    assert "continuing without the lock" in director.last.stderr
    director.call("delete_disk", disk)


@pytest.mark.parametrize("name", ["slot-00", "ticket-00000000000000000001-1", "creating-attachment-of-DISK"])
def test_a_fifo_in_the_lock_directory_blocks_no_call(env, users, name):
    director = users[NOBODY]
    disk = director.call("create_disk", 16, {}, None)
    path = director.locks / name.replace("DISK", disk)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    os.chown(path, NOBODY, NOBODY)
    try:
        director.call("attach_disk", env.shared_vm, disk)
        director.call("detach_disk", env.shared_vm, disk)
        assert name.startswith("ticket")
    except CallError as error:
        assert "it is not a regular file" in error.message and not name.startswith("ticket")
    path.unlink()
    director.call("delete_disk", disk)
