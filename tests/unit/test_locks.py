from __future__ import annotations

import math
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.runtime.locks import abandoned, exclusive, is_abandoned, is_held, remove_abandoned

HOLD = """
import sys, time
from bosh_lxd_cpi.runtime.log import Log
from bosh_lxd_cpi.runtime.locks import exclusive
with exclusive(sys.argv[1], "vm-1", log=Log("test"), sleep=time.sleep):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock vm-1."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_sees_the_lock_of_another_process(tmp_path, holder):
    assert is_held(str(tmp_path), "vm-1")
    assert is_held(str(tmp_path), "vm-1"), "looking does not release it"
    assert not is_held(str(tmp_path), "vm-2")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_releases_the_lock_of_a_killed_process(tmp_path, holder, number):
    holder.send_signal(number)
    holder.wait()
    assert not is_held(str(tmp_path), "vm-1")
    assert is_abandoned(str(tmp_path), "vm-1")
    assert abandoned(str(tmp_path)) == {"vm-1"}


def test_a_lock_that_is_held_or_released_is_not_abandoned(tmp_path, log, holder):
    with exclusive(str(tmp_path), "vm-2", log=log, sleep=time.sleep):
        pass
    assert not is_abandoned(str(tmp_path), "vm-1")
    assert not is_abandoned(str(tmp_path), "vm-2")
    assert abandoned(str(tmp_path)) == set()
    assert abandoned(str(tmp_path / "missing")) == set()


def test_removes_old_abandoned_locks_only(tmp_path, holder):
    path = tmp_path / "creating-vm-2"
    path.touch()
    os.utime(path, (1000, 1000))
    remove_abandoned(str(tmp_path), "vm-2", created_before=1000)
    assert path.exists()
    remove_abandoned(str(tmp_path), "vm-2", created_before=1001)
    assert not path.exists()
    for name in ("vm-1", "vm-2", "vm-3"):
        remove_abandoned(str(tmp_path), name, created_before=math.inf)
    assert is_held(str(tmp_path), "vm-1")
    assert [path.name for path in tmp_path.iterdir()] == ["creating-vm-1"]


def test_creates_the_directory_and_removes_the_file(tmp_path, log):
    directory = tmp_path / "a" / "b"
    with exclusive(str(directory), "vm-1", log=log, sleep=time.sleep):
        assert is_held(str(directory), "vm-1")
    assert not is_held(str(directory), "vm-1")
    assert list(directory.iterdir()) == []


def test_releases_the_lock_after_an_exception(tmp_path, log):
    with pytest.raises(ZeroDivisionError), exclusive(str(tmp_path), "vm-1", log=log, sleep=time.sleep):
        raise ZeroDivisionError
    assert not is_held(str(tmp_path), "vm-1")
    assert list(tmp_path.iterdir()) == []


def test_takes_the_file_of_a_dead_process(tmp_path, log):
    (tmp_path / "creating-vm-1").touch()
    with exclusive(str(tmp_path), "vm-1", log=log, sleep=time.sleep):
        assert is_held(str(tmp_path), "vm-1")


def test_waits_until_sleep_raises(tmp_path, log, holder):
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise errors.DeadlineExceeded("too long")

    with pytest.raises(errors.DeadlineExceeded), exclusive(str(tmp_path), "vm-1", log=log, sleep=sleep):
        pass
    assert log.stream.getvalue().count("waiting for the call that holds the lock vm-1") == 1


def test_continues_when_the_holder_dies(tmp_path, log, holder):
    with exclusive(str(tmp_path), "vm-1", log=log, sleep=lambda _: holder.kill()):
        assert is_held(str(tmp_path), "vm-1")


def test_one_thread_at_a_time_holds_the_lock(tmp_path, log, real_time):
    inside, counts, turns = [], [], 40

    def enter(number: int) -> None:
        with exclusive(str(tmp_path), "vm-1", log=log, sleep=lambda _: time.sleep(0.001)):
            inside.append(number)
            counts.append(len(inside))
            time.sleep(0.001)
            inside.remove(number)

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(turns)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [1] * turns


def test_warns_when_the_lock_file_cannot_be_used(tmp_path, log):
    (tmp_path / "file").touch()
    entered = []
    with exclusive(str(tmp_path / "file"), "vm-1", log=log, sleep=time.sleep):
        entered.append("vm-1")
        assert not is_held(str(tmp_path / "file"), "vm-1")
    assert entered == ["vm-1"]
    assert f"warn  test: continuing without the lock {tmp_path}/file/creating-vm-1" in log.stream.getvalue()


def test_raises_when_a_required_lock_cannot_be_used(tmp_path, log):
    (tmp_path / "file").touch()
    lock = exclusive(str(tmp_path / "file"), "vm-1", log=log, sleep=time.sleep, required=True)
    with pytest.raises(errors.LockUnavailable, match="creating-vm-1 cannot be used") as raised, lock:
        pass
    assert raised.value.code == "no_lock_directory"


def test_a_missing_directory_holds_no_lock(tmp_path):
    assert not is_held(str(tmp_path / "missing"), "vm-1")


def test_follows_no_symbolic_link(tmp_path, log):
    pathlib.Path(tmp_path / "creating-vm-1").symlink_to("/dev/null")
    with pytest.raises(OSError, match="symbolic"):
        is_held(str(tmp_path), "vm-1")
    with exclusive(str(tmp_path), "vm-1", log=log, sleep=time.sleep):
        assert (tmp_path / "creating-vm-1").is_symlink()
