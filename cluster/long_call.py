"""Calls that take minutes or hours, answered by a stream: how far the work is, until it is done."""

import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import grpc

from ..calls import Progress
from ..store.errors import Cancelled
from .binding import check_alive

T = TypeVar("T")

TELL_S = 0.5
"""Seconds between two words of how far the work is."""


class LongCall(Generic[T]):
    """Work in a thread of its own, so that a caller who reads slowly does not hold up what the work holds.

    Iterate it for (done, of how many) while it runs, then ask for its `result`. It stops when the caller goes away.
    """

    def __init__(self, work: Callable[[Progress], T], context: grpc.ServicerContext) -> None:
        self._work = work
        self._context = context
        self._given_up = threading.Event()
        self._how_far = (0, 0)
        self._outcome: T | BaseException | None = None

    def __iter__(self) -> Iterator[tuple[int, int]]:
        thread = threading.Thread(target=self._run, name="memory3-long-call", daemon=True)
        thread.start()
        try:
            while True:
                thread.join(TELL_S)
                ended = not thread.is_alive()
                check_alive(self._context)
                yield self._how_far
                if ended:
                    return
        finally:
            self._given_up.set()
            thread.join()

    @property
    def result(self) -> T:
        """What the work returned; what it raised is raised here."""
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        assert self._outcome is not None
        return self._outcome

    def _run(self) -> None:
        try:
            self._outcome = self._work(self._progress)
        except BaseException as error:
            self._outcome = error

    def _progress(self, done: int, total: int) -> None:
        if self._given_up.is_set():
            raise Cancelled("the caller went away")
        self._how_far = (done, total)
