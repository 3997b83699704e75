"""Attention of prompts: blocks of up to 64 queries, each with its own memories, over the context up to each query.

One program takes one query head of a block, or of a part of it. It reads the memories first, then the context: tiles
that all its queries see without a mask, then the last ones, where a query sees the tokens up to itself.

Dimensions: those of kernels/blocks.py.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..blocks import Blocks, Pages, Slots
from .launch import LANES, check_arrays, head_parts, key_values, memory_tile, power_of_two, prefill_settings, table
from .tiles import LOG2_E, empty_state, load_query, read_context, read_memories, store_state, write_mass


def prefill(
    query: Tensor,
    pages: Pages,
    slots: Slots | None,
    blocks: Blocks,
    *,
    scale: float,
    mass: bool = False,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """What `reference.attend_blocks` gives, for blocks of any number of queries.

    Args:
        out: (N, H, D), where the results are written; queries of no block are left as they are there.
    """
    queries, heads, size = query.shape
    out = torch.zeros_like(query) if out is None else out
    weights = query.new_zeros(queries, heads, blocks.slots.shape[1], dtype=torch.float32) if mass else None
    main, rest = head_parts(size)
    chosen = prefill_settings(main + rest, query)
    rows = min(chosen.rows, max(LANES, power_of_two(blocks.queries_max)))
    check_arrays(blocks.first, blocks.queries, blocks.length, *([] if slots is None else [slots.tokens]))
    prefill_kernel[(heads, len(blocks.first), -(-blocks.queries_max // rows))](
        table(query), key_values(pages.key, pages.value), table(blocks.pages),
        None if slots is None else key_values(slots.key, slots.value), None if slots is None else slots.tokens,
        table(blocks.slots), None if blocks.bias is None else table(blocks.bias),
        blocks.first, blocks.queries, blocks.length, table(out), None if weights is None else table(weights),
        blocks.slots.shape[1], scale,
        RATIO=heads // pages.key.shape[1], ROWS=rows,
        KEPT=1 if slots is None else slots.key.shape[2], MEMORY_TILE=memory_tile(slots, blocks, chosen.tile),
        TILE=chosen.tile, SIZE=size, MAIN=main, REST=rest, num_warps=chosen.warps, num_stages=chosen.stages,
    )  # fmt: skip
    return out, weights


@triton.jit
def prefill_kernel(
    query, context, pages, memory, p_tokens, slots, bias, p_first, p_queries, p_length, out, mass,
    memories, scale,
    RATIO: tl.constexpr, ROWS: tl.constexpr, KEPT: tl.constexpr, MEMORY_TILE: tl.constexpr, TILE: tl.constexpr,
    SIZE: tl.constexpr, MAIN: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    """Some queries of one block in one query head. Heads of a block run side by side and find its keys in the cache."""
    i_head, i_block = tl.program_id(0), tl.program_id(1).to(tl.int64)
    i_group = i_head // RATIO
    first, queries = tl.program_id(2) * ROWS, tl.load(p_queries + i_block)
    if first >= queries:
        return
    before = tl.load(p_length + i_block) - queries
    i_rows = first + tl.arange(0, ROWS)
    m_rows = i_rows < queries
    i_queries = tl.load(p_first + i_block).to(tl.int64) + i_rows
    p_rows = query.data + i_queries * query.s[0] + i_head * query.s[1]
    b_query = load_query(p_rows, m_rows, query.s[2], SIZE, MAIN, REST)
    factor = scale * LOG2_E
    state = empty_state(ROWS, MAIN, REST)
    if memory is not None:
        state = read_memories(
            state, b_query, memory, p_tokens, slots, bias, i_block, i_group, memories, factor,
            KEPT, MEMORY_TILE, SIZE, MAIN, REST,
        )  # fmt: skip
    b_last = before + i_rows
    # The first query sees all tokens before it, and itself; the last one ends what is read.
    full, end = (before + first + 1) // TILE * TILE, before + tl.minimum(first + ROWS, queries)
    state = read_context(
        state, b_query, context, pages, i_block, i_group, 0, full, b_last, factor, False, TILE, SIZE, MAIN, REST
    )
    state = read_context(
        state, b_query, context, pages, i_block, i_group, full, end, b_last, factor, True, TILE, SIZE, MAIN, REST
    )
    p_out = out.data + i_queries * out.s[0] + i_head * out.s[1]
    b_log = store_state(state, p_out, m_rows, out.s[2], SIZE, MAIN, REST)
    if mass is not None and memory is not None:
        p_mass = mass.data + i_queries * mass.s[0] + i_head * mass.s[1]
        write_mass(
            p_mass, mass.s[2], m_rows, b_log, b_query, memory, p_tokens, slots, bias, i_block, i_group, memories,
            factor, MEMORY_TILE, SIZE, MAIN, REST,
        )  # fmt: skip
