"""Turns at LMDB, for calls of many short reads or writes: one thread at a time, unless it waits for the disk.

LMDB lets go of the interpreter's lock for each value that is looked up, some thirty times in a recall. Where other
threads wait for that lock, each time wakes one of them for nothing: the value is there before it has woken. Sixteen
callers of a recall got less done together than one alone (bench/turns.py). Those who take turns wait for each other
instead, once in a call, and in the order in which they came: without an order, whoever ends a turn and begins another
one comes before those who are woken, because he has the interpreter.

A change takes several turns, with the disk between them, and goes ahead of those who only read.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from .locks import Bracket

PATIENCE_S = 0.005
"""The reads of a call take a tenth of this, unless they wait for the disk; then others need not wait too."""


_WITHIN = nullcontext()
"""Of a turn within a turn."""


class Turns:
    """Who waits for a turn that lasts longer than `PATIENCE_S` goes on beside it."""

    def __init__(self) -> None:
        self._taken = threading.Lock()
        self._began = 0.0
        self._waiting: deque[threading.Lock] = deque()
        """For each of those who wait what it waits for; whoever ends a turn releases the first."""
        self._own = threading.local()
        self._turn = Bracket(lambda: self._take(self._waiting.append), self._give)
        self._turn_ahead = Bracket(lambda: self._take(self._waiting.appendleft), self._give)

    def turn(self, ahead: bool = False) -> AbstractContextManager[None]:
        """Read in here; within a turn of this thread it is a part of that. Wait for no lock whose holder waits for one.

        `ahead` of those who wait already.
        """
        if self._has_it():
            return _WITHIN
        return self._turn_ahead if ahead else self._turn

    def _has_it(self) -> bool:
        return getattr(self._own, "has_it", False)

    def _take(self, queue: Callable[[threading.Lock], None]) -> None:
        if self._taken.acquire(blocking=False) or self._is_handed_over(queue):
            self._began = time.monotonic()
            self._own.has_it = True

    def _is_handed_over(self, queue: Callable[[threading.Lock], None]) -> bool:
        """Wait for the turn; False when the one under way is not worth waiting for."""
        handed = threading.Lock()
        handed.acquire()
        queue(handed)
        # The turn may have ended before this could be seen.
        if self._taken.acquire(blocking=False):
            self._waiting.remove(handed)
            return True
        try:
            while not handed.acquire(timeout=max(0.0, self._patience())):
                if self._patience() <= 0:
                    return not self._leaves(handed)
        except BaseException:
            # Ctrl-C: nobody may hand the turn over to one who is gone.
            if not self._leaves(handed):
                self._pass_on()
            raise
        return True

    def _leaves(self, handed: threading.Lock) -> bool:
        """Wait no more; False when the turn was handed over just now."""
        try:
            self._waiting.remove(handed)
        except ValueError:
            return False
        return True

    def _patience(self) -> float:
        """Seconds that the turn under way is worth waiting for."""
        return self._began + PATIENCE_S - time.monotonic()

    def _give(self) -> None:
        if self._has_it():
            self._own.has_it = False
            self._pass_on()

    def _pass_on(self) -> None:
        while not self._hand_over():
            self._taken.release()
            # Somebody may have come before the release, and found the turn taken.
            if not self._waiting or not self._taken.acquire(blocking=False):
                return

    def _hand_over(self) -> bool:
        try:
            handed = self._waiting.popleft()
        except IndexError:
            return False
        self._began = time.monotonic()
        handed.release()
        return True


READS = Turns()
"""Of the whole process, because the interpreter's lock is one too."""
