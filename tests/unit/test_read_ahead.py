from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bosh_lxd_cpi.stemcell.read_ahead import MAX_CHUNKS, read_ahead


@pytest.fixture(autouse=True)
def _no_thread_remains() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.mark.parametrize("number", [0, 1, MAX_CHUNKS, 5000])
def test_yields_all_chunks_in_order(number):
    with read_ahead(b"%d" % n for n in range(number)) as chunks:
        assert list(chunks) == [b"%d" % n for n in range(number)]


def test_reads_in_another_thread():
    def produce() -> Iterator[bytes]:
        yield threading.current_thread().name.encode()

    with read_ahead(produce()) as chunks:
        assert next(chunks) != threading.current_thread().name.encode()


def test_signals_go_to_the_main_thread():
    def produce() -> Iterator[bytes]:
        yield str(signal.pthread_sigmask(signal.SIG_BLOCK, ())).encode()

    with read_ahead(produce()) as chunks:
        blocked = next(chunks)
    assert all(name in blocked for name in (b"SIGTERM", b"SIGINT", b"SIGHUP"))


def test_reads_a_limited_number_of_chunks_ahead():
    produced = []

    def produce() -> Iterator[bytes]:
        while True:
            produced.append(1)
            yield b"x"

    with read_ahead(produce()) as chunks:
        for _ in range(3):
            next(chunks)
    assert len(produced) <= 3 + MAX_CHUNKS


def test_raises_errors_of_the_producer_after_its_chunks():
    def produce() -> Iterator[bytes]:
        yield b"x"
        raise EOFError("damaged")

    with read_ahead(produce()) as chunks:
        assert next(chunks) == b"x"
        with pytest.raises(EOFError, match="damaged"):
            next(chunks)


def test_error_of_the_consumer_stops_the_producer():
    def produce() -> Iterator[bytes]:
        while True:
            yield b"x"

    with pytest.raises(BrokenPipeError), read_ahead(produce()) as chunks:
        next(chunks)
        raise BrokenPipeError


@pytest.mark.parametrize("waits_for", ["the consumer", "the producer"])
def test_signal_stops_both_threads(tmp_path, waits_for):
    """The process ends although one thread waits for the other, or for a file."""
    program = """
import sys, threading
from bosh_lxd_cpi.errors import Interrupted
from bosh_lxd_cpi.runtime import signals
from bosh_lxd_cpi.stemcell.read_ahead import read_ahead

consumed = threading.Event()

def produce():
    for number in range(100):
        if number == 5:
            consumed.wait()
            print("ready", flush=True)
            if sys.argv[1] == "the producer":
                sys.stdin.read(1)
        yield b"x"

with signals.interruptible():
    try:
        with read_ahead(produce()) as chunks:
            for _ in range(5):
                next(chunks)
            consumed.set()
            if sys.argv[1] == "the producer":
                next(chunks)
            while True:
                pass
    except Interrupted:
        print(threading.active_count(), flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program, waits_for],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2] / "src",
    )
    assert process.stdout and process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGTERM)
    assert process.communicate("x", timeout=60)[0] == "1\n"
    assert process.returncode == 0
