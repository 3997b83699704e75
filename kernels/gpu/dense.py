"""The kernels of training: one softmax over memories and a dense context, and its gradients, without its weights.

Memories and context differ by two things only, which the kernels are compiled for: the causal mask, and what is added
to the scores. A program takes a tile of queries, or of keys, and goes through all tiles of the others.

Dimensions: those of kernels/reference.py; `ROWS` rows of a tile, `SIZE` head size, `WHOLE` the same as a power of two.
"""

import triton
import triton.language as tl

from .tiles import LOG2_E, absorb, empty_state, load_rows, scores, store_rows, store_state


@triton.jit
def forward_kernel(
    query, key, value, memory_key, memory_value, bias, out, p_logs, queries, keys, memories, scale,
    RATIO: tl.constexpr, ROWS: tl.constexpr, SIZE: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """One tile of queries of one head."""
    i_head, i_batch = tl.program_id(1), tl.program_id(2).to(tl.int64)
    i_rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    m_rows = i_rows < queries
    b_query = load_rows(at(query, i_batch, i_head, i_rows), m_rows, query.s[3], 0, SIZE, WHOLE)
    b_last = keys - queries + i_rows
    factor = scale * LOG2_E
    state = empty_state(ROWS, WHOLE, 0)
    if memory_key is not None:
        for start in range(0, memories, ROWS):
            i_keys = start + tl.arange(0, ROWS)
            b_scores = masked_scores(
                b_query, memory_key, bias, i_batch, i_head // RATIO, i_keys, memories, b_last, factor,
                False, SIZE, WHOLE,
            )  # fmt: skip
            p_values = at(memory_value, i_batch, i_head // RATIO, i_keys)
            state = absorb(state, b_scores, p_values, i_keys < memories, memory_value.s[3], SIZE, WHOLE, 0)
    end = tl.minimum(keys - queries + tl.program_id(0) * ROWS + ROWS, keys)
    for start in range(0, end, ROWS):
        i_keys = start + tl.arange(0, ROWS)
        b_scores = masked_scores(
            b_query, key, None, i_batch, i_head // RATIO, i_keys, keys, b_last, factor, True, SIZE, WHOLE
        )
        p_values = at(value, i_batch, i_head // RATIO, i_keys)
        state = absorb(state, b_scores, p_values, i_keys < keys, value.s[3], SIZE, WHOLE, 0)
    b_log = store_state(state, at(out, i_batch, i_head, i_rows), m_rows, out.s[3], SIZE, WHOLE, 0)
    tl.store(p_logs + (i_batch * tl.num_programs(1) + i_head) * queries + i_rows, b_log, mask=m_rows)


@triton.jit
def query_gradient_kernel(
    query, key, value, memory_key, memory_value, bias, gradient, p_logs, p_deltas, of_query,
    queries, keys, memories, scale,
    RATIO: tl.constexpr, ROWS: tl.constexpr, SIZE: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """The gradient of one tile of queries of one head."""
    i_head, i_batch = tl.program_id(1), tl.program_id(2).to(tl.int64)
    first = tl.program_id(0) * ROWS
    i_rows = first + tl.arange(0, ROWS)
    rows = load_queries(
        query, gradient, p_logs, p_deltas, i_batch, i_head, tl.num_programs(1), i_rows, queries, SIZE, WHOLE
    )
    b_last = keys - queries + i_rows
    b_out = tl.zeros([ROWS, WHOLE], tl.float32)
    if memory_key is not None:
        b_out = add_query_gradient(
            b_out, rows, memory_key, memory_value, bias, i_batch, i_head // RATIO, memories, memories, b_last, scale,
            False, ROWS, SIZE, WHOLE,
        )  # fmt: skip
    end = tl.minimum(keys - queries + first + ROWS, keys)
    b_out = add_query_gradient(
        b_out, rows, key, value, None, i_batch, i_head // RATIO, end, keys, b_last, scale, True, ROWS, SIZE, WHOLE
    )
    p_out = at(of_query, i_batch, i_head, i_rows)
    store_rows(p_out, i_rows < queries, of_query.s[3], b_out * scale, 0, SIZE, WHOLE)


@triton.jit
def add_query_gradient(
    b_out, rows, key, value, bias, i_batch, i_group, end, keys, b_last, scale,
    CAUSAL: tl.constexpr, TILE: tl.constexpr, SIZE: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """What the keys of the memories or of the context add to the gradient of queries, but for the scale."""
    for start in range(0, end, TILE):
        i_keys = start + tl.arange(0, TILE)
        _, b_gradient = weights(
            rows, key, value, bias, i_batch, i_group, i_keys, keys, b_last, scale, CAUSAL, SIZE, WHOLE
        )
        b_key = load_rows(at(key, i_batch, i_group, i_keys), i_keys < keys, key.s[3], 0, SIZE, WHOLE)
        b_out = tl.dot(b_gradient.to(b_key.dtype), b_key, b_out, input_precision="ieee")
    return b_out


@triton.jit
def key_gradient_kernel(
    query, key, value, bias, gradient, p_logs, p_deltas, of_key, of_value, queries, keys, scale,
    CAUSAL: tl.constexpr, RATIO: tl.constexpr, ROWS: tl.constexpr, SIZE: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """The gradient of one tile of keys and values of one KV head, from all queries of its heads."""
    i_group, i_batch = tl.program_id(1), tl.program_id(2).to(tl.int64)
    first = tl.program_id(0) * ROWS
    i_keys = first + tl.arange(0, ROWS)
    b_key, b_value = tl.zeros([ROWS, WHOLE], tl.float32), tl.zeros([ROWS, WHOLE], tl.float32)
    begin = 0
    if CAUSAL:
        # Queries before these keys do not see them.
        begin = tl.maximum(first - (keys - queries), 0) // ROWS * ROWS
    for i_head in range(i_group * RATIO, i_group * RATIO + RATIO):
        for start in range(begin, queries, ROWS):
            i_rows = start + tl.arange(0, ROWS)
            rows = load_queries(
                query, gradient, p_logs, p_deltas, i_batch, i_head, tl.num_programs(1) * RATIO, i_rows, queries,
                SIZE, WHOLE,
            )  # fmt: skip
            b_last = keys - queries + i_rows
            b_weights, b_gradient = weights(
                rows, key, value, bias, i_batch, i_group, i_keys, keys, b_last, scale, CAUSAL, SIZE, WHOLE
            )
            b_query, b_upper, _, _ = rows
            b_value = tl.dot(tl.trans(b_weights).to(b_upper.dtype), b_upper, b_value, input_precision="ieee")
            b_key = tl.dot(tl.trans(b_gradient).to(b_query.dtype), b_query, b_key, input_precision="ieee")
    store_rows(at(of_key, i_batch, i_group, i_keys), i_keys < keys, of_key.s[3], b_key * scale, 0, SIZE, WHOLE)
    store_rows(at(of_value, i_batch, i_group, i_keys), i_keys < keys, of_value.s[3], b_value, 0, SIZE, WHOLE)


@triton.jit
def at(tensor, i_batch, i_head, i_rows):
    """Where rows of a tensor with four dimensions begin."""
    return tensor.data + i_batch * tensor.s[0] + i_head * tensor.s[1] + i_rows * tensor.s[2]


@triton.jit
def load_queries(
    query, gradient, p_logs, p_deltas, i_batch, i_head, heads, i_rows, queries, SIZE: tl.constexpr, WHOLE: tl.constexpr
):
    """Queries, gradients of their results, logarithms and deltas. Rows that are not there add nothing: all are zero."""
    m_rows = i_rows < queries
    b_query = load_rows(at(query, i_batch, i_head, i_rows), m_rows, query.s[3], 0, SIZE, WHOLE)
    b_upper = load_rows(at(gradient, i_batch, i_head, i_rows), m_rows, gradient.s[3], 0, SIZE, WHOLE)
    o_rows = (i_batch * heads + i_head) * queries + i_rows
    b_logs, b_deltas = (
        tl.load(p_logs + o_rows, mask=m_rows, other=0.0),
        tl.load(p_deltas + o_rows, mask=m_rows, other=0.0),
    )
    return b_query, b_upper, b_logs, b_deltas


@triton.jit
def masked_scores(
    b_query, key, bias, i_batch, i_group, i_keys, keys, b_last, factor,
    CAUSAL: tl.constexpr, SIZE: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """Scores of some keys; where `CAUSAL`, a row sees those up to `b_last`."""
    m_keys = i_keys < keys
    b_scores = scores((b_query, b_query), at(key, i_batch, i_group, i_keys), m_keys, key.s[3], factor, SIZE, WHOLE, 0)
    if bias is not None:
        p_bias = bias.data + i_batch * bias.s[0] + i_group * bias.s[1] + i_keys * bias.s[2]
        b_scores += (tl.load(p_bias, mask=m_keys, other=0.0).to(tl.float32) * LOG2_E)[None]
    m_seen = m_keys[None]
    if CAUSAL:
        m_seen = m_seen & (i_keys[None] <= b_last[:, None])
    return tl.where(m_seen, b_scores, float("-inf"))


@triton.jit
def weights(
    rows, key, value, bias, i_batch, i_group, i_keys, keys, b_last, scale,
    CAUSAL: tl.constexpr, SIZE: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """Weights of some keys for some queries, and the gradient of their scores."""
    b_query, b_upper, b_logs, b_deltas = rows
    b_scores = masked_scores(
        b_query, key, bias, i_batch, i_group, i_keys, keys, b_last, scale * LOG2_E, CAUSAL, SIZE, WHOLE
    )
    b_weights = tl.exp2(b_scores - b_logs[:, None])
    b_value = load_rows(at(value, i_batch, i_group, i_keys), i_keys < keys, value.s[3], 0, SIZE, WHOLE)
    b_of_weights = tl.dot(b_upper, tl.trans(b_value), input_precision="ieee")
    return b_weights, b_weights * (b_of_weights - b_deltas[:, None])
