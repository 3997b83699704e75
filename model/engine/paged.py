"""The context store for a GPU: contexts in pages that sequences take, memories read where the pool has them.

Nothing is padded and nothing is copied: the kernels follow the numbers of pages and slots. A sequence gets all pages
that it may come to need when it opens, so that it never has to stop amid its answer for want of one.

Dimensions: `L` layers, `P` pages, `G` KV heads, `H` query heads, `N` packed tokens, `D` head size, `C` blocks.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import torch
from torch import Tensor

from ...kernels.blocks import PAGE_TOKENS, Blocks, Pages, Slots
from ...store.errors import InvalidArgument
from ..pool.memory_pool import MemoryPool
from .step import Work


class Kernel(Protocol):
    """Attention of blocks: the signature of `kernels.reference.attend_blocks`, and where to write the result."""

    def __call__(
        self, query: Tensor, pages: Pages, slots: Slots | None, blocks: Blocks, *, scale: float, out: Tensor
    ) -> object: ...


@dataclass(frozen=True, slots=True)
class Kernels:
    """`decode` takes blocks of one query each, `prefill` blocks of up to 64."""

    decode: Kernel
    prefill: Kernel


def gpu_kernels(head_size: int) -> Kernels:
    """Those of Triton, which only a GPU machine has.

    Raises:
        InvalidArgument: they do not take heads of this size.
    """
    from ...kernels.gpu.decode import decode
    from ...kernels.gpu.launch import HEAD_SIZE_MAX
    from ...kernels.gpu.prefill import prefill

    if head_size > HEAD_SIZE_MAX:
        raise InvalidArgument(
            f"this model has heads of {head_size}, a GPU reads up to {HEAD_SIZE_MAX}; run it on a CPU"
        )

    return Kernels(decode, prefill)


class Paged:
    """A `ContextStore` (step.py); used by the engine's thread alone."""

    def __init__(
        self,
        *,
        layers: int,
        memory_layers: Sequence[int],
        kv_heads: int,
        head_size: int,
        rows: int,
        tokens: int,
        pool: MemoryPool,
        kernels: Kernels,
    ) -> None:
        self._pool = pool
        self._kernels = kernels
        self._numbers = {layer: number for number, layer in enumerate(memory_layers)}
        # The last page of each row may be filled in part.
        pages = -(-tokens // PAGE_TOKENS) + rows
        shape = (layers, pages, kv_heads, PAGE_TOKENS, head_size)
        self._key = torch.zeros(shape, device=pool.device, dtype=pool.key.dtype)
        self._value = torch.zeros_like(self._key)
        self._free = list(range(pages))
        self._pages: list[list[int]] = [[] for _ in range(rows)]
        self._memories: list[tuple[int, ...]] = [()] * rows
        self._bias: list[tuple[float, ...]] = [()] * rows

    def open(self, row: int, tokens: int) -> None:
        self._pages[row] = [heapq.heappop(self._free) for _ in range(-(-tokens // PAGE_TOKENS))]
        self.read(row, (), None)

    def close(self, row: int) -> None:
        for page in self._pages[row]:
            heapq.heappush(self._free, page)
        self._pages[row] = []
        self.read(row, (), None)

    def read(self, row: int, slots: Sequence[int], bias: Sequence[float] | None) -> None:
        self._memories[row] = tuple(slots)
        self._bias[row] = tuple(bias or [0.0] * len(slots))

    def attention(self, works: Sequence[Work]) -> "PagedAttention":
        decoding = [work for work in works if work.decodes]
        assert all(work.decodes for work in works[: len(decoding)])
        places = [(work.row, work.past + n) for work in works for n in range(len(work.tokens))]
        pages = [self._pages[row][place // PAGE_TOKENS] for row, place in places]
        numbers = self._tensor([pages, [place % PAGE_TOKENS for _, place in places]]).long()
        return PagedAttention(
            Pages(self._key, self._value),
            self._pool,
            self._numbers,
            numbers[0],
            numbers[1],
            [
                (kernel, self._blocks(part, first))
                for kernel, part, first in (
                    (self._kernels.decode, decoding, 0),
                    (self._kernels.prefill, works[len(decoding) :], len(decoding)),
                )
                if part
            ],
        )

    def _blocks(self, works: Sequence[Work], first: int) -> Blocks:
        """One block for each work; the first of their tokens is the `first`-th of the packed ones."""
        counts = [len(work.tokens) for work in works]
        lengths = [work.past + count for work, count in zip(works, counts, strict=True)]
        starts = list(accumulate(counts[:-1], initial=first))
        width = -(-max(lengths) // PAGE_TOKENS)
        read = [self._memories[work.row] if work.reads else () for work in works]
        added = [self._bias[work.row] if work.reads else () for work in works]
        memories = max(map(len, read))
        return Blocks(
            first=self._tensor(starts),
            queries=self._tensor(counts),
            length=self._tensor(lengths),
            pages=self._tensor([_filled(self._pages[work.row][:width], width, 0) for work in works]),
            slots=self._tensor([_filled(slots, memories, -1) for slots in read]).view(len(works), memories),
            bias=torch.tensor([_filled(bias, memories, 0.0) for bias in added], device=self._pool.device).view(
                len(works), memories
            ),
            queries_max=max(counts),
            length_max=max(lengths),
        )

    def _tensor(self, numbers: Sequence[object]) -> Tensor:
        return torch.tensor(numbers, device=self._pool.device, dtype=torch.int32)


def _filled(numbers: Sequence[float], count: int, filler: float) -> list[float]:
    return [*numbers, *[filler] * (count - len(numbers))]


@dataclass(frozen=True, slots=True)
class PagedAttention:
    """The attention of one step. `pages` and `places` (N,) say where each packed token's key and value go."""

    context: Pages
    pool: MemoryPool
    memory_layers: Mapping[int, int]
    pages: Tensor
    places: Tensor
    parts: Sequence[tuple[Kernel, Blocks]]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Store the new keys and values (1, G, N, D), and attend to context and memories: (1, N, H, D)."""
        context = Pages(self.context.key[layer], self.context.value[layer])
        context.key[self.pages, :, self.places] = key[0].transpose(0, 1)
        context.value[self.pages, :, self.places] = value[0].transpose(0, 1)
        number = self.memory_layers.get(layer)
        slots = None if number is None else self.pool.layer(number)
        packed = query[0].transpose(0, 1)
        out = torch.empty(packed.shape, device=packed.device, dtype=packed.dtype)
        for kernel, blocks in self.parts:
            kernel(packed, context, slots, blocks, scale=scale, out=out)
        return out[None]
