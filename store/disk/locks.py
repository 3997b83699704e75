"""Locks for many readers or one writer, and a context for who holds them often."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Bracket:
    """A context that calls a function at its beginning and one at its end; a generator takes several times as long."""

    def __init__(self, begin: Callable[[], object], end: Callable[[], object]) -> None:
        self._begin, self._end = begin, end

    def __enter__(self) -> None:
        self._begin()

    def __exit__(self, *_: object) -> None:
        self._end()


class ReadWriteLock:
    """Many readers or one writer, and none of them starves.

    A waiting writer goes before new readers; the readers that waited for a writer go before the next one. Not
    reentrant: a thread that reads must not read again, because a writer may be waiting in between.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._readers_waiting = 0
        self._readers_invited = 0
        self._writers_waiting = 0
        self._writing = False
        self._writes = 0
        self._reading = Bracket(self.enter, self.leave)

    def reading(self) -> Bracket:
        """Return a context in which the lock is held for reading."""
        return self._reading

    def enter(self) -> None:
        """Begin to read; `leave` must follow."""
        with self._changed:
            self._begin_reading()

    def leave(self) -> None:
        with self._changed:
            self._readers -= 1
            if not self._readers and self._writers_waiting:
                self._changed.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        with self._changed:
            self._writers_waiting += 1
            try:
                while self._writing or self._readers or self._readers_invited:
                    self._changed.wait()
                self._writing = True
            finally:
                self._writers_waiting -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._writing = False
                self._writes += 1
                self._readers_invited = self._readers_waiting
                self._changed.notify_all()

    def _begin_reading(self) -> None:
        if not self._writing and not self._writers_waiting:
            self._readers += 1
            return
        writes = self._writes
        self._readers_waiting += 1
        try:
            while self._writing or (self._writers_waiting and self._writes == writes):
                self._changed.wait()
            self._readers += 1
        finally:
            self._readers_waiting -= 1
            if self._writes != writes:
                # The writer that ended has counted this reader; the next one waits until all of them have come.
                self._readers_invited -= 1
                self._changed.notify_all()


class NestingReadWriteLock(ReadWriteLock):
    """The same for readers that read again while they read: a waiting writer does not keep them out of the second."""

    def __init__(self) -> None:
        super().__init__()
        self._own = threading.local()

    def enter(self) -> None:
        depth = getattr(self._own, "depth", 0)
        if not depth:
            super().enter()
        self._own.depth = depth + 1

    def leave(self) -> None:
        self._own.depth -= 1
        if not self._own.depth:
            super().leave()
