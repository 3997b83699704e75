"""Attention of one query a block on a CPU: keys and values are read once, where they lie.

It is bound by what a core reads from memory. PyTorch's fused attention takes up to 1.6 times as long for many queries
that stand alone (docs/performance.md), and would have contexts and memories copied together and padded to one length.

Dimensions: those of kernels/blocks.py.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..blocks import PAGE_TOKENS, Blocks, Pages, Slots
from .loops import attend
from .prefill import prefill

_PART_BYTES = 1 << 20
"""Keys and values that are worth another thread: a core reads them in about a tenth of a millisecond."""
_UNSCALED = torch.empty(0, 0, 0)
_NO_SLOTS = torch.empty(0, 0, 0, 0, dtype=torch.int8)


def decode(query: Tensor, pages: Pages, slots: Slots | None, blocks: Blocks, *, scale: float, out: Tensor) -> None:
    """Attend for blocks of one query each, in one softmax over memories and context (paper: inference, reading).

    As many threads work as PyTorch is set to, where there is enough to read. Each head of a query is summed by one of
    them, so that the result is the same to the bit whatever stands beside it.

    Args:
        query: (N, H, D), rotated. What is not float32 is attended to by PyTorch.
        slots: None reads no memories, whatever `blocks.slots` names.
        out: (N, H, D), contiguous; what belongs to no block stays as it is.
    """
    if query.dtype != torch.float32:
        prefill(query, pages, slots, blocks, scale=scale, out=out)
        return
    places = blocks.slots
    if slots is None:
        # Of whole numbers, because code for these is compiled anyway where memories are.
        slots, places = Slots(_NO_SLOTS, _NO_SLOTS, blocks.first[:0]), places[:, :0]
    bias = torch.zeros(places.shape) if blocks.bias is None else blocks.bias[:, : places.shape[1]]
    vectors = (query, pages.key, pages.value, slots.key, slots.value)
    scales = (*(slots.scales or (_UNSCALED, _UNSCALED)), _UNSCALED)
    numbers = (slots.tokens, blocks.first, blocks.length, blocks.pages, places, bias)
    arrays = [tensor.contiguous().numpy() for tensor in (*vectors, *scales, *numbers)]
    work = partial(attend, *arrays, np.float32(scale), out.numpy())
    groups, size = pages.key.shape[1], pages.key.shape[3]
    items = len(blocks.first) * groups
    tokens = len(blocks.first) * (blocks.length_max + places.shape[1] * slots.key.shape[2])
    parts = min(torch.get_num_threads(), items, 1 + 2 * 4 * tokens * groups * size // _PART_BYTES)
    if parts <= 1:
        work(0, items)
        return
    bounds = pairwise(items * part // parts for part in range(parts + 1))
    threads = _threads(torch.get_num_threads())
    for done in [threads.submit(work, start, stop) for start, stop in bounds]:
        done.result()


def compile_now(slots: Slots) -> None:
    """Compile for slots like these, or read from the disk, what would otherwise be compiled at the first token."""
    groups, size = slots.key.shape[1], slots.key.shape[3]
    dtype = slots.key.dtype if slots.scales is None else torch.float32
    held, query = torch.zeros(1, groups, PAGE_TOKENS, size, dtype=dtype), torch.zeros(1, groups, size, dtype=dtype)
    one, place = torch.ones(1, dtype=torch.int32), torch.zeros(1, 1, dtype=torch.int32)
    blocks = Blocks(one - 1, one, one, place, place - 1, None, 1, 1)
    for read in (None, slots):
        decode(query, Pages(held, held), read, blocks, scale=1.0, out=torch.empty_like(query))


@lru_cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="memory3-attention")
