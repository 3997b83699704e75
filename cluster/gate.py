"""A bound on how many generations run and how many wait; more are refused at once instead of waiting for ever."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..store.errors import ResourceExhausted

_LOOK_S = 0.1


class Gate:
    """Lets `running_max` in at a time and `waiting_max` wait."""

    def __init__(self, running_max: int, waiting_max: int) -> None:
        self._running_max = running_max
        self._waiting_max = waiting_max
        self._running = 0
        self._waiting = 0
        self._changed = threading.Condition()

    @contextmanager
    def passage(self, check_alive: Callable[[], None]) -> Iterator[None]:
        """Wait for a place and hold it; `check_alive` is called while waiting and ends the wait by raising.

        Raises:
            ResourceExhausted: too many wait already.
        """
        self._enter(check_alive)
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify()

    def _enter(self, check_alive: Callable[[], None]) -> None:
        with self._changed:
            if self._running >= self._running_max and self._waiting >= self._waiting_max:
                raise ResourceExhausted(
                    f"{self._running} generations run and {self._waiting} wait, the limits of this server; "
                    "try again in a moment"
                )
            self._waiting += 1
            try:
                while self._running >= self._running_max:
                    check_alive()
                    self._changed.wait(_LOOK_S)
            finally:
                self._waiting -= 1
            self._running += 1
