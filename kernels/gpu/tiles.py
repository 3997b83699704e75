"""What decoding and prefill share: one softmax that reads tile after tile, memories by slot and a context by page.

A head of a size that is no power of two lies in two tiles (`head_parts`), the second of which may be missing. The state
of a softmax is (sums of values, these of the second part, greatest score, sum of weights) of each row. Scores are in
base 2, the hardware's own. Whatever stands in unused places, NaN as well, is never read.

Dimensions: a row is a query or a query head; `SIZE` is the head size, `MAIN` and `REST` its two parts, `KEPT` memory
tokens of a slot, `TILE` keys of a tile.
"""

import triton
import triton.language as tl

from ..blocks import PAGE_TOKENS

# Not infinity: a score of minus infinity has the weight 0 also where a row has seen nothing else yet.
LOWEST = tl.constexpr(-1e30)
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def load_rows(p_rows, m_rows, s_dim, o_dim: tl.constexpr, SIZE: tl.constexpr, PART: tl.constexpr):
    """`PART` dimensions of each row from `o_dim` on; zeros where there are none."""
    i_dims = o_dim + tl.arange(0, PART)
    return tl.load(p_rows[:, None] + i_dims[None] * s_dim, mask=m_rows[:, None] & (i_dims < SIZE)[None], other=0.0)


@triton.jit
def store_rows(p_rows, m_rows, s_dim, b_rows, o_dim: tl.constexpr, SIZE: tl.constexpr, PART: tl.constexpr):
    i_dims = o_dim + tl.arange(0, PART)
    p_out = p_rows[:, None] + i_dims[None] * s_dim
    tl.store(p_out, b_rows.to(p_rows.dtype.element_ty), mask=m_rows[:, None] & (i_dims < SIZE)[None])


@triton.jit
def load_query(p_rows, m_rows, s_dim, SIZE: tl.constexpr, MAIN: tl.constexpr, REST: tl.constexpr):
    """Both parts of the rows of a query."""
    b_query = load_rows(p_rows, m_rows, s_dim, 0, SIZE, MAIN)
    b_rest = b_query
    if REST > 0:
        b_rest = load_rows(p_rows, m_rows, s_dim, MAIN, SIZE, REST)
    return b_query, b_rest


@triton.jit
def scores(query, p_keys, m_keys, s_dim, factor, SIZE: tl.constexpr, MAIN: tl.constexpr, REST: tl.constexpr):
    """Scores (rows, `TILE`) of both parts of queries and the keys at some places."""
    b_query, b_rest = query
    b_key = load_rows(p_keys, m_keys, s_dim, 0, SIZE, MAIN)
    b_scores = tl.dot(b_query, tl.trans(b_key), input_precision="ieee")
    if REST > 0:
        b_key_rest = load_rows(p_keys, m_keys, s_dim, MAIN, SIZE, REST)
        b_scores = tl.dot(b_rest, tl.trans(b_key_rest), b_scores, input_precision="ieee")
    return b_scores * factor


@triton.jit
def empty_state(ROWS: tl.constexpr, MAIN: tl.constexpr, REST: tl.constexpr):
    """A softmax that has seen nothing."""
    b_out = tl.zeros([ROWS, MAIN], tl.float32)
    b_rest = tl.zeros([ROWS, REST if REST > 0 else 1], tl.float32)
    return b_out, b_rest, tl.full([ROWS], LOWEST, tl.float32), tl.zeros([ROWS], tl.float32)


@triton.jit
def absorb(state, b_scores, p_values, m_values, s_dim, SIZE: tl.constexpr, MAIN: tl.constexpr, REST: tl.constexpr):
    """The state after a tile with these scores, whose values lie at some places."""
    b_out, b_rest, b_max, b_sum = state
    b_highest = tl.maximum(b_max, tl.max(b_scores, 1))
    b_weights = tl.exp2(b_scores - b_highest[:, None])
    b_shrink = tl.exp2(b_max - b_highest)
    b_sum = b_sum * b_shrink + tl.sum(b_weights, 1)
    b_value = load_rows(p_values, m_values, s_dim, 0, SIZE, MAIN)
    b_weights = b_weights.to(b_value.dtype)
    b_out = tl.dot(b_weights, b_value, b_out * b_shrink[:, None], input_precision="ieee")
    if REST > 0:
        b_value_rest = load_rows(p_values, m_values, s_dim, MAIN, SIZE, REST)
        b_rest = tl.dot(b_weights, b_value_rest, b_rest * b_shrink[:, None], input_precision="ieee")
    return b_out, b_rest, b_highest, b_sum


@triton.jit
def store_state(state, p_rows, m_rows, s_dim, SIZE: tl.constexpr, MAIN: tl.constexpr, REST: tl.constexpr):
    """Write the weighted means of the values; gives back the logarithm of the sum of powers of each row."""
    b_out, b_rest, b_max, b_sum = state
    store_rows(p_rows, m_rows, s_dim, b_out / b_sum[:, None], 0, SIZE, MAIN)
    if REST > 0:
        store_rows(p_rows, m_rows, s_dim, b_rest / b_sum[:, None], MAIN, SIZE, REST)
    return b_max + tl.log2(b_sum)


@triton.jit
def read_context(
    state, query, context, pages, i_block, i_group, first, end, b_last, factor,
    MASKED: tl.constexpr, TILE: tl.constexpr, SIZE: tl.constexpr, MAIN: tl.constexpr, REST: tl.constexpr,
    PAGE: tl.constexpr = PAGE_TOKENS,
):  # fmt: skip
    """The state after the tokens from `first` (a multiple of `TILE`) to `end` of a context.

    Each row sees those up to `b_last`. Without `MASKED` every row sees all of them, and they fill their tiles.
    """
    for start in range(first, end, TILE):
        i_place = tl.load(pages.data + i_block * pages.s[0] + start // PAGE * pages.s[1]).to(tl.int64)
        i_rows = start % PAGE + tl.arange(0, TILE)
        i_tokens = start + tl.arange(0, TILE)
        m_tokens = i_tokens < end
        p_keys = context.key + i_place * context.s_key[0] + i_group * context.s_key[1] + i_rows * context.s_key[2]
        b_scores = scores(query, p_keys, m_tokens, context.s_key[3], factor, SIZE, MAIN, REST)
        if MASKED:
            m_seen = (i_tokens[None] <= b_last[:, None]) & m_tokens[None]
            b_scores = tl.where(m_seen, b_scores, float("-inf"))
        p_values = (
            context.value + i_place * context.s_value[0] + i_group * context.s_value[1] + i_rows * context.s_value[2]
        )
        state = absorb(state, b_scores, p_values, m_tokens, context.s_value[3], SIZE, MAIN, REST)
    return state


@triton.jit
def memory_scores(
    query, memory, i_slots, i_rows, m_rows, b_bias, i_group, factor,
    SIZE: tl.constexpr, MAIN: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    """Scores of the tokens `i_rows` of slots."""
    p_keys = memory.key + i_slots * memory.s_key[0] + i_group * memory.s_key[1] + i_rows * memory.s_key[2]
    b_scores = scores(query, p_keys, m_rows, memory.s_key[3], factor, SIZE, MAIN, REST)
    return tl.where(m_rows[None], b_scores + b_bias * LOG2_E, float("-inf"))


@triton.jit
def read_memories(
    state, query, memory, p_tokens, slots, bias, i_block, i_group, memories, factor,
    KEPT: tl.constexpr, TILE: tl.constexpr, SIZE: tl.constexpr, MAIN: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    """The state after the memories of a block, whose tokens fill tiles without gaps between the slots."""
    # A few tiles: loads ahead of them would cost more registers than the waiting is worth.
    for start in tl.range(0, memories * KEPT, TILE, num_stages=1):
        i_memories = (start + tl.arange(0, TILE)) // KEPT
        i_rows = (start + tl.arange(0, TILE)) % KEPT
        m_memories = i_memories < memories
        p_slots = slots.data + i_block * slots.s[0] + i_memories * slots.s[1]
        i_slots = tl.load(p_slots, mask=m_memories, other=-1).to(tl.int64)
        m_rows = i_rows < tl.load(p_tokens + i_slots, mask=i_slots >= 0, other=0)
        b_bias = tl.zeros([TILE], tl.float32)
        if bias is not None:
            b_bias += tl.load(bias.data + i_block * bias.s[0] + i_memories * bias.s[1], mask=m_memories, other=0.0)
        b_scores = memory_scores(
            query, memory, i_slots, i_rows, m_rows, b_bias[None], i_group, factor, SIZE, MAIN, REST
        )
        p_values = memory.value + i_slots * memory.s_value[0] + i_group * memory.s_value[1] + i_rows * memory.s_value[2]
        state = absorb(state, b_scores, p_values, m_rows, memory.s_value[3], SIZE, MAIN, REST)
    return state


@triton.jit
def write_mass(
    p_mass, s_mass, m_queries, b_log, query, memory, p_tokens, slots, bias, i_block, i_group, memories, factor,
    TILE: tl.constexpr, SIZE: tl.constexpr, MAIN: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    """The share of each memory in the softmax of each row, whose sum of powers has the logarithm `b_log`.

    The keys of the memories are read again: they are few, and no state has to be kept for each of them meanwhile.
    """
    for i_memory in tl.range(0, memories, num_stages=1):
        i_slot = tl.load(slots.data + i_block * slots.s[0] + i_memory * slots.s[1]).to(tl.int64)
        tokens = tl.load(p_tokens + i_slot, mask=i_slot >= 0, other=0)
        b_bias = 0.0
        if bias is not None:
            b_bias = tl.load(bias.data + i_block * bias.s[0] + i_memory * bias.s[1])
        b_mass = tl.zeros_like(b_log)
        for start in tl.range(0, tokens, TILE, num_stages=1):
            i_rows = start + tl.arange(0, TILE)
            b_scores = memory_scores(
                query, memory, i_slot, i_rows, i_rows < tokens, b_bias, i_group, factor, SIZE, MAIN, REST
            )
            b_mass += tl.sum(tl.exp2(b_scores - b_log[:, None]), 1)
        tl.store(p_mass + i_memory * s_mass, b_mass, mask=m_queries)
