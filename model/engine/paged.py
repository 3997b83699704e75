"""Where the contexts of running sequences lie: in pages that they take; memories are read where the pool has them.

Nothing is padded and nothing is copied: the kernels follow the numbers of pages and slots, which go to the device in
one copy (transfer.py). A sequence gets all pages that it may come to need when it opens, so that it never has to stop
amid its answer for want of one. Only steps that are to keep their shapes are padded (decode_graphs.py).

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
from .step import Packed, Work
from .transfer import Numbers, cut, packed


class Kernel(Protocol):
    """Attention of blocks: the signature of `kernels.reference.attend_blocks`, and where to write the result."""

    def __call__(
        self, query: Tensor, pages: Pages, slots: Slots | None, blocks: Blocks, *, scale: float, out: Tensor
    ) -> object: ...


@dataclass(frozen=True, slots=True)
class Kernels:
    """`decode` takes blocks of one query each, `prefill` blocks of up to 64.

    `static`: launching them takes so long that decode steps are to keep their shapes and places (decode_graphs.py).
    """

    decode: Kernel
    prefill: Kernel
    static: bool = True


def kernels_for(pool: MemoryPool) -> Kernels:
    """Those for the device of a pool.

    Raises:
        InvalidArgument: they do not take heads of this size.
    """
    slots = pool.layer(0)
    return gpu_kernels(slots.key.shape[3]) if pool.device.type == "cuda" else cpu_kernels(slots)


def cpu_kernels(slots: Slots) -> Kernels:
    """Those of Numba and PyTorch, compiled for slots like these when this returns."""
    from ...kernels.cpu.decode import compile_now, decode
    from ...kernels.cpu.prefill import prefill

    compile_now(slots)
    return Kernels(decode, prefill, static=False)


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


@dataclass(frozen=True, slots=True)
class Room:
    """What blocks have room for: sequences, pages of the longest context, and memories of each."""

    sequences: int
    pages: int
    memories: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A step before its numbers are on the device.

    `parts` are the kernels that attend, each with `queries_max` and `length_max` of its `Blocks`; `arrays` are the five
    of the packed tokens, and then the six of the blocks of each part.
    """

    arrays: Sequence[Numbers]
    parts: Sequence[tuple[Kernel, int, int]]


class Paged:
    """Used by the engine's thread alone.

    Pages are taken from the device as contexts need them, or all at once where they have to keep their places.
    """

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
        # One page belongs to nobody: those who only fill a step up write there.
        shape = (layers, 1, kv_heads, PAGE_TOKENS, head_size)
        self._key = torch.zeros(shape, device=pool.device, dtype=pool.dtype)
        self._value = torch.zeros_like(self._key)
        self._free: list[int] = []
        self._pages: list[list[int]] = [*([] for _ in range(rows)), [0]]
        self._memories: list[tuple[int, ...]] = [()] * (rows + 1)
        self._bias: list[tuple[float, ...]] = [()] * (rows + 1)
        self._nobody = Work(rows, [0], 0, 0, reads=True)
        # The last page of each row may be filled in part.
        self._pages_max = 1 + -(-tokens // PAGE_TOKENS) + rows
        if kernels.static:
            self._grow(self._pages_max)

    def open(self, row: int, tokens: int) -> None:
        """Give a row room for so many tokens; it reads no memories yet."""
        count = -(-tokens // PAGE_TOKENS)
        if count > len(self._free):
            there = self._key.shape[1]
            self._grow(min(self._pages_max, max(2 * there, there + count - len(self._free))))
        self._pages[row] = [heapq.heappop(self._free) for _ in range(count)]
        self.read(row, (), None)

    def close(self, row: int) -> None:
        """Take the row's room back."""
        for page in self._pages[row]:
            heapq.heappush(self._free, page)
        self._pages[row] = []
        self.read(row, (), None)

    def read(self, row: int, slots: Sequence[int], bias: Sequence[float] | None) -> None:
        """Let a row read these slots of the pool from the next step on, instead of those before."""
        self._memories[row] = tuple(slots)
        self._bias[row] = tuple(bias or [0.0] * len(slots))

    @property
    def static(self) -> bool:
        """Whether decode steps are to keep their shapes; the pages then keep their places."""
        return self._kernels.static

    @property
    def device(self) -> torch.device:
        return self._pool.device

    def pack(self, works: Sequence[Work], last: Sequence[int]) -> Packed:
        """A step on the model's device, its tokens in the order of `works`; `last` as in `Packed`."""
        decoding = [work for work in works if work.decodes]
        assert all(work.decodes for work in works[: len(decoding)])
        rest = works[len(decoding) :]
        parts = [(self._kernels.decode, decoding), (self._kernels.prefill, rest)]
        plan = self._plan(works, last, [(kernel, part, self.room(part)) for kernel, part in parts if part])
        return self.over(plan, packed(plan.arrays, self.device).to(self.device, non_blocking=True))

    def room(self, works: Sequence[Work]) -> Room:
        """What these works need."""
        return Room(
            len(works),
            -(-max(work.past + len(work.tokens) for work in works) // PAGE_TOKENS),
            max(len(self._memories[work.row]) if work.reads else 0 for work in works),
        )

    def decode_plan(self, works: Sequence[Work], room: Room) -> Plan:
        """The plan of a step of works that all decode, padded to `room`; all plans for one room have the same shapes.

        The logits of every sequence are asked for, also of those that are there to fill the room.
        """
        filled = [*works, *[self._nobody] * (room.sequences - len(works))]
        return self._plan(filled, range(room.sequences), [(self._kernels.decode, filled, room)])

    def over(self, plan: Plan, buffer: Tensor) -> Packed:
        """The step of a plan whose numbers lie, or will lie, in a buffer (bytes,) uint8 on the device."""
        tokens, positions, last, pages, places, *blocks = cut(buffer, plan.arrays)
        parts = []
        for number, (kernel, queries_max, length_max) in enumerate(plan.parts):
            first, queries, length, tables, slots, bias = blocks[6 * number : 6 * number + 6]
            parts.append((kernel, Blocks(first, queries, length, tables, slots, bias, queries_max, length_max)))
        attention = PagedAttention(Pages(self._key, self._value), self._pool, self._numbers, pages, places, parts)
        return Packed(tokens, positions, last, attention)

    def _grow(self, pages: int) -> None:
        """Have so many pages, those that are held with what lies in them."""
        there = self._key.shape[1]
        self._key, self._value = (_grown(held, pages) for held in (self._key, self._value))
        # Greater than all that are free, so that these stay a heap.
        self._free += range(there, pages)

    def _plan(
        self, works: Sequence[Work], last: Sequence[int], parts: Sequence[tuple[Kernel, Sequence[Work], Room]]
    ) -> Plan:
        """The plan of a step whose works are those of its parts, one behind the other."""
        tokens = [token for work in works for token in work.tokens]
        positions = [position for work in works for position in work.positions]
        places = [(work.row, place) for work in works for place in work.places]
        arrays = [
            Numbers("q", tokens, (1, len(tokens))),
            Numbers("q", positions, (1, len(tokens))),
            Numbers("q", last, (len(last),)),
            Numbers("q", [self._pages[row][place // PAGE_TOKENS] for row, place in places], (len(tokens),)),
            Numbers("q", [place % PAGE_TOKENS for _, place in places], (len(tokens),)),
        ]
        first, bounds = 0, []
        for kernel, part, room in parts:
            arrays += self._blocks(part, first, room)
            first += sum(len(work.tokens) for work in part)
            bounds.append((kernel, max(len(work.tokens) for work in part), room.pages * PAGE_TOKENS))
        return Plan(arrays, bounds)

    def _blocks(self, works: Sequence[Work], first: int, room: Room) -> list[Numbers]:
        """The arrays of `Blocks`: one block for each work, whose tokens begin at the `first`-th of the step's."""
        count = len(works)
        tokens = [len(work.tokens) for work in works]
        read = [self._memories[work.row] if work.reads else () for work in works]
        added = [self._bias[work.row] if work.reads else () for work in works]
        return [
            Numbers("i", list(accumulate(tokens[:-1], initial=first)), (count,)),
            Numbers("i", tokens, (count,)),
            Numbers("i", [work.past + len(work.tokens) for work in works], (count,)),
            _table("i", [self._pages[work.row][: room.pages] for work in works], room.pages, 0),
            _table("i", read, room.memories, -1),
            _table("f", added, room.memories, 0.0),
        ]


def _grown(held: Tensor, pages: int) -> Tensor:
    """Return a tensor of so many pages, the first of them as they are, the others with anything in them."""
    room = held.new_empty(held.shape[0], pages, *held.shape[2:])
    room[:, : held.shape[1]] = held
    return room


def _table(kind: str, rows: Sequence[Sequence[float]], width: int, filler: float) -> Numbers:
    """Rows of any length up to `width`, filled up."""
    values = [number for row in rows for number in (*row, *[filler] * (width - len(row)))]
    return Numbers(kind, values, (len(rows), width))


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
