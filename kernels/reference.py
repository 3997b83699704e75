"""Attention over memories and context in plain PyTorch: what every kernel must equal.

Dimensions: `B` batch, `H` query heads, `G` KV heads (`H` a multiple of `G`), `T` queries, `S` context keys,
`M` memory tokens, `D` head size.
"""

import torch
from torch import Tensor


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scale: float,
    mask: Tensor | None = None,
    memory_key: Tensor | None = None,
    memory_value: Tensor | None = None,
    memory_mask: Tensor | None = None,
    memory_weights: Tensor | None = None,
) -> Tensor:
    """One softmax over [memories, context] (paper: inference, reading).

    The two parts are scored apart and only their scores are joined, so no keys or values are copied together.

    Args:
        query: (B, H, T, D), rotated.
        key, value: (B, G, S, D), the context.
        scale: the factor of the scores, usually D ** -0.5.
        mask: (B or 1, H or 1, T, S), bool (True takes part) or an additive float; None means causal with the last
            query at the last key.
        memory_key, memory_value: (B, G, M, D); None attends to the context alone.
        memory_mask: (B, G, M), bool (True takes part) or an additive float; None means all do.
        memory_weights: (B, H, T, M), filled with each memory token's share of the softmax; None leaves them out.

    Returns:
        (B, H, T, D) in the dtype of `query`. Scores are summed in the dtype given: pass float32 for a reference.
    """
    batch, heads, queries, size = query.shape
    groups, keys = key.shape[1], key.shape[2]
    ratio = heads // groups
    # Query heads that share a KV head are laid side by side, so that each KV head is read once and never repeated.
    query = (query * scale).reshape(batch, groups, ratio * queries, size)
    scores = query @ key.transpose(2, 3)
    scores = _masked(scores.view(batch, groups, ratio, queries, keys), mask).view(batch, groups, ratio * queries, keys)
    if memory_key is None or memory_value is None:
        out = torch.softmax(scores, dim=-1) @ value
        return out.reshape(batch, heads, queries, size)
    memory_scores = query @ memory_key.transpose(2, 3)
    if memory_mask is not None:
        memory_scores = _apply(memory_scores, memory_mask[:, :, None, :])
    weights = torch.softmax(torch.cat([memory_scores, scores], dim=-1), dim=-1)
    memories = memory_key.shape[2]
    if memory_weights is not None:
        memory_weights.copy_(weights[..., :memories].reshape(memory_weights.shape))
    out = weights[..., :memories] @ memory_value + weights[..., memories:] @ value
    return out.reshape(batch, heads, queries, size)


def _masked(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Apply a mask of `attend` to scores of shape (B, G, H / G, T, S)."""
    _, groups, ratio, queries, keys = scores.shape
    if mask is None:
        if queries == 1:
            return scores
        mask = torch.ones(queries, keys, dtype=torch.bool, device=scores.device).tril(keys - queries)[None, None]
    all_heads = mask.shape[1] == 1
    mask = mask[:, :, None] if all_heads else mask.view(mask.shape[0], groups, ratio, queries, keys)
    return _apply(scores, mask)


def _apply(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
