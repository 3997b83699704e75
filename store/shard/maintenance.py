"""The thread of a shard that does, beside everybody's calls, what is due.

It builds, clusters and saves the index, sweeps what has expired, and looks for damage among the key-values.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from ..errors import Memory3Error
from ..index.clustering import GiveWay
from .derived import Derived

_STEP_S = 0.001
_REST = 0.5
"""Rest for each second's work: both other threads and other writers of the disk come in between."""
_RETRY_S = 30.0
"""Seconds after a failure until the work is tried again."""

_log = logging.getLogger(__name__)


class Stopped(Exception):
    """The shard closes, so the work is left undone."""


class Maintenance:
    """Does what is due, in a thread that lives while there is work. A failure is only logged.

    `mend` looks for damage among the key-values. `sweep` deletes some of the documents that have expired;
    `sweep_is_due` says whether there are any.
    """

    def __init__(
        self,
        derived: Derived,
        writer: AbstractContextManager[object],
        mend: Callable[[GiveWay], object],
        sweep: Callable[[], object],
        sweep_is_due: Callable[[], bool],
    ) -> None:
        self._derived = derived
        self._writer = writer
        self._mend = mend
        self._sweep = sweep
        self._sweep_is_due = sweep_is_due
        self._mutex = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._not_before = 0.0
        self._worked_since = 0.0

    def wake(self) -> None:
        """Begin what is due, if anything is. Takes a few microseconds."""
        if not self._is_due():
            return
        with self._mutex:
            if self._thread is None and not self._stopping.is_set() and time.monotonic() >= self._not_before:
                self._thread = threading.Thread(target=self._run, name="memory3 maintenance", daemon=True)
                self._thread.start()

    def wait(self) -> None:
        """Return when no work is under way."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def stop(self) -> None:
        """Leave what is under way undone, and begin nothing any more; return when the thread has ended.

        Not with the writer lock held, which the thread may be waiting for.
        """
        with self._mutex:
            self._stopping.set()
        self.wait()

    def _is_due(self) -> bool:
        derived = self._derived
        due = derived.key_values_are_due() or derived.clustering_is_due() or derived.save_is_due()
        return due or self._sweep_is_due()

    def _run(self) -> None:
        try:
            while self._is_due():
                self._work()
        except Stopped:
            pass
        except Memory3Error as error:
            self._not_before = time.monotonic() + _RETRY_S
            _log.warning("a shard could not be kept up, it is tried again later: %s", error)
        except Exception:
            self._not_before = time.monotonic() + _RETRY_S
            _log.exception("a shard could not be kept up, it is tried again later")
        finally:
            with self._mutex:
                self._thread = None

    def _work(self) -> None:
        self._worked_since = time.monotonic()
        if not self._derived.index.whole:
            # First, because recalls wait for it.
            self._derived.cluster(self._writer, self._give_way)
        if self._derived.key_values_are_due():
            self._mend(self._give_way)
        if self._derived.clustering_is_due():
            self._derived.cluster(self._writer, self._give_way)
        if self._derived.save_is_due():
            self._derived.save(self._give_way)
        if self._sweep_is_due():
            self._sweep()
            self._give_way()

    def _give_way(self) -> None:
        worked = time.monotonic() - self._worked_since
        if self._stopping.wait(worked * _REST if worked >= _STEP_S else 0):
            raise Stopped
        if worked >= _STEP_S:
            self._worked_since = time.monotonic()
