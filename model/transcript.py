"""A generation as it was read, chunk by chunk: what `explanation.py` reads again."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..store.types import Hit


@dataclass(slots=True)
class ReadChunk:
    """Tokens that were read with the same memories.

    Attributes:
        recalled: what was found for the chunk, best first.
        memories: those of `recalled` that were read, each with its key-values; the others were deleted on the way.
        tokens: what was read with them, without the prefix; never empty once the generation has ended.
    """

    recalled: tuple[Hit, ...]
    memories: tuple[tuple[Hit, bytes], ...]
    tokens: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Transcript:
    """A whole generation.

    Attributes:
        chunks: their tokens, joined, are the prompt from its `<s>` and the answer but for its last token: nothing
            came after that one, so it was never read.
        answer: every token that the model chose, also the one that ended the answer.
    """

    chunks: Sequence[ReadChunk]
    answer: Sequence[int]
