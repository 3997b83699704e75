"""Named cases of attention over pages and slots, and the arguments that they stand for.

All memory that must not be read (pages and rows of no context, tokens of a slot that are not real, places of pages
behind a context's end) holds NaN or names a place that is not there, so that reading it shows.

Dimensions: those of kernels/blocks.py.
"""

from dataclasses import dataclass, replace

import torch
from memory3.kernels.blocks import PAGE_TOKENS, Blocks, Pages, Slots
from torch import Tensor

NOWHERE = 2**30
LAYERS, LAYER = 3, 1


@dataclass(frozen=True)
class Case:
    """A shape, and what is special about it.

    Attributes:
        lengths, queries: of each block; one query each if none are named.
        slots: of each block, alike for all if only one is named.
        tokens: real ones of each slot; all others are full.
        strength: factor of the queries, and so of the scores.
        strided: whether all tensors are views into larger ones, laid out otherwise.
    """

    name: str
    size: int = 32
    groups: int = 1
    ratio: int = 2
    lengths: tuple[int, ...] = (65, 1)
    queries: tuple[int, ...] = ()
    slots: tuple[tuple[int, ...], ...] = ((0, 2),)
    tokens: tuple[tuple[int, int], ...] = ()
    kept: int = 8
    bias: bool = False
    strength: float = 1.0
    strided: bool = False
    no_slots: bool = False


@dataclass(frozen=True)
class Inputs:
    query: Tensor
    pages: Pages
    slots: Slots | None
    blocks: Blocks
    scale: float

    def of(self, dtype: torch.dtype) -> "Inputs":
        """The same numbers, as near as a dtype has them; the order of dimensions in memory stays."""
        slots = self.slots
        return replace(
            self,
            query=self.query.to(dtype),
            pages=Pages(self.pages.key.to(dtype), self.pages.value.to(dtype)),
            slots=None if slots is None else Slots(slots.key.to(dtype), slots.value.to(dtype), slots.tokens),
        )


def inputs(case: Case, device: str) -> Inputs:
    """What a case stands for, float32, always with the same numbers."""
    generator = torch.Generator().manual_seed(11)
    counts = case.queries or (1,) * len(case.lengths)
    # Two queries stand before the first block and one between blocks: they belong to none.
    first = [2 + sum(counts[:block]) + block for block in range(len(counts))]
    query = torch.randn(first[-1] + counts[-1] + 1, case.groups * case.ratio, case.size, generator=generator)
    used = [-(-length // PAGE_TOKENS) for length in case.lengths]
    places = torch.randperm(sum(used) + 2, generator=generator).tolist()
    table = torch.full((len(counts), max(used) + 1), NOWHERE, dtype=torch.int32)
    key, value = (torch.full((len(places), case.groups, PAGE_TOKENS, case.size), torch.nan) for _ in range(2))
    for block, (length, pages) in enumerate(zip(case.lengths, used, strict=True)):
        for page in range(pages):
            place = table[block, page] = places.pop()
            rows = min(PAGE_TOKENS, length - page * PAGE_TOKENS)
            for one in (key, value):
                one[place, :, :rows] = torch.randn(case.groups, rows, case.size, generator=generator)
    chosen = torch.tensor(case.slots * (len(counts) if len(case.slots) == 1 else 1), dtype=torch.int32)
    bias = torch.randn(chosen.shape, generator=generator) * 2 if case.bias else None
    given = Inputs(
        query * case.strength,
        Pages(key, value),
        None if case.no_slots else _slots(case, generator),
        Blocks(
            torch.tensor(first, dtype=torch.int32, device=device),
            torch.tensor(counts, dtype=torch.int32, device=device),
            torch.tensor(case.lengths, dtype=torch.int32, device=device),
            _placed(table, case.strided, device),
            _placed(chosen, case.strided, device),
            None if bias is None else _placed(bias, case.strided, device),
            max(counts),
            max(case.lengths),
        ),
        case.size**-0.5,
    )
    return _moved(given, case.strided, device)


def _slots(case: Case, generator: torch.Generator) -> Slots:
    shape = (4, case.groups, case.kept, case.size)
    key, value = (torch.randn(shape, generator=generator) for _ in range(2))
    tokens = torch.full((4,), case.kept, dtype=torch.int32)
    for slot, real in case.tokens:
        tokens[slot] = real
    for one in (key, value):
        one[torch.arange(case.kept)[None, None].expand(4, case.groups, -1) >= tokens[:, None, None]] = torch.nan
    return Slots(key, value, tokens)


def _moved(given: Inputs, strided: bool, device: str) -> Inputs:
    slots = given.slots
    if slots is not None:
        key, value = (_placed(one, strided, device) for one in (slots.key, slots.value))
        slots = Slots(key, value, slots.tokens.to(device))
    pages = Pages(*(_placed(one, strided, device) for one in (given.pages.key, given.pages.value)))
    return Inputs(_placed(given.query, strided, device), pages, slots, given.blocks, given.scale)


def _placed(tensor: Tensor, strided: bool, device: str) -> Tensor:
    """A tensor on its device; if strided, as one layer of a larger one whose dimensions lie in another order."""
    if not strided:
        return tensor.to(device)
    larger = torch.zeros(LAYERS, *reversed(tensor.shape), dtype=tensor.dtype, device=device)
    view = larger[LAYER].permute(*reversed(range(tensor.ndim)))
    view.copy_(tensor)
    return view


ONE_QUERY = [
    Case("head-32"),
    Case("head-64", size=64),
    Case("head-80", size=80),
    Case("head-96", size=96),
    Case("head-100-of-128", size=100),
    Case("head-128", size=128),
    Case("head-256", size=256, lengths=(33,)),
    Case("one-head-a-group", ratio=1, groups=3),
    Case("two-groups-of-4", ratio=4, groups=2),
    Case("5-heads-a-group", ratio=5, groups=2, size=80),
    Case("20-heads-a-group", ratio=20),
    Case("ragged", lengths=(1, 63, 64, 65, 200)),
    Case("no-memories", slots=((),)),
    Case("no-slots-at-all", slots=((0, 1),), no_slots=True),
    Case("some-are-none", lengths=(9, 70), slots=((-1, 3), (1, -1))),
    Case("all-are-none", slots=((-1, -1, -1),)),
    Case("empty-slots", tokens=((0, 0), (2, 0))),
    Case("all-numbers-of-tokens", slots=((0, 1, 2, 3),), kept=3, tokens=((0, 0), (1, 1), (2, 2), (3, 3))),
    Case("the-same-twice", slots=((1, 1, 3),), bias=True),
    Case("5-memories", slots=((3, 1, -1, 0, 2),), bias=True, tokens=((1, 5),)),
    Case("more-than-a-tile", slots=((3, 1, 0, 2),), kept=40, tokens=((1, 33),)),
    Case("one-token-a-memory", kept=1),
    Case("one-token", lengths=(1,), slots=((-1,),)),
    Case("large-scores", strength=26.0, bias=True),
    Case("tiny-scores", strength=1e-6),
    Case("strided", size=80, groups=2, lengths=(70, 5), bias=True, strided=True),
]
SEVERAL_QUERIES = [
    Case("whole-prompt", lengths=(20,), queries=(20,)),
    Case("whole-block", lengths=(64,), queries=(64,), ratio=1),
    Case("chunks", lengths=(70, 130, 200, 40), queries=(6, 64, 1, 33), slots=((0, 1), (2, -1), (-1, -1), (3, 3))),
    Case("chunk-of-80", lengths=(75, 17), queries=(17, 17), size=80, ratio=5, bias=True, tokens=((2, 3),)),
    Case("chunk-of-96", lengths=(75,), queries=(20,), size=96),
    Case("chunk-of-128", lengths=(129, 64), queries=(2, 30), size=128, groups=2, ratio=1),
    Case("chunk-of-256", lengths=(66,), queries=(40,), size=256, ratio=1),
    Case("large-scores-in-a-chunk", lengths=(66,), queries=(40,), strength=26.0, bias=True),
    Case("memories-alone", lengths=(1, 1), queries=(1, 1), slots=((0, 1), (2, 3))),
    Case("strided-chunk", size=80, groups=2, lengths=(70, 5), queries=(9, 5), bias=True, strided=True),
    Case("no-memories-in-a-chunk", lengths=(70,), queries=(33,), slots=((),)),
]
