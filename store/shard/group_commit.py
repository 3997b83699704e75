"""Many callers' changes in one transaction, so that one sync of the disk pays for all of them.

There is no thread of its own: whoever holds the writer lock carries out, in one transaction, its own change and those
of all who wait for the lock. A lone caller so pays for no hand-over (docs/choices.md).
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from .. import limits
from ..disk.environment import Environment, WriteTransaction
from ..errors import ResourceExhausted

T = TypeVar("T")


class GroupCommit:
    """The changes of one environment, in the order in which they came.

    `committed` is called under the lock after each transaction and before its callers are answered.
    """

    def __init__(self, environment: Environment, lock: threading.Lock, committed: Callable[[], None]) -> None:
        self._environment = environment
        self._lock = lock
        self._committed = committed
        self._waiting: deque[_Waiting] = deque()

    def submit(self, change: Callable[[WriteTransaction], T], size: int) -> T:
        """Return what `change` returns, once it is durable; `size` is about how many bytes it writes.

        What it raises is raised here, and then nothing of it was stored; the changes of others stand.

        Raises:
            ResourceExhausted: the disk is full.
        """
        waiting = _Waiting(change, size)
        self._waiting.append(waiting)
        with self._lock:
            while not waiting.done:
                self._carry_out(self._next_group())
        result: T = waiting.outcome()
        return result

    def _next_group(self) -> "list[_Waiting]":
        group = [self._waiting.popleft()]
        size = group[0].size
        while self._waiting and len(group) < limits.GROUP_CHANGES_MAX:
            size += self._waiting[0].size
            if size > limits.GROUP_BYTES_MAX:
                break
            group.append(self._waiting.popleft())
        return group

    def _carry_out(self, group: "list[_Waiting]") -> None:
        if len(group) > 1 and self._together(group):
            return
        for waiting in group:
            self._alone(waiting)

    def _together(self, group: "list[_Waiting]") -> bool:
        """Carry out a group in one transaction, each in a part of its own; False when there is no space for all."""
        outcomes: list[tuple[Any, BaseException | None]] = []
        try:
            with self._environment.writing() as txn:
                outcomes += [self._part(txn, waiting) for waiting in group]
        except ResourceExhausted:
            # One of them may be too large; those that fit must not fail with it.
            return False
        except BaseException as error:
            for waiting in group:
                waiting.end(None, error)
            raise
        self._finish(list(zip(group, outcomes, strict=True)))
        return True

    def _part(self, txn: WriteTransaction, waiting: "_Waiting") -> tuple[Any, BaseException | None]:
        try:
            with self._environment.part(txn) as part:
                return waiting.change(part), None
        except ResourceExhausted:
            raise
        except Exception as error:
            return None, error

    def _alone(self, waiting: "_Waiting") -> None:
        try:
            with self._environment.writing() as txn:
                result = waiting.change(txn)
        except BaseException as error:
            waiting.end(None, error)
            if not isinstance(error, Exception):
                raise
        else:
            self._finish([(waiting, (result, None))])

    def _finish(self, ended: "list[tuple[_Waiting, tuple[Any, BaseException | None]]]") -> None:
        failure: BaseException | None = None
        try:
            self._committed()
        except Exception as error:
            failure = error
        for waiting, (result, refusal) in ended:
            waiting.end(result, refusal or failure)


class _Waiting:
    """One caller's change and what became of it."""

    def __init__(self, change: Callable[[WriteTransaction], Any], size: int) -> None:
        self.change = change
        self.size = size
        self.done = False
        self._result: Any = None
        self._error: BaseException | None = None

    def end(self, result: Any, error: BaseException | None) -> None:
        self._result, self._error, self.done = result, error, True

    def outcome(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._result
