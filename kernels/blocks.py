"""What attention reads, and for whom: the arguments that all its implementations share.

Queries of many sequences lie packed behind each other, without padding. They are cut into blocks: one query of a
sequence that generates, or up to 64 of a prompt (paper: chunks of 64). The context of each sequence lies in pages that
it takes as it grows, the memories in slots that any number of blocks read; neither is ever copied together.

Dimensions: `N` packed queries, `H` query heads, `G` KV heads (`H` a multiple of `G`), `D` head size, `P` pages,
`S` slots, `K` memory tokens of a slot, `C` blocks, `W` pages of the longest context, `R` memories of a block.
"""

from dataclasses import dataclass, replace

from torch import Tensor

PAGE_TOKENS = 64
BLOCK_QUERIES = 64


@dataclass(frozen=True, slots=True)
class Pages:
    """Keys and values (P, G, PAGE_TOKENS, D) of contexts in one layer, rotated; unused places hold anything."""

    key: Tensor
    value: Tensor


@dataclass(frozen=True, slots=True)
class Slots:
    """Keys and values (S, G, K, D) of memories in one layer, rotated; `tokens` (S,) int32 of each are real.

    With `scales` they are whole numbers (int8), to be multiplied by those of the keys and of the values, (S, G, K)
    float32 both.
    """

    key: Tensor
    value: Tensor
    tokens: Tensor
    scales: tuple[Tensor, Tensor] | None = None

    def multiplied(self) -> "Slots":
        """The same without scales."""
        if self.scales is None:
            return self
        key, value = (held * by[..., None] for held, by in zip((self.key, self.value), self.scales, strict=True))
        return replace(self, key=key, value=value, scales=None)


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks of queries, each with its own context and memories.

    Block c is the queries `first[c]` to `first[c] + queries[c] - 1` of the packed ones. They are the last of the
    `length[c]` tokens of its context, whose keys and values already lie in its pages: a query sees all tokens up to
    itself, in this order, and every real token of the block's memories, in one softmax.

    Attributes:
        first, queries, length: (C,) int32, queries from 1 to BLOCK_QUERIES and at most `length`.
        pages: (C, W) int32, the places of the context's pages; those behind the context's end mean nothing.
        slots: (C, R) int32, the memories that are read; -1 stands for none. R may be 0.
        bias: (C, R) float32 that is added to the scores of each memory's tokens; None adds nothing.
        queries_max: the greatest of `queries`, known without asking the device.
        length_max: at least the greatest of `length`.
    """

    first: Tensor
    queries: Tensor
    length: Tensor
    pages: Tensor
    slots: Tensor
    bias: Tensor | None
    queries_max: int
    length_max: int
