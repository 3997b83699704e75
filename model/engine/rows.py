"""The context store for a CPU: each sequence has a row, its memories in front and its context behind them.

A step's decoding reads all rows in one operation where they lie, because on a CPU the number of operations is what
costs. So memories are copied from the pool into the row, once for a chunk and not at each token, and a row is as long
as the longest one needs. On a GPU contexts lie in pages and memories stay in the pool (paged.py).

Dimensions: `L` layers, `R` rows, `G` KV heads, `H` query heads, `M` room for memory tokens in front of a context,
`T` room for context tokens, `N` packed tokens, `D` head size.
"""

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from ..pool.memory_pool import MemoryPool
from .step import Packed, Work

_ROUND = 64
"""Room grows by multiples of this."""


class Rows:
    """A `ContextStore` (step.py); used by the engine's thread alone."""

    def __init__(
        self,
        *,
        layers: int,
        memory_layers: Sequence[int],
        kv_heads: int,
        head_size: int,
        rows: int,
        pool: MemoryPool,
    ) -> None:
        self._pool = pool
        self._numbers = {layer: number for number, layer in enumerate(memory_layers)}
        self._front = 0
        self._room = 0
        self._key = torch.zeros(layers, rows, kv_heads, 0, head_size, dtype=pool.key.dtype)
        self._value = torch.zeros_like(self._key)
        # What is added to the scores of the memory tokens of each row, -inf where there is none.
        self._bias = torch.zeros(rows, 0, dtype=pool.key.dtype)
        self._memories = [0] * rows

    def open(self, row: int, tokens: int) -> None:
        self._memories[row] = 0
        if tokens > self._room:
            self._grow(self._front, tokens)

    def close(self, row: int) -> None:
        self._memories[row] = 0

    def read(self, row: int, slots: Sequence[int], bias: Sequence[float] | None) -> None:
        kept = self._pool.key.shape[3]
        count = len(slots) * kept
        if count > self._front:
            self._grow(count, self._room)
        self._memories[row] = count
        if not count:
            return
        places = torch.tensor(slots)
        start = self._front - count
        for layer, number in self._numbers.items():
            for room, pool in ((self._key, self._pool.key), (self._value, self._pool.value)):
                # (memories, G, K, D) to (G, memories * K, D)
                room[layer, row, :, start : self._front] = pool[number, places].transpose(0, 1).flatten(1, 2)
        real = torch.arange(kept)[None] < self._pool.tokens[places][:, None]
        added = self._bias.new_tensor([0.0] * len(slots) if bias is None else bias)
        self._bias[row] = -math.inf
        self._bias[row, start:] = torch.where(real, added[:, None], -math.inf).flatten()

    def pack(self, works: Sequence[Work], last: Sequence[int]) -> Packed:
        return Packed(
            torch.tensor([[token for work in works for token in work.tokens]]),
            torch.tensor([[position for work in works for position in work.positions]]),
            torch.tensor(last),
            self._attention(works),
        )

    def _attention(self, works: Sequence[Work]) -> "RowAttention":
        decoding = [work for work in works if work.decodes]
        assert all(work.decodes for work in works[: len(decoding)])
        rest = works[len(decoding) :]
        rows = torch.tensor([work.row for work in works for _ in work.tokens])
        places = torch.tensor([place for work in works for place in work.places]) + self._front
        parts = [self._prompt(work) for work in rest]
        return RowAttention(
            self._key, self._value, self._numbers.keys(), self._front, rows, places, self._decoding(decoding), parts
        )

    def _decoding(self, works: Sequence[Work]) -> "_Decoding | None":
        if not works:
            return None
        memories = max(self._memories[work.row] for work in works)
        length = max(work.past for work in works) + 1
        count = max(work.row for work in works) + 1
        # Rows that take no part are computed along, and dropped; nothing of theirs is masked to NaN.
        lengths = torch.full((count,), length)
        lengths[[work.row for work in works]] = torch.tensor([work.past + 1 for work in works])
        context = self._bias.new_zeros(count, length)
        context.masked_fill_(torch.arange(length)[None] >= lengths[:, None], -math.inf)
        front = self._bias[:count, self._front - memories : self._front].clone()
        for row in range(count):
            front[row, : memories - self._memories[row]] = -math.inf
        mask = torch.cat([front, context], dim=1)[:, None, None]
        order = [work.row for work in works]
        return _Decoding(None if order == list(range(count)) else torch.tensor(order), count, memories, length, mask)

    def _prompt(self, work: Work) -> "_Prompt":
        memories = self._memories[work.row] if work.reads else 0
        tokens = len(work.tokens)
        causal = self._bias.new_zeros(tokens, work.past + tokens)
        causal.masked_fill_(torch.ones_like(causal, dtype=torch.bool).triu(work.past + 1), -math.inf)
        front = self._bias[work.row, self._front - memories : self._front].expand(tokens, -1)
        return _Prompt(work.row, tokens, memories, work.past + tokens, torch.cat([front, causal], dim=1)[None, None])

    def _grow(self, front: int, room: int) -> None:
        """More room for memories or contexts; what lies there keeps its place before and behind the border."""
        front, room = (-(-size // _ROUND) * _ROUND for size in (front, room))
        added = (front - self._front, room - self._room)
        self._key, self._value = (pad(held, (0, 0, *added)) for held in (self._key, self._value))
        self._bias = pad(self._bias, (added[0], 0), value=-math.inf)
        self._front, self._room = front, room


@dataclass(frozen=True, slots=True)
class _Decoding:
    """Rows 0 to `count` - 1 with one query each; `order` names the rows of the packed tokens, None for all of them.

    `mask` (count, 1, 1, memories + length) is added to the scores.
    """

    order: Tensor | None
    count: int
    memories: int
    length: int
    mask: Tensor


@dataclass(frozen=True, slots=True)
class _Prompt:
    """The next `tokens` of one row; `mask` (1, 1, tokens, memories + length) is added to the scores."""

    row: int
    tokens: int
    memories: int
    length: int
    mask: Tensor


@dataclass(frozen=True, slots=True)
class RowAttention:
    """The attention of one step. `rows` and `places` (N,) say where each packed token's key and value go."""

    key: Tensor
    value: Tensor
    memory_layers: Container[int]
    front: int
    rows: Tensor
    places: Tensor
    decoding: _Decoding | None
    prompts: Sequence[_Prompt]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Store the new keys and values (1, G, N, D), and attend to context and memories: (1, N, H, D)."""
        self.key[layer, self.rows, :, self.places] = key[0].transpose(0, 1)
        self.value[layer, self.rows, :, self.places] = value[0].transpose(0, 1)
        reads = layer in self.memory_layers
        found, first = [], 0
        if self.decoding is not None:
            first = len(self.rows) - sum(prompt.tokens for prompt in self.prompts)
            found.append(self._decode(layer, query[0, :, :first].transpose(0, 1)[:, :, None], scale, reads))
        for prompt in self.prompts:
            found.append(self._prompt(layer, prompt, query[:, :, first : first + prompt.tokens], scale, reads))
            first += prompt.tokens
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)

    def _decode(self, layer: int, query: Tensor, scale: float, reads: bool) -> Tensor:
        """Queries (C, H, 1, D) of the sequences that generate, to (1, C, H, D)."""
        decoding = self.decoding
        assert decoding is not None
        rows = query
        if decoding.order is not None:
            rows = query.new_zeros(decoding.count, *query.shape[1:])
            rows[decoding.order] = query
        memories = decoding.memories if reads else 0
        part = slice(self.front - memories, self.front + decoding.length)
        key, value = (held[layer, : decoding.count, :, part] for held in (self.key, self.value))
        # The heads that share a KV head as so many queries of it: PyTorch would read it once for each of them.
        out = scaled_dot_product_attention(
            rows.view(decoding.count, key.shape[1], -1, key.shape[3]),
            key,
            value,
            attn_mask=decoding.mask[..., decoding.memories - memories :],
            scale=scale,
        )
        out = out.reshape(decoding.count, -1, key.shape[3])
        return (out if decoding.order is None else out[decoding.order])[None]

    def _prompt(self, layer: int, prompt: _Prompt, query: Tensor, scale: float, reads: bool) -> Tensor:
        """Queries (1, H, tokens, D) of one chunk of a prompt, to (1, tokens, H, D)."""
        memories = prompt.memories if reads else 0
        part = slice(self.front - memories, self.front + prompt.length)
        row = slice(prompt.row, prompt.row + 1)
        out = scaled_dot_product_attention(
            query,
            self.key[layer, row, :, part],
            self.value[layer, row, :, part],
            attn_mask=prompt.mask[..., prompt.memories - memories :],
            scale=scale,
            enable_gqa=True,
        )
        return out.transpose(1, 2)
