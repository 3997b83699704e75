"""Locks for many readers or one writer."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ReadWriteLock:
    """Many readers or one writer. A waiting writer goes before new readers, so that readers cannot starve it.

    Not reentrant: a thread that reads must not read again, because a writer may be waiting in between.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._writers_waiting = 0
        self._writing = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._changed:
            while self._writing or self._writers_waiting:
                self._changed.wait()
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                if not self._readers:
                    self._changed.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        with self._changed:
            self._writers_waiting += 1
            try:
                while self._writing or self._readers:
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
                self._changed.notify_all()


class NestingReadWriteLock(ReadWriteLock):
    """The same for readers that read again while they read: a waiting writer does not keep them out of the second."""

    def __init__(self) -> None:
        super().__init__()
        self._own = threading.local()

    @contextmanager
    def reading(self) -> Iterator[None]:
        if getattr(self._own, "reads", False):
            yield
            return
        with super().reading():
            self._own.reads = True
            try:
                yield
            finally:
                self._own.reads = False
