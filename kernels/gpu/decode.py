"""Attention of sequences that generate: one query each, over a context of any length and the memories of its block.

All query heads of a KV head form one tile, so that its keys are read once. A long context is split between programs,
where the batch alone would leave processors idle; the first of them reads the memories. Each writes its own weighted
mean and the logarithm of its sum of powers, which a second kernel joins into one softmax. A head lies in one tile
whatever its size: decoding waits for memory, not for products, and what is empty is not read.

Dimensions: those of kernels/blocks.py; `L` splits of the longest context.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..blocks import PAGE_TOKENS, Blocks, Pages, Slots
from .launch import (
    LANES,
    check_arrays,
    decode_settings,
    head_whole,
    key_values,
    memory_tile,
    power_of_two,
    processors,
    table,
)  # fmt: skip
from .tiles import LOG2_E, empty_state, load_query, read_context, read_memories, store_state, write_mass

SPLIT_TOKENS_MIN = 4 * PAGE_TOKENS
SPLITS_MAX = 64
PROGRAMS_A_PROCESSOR = 2


def decode(
    query: Tensor,
    pages: Pages,
    slots: Slots | None,
    blocks: Blocks,
    *,
    scale: float,
    mass: bool = False,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """What `reference.attend_blocks` gives for blocks of one query each.

    Args:
        out: (N, H, D), where the results are written; queries of no block are left as they are there.
    """
    assert blocks.queries_max == 1, "blocks of several queries are for `prefill`"
    queries, heads, size = query.shape
    out = torch.zeros_like(query) if out is None else out
    weights = query.new_zeros(queries, heads, blocks.slots.shape[1], dtype=torch.float32) if mass else None
    chunk = split_tokens(blocks, pages.key.shape[1], query.device)
    splits = -(-blocks.length_max // chunk)
    if splits == 1:
        _run(query, pages, slots, blocks, scale, chunk, out[None], None, weights)
        return out, weights
    parts = query.new_empty(splits, queries, heads, size, dtype=torch.float32)
    logs = query.new_empty(splits, queries, heads, dtype=torch.float32)
    _run(query, pages, slots, blocks, scale, chunk, parts, logs, weights)
    join_kernel[(heads, len(blocks.first))](
        table(parts), logs, table(out), None if weights is None else table(weights), blocks.first, blocks.length,
        heads, queries, chunk, blocks.slots.shape[1],
        SPLITS=power_of_two(splits), SIZE=size, WHOLE=power_of_two(size), num_warps=4,
    )  # fmt: skip
    return out, weights


def split_tokens(blocks: Blocks, groups: int, device: torch.device) -> int:
    """Tokens of a context that one program reads: as few as keep all processors at work, in whole pages."""
    programs = len(blocks.first) * groups
    wanted = min(SPLITS_MAX, max(1, PROGRAMS_A_PROCESSOR * processors(device) // max(1, programs)))
    tokens = max(SPLIT_TOKENS_MIN, -(-blocks.length_max // wanted))
    return -(-tokens // PAGE_TOKENS) * PAGE_TOKENS


def _run(
    query: Tensor,
    pages: Pages,
    slots: Slots | None,
    blocks: Blocks,
    scale: float,
    chunk: int,
    parts: Tensor,
    logs: Tensor | None,
    weights: Tensor | None,
) -> None:
    """Each split's results into `parts` (L, N, H, D) and `logs` (L, N, H), and the mass within the first split."""
    queries, heads, size = query.shape
    groups = pages.key.shape[1]
    whole = head_whole(size)
    chosen = decode_settings(whole, query)
    tile = memory_tile(slots, blocks, chosen.tile)
    check_arrays(blocks.first, blocks.length, *([] if slots is None else [slots.tokens]))
    decode_kernel[(groups, len(blocks.first), parts.shape[0])](
        table(query), key_values(pages.key, pages.value), table(blocks.pages),
        None if slots is None else key_values(slots.key, slots.value), None if slots is None else slots.tokens,
        table(blocks.slots), None if blocks.bias is None else table(blocks.bias), blocks.first, blocks.length,
        table(parts), logs, None if weights is None else table(weights),
        queries, heads, blocks.slots.shape[1], chunk, scale,
        RATIO=heads // groups, ROWS=max(LANES, power_of_two(heads // groups)),
        KEPT=1 if slots is None else slots.key.shape[2], MEMORY_TILE=tile, TILE=chosen.tile,
        SIZE=size, WHOLE=whole, num_warps=chosen.warps, num_stages=chosen.stages,
    )  # fmt: skip


@triton.jit
def decode_kernel(
    query, context, pages, memory, p_tokens, slots, bias, p_first, p_length, parts, p_logs, mass,
    queries, heads, memories, chunk, scale,
    RATIO: tl.constexpr, ROWS: tl.constexpr, KEPT: tl.constexpr, MEMORY_TILE: tl.constexpr, TILE: tl.constexpr,
    SIZE: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """The query heads of one KV head over one split of one context."""
    i_group, i_block, i_split = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    length = tl.load(p_length + i_block)
    first = i_split.to(tl.int32) * chunk
    if first >= length:
        return
    i_query = tl.load(p_first + i_block).to(tl.int64)
    i_heads = i_group * RATIO + tl.arange(0, ROWS)
    m_heads = tl.arange(0, ROWS) < RATIO
    p_rows = query.data + i_query * query.s[0] + i_heads * query.s[1]
    b_query = load_query(p_rows, m_heads, query.s[2], SIZE, WHOLE, 0)
    factor = scale * LOG2_E
    state = empty_state(ROWS, WHOLE, 0)
    if memory is not None:
        of_split = tl.where(i_split == 0, memories, 0)
        state = read_memories(
            state, b_query, memory, p_tokens, slots, bias, i_block, i_group, of_split, factor,
            KEPT, MEMORY_TILE, SIZE, WHOLE, 0,
        )  # fmt: skip
    end = tl.minimum(first + chunk, length)
    b_last = tl.full([ROWS], length - 1, tl.int32)
    state = read_context(
        state, b_query, context, pages, i_block, i_group, first, end, b_last, factor,
        True, TILE, SIZE, WHOLE, 0,
    )  # fmt: skip
    p_parts = parts.data + i_split * parts.s[0] + i_query * parts.s[1] + i_heads * parts.s[2]
    b_log = store_state(state, p_parts, m_heads, parts.s[3], SIZE, WHOLE, 0)
    if p_logs is not None:
        tl.store(p_logs + (i_split * queries + i_query) * heads + i_heads, b_log, mask=m_heads)
    if mass is not None and memory is not None:
        of_split = tl.where(i_split == 0, memories, 0)
        p_mass = mass.data + i_query * mass.s[0] + i_heads * mass.s[1]
        write_mass(
            p_mass, mass.s[2], m_heads, b_log, b_query, memory, p_tokens, slots, bias, i_block, i_group, of_split,
            factor, MEMORY_TILE, SIZE, WHOLE, 0,
        )  # fmt: skip


@triton.jit
def join_kernel(
    parts, p_logs, out, mass, p_first, p_length, heads, queries, chunk, memories,
    SPLITS: tl.constexpr, SIZE: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """One softmax of the splits of one query head, each weighed by its share of the sum of powers."""
    i_head, i_block = tl.program_id(0), tl.program_id(1).to(tl.int64)
    i_query = tl.load(p_first + i_block).to(tl.int64)
    i_splits = tl.arange(0, SPLITS).to(tl.int64)
    # Splits behind the end of this context wrote nothing.
    m_splits = i_splits < tl.cdiv(tl.load(p_length + i_block), chunk)
    b_logs = tl.load(p_logs + (i_splits * queries + i_query) * heads + i_head, mask=m_splits, other=float("-inf"))
    b_powers = tl.exp2(b_logs - tl.max(b_logs, 0))
    b_shares = b_powers / tl.sum(b_powers, 0)
    i_dims = tl.arange(0, WHOLE)
    p_parts = parts.data + i_splits[:, None] * parts.s[0] + i_query * parts.s[1] + i_head * parts.s[2]
    m_dims = i_dims < SIZE
    b_parts = tl.load(p_parts + i_dims[None] * parts.s[3], mask=m_splits[:, None] & m_dims[None], other=0.0)
    b_out = tl.sum(b_parts * b_shares[:, None], 0)
    p_out = out.data + i_query * out.s[0] + i_head * out.s[1] + i_dims * out.s[2]
    tl.store(p_out, b_out.to(out.data.dtype.element_ty), mask=m_dims)
    if mass is not None:
        of_first = tl.sum(tl.where(i_splits == 0, b_shares, 0.0), 0)
        for i_memory in range(0, memories):
            p_mass = mass.data + i_query * mass.s[0] + i_head * mass.s[1] + i_memory * mass.s[2]
            tl.store(p_mass, tl.load(p_mass) * of_first)
