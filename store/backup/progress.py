"""How far long work is, told to whoever waits for it; and work of which one runs at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TypeAlias

Progress: TypeAlias = Callable[[int, int], None]
"""Told (done, of how many); an exception that it raises stops the work, which then leaves nothing behind."""

_LOOK_S = 0.2


class Tally:
    """Counts what is done of `total`, bytes or steps, and tells of it."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0
        self.add(0)

    def add(self, done: int) -> None:
        self._done += done
        if self._progress is not None:
            # What is to be done is looked at before: writes that came since may have added to it.
            self._progress(self._done, max(self._done, self._total))


@contextmanager
def one_at_a_time(lock: Lock, progress: Progress | None) -> Iterator[None]:
    """Hold a lock that may be held for long; who waits is told (0, 0) and may give up."""
    while not lock.acquire(timeout=_LOOK_S):
        if progress is not None:
            progress(0, 0)
    try:
        yield
    finally:
        lock.release()
