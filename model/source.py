"""Where a model's memories come from, and the options of a generation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..store.types import Hit


class MemorySource(Protocol):
    """Finds memories and hands out their key-values: a store in this process, or a remote one."""

    def recall(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The `k` memories nearest to each query, best first; `Hits` where shards could not be asked."""
        ...

    def key_values(self, hits: Sequence[Hit]) -> list[bytes | None]:
        """The key-values of each memory, written now if they never were; None if it was deleted meanwhile."""
        ...


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """How to generate. `memories` are read by each chunk, 0 for none; temperature 0 always takes the likeliest token.

    `stop` ends the answer before the first of these strings; the same `seed` gives the same answer.
    `explain` ends the generation with what its memories did.
    """

    max_tokens: int = 64
    memories: int = 5
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    explain: bool = False
