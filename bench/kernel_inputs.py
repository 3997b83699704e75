"""What the benchmark of kernels gives them: the same sequences in pages and slots, and side by side for the peers.

Dimensions: those of kernels/blocks.py; `B` sequences, `T` queries of each, `M` memory tokens, `S` context tokens.
"""

from dataclasses import dataclass, replace

import torch
from memory3.kernels.blocks import BLOCK_QUERIES, PAGE_TOKENS, Blocks, Pages, Slots
from memory3.kernels.reference import attend_blocks
from torch import Tensor

MEMORIES, KEPT = 5, 8
DTYPE = torch.bfloat16
CHECKED_BLOCKS = 4


@dataclass(frozen=True)
class Shape:
    heads: int
    groups: int
    size: int


SHAPES = {"paper": Shape(40, 8, 80), "llama": Shape(32, 8, 128)}
"""The paper's model, and Llama-3-8B."""


@dataclass(frozen=True)
class Inputs:
    """Equally long sequences as the kernels read them, `queries` of each at the end of its context."""

    shape: Shape
    batch: int
    length: int
    queries: int
    query: Tensor
    pages: Pages
    slots: Slots
    blocks: Blocks

    @property
    def scale(self) -> float:
        root: float = self.shape.size**-0.5
        return root

    @property
    def bytes_moved(self) -> int:
        """Bytes that decoding reads and writes at least."""
        keys = self.batch * (self.length + MEMORIES * KEPT) * self.shape.groups * 2
        return (keys + 2 * self.batch * self.shape.heads) * self.shape.size * DTYPE.itemsize

    @property
    def operations(self) -> float:
        """Operations of both products, of the keys that are seen."""
        seen = self.queries * (self.length - (self.queries - 1) / 2 + MEMORIES * KEPT)
        return 4 * self.batch * self.shape.heads * self.shape.size * seen


def inputs(shape: Shape, batch: int, length: int, queries: int, device: str) -> Inputs:
    """Pages in random order, and memories of each sequence's own."""
    pages = -(-length // PAGE_TOKENS)
    of_sequence = -(-queries // BLOCK_QUERIES)
    places = torch.randperm(batch * pages, device=device).int().view(batch, 1, pages)
    slots = torch.arange(batch * MEMORIES, device=device).int().view(batch, 1, MEMORIES)
    start = torch.arange(of_sequence, device=device).int() * BLOCK_QUERIES
    counts = (queries - start).clamp(max=BLOCK_QUERIES)

    def drawn(*size: int) -> Tensor:
        return torch.randn(*size, device=device, dtype=DTYPE)

    return Inputs(
        shape, batch, length, queries,
        drawn(batch * queries, shape.heads, shape.size),
        Pages(*(drawn(batch * pages, shape.groups, PAGE_TOKENS, shape.size) for _ in range(2))),
        Slots(
            drawn(batch * MEMORIES, shape.groups, KEPT, shape.size),
            drawn(batch * MEMORIES, shape.groups, KEPT, shape.size),
            torch.full((batch * MEMORIES,), KEPT, dtype=torch.int32, device=device),
        ),
        Blocks(
            (torch.arange(batch, device=device).int()[:, None] * queries + start).flatten(),
            counts.repeat(batch),
            (length - queries + start + counts).repeat(batch),
            places.expand(-1, of_sequence, -1).flatten(0, 1),
            slots.expand(-1, of_sequence, -1).flatten(0, 1),
            None, min(queries, BLOCK_QUERIES), length,
        ),
    )  # fmt: skip


def dense(given: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """Query (B, H, T, D), and keys and values (B, G, M + S, D) with the memories first, as the peers want them."""
    batch, shape = given.batch, given.shape
    places = given.blocks.pages[:: len(given.blocks.first) // batch].long()
    joined = []
    for page, slot in ((given.pages.key, given.slots.key), (given.pages.value, given.slots.value)):
        context = page[places].transpose(1, 2).flatten(2, 3)[:, :, : given.length]
        memories = slot.view(batch, MEMORIES, shape.groups, KEPT, shape.size).transpose(1, 2).flatten(2, 3)
        joined.append(torch.cat([memories, context], dim=2))
    query = given.query.view(batch, given.queries, shape.heads, shape.size).transpose(1, 2)
    return query, joined[0], joined[1]


def seen(given: Inputs, device: str) -> Tensor:
    """Which of the keys side by side each query sees, (T, M + S)."""
    causal = torch.ones(given.queries, given.length, dtype=torch.bool, device=device)
    causal = causal.tril(given.length - given.queries)
    return torch.cat([torch.ones(given.queries, MEMORIES * KEPT, dtype=torch.bool, device=device), causal], dim=1)


def check(given: Inputs, out: Tensor) -> None:
    """Compare the last blocks with the reference; two roundings by half a last place of the greatest value."""
    blocks = given.blocks
    part = slice(-CHECKED_BLOCKS, None)
    few = replace(
        blocks, first=blocks.first[part], queries=blocks.queries[part], length=blocks.length[part],
        pages=blocks.pages[part], slots=blocks.slots[part],
    )  # fmt: skip
    wanted, _ = attend_blocks(given.query, given.pages, given.slots, few, scale=given.scale)
    rows = slice(int(few.first[0]), None)
    difference = (out[rows].float() - wanted[rows].float()).abs().max().item()
    allowed = 2 * torch.finfo(DTYPE).eps * wanted[rows].abs().max().item()
    assert difference <= allowed, f"off by {difference:.2e}, allowed {allowed:.2e}: {given.shape}, {given.length}"
