"""Attention of blocks of many queries on a CPU, by PyTorch's fused attention over what each block reads.

A block's keys and values are copied together first, which costs little beside what 64 queries compute from them.

Dimensions: those of kernels/blocks.py; `L` tokens that a block reads, memories first.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ..blocks import PAGE_TOKENS, Blocks, Pages, Slots


def prefill(query: Tensor, pages: Pages, slots: Slots | None, blocks: Blocks, *, scale: float, out: Tensor) -> None:
    """Attend for blocks of up to 64 queries, in one softmax over memories and context (paper: inference, reading).

    Args:
        query: (N, H, D), rotated.
        slots: None reads no memories, whatever `blocks.slots` names.
        out: (N, H, D); what belongs to no block stays as it is.
    """
    for block, (first, queries, length) in enumerate(
        zip(blocks.first.tolist(), blocks.queries.tolist(), blocks.length.tolist(), strict=True)
    ):
        places = blocks.pages[block, : -(-length // PAGE_TOKENS)]
        # (pages, G, PAGE_TOKENS, D) to (G, length, D)
        key, value = (held[places].transpose(0, 1).flatten(1, 2)[:, :length] for held in (pages.key, pages.value))
        mask = torch.zeros(queries, length).masked_fill_(
            torch.ones(queries, length, dtype=torch.bool).triu(length - queries + 1), -math.inf
        )
        if slots is not None and blocks.slots.shape[1]:
            memory_key, memory_value, bias = _memories(slots, blocks, block)
            key, value = torch.cat([memory_key, key], dim=1), torch.cat([memory_value, value], dim=1)
            mask = torch.cat([bias.expand(queries, -1), mask], dim=1)
        rows = slice(first, first + queries)
        found = scaled_dot_product_attention(
            query[rows].transpose(0, 1)[None],
            key[None],
            value[None],
            attn_mask=mask.to(query.dtype),
            scale=scale,
            enable_gqa=True,
        )
        out[rows] = found[0].transpose(0, 1)


def _memories(slots: Slots, blocks: Blocks, block: int) -> tuple[Tensor, Tensor, Tensor]:
    """Keys and values (G, tokens, D) of the real tokens that a block reads, and what is added to their scores."""
    read = blocks.slots[block] >= 0
    chosen = blocks.slots[block][read]
    scales = None if slots.scales is None else (slots.scales[0][chosen], slots.scales[1][chosen])
    taken = Slots(slots.key[chosen], slots.value[chosen], slots.tokens[chosen], scales).multiplied()
    # (memories, G, K, D) to (G, memories * K, D)
    key, value = (held.transpose(0, 1).flatten(1, 2) for held in (taken.key, taken.value))
    bias = torch.zeros(len(chosen)) if blocks.bias is None else blocks.bias[block][read]
    added = bias.repeat_interleave(slots.key.shape[2])
    real = torch.arange(slots.key.shape[2])[None] < taken.tokens[:, None]
    if not real.all():
        real = real.flatten()
        key, value, added = key[:, real], value[:, real], added[real]
    return key, value, added
