"""Counts the calls under way, so that background work can keep out of their way."""

import threading
import time
from types import TracebackType
from typing import Self


class Activity:
    """Entered by each call for as long as it runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls = 0
        self._last = float("-inf")

    def quiet_for(self, seconds: float) -> bool:
        """Whether no call has run for so long."""
        return self._calls == 0 and time.monotonic() - self._last >= seconds

    def __enter__(self) -> Self:
        with self._lock:
            self._calls += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._calls -= 1
            self._last = time.monotonic()
