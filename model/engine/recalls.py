"""Recall beside the steps: finds memories and loads them into the pool while other sequences generate.

What several sequences want at the same time is asked for in one call, but no more than a few queries: those who have
their memories go on while the next are looked for. When no sequence wants anything, memories are found for those who
still wait for their turn, so that these need not wait for them as well.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Protocol

from ...store.types import Hit
from ..pool.memory_pool import MemoryPool
from ..source import MemorySource

QUERIES_TOGETHER = 8
"""Asked for in one call. More are embedded no faster, each, and all would wait for the last."""


class Owner(Protocol):
    """Who waits for memories; `ended` when it waits no more."""

    @property
    def ended(self) -> bool: ...


@dataclass(eq=False)
class Wish:
    """The memories of a sequence's next chunk.

    Attributes:
        owner: whose; handed back as it is, unless it has ended before.
        queries: of this chunk and, in a prompt, of those behind it.
        early: whether its owner has no row yet: it is recalled for when nobody else waits, and nothing is loaded.
        before: the early wish of the same request; what was found for it is not looked for again.
        hits: those of the first queries, once they were recalled; the first chunk's are loaded.
        slots: where the first query's memories lie, pinned; None for one that could not be loaded.
        coded: whether their key-values are wanted as they are stored, too.
        codes: these.
        error: why nothing was recalled.
        seconds: spent on recall and on fetching.
    """

    owner: Owner
    source: MemorySource
    queries: Sequence[str]
    memories: int
    early: bool = False
    before: "Wish | None" = None
    hits: Sequence[Sequence[Hit]] = ()
    slots: Sequence[int | None] = ()
    coded: bool = False
    codes: Sequence[bytes | None] = ()
    error: Exception | None = None
    seconds: dict[str, float] = field(default_factory=lambda: {"recall": 0.0, "fetch": 0.0})


class Recalls:
    """A thread that fulfils wishes in the order they came; `done` is called in it for each but the early ones."""

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
        """End, behind the wish that is being fulfilled; the others are dropped."""
        self._wishes.put(None)
        self._thread.join()

    def _run(self) -> None:
        pending: list[Wish] = []
        while self._take(pending):
            pending = [wish for wish in pending if not wish.owner.ended]
            if not pending:
                continue
            for wish in pending:
                if wish.before is not None and not wish.hits:
                    wish.hits = wish.before.hits
            chosen = _next(pending)
            if not chosen[0].hits:
                self._recall(chosen)
            for wish in chosen:
                pending.remove(wish)
                if not wish.early:
                    self._load(wish)
                    self._done(wish)

    def _take(self, pending: list[Wish]) -> bool:
        """Add the wishes that stand now, and wait if there is none; False when closed."""
        while True:
            try:
                wish = self._wishes.get(block=not pending)
            except Empty:
                return True
            if wish is None:
                return False
            pending.append(wish)

    def _recall(self, wishes: Sequence[Wish]) -> None:
        began = time.perf_counter()
        parts = [wish.queries[:QUERIES_TOGETHER] for wish in wishes]
        # An empty text is like nothing.
        asked = [query for part in parts for query in part if query.strip()]
        try:
            answers = iter(wishes[0].source.recall(asked, wishes[0].memories) if asked else [])
            for wish, part in zip(wishes, parts, strict=True):
                wish.hits = [next(answers) if query.strip() else [] for query in part]
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


def _next(pending: Sequence[Wish]) -> Sequence[Wish]:
    """What is done next: loading, which takes no time beside a recall; then recalls; and early ones one by one."""
    loads = [wish for wish in pending if wish.hits]
    present = [wish for wish in pending if not wish.early]
    return loads or (_together(present) if present else pending[:1])


def _together(wishes: Sequence[Wish]) -> list[Wish]:
    """The first wish, and those behind it that one call can answer with it."""
    found: list[Wish] = []
    first, count = wishes[0], 0
    for wish in wishes:
        if wish.source == first.source and wish.memories == first.memories:
            count += min(len(wish.queries), QUERIES_TOGETHER)
            if found and count > QUERIES_TOGETHER:
                break
            found.append(wish)
    return found
