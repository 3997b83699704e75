"""A collection's changes as they come; what `watch` returns, in process and over the network."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from .store.types import Change

Positions: TypeAlias = tuple[int, ...]
Batch: TypeAlias = tuple[Sequence[Change], Positions]
"""Changes, and the seqs, one of each shard that is watched, where what was told so far ends."""


class ChangeStream(Iterator[Change]):
    """Changes in the order of each shard; iterating waits for the next one. Closing it ends the watch.

    `positions` are seqs, one of each shard that is watched: of all changes up to there the iteration has told, and
    `watch(after=positions)` goes on behind them.
    """

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self._told: deque[Change] = deque()
        # The first batch tells where the watch begins, so that nothing after this call is missed.
        first, self.positions = next(batches)
        self._reached = self.positions
        self._told.extend(first)

    def __next__(self) -> Change:
        while not self._told:
            self.positions = self._reached
            changes, self._reached = next(self._batches)
            self._told.extend(changes)
        change = self._told.popleft()
        if not self._told:
            self.positions = self._reached
        return change

    def close(self) -> None:
        close = getattr(self._batches, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> "ChangeStream":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
