"""A bound on how many calls of a kind run; more are refused at once, instead of holding a thread and waiting."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..store.errors import ResourceExhausted


class Gate:
    """Lets `running_max` in at a time; `kind` names them in the plural."""

    def __init__(self, running_max: int, kind: str) -> None:
        self._free = threading.Semaphore(running_max)
        self._running_max = running_max
        self._kind = kind

    @contextmanager
    def passage(self) -> Iterator[None]:
        """Hold a place.

        Raises:
            ResourceExhausted: all are taken.
        """
        if not self._free.acquire(blocking=False):
            raise ResourceExhausted(
                f"{self._running_max} {self._kind} run, the limit of this server; try again when one has ended"
            )
        try:
            yield
        finally:
            self._free.release()
