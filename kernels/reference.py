"""Attention over memories and context in plain PyTorch: what every kernel must equal.

Dimensions: `B` batch, `H` query heads, `G` KV heads (`H` a multiple of `G`), `T` queries, `S` context keys,
`M` memory tokens, `D` head size. Of `attend_blocks`: those of kernels/blocks.py.
"""

import torch
from torch import Tensor

from .blocks import PAGE_TOKENS, Blocks, Pages, Slots


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


def attend_blocks(
    query: Tensor, pages: Pages, slots: Slots | None, blocks: Blocks, *, scale: float, mass: bool = False
) -> tuple[Tensor, Tensor | None]:
    """`attend` for blocks of packed queries over pages and slots, in float32, one block after the other.

    Args:
        query: (N, H, D), rotated.
        slots: None reads no memories, whatever `blocks.slots` names.
        mass: whether the weight of each memory is asked for as well.

    Returns:
        (N, H, D) in the dtype of `query`, zeros for queries of no block; and, if asked for, the mass (N, H, R)
        float32: the share of a query's softmax that each memory of its block gets, 0 where there is none.
    """
    slots = None if slots is None else slots.multiplied()
    out = torch.zeros_like(query)
    weights = torch.zeros(*query.shape[:2], blocks.slots.shape[1], device=query.device)
    for block, (first, queries) in enumerate(zip(blocks.first.tolist(), blocks.queries.tolist(), strict=True)):
        part = slice(first, first + queries)
        out[part], weights[part] = _attend_block(query[part].float(), pages, slots, blocks, block, scale)
    return out, weights if mass else None


def _attend_block(
    query: Tensor, pages: Pages, slots: Slots | None, blocks: Blocks, block: int, scale: float
) -> tuple[Tensor, Tensor]:
    """Results (T, H, D) and mass (T, H, R) of the queries (T, H, D) of one block."""
    groups, memories = pages.key.shape[1], blocks.slots.shape[1]
    ratio, length = query.shape[1] // groups, int(blocks.length[block])
    places = blocks.pages[block, : -(-length // PAGE_TOKENS)].long()
    # (pages, G, PAGE_TOKENS, D) to (G, length, D)
    key, value = (part[places].transpose(0, 1).flatten(1, 2)[:, :length].float() for part in (pages.key, pages.value))
    scores = _scores(query, key, scale)
    seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril(length - query.shape[0])
    parts, values, owners = [scores.masked_fill(~seen, float("-inf"))], [value], []
    for memory, slot in enumerate(blocks.slots[block].tolist() if slots is not None else []):
        real = int(slots.tokens[slot]) if slots is not None and slot >= 0 else 0
        if slots is None or real == 0:
            continue
        bias = 0.0 if blocks.bias is None else float(blocks.bias[block, memory])
        parts.append(_scores(query, slots.key[slot, :, :real].float(), scale) + bias)
        values.append(slots.value[slot, :, :real].float())
        owners += [memory] * real
    weights = torch.softmax(torch.cat(parts, dim=-1), dim=-1)
    out = weights @ torch.cat(values, dim=1).repeat_interleave(ratio, dim=0)
    mass = torch.zeros(*weights.shape[:2], memories, device=query.device)
    mass.index_add_(2, torch.tensor(owners, dtype=torch.int64, device=query.device), weights[..., length:])
    return out.transpose(0, 1), mass.transpose(0, 1)


def _scores(query: Tensor, key: Tensor, scale: float) -> Tensor:
    """Scores (H, T, S) of queries (T, H, D) and keys (G, S, D)."""
    return query.transpose(0, 1) * scale @ key.repeat_interleave(query.shape[1] // key.shape[0], dim=0).transpose(1, 2)


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
