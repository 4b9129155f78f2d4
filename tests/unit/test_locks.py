from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.runtime.locks import creating, is_being_created
from bosh_lxd_cpi.runtime.log import Log

HOLD = (
    "import sys, time; from bosh_lxd_cpi.runtime.log import Log; from bosh_lxd_cpi.runtime.locks import creating\n"
    "with creating(sys.argv[1], 'vm-1', Log('test'), sleep=time.sleep): print('inside', flush=True); time.sleep(60)"
)


@pytest.fixture
def log() -> Log:
    return Log("test", level="debug", stream=io.StringIO())


@pytest.fixture
def holder(tmp_path):
    """Another process that is making vm-1."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "inside\n"
    yield process
    process.kill()
    process.communicate()


def test_what_another_process_makes_is_being_created_and_nothing_else_is(tmp_path, holder):
    assert is_being_created(str(tmp_path), "vm-1")
    assert is_being_created(str(tmp_path), "vm-1"), "looking takes nothing away"
    assert not is_being_created(str(tmp_path), "vm-2")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_makes_nothing_any_more(tmp_path, holder, number):
    holder.send_signal(number)
    holder.wait()
    assert (tmp_path / "creating-vm-1").exists(), "only the lock is gone"
    assert not is_being_created(str(tmp_path), "vm-1")


def test_the_lock_ends_with_the_creation_and_leaves_no_file(tmp_path, log):
    directory = tmp_path / "made" / "on the way"
    with creating(str(directory), "vm-1", log, sleep=time.sleep):
        assert is_being_created(str(directory), "vm-1")
    assert not is_being_created(str(directory), "vm-1")
    assert list(directory.iterdir()) == []


def test_a_failed_creation_is_over(tmp_path, log):
    with pytest.raises(ZeroDivisionError), creating(str(tmp_path), "vm-1", log, sleep=time.sleep):
        raise ZeroDivisionError
    assert not is_being_created(str(tmp_path), "vm-1")
    assert list(tmp_path.iterdir()) == []


def test_the_file_of_a_dead_creation_is_taken_over(tmp_path, log):
    (tmp_path / "creating-vm-1").touch()
    with creating(str(tmp_path), "vm-1", log, sleep=time.sleep):
        assert is_being_created(str(tmp_path), "vm-1")


def test_who_comes_second_waits_as_long_as_he_likes(tmp_path, log, holder):
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise errors.DeadlineExceeded("too long")

    with pytest.raises(errors.DeadlineExceeded), creating(str(tmp_path), "vm-1", log, sleep=sleep):
        pass
    assert log._stream.getvalue().count("waiting for another call to be done with vm-1") == 1
    with creating(str(tmp_path), "vm-1", log, sleep=lambda _: holder.kill()):
        assert is_being_created(str(tmp_path), "vm-1")


def test_of_many_only_one_is_ever_inside(tmp_path, log, real_time):
    inside, most, turns = [], [], 40

    def enter(number: int) -> None:
        with creating(str(tmp_path), "vm-1", log, sleep=lambda _: time.sleep(0.001)):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.001)
            inside.remove(number)

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(turns)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * turns


def test_a_directory_that_cannot_be_made_stops_no_creation(tmp_path, log):
    (tmp_path / "file").touch()
    inside = []
    with creating(str(tmp_path / "file"), "vm-1", log, sleep=time.sleep):
        inside.append("vm-1")
        assert not is_being_created(str(tmp_path / "file"), "vm-1")
    assert inside == ["vm-1"]


def test_where_no_creation_ever_was_nothing_is_being_created(tmp_path):
    assert not is_being_created(str(tmp_path / "missing"), "vm-1")


def test_a_lock_that_cannot_be_looked_at_is_not_taken_for_a_free_one(tmp_path, log):
    os.symlink("/dev/null", tmp_path / "creating-vm-1")
    with pytest.raises(OSError):
        is_being_created(str(tmp_path), "vm-1")
    with creating(str(tmp_path), "vm-1", log, sleep=time.sleep):
        assert (tmp_path / "creating-vm-1").is_symlink(), "nothing is written through another user's link"
