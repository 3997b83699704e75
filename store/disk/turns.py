"""Turns at LMDB, for calls of many short reads or writes: one thread at a time, unless it waits for the disk.

LMDB lets go of the interpreter's lock for each value that is looked up, some thirty times in a recall. Where other
threads wait for that lock, each time wakes one of them for nothing: the value is there before it has woken. Sixteen
callers of a recall got less done together than one alone (bench/turns.py). Those who take turns wait for each other
instead, once or twice in a call.
"""

import threading
import time
from contextlib import AbstractContextManager, nullcontext

from .locks import Bracket

PATIENCE_S = 0.005
"""The reads of a call take a tenth of this, unless they wait for the disk; then others need not wait too."""


_WITHIN = nullcontext()
"""Of a turn within a turn, and of going aside without one."""


class Turns:
    """Who comes to a turn that lasts longer than `PATIENCE_S`, or waits for it until then, goes ahead beside it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began = 0.0
        self._own = threading.local()
        self._turn, self._aside = Bracket(self._take, self._give), Bracket(self._give, self._take)

    def turn(self) -> AbstractContextManager[None]:
        """Read in here; within a turn of this thread it is a part of that. Wait for no lock that readers hold."""
        return _WITHIN if self._has_it() else self._turn

    def aside(self) -> AbstractContextManager[None]:
        """Let others have the turn meanwhile, if this thread has it: for work that needs no interpreter."""
        return self._aside if self._has_it() else _WITHIN

    def _has_it(self) -> bool:
        return getattr(self._own, "has_it", False)

    def _take(self) -> None:
        if not self._lock.acquire(blocking=False):
            while not self._lock.acquire(timeout=max(0.0, self._patience())):
                if self._patience() <= 0:
                    return
        self._began = time.monotonic()
        self._own.has_it = True

    def _patience(self) -> float:
        """Seconds that the turn under way is worth waiting for."""
        return self._began + PATIENCE_S - time.monotonic()

    def _give(self) -> None:
        if self._has_it():
            self._own.has_it = False
            self._lock.release()


READS = Turns()
"""Of the whole process, because the interpreter's lock is one too."""
