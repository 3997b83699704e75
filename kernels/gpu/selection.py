"""The paper's selection rule in one kernel: attention that each token of a reference receives, and the best tokens.

The weights (T, T) of a reference are never written: a program holds the keys of one KV head, reads the queries of its
heads tile by tile and adds up what each key receives. Then it takes the best key, again and again.

Dimensions: `B` references, `H` query heads, `G` KV heads, `T` tokens, `D` head size, `K` kept tokens.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import LANES, head_whole, power_of_two, table
from .tiles import load_rows

TOKENS_MAX = 256
"""Keys of a reference that fit a tile; in float32 with heads above 128, half as many."""
ROWS = 32
"""Queries that are read at a time."""


def select(query: Tensor, key: Tensor, valid: Tensor, scale: float, kept_tokens: int) -> tuple[Tensor, Tensor]:
    """What `keep` of model/selection.py takes by the rule `attention_sum`.

    Args:
        query: (B, H, T, D), without its rotation.
        key: (B, G, T, D), likewise.
        valid: (B, T) bool; other tokens neither give nor receive, and are kept only where too few are valid.

    Returns:
        Indices (B, G, K) int64 in the order of the text, and whether each is a real token (B, G, K); K is
        `kept_tokens`, or T if less. Of tokens that are equally good to 12 bits the first are kept.
    """
    batch, heads, tokens, size = query.shape
    groups = key.shape[1]
    assert tokens <= TOKENS_MAX, f"references of {tokens} tokens; the kernel takes up to {TOKENS_MAX}"
    kept = min(kept_tokens, tokens)
    indices = torch.empty(batch, groups, kept, dtype=torch.int64, device=query.device)
    real = torch.empty(batch, groups, kept, dtype=torch.bool, device=query.device)
    selection_kernel[(groups, batch)](
        table(query), table(key), table(valid.view(torch.uint8)), indices, real.view(torch.uint8),
        tokens, kept, scale,
        RATIO=heads // groups, ROWS=ROWS, TOKENS=max(LANES, power_of_two(tokens)), SIZE=size,
        WHOLE=head_whole(size), num_warps=8, num_stages=1,
    )  # fmt: skip
    return indices, real


@triton.jit
def selection_kernel(
    query, key, valid, p_indices, p_real, tokens, kept, scale,
    RATIO: tl.constexpr, ROWS: tl.constexpr, TOKENS: tl.constexpr, SIZE: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """The kept tokens of one KV head of one reference."""
    i_group, i_reference = tl.program_id(0), tl.program_id(1).to(tl.int64)
    i_tokens = tl.arange(0, TOKENS)
    p_valid = valid.data + i_reference * valid.s[0]
    m_valid = tl.load(p_valid + i_tokens * valid.s[1], mask=i_tokens < tokens, other=0) != 0
    p_keys = key.data + i_reference * key.s[0] + i_group * key.s[1] + i_tokens * key.s[2]
    b_keys = tl.trans(load_rows(p_keys, m_valid, key.s[3], 0, SIZE, WHOLE))
    b_received = tl.zeros([TOKENS], tl.float32)
    for i_head in range(i_group * RATIO, i_group * RATIO + RATIO):
        for start in range(0, tokens, ROWS):
            i_rows = start + tl.arange(0, ROWS)
            m_rows = tl.load(p_valid + i_rows * valid.s[1], mask=i_rows < tokens, other=0) != 0
            p_rows = query.data + i_reference * query.s[0] + i_head * query.s[1] + i_rows * query.s[2]
            b_query = load_rows(p_rows, m_rows, query.s[3], 0, SIZE, WHOLE)
            b_scores = tl.dot(b_query, b_keys, input_precision="ieee") * scale
            b_scores = tl.where(m_valid[None], b_scores, float("-inf"))
            b_weights = tl.exp(b_scores - tl.max(b_scores, 1)[:, None])
            b_weights /= tl.sum(b_weights, 1)[:, None]
            b_received += tl.sum(tl.where(m_rows[:, None], b_weights, 0.0), 0)
    p_out = (i_reference * tl.num_programs(0) + i_group) * kept
    store_best(b_received, m_valid, p_indices + p_out, p_real + p_out, i_tokens, tokens, kept)


@triton.jit
def store_best(b_received, m_valid, p_indices, p_real, i_tokens, tokens, kept):
    """Write the tokens that received most, in the order of the text."""
    # Scores are positive, so that their bits are in their order; rounded to 12 significant ones.
    b_bits = (b_received.to(tl.int32, bitcast=True) + 0x800) & -0x1000
    b_ranks = tl.where(m_valid, b_bits, tl.where(i_tokens < tokens, -1, -2))
    m_kept = i_tokens < 0
    for _ in range(0, kept):
        m_best = i_tokens == tl.argmax(b_ranks, 0)
        m_kept |= m_best
        b_ranks = tl.where(m_best, -3, b_ranks)
    o_kept = tl.cumsum(m_kept.to(tl.int32), 0) - 1
    tl.store(p_indices + o_kept, i_tokens.to(tl.int64), mask=m_kept)
    tl.store(p_real + o_kept, m_valid.to(tl.uint8), mask=m_kept)
