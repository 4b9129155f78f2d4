"""Read in one thread what another thread sends. zlib, hashlib and ssl release the GIL, so two cores are busy."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterable, Iterator
from queue import SimpleQueue

from bosh_lxd_cpi.runtime.signals import SIGNALS

MAX_CHUNKS = 8
"""Chunks in memory that were read and not sent yet."""


@contextlib.contextmanager
def read_ahead(chunks: Iterable[bytes]) -> Iterator[Iterator[bytes]]:
    """Iterate over `chunks` in another thread, and provide an iterator of the same chunks for this thread.

    An error of the iterable is raised here. The thread has ended when this context ends, also by an error or a signal.
    SimpleQueue has no lock that a signal handler could leave locked when it raises Interrupted.
    """
    permits: SimpleQueue[bool] = SimpleQueue()
    results: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
    for _ in range(MAX_CHUNKS):
        permits.put(True)
    thread = threading.Thread(target=_produce, args=(chunks, permits, results), daemon=True)
    try:
        thread.start()
        yield _consume(permits, results)
    finally:
        permits.put(False)
        if thread.is_alive():  # a signal can interrupt start
            thread.join()


def _produce(
    chunks: Iterable[bytes], permits: SimpleQueue[bool], results: SimpleQueue[bytes | BaseException | None]
) -> None:
    """Put one chunk for each permit, then None or the error that ended the iteration."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGALRM, *SIGNALS))  # the main thread has to wake up
    end: BaseException | None = None
    try:
        for chunk in chunks:
            if not permits.get():
                return
            results.put(chunk)
    except BaseException as failure:  # noqa: BLE001  the consumer raises it
        end = failure
    results.put(end)


def _consume(permits: SimpleQueue[bool], results: SimpleQueue[bytes | BaseException | None]) -> Iterator[bytes]:
    while (result := results.get()) is not None:
        if isinstance(result, BaseException):
            raise result
        yield result
        permits.put(True)
