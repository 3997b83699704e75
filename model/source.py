"""Where a model's memories come from, and the options of a generation."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from ..store.types import Hit
from .schedule import RECALL_AHEAD


class MemorySource(ABC):
    """Finds memories and hands out their key-values: a store in this process, or a remote one.

    Two that are equal find the same for the same query, so what both are asked for may be asked of one of them.
    """

    @abstractmethod
    def recall(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The `k` memories nearest to each query, best first; `Hits` where shards could not be asked."""

    @abstractmethod
    def key_values(self, hits: Sequence[Hit]) -> list[bytes | None]:
        """The key-values of each memory, written now if they never were; None if it was deleted meanwhile."""

    @property
    def scope(self) -> Hashable:
        """Names the collection for as long as the process runs: shard and seq mean one memory within it."""
        return self

    def live(self, hits: Sequence[Hit]) -> list[bool]:
        """Whether each memory is still there: neither deleted, nor changed, nor expired. Here nothing ever goes."""
        return [True] * len(hits)

    def note_reads(self, hits: Sequence[Hit]) -> None:
        """Count a read of memories that were held where they are read, and so not fetched. Here nobody counts."""
        del hits


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """How to generate. `memories` are read by each chunk, 0 for none; temperature 0 always takes the likeliest token.

    With `top_k` only so many of the likeliest tokens are drawn from, 0 for all; with `top_p` those that reach it
    together. `stop` ends the answer before the first of these strings; the same `seed` gives the same answer.
    `recall_ahead` is how many tokens before a generated chunk ends the next one's memories are recalled.
    `explain` ends the generation with what its memories did.
    """

    max_tokens: int = 64
    memories: int = 5
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_k: int = 0
    recall_ahead: int = RECALL_AHEAD
    explain: bool = False
