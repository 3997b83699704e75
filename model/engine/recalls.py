"""Recall beside the steps: finds memories and loads them into the pool while other sequences generate.

What several sequences want at the same time is asked for in one call.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from ...store.types import Hit
from ..pool.memory_pool import MemoryPool
from ..source import MemorySource

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Wish:
    """The memories of a sequence's next chunk.

    Attributes:
        owner: whose; handed back as it is.
        queries: of this chunk and, in a prompt, of those behind it; recalled together.
        hits: those of each query once they were recalled; the first are loaded.
        slots: where the first query's memories lie, pinned; None for one that could not be loaded.
        coded: whether their key-values are wanted as they are stored, too.
        codes: these.
        error: why nothing was recalled.
        seconds: spent on recall and on fetching.
    """

    owner: object
    source: MemorySource
    queries: Sequence[str]
    memories: int
    hits: Sequence[Sequence[Hit]] = ()
    slots: Sequence[int | None] = ()
    coded: bool = False
    codes: Sequence[bytes | None] = ()
    error: Exception | None = None
    seconds: dict[str, float] = field(default_factory=lambda: {"recall": 0.0, "fetch": 0.0})


class Recalls:
    """A thread that fulfils wishes in the order they came; `done` is called in it for each."""

    def __init__(self, pool: MemoryPool, done: Callable[[Wish], None]) -> None:
        self._pool = pool
        self._done = done
        self._wishes: SimpleQueue[Wish | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="memory3-recall", daemon=True)
        self._thread.start()

    def ask(self, wish: Wish) -> None:
        """Fulfil a wish soon; one whose `hits` are known has them only loaded."""
        self._wishes.put(wish)

    def close(self) -> None:
        """Fulfil what was asked for until now, and end."""
        self._wishes.put(None)
        self._thread.join()

    def _run(self) -> None:
        open_still = True
        while open_still:
            wishes, open_still = self._waiting()
            for group in _alike([wish for wish in wishes if not wish.hits]):
                self._recall(group)
            for wish in wishes:
                self._load(wish)
                self._done(wish)

    def _waiting(self) -> tuple[list[Wish], bool]:
        """All wishes that stand now, at least one, and whether more may come."""
        found = [self._wishes.get()]
        try:
            while True:
                found.append(self._wishes.get_nowait())
        except Empty:
            return [wish for wish in found if wish is not None], None not in found

    def _recall(self, wishes: Sequence[Wish]) -> None:
        began = time.perf_counter()
        queries = [query for wish in wishes for query in wish.queries]
        # An empty text is like nothing.
        asked = [query for query in queries if query.strip()]
        try:
            answers = iter(wishes[0].source.recall(asked, wishes[0].memories) if asked else [])
            for wish in wishes:
                wish.hits = [next(answers) if query.strip() else [] for query in wish.queries]
        except Exception as error:
            for wish in wishes:
                wish.error = error
        for wish in wishes:
            wish.seconds["recall"] = time.perf_counter() - began

    def _load(self, wish: Wish) -> None:
        if wish.error is not None:
            return
        began = time.perf_counter()
        try:
            if wish.coded:
                wish.codes = self._pool.codes(wish.source, wish.hits[0])
            wish.slots = self._pool.load(wish.source, wish.hits[0])
        except Exception as error:
            wish.error = error
        wish.seconds["fetch"] = time.perf_counter() - began


def _alike(wishes: Sequence[Wish]) -> list[list[Wish]]:
    """Wishes that one call can answer."""
    groups: list[list[Wish]] = []
    for wish in wishes:
        for group in groups:
            if group[0].source == wish.source and group[0].memories == wish.memories:
                group.append(wish)
                break
        else:
            groups.append([wish])
    return groups
