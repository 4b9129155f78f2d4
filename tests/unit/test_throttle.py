from __future__ import annotations

import contextlib
import fcntl
import itertools
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.runtime import throttle

PROCESSES = multiprocessing.get_context("fork")
NOBODY = 65534
pytestmark = pytest.mark.usefixtures("real_time")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def settings(path: Path, *, limit: int = 1, hold: float = 0, wait: float = 20) -> throttle.Settings:
    return throttle.Settings(True, str(path), limit, hold, wait)


def call(config: throttle.Settings, label: str = "create_vm cpi-1", **others) -> contextlib.AbstractContextManager:
    return throttle.slot(config, **{"label": label, "log": lambda text: None, "sleep": nap, **others})


def nap(seconds: float) -> None:
    """A tenth of the sleep, so that the tests poll fast."""
    time.sleep(seconds / 10)


def until(happened: Callable[[], object]) -> None:
    patience = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < patience, "it never happened"
        time.sleep(0.005)


def labels(path: Path) -> list[str]:
    return [holder.label for holder in throttle.holders(str(path))]


class Events:
    """Lines in the order in which processes wrote them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def add(self, text: str) -> None:
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        os.write(fd, (text + "\n").encode())
        os.close(fd)

    def all(self) -> list[str]:
        return self.path.read_text(encoding="utf-8").splitlines()

    def wait_for(self, *texts: str) -> None:
        until(lambda: set(texts) <= set(self.all()))


@pytest.fixture
def events(tmp_path: Path) -> Events:
    return Events(tmp_path / "events")


@pytest.fixture
def start() -> Iterator[Callable[..., multiprocessing.process.BaseProcess]]:
    """Starts a function in a process of its own; what is left of them at the end is killed."""
    started = []

    def start(function: Callable[..., None], *arguments: object) -> multiprocessing.process.BaseProcess:
        started.append(PROCESSES.Process(target=function, args=arguments))
        started[-1].start()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.join()


def work(config: throttle.Settings, events: Events, name: str, seconds: float) -> None:
    """One call; says when it comes, when it begins to wait (its ticket is drawn by then), is in, is out."""
    waiting = []

    def sleep(pause: float) -> None:
        if not waiting:
            events.add(f"waits {name}")
            waiting.append(True)
        nap(pause)

    events.add(f"comes {name}")
    with call(config, name, sleep=sleep):
        events.add(f"in {name}")
        time.sleep(seconds)
        events.add(f"out {name}")


def become(uid: int) -> None:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("2m", 120),
        ("90s", 90),
        ("1h30m", 5400),
        ("500ms", 0.5),
        ("1.5h", 5400),
        (30, 30),
        (0.25, 0.25),
        ("30", 30),
        ("0", 0),
    ],
)
def test_reads_a_duration(text: str | int | float, seconds: float) -> None:
    assert throttle.duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "2 m", "m", "2d", "-2m", -1, "1h 30m", "2m!", "nan", "inf", float("inf"), True, None, []]
)
def test_rejects_an_invalid_duration(text: object) -> None:
    with pytest.raises(ValueError, match="2m, 90s, 1h30m, 500ms or a number of seconds"):
        throttle.duration(text)  # type: ignore[arg-type]  # the wrong type is the test


def test_does_nothing_when_disabled(tmp_path: Path) -> None:
    with call(settings(tmp_path / "t")._replace(enabled=False)):
        assert not (tmp_path / "t").exists()


def visits(config: throttle.Settings, events: Events, start, *, processes: int) -> list[list[str]]:
    """Hold all slots until the processes wait, let each of them hold a slot three times, and return their events."""

    def visit(name: int) -> None:
        for turn in range(3):
            work(config, events, f"{name}.{turn}", 0.02)

    with contextlib.ExitStack() as slots:
        for number in range(config.limit):
            slots.enter_context(call(config, f"first {number}"))
        started = [start(visit, name) for name in range(processes)]
        events.wait_for(*(f"waits {name}.0" for name in range(processes)))
    for process in started:
        process.join()
        assert process.exitcode == 0
    return [line.split() for line in events.all()]


def test_at_most_four_of_forty_processes_hold_a_slot(tmp_path: Path, events: Events, start) -> None:
    lines = visits(settings(tmp_path / "t", limit=4, wait=120), events, start, processes=40)
    inside = list(itertools.accumulate({"in": 1, "out": -1}.get(event, 0) for event, _ in lines))
    assert max(inside) <= 4 and inside[-1] == 0
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == ["slot-00", "slot-01", "slot-02", "slot-03"]


def test_no_process_overtakes_a_waiting_one(tmp_path: Path, events: Events, start) -> None:
    """With one slot, the lines "in" are in the order in which the processes got it."""
    lines = visits(settings(tmp_path / "t", limit=1, wait=120), events, start, processes=12)
    place = {(event, name): position for position, (event, name) in enumerate(lines)}
    waits = {name: position for (event, name), position in place.items() if event == "waits"}
    assert len(waits) >= 12
    for name, position in waits.items():
        later = [other for event, other in lines[position:] if event == "comes"]
        assert all(place["in", other] > place["in", name] for other in later)


def test_a_free_slot_goes_to_the_oldest_ticket(tmp_path: Path) -> None:
    config = settings(tmp_path / "t")
    first = call(config, "first")
    first.__enter__()

    def a_late_comer_meets_a_free_slot(_: float) -> None:
        first.__exit__(None, None, None)
        with (
            pytest.raises(errors.ThrottleTimeout, match="holders: none"),
            call(config._replace(wait=1e-9), "late"),
        ):
            pass

    with call(config, "second", sleep=a_late_comer_meets_a_free_slot):
        assert labels(tmp_path / "t") == ["second"]


def test_a_killed_holder_releases_its_slot(tmp_path: Path, events: Events, start) -> None:
    config = settings(tmp_path / "t", limit=2)
    holders = [start(work, config, events, f"h{number}", 60) for number in range(2)]
    events.wait_for("in h0", "in h1")
    waiters = [start(work, config, events, f"w{number}", 0.01) for number in range(6)]
    events.wait_for(*(f"waits w{number}" for number in range(6)))
    assert not any(line.startswith("in w") for line in events.all())

    os.kill(holders[0].pid, signal.SIGKILL)
    for waiter in waiters:
        waiter.join()
        assert waiter.exitcode == 0
    assert labels(tmp_path / "t") == ["h1"]
    os.kill(holders[1].pid, signal.SIGKILL)
    holders[1].join()
    assert labels(tmp_path / "t") == []


def test_ignores_the_ticket_of_a_killed_process(tmp_path: Path, events: Events, start) -> None:
    config = settings(tmp_path / "t")
    with call(config):
        waiters = []
        for name in ("first", "second", "third"):
            waiters.append(start(work, config, events, name, 0))
            events.wait_for(f"waits {name}")
        for waiter in waiters[:2]:
            waiter.kill()
            waiter.join()
    waiters[2].join()
    assert waiters[2].exitcode == 0
    assert [path.name for path in (tmp_path / "t").iterdir()] == ["slot-00"]


def test_an_exception_releases_the_slot(tmp_path: Path) -> None:
    with pytest.raises(KeyError), call(settings(tmp_path / "t")):
        raise KeyError
    assert labels(tmp_path / "t") == []


def test_releases_the_slot_after_hold(tmp_path: Path) -> None:
    said: list[str] = []
    with call(settings(tmp_path / "t", hold=0.05), "slow", log=said.append), call(settings(tmp_path / "t"), "next"):
        assert labels(tmp_path / "t") == ["next"]
        until(lambda: said)
    assert said == ["released the throttle slot after 0.05 s; the call continues"]


def test_end_after_hold_releases_no_other_slot(tmp_path: Path) -> None:
    slow = call(settings(tmp_path / "t", hold=0.05), "slow")
    slow.__enter__()
    with call(settings(tmp_path / "t"), "next"):
        slow.__exit__(None, None, None)
        assert labels(tmp_path / "t") == ["next"]


def test_leaves_no_timer_after_a_short_call(tmp_path: Path) -> None:
    said: list[str] = []
    before = threading.active_count()
    with call(settings(tmp_path / "t", hold=3600), log=said.append):
        assert threading.active_count() == before + 1
    until(lambda: threading.active_count() == before)
    assert said == []


def test_timeout_names_the_holders(tmp_path: Path) -> None:
    now = [1000.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    config = settings(tmp_path / "t", limit=2, wait=600)
    with call(config, "create_vm cpi-1"), call(config, "create_stemcell cpi-2"):
        since = throttle.holders(str(tmp_path / "t"))[0].since
        with pytest.raises(errors.ThrottleTimeout) as caught, call(config, clock=lambda: now[0], sleep=sleep):
            pass
    assert "within 600 seconds" in caught.value.brief
    assert f"create_vm cpi-1 since {since}, create_stemcell cpi-2 since 20" in caught.value.brief
    assert now[0] == pytest.approx(1600)
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == ["slot-00", "slot-01"]


def test_logs_the_wait(tmp_path: Path) -> None:
    now, said = [0.0], []
    first = call(settings(tmp_path / "t"))
    first.__enter__()

    def sleep(seconds: float) -> None:
        now[0] += 7
        first.__exit__(None, None, None)

    with call(settings(tmp_path / "t"), clock=lambda: now[0], sleep=sleep, log=said.append):
        assert said == ["waited 7.0 s for a throttle slot"]


@pytest.mark.parametrize("name", ["throttle.sock", "throttle"])
def test_uses_a_directory_beside_a_socket(tmp_path: Path, name: str, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket is at most 107 bytes long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
    with call(settings(tmp_path / name)):
        assert (tmp_path / (name + ".d") / "slot-00").exists()
        assert labels(tmp_path / name) == ["create_vm cpi-1"]


def test_uses_the_same_directory_without_the_socket(tmp_path: Path) -> None:
    with call(settings(tmp_path / "lxd_cpi" / "throttle.sock")):
        assert (tmp_path / "lxd_cpi" / "throttle.sock.d" / "slot-00").exists()


def test_files_are_shared_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with call(settings(tmp_path / "a" / "t")):
            modes = [(tmp_path / path).stat().st_mode & 0o7777 for path in ("a", "a/t", "a/t/slot-00")]
    finally:
        os.umask(before)
    assert modes == [0o770, 0o770, 0o666]


def test_a_removed_slot_file_admits_one_more_call(tmp_path: Path) -> None:
    config = settings(tmp_path / "t", wait=0.01)
    with call(config, "first"):
        (tmp_path / "t" / "slot-00").unlink()
        with call(config, "second"), pytest.raises(errors.ThrottleTimeout, match="second"), call(config):
            pass


@pytest.mark.parametrize(
    "remove",
    [shutil.rmtree, lambda place: [ticket.unlink() for ticket in place.glob("ticket-*")]],
    ids=["directory", "tickets"],
)
def test_a_waiting_call_survives_a_cleaner(remove: Callable[[Path], None], tmp_path: Path) -> None:
    first = call(settings(tmp_path / "t"), "first")
    first.__enter__()

    def sleep(_: float) -> None:
        remove(tmp_path / "t")
        first.__exit__(None, None, None)

    with call(settings(tmp_path / "t"), "second", sleep=sleep):
        assert labels(tmp_path / "t") == ["second"]


def test_rejects_a_symlink_as_slot(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "precious").write_text("as it was", encoding="utf-8")
    (tmp_path / "t" / "slot-00").symlink_to(tmp_path / "precious")
    with pytest.raises(errors.ConfigError, match="slot-00") as caught, call(settings(tmp_path / "t")):
        pass
    assert caught.value.code == "no_lock_directory"
    assert (tmp_path / "precious").read_text(encoding="utf-8") == "as it was"


@pytest.mark.parametrize("name", ["slot-00", "ticket-00000000000000000001-1"])
def test_a_fifo_blocks_no_call(tmp_path: Path, name: str, start, events: Events) -> None:
    (tmp_path / "t").mkdir()
    os.mkfifo(tmp_path / "t" / name)

    def visit() -> None:
        with contextlib.suppress(errors.ConfigError):
            work(settings(tmp_path / "t"), events, "call", 0)
        assert labels(tmp_path / "t") == []

    process = start(visit)
    process.join(10)
    assert process.exitcode == 0
    assert ("in call" in events.all()) == name.startswith("ticket-")


def test_writes_to_no_hard_link(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "precious").write_text("as it was", encoding="utf-8")
    (tmp_path / "t" / "slot-00").hardlink_to(tmp_path / "precious")
    with pytest.raises(errors.ThrottleTimeout), call(settings(tmp_path / "t", wait=0.01)):
        pass
    assert (tmp_path / "precious").read_text(encoding="utf-8") == "as it was"


@pytest.mark.parametrize("path", ["file", "file/t", "/proc/lxd_cpi", "/proc/a/b/lxd_cpi"])
def test_reports_an_unusable_directory_at_once(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    waiting = call(settings(tmp_path / path), sleep=lambda _: pytest.fail("waited"))
    with pytest.raises(errors.ConfigError, match=path) as caught, waiting:
        pass
    assert caught.value.code == "no_lock_directory"


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that another user can reach; tmp_path is below one that he cannot."""
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@as_root
def test_reports_a_directory_without_permission(public: Path, start) -> None:
    def visit(path: Path) -> None:
        become(NOBODY)
        with pytest.raises(errors.ConfigError, match="Permission denied"), call(settings(path)):
            pass

    for path in (public, public / "t"):
        process = start(visit, path)
        process.join()
        assert process.exitcode == 0


@as_root
def test_root_and_another_user_share_slots(public: Path, start) -> None:
    def visit(path: Path, uid: int) -> None:
        become(uid)
        work(settings(path), events[uid], "it", 0.01)

    os.chown(public, NOBODY, NOBODY)
    for path, first, second in ((public / "a", 0, NOBODY), (public / "b", NOBODY, 0)):
        events = {uid: Events(public / f"events-{uid}-{path.name}") for uid in (0, NOBODY)}
        os.chown(events[NOBODY].path, NOBODY, NOBODY)
        process = start(visit, path, first)
        process.join()
        assert process.exitcode == 0
        with call(settings(path), "root's"):
            process = start(visit, path, second)
            events[second].wait_for("waits it")
        process.join()
        assert process.exitcode == 0
        assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY, NOBODY)


def test_lists_the_current_holders(tmp_path: Path) -> None:
    config = settings(tmp_path / "t", limit=12)
    assert throttle.holders(config.path) == []
    with contextlib.ExitStack() as stack:
        for number in range(11):
            stack.enter_context(call(config, f"create_vm cpi-{number}"))
        found = throttle.holders(config.path)
    assert [holder.slot for holder in found] == [f"slot-{number:02}" for number in range(11)]
    assert [holder.label for holder in found] == [f"create_vm cpi-{number}" for number in range(11)]
    assert {holder.pid for holder in found} == {str(os.getpid())}
    assert all(time.strptime(holder.since, "%Y-%m-%dT%H:%M:%SZ") for holder in found)
    assert throttle.holders(config.path) == []


def test_ignores_the_line_of_a_dead_holder(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "slot-00").write_text("1\t2020-01-01T00:00:00Z\tpid 1 lives\n", encoding="utf-8")
    assert labels(tmp_path / "t") == []
    with call(settings(tmp_path / "t"), "new"):
        assert labels(tmp_path / "t") == ["new"]


def test_a_reader_delays_a_call_by_one_attempt(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    looks = []
    with Path(tmp_path / "t" / "slot-00").open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert throttle.holders(str(tmp_path / "t")) == []

        def sleep(seconds: float) -> None:
            looks.append(seconds)
            file.close()

        with call(settings(tmp_path / "t"), sleep=sleep):
            assert looks == [throttle.POLL_SECONDS]
