"""The options of a generation, checked where they come in."""

from collections.abc import Sequence

from ..calls import stops_of
from ..model.source import GenerationOptions
from ..store.errors import InvalidArgument

MEMORIES_MAX = 64


def options_of(
    max_tokens: int = 64,
    memories: int = 5,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    seed: int | None = None,
    stop: Sequence[str] = (),
    explain: bool = False,
) -> GenerationOptions:
    """Options as callers give them.

    Raises:
        InvalidArgument: one is out of bounds.
    """
    if max_tokens < 1:
        raise InvalidArgument(f"max_tokens is {max_tokens}; ask for at least 1")
    if not 0 <= memories <= MEMORIES_MAX:
        raise InvalidArgument(f"memories is {memories}; a chunk reads 0 to {MEMORIES_MAX}")
    if not 0 <= temperature <= 100 or not 0 < top_p <= 1:
        raise InvalidArgument(f"temperature {temperature} must be 0 to 100, and top_p {top_p} over 0 and at most 1")
    if top_k < 0:
        raise InvalidArgument(f"top_k is {top_k}; draw from at least 1, or give 0 to draw from all")
    return GenerationOptions(max_tokens, memories, temperature, top_p, seed, stops_of(stop), top_k, explain=explain)
