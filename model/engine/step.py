"""One step of the engine: what each sequence adds to the packed tokens that run through the model together.

Dimensions: `N` packed tokens, `H` query heads, `G` KV heads, `D` head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Work:
    """Tokens that one sequence adds in a step, all of one chunk.

    Attributes:
        row: the sequence's place in the context store.
        tokens: one while it generates, up to 64 of a prompt.
        past: tokens of the sequence that lie in the store before these.
        position: of the first of them; the others follow.
        reads: whether they read the row's memories; the prefix does not.
    """

    row: int
    tokens: Sequence[int]
    past: int
    position: int
    reads: bool

    @property
    def decodes(self) -> bool:
        """Whether it is one token that reads memories; such works come first in a step."""
        return self.reads and len(self.tokens) == 1

    @property
    def positions(self) -> range:
        return range(self.position, self.position + len(self.tokens))

    @property
    def places(self) -> range:
        """Where in the row's context its tokens go."""
        return range(self.past, self.past + len(self.tokens))


class Attention(Protocol):
    """Attention of one step's packed tokens, layer by layer (the `step` of model/attention.py)."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Store the new keys and values (1, G, N, D), and attend to context and memories: (1, N, H, D)."""
        ...


@dataclass(frozen=True, slots=True)
class Packed:
    """The tokens of a step as they run through the model.

    Attributes:
        tokens, positions: (1, N) int64.
        last: (sequences,) int64, the places of the tokens whose logits are asked for.
        attention: theirs.
    """

    tokens: Tensor
    positions: Tensor
    last: Tensor
    attention: Attention
