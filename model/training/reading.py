"""Memories within a training step: references are written with gradients and read by the rows of the same batch.

Dimensions: `N` references, `R` rows, `S` memories of a row, `G` KV heads, `T` tokens, `K` kept tokens, `D` head size.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from ..attention import LayerMemories
from ..layout import MemoryLayout
from ..recall_weight import recall_bias, spread
from ..writer import Kept, causal_mask, write_references
from .batches import MemoryBatch, References, Rows

PARTS = 4
"""Rows and references are run in so many parts of like length, so that little is padded."""


def write_by_length(model: PreTrainedModel, references: References, layout: MemoryLayout) -> dict[int, Kept]:
    """`write_references` for references that lie in order of length."""
    parts = [
        write_references(model, references.tokens[part, :width], references.valid[part, :width], layout)
        # No part narrower than what is kept, so that all keep as many.
        for part, width in parts_by_length(references.valid, layout.kept_tokens)
    ]
    return {
        layer: Kept(
            torch.cat([part[layer].key for part in parts]),
            torch.cat([part[layer].value for part in parts]),
            torch.cat([part[layer].real for part in parts]),
        )
        for layer in layout.layers
    }


def parts_by_length(used: Tensor, width_min: int = 0) -> Iterator[tuple[slice, int]]:
    """Parts of the rows of `used` (N, T) bool, and the width that the longest row of each needs, in steps of 16."""
    column = torch.arange(1, used.shape[1] + 1, device=used.device)
    # One look at the device for all parts.
    lengths = (used * column).amax(dim=1).tolist()
    size = -(-len(lengths) // PARTS)
    for start in range(0, len(lengths), size):
        width = -(-max(width_min, *lengths[start : start + size]) // 16) * 16
        yield slice(start, start + size), min(width, used.shape[1])


def gather(kept: Mapping[int, Kept], reads: Tensor, scores: Tensor, weight: float) -> dict[int, LayerMemories]:
    """The memories that each row reads, laid side by side (R, G, S * K, D), weighed by their scores (R, S)."""
    memories = {}
    present = reads >= 0
    index = reads.clamp(min=0)
    bias = recall_bias(scores, weight)[:, :, None]
    for layer, written in kept.items():
        key, value, real = written.key, written.value, written.real
        rows, reading = reads.shape
        _, groups, tokens, size = key.shape
        shape = (rows, groups, reading * tokens, size)
        mask = spread(bias.to(key.dtype).expand(-1, -1, groups), real[index] & present[:, :, None, None])
        memories[layer] = LayerMemories(
            key[index].permute(0, 2, 1, 3, 4).reshape(shape),
            value[index].permute(0, 2, 1, 3, 4).reshape(shape),
            mask.permute(0, 2, 1, 3).reshape(shape[:3]),
        )
    return memories


def answer_logits(
    model: PreTrainedModel,
    rows: Rows,
    memories: dict[int, LayerMemories] | None = None,
    prefix: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the tokens that carry loss (L, vocabulary), their targets (L,) and weights (L,).

    Args:
        memories: what each row reads, by layer.
        prefix: (P,) int64, stands before every row and, as in use, reads no memories.
    """
    chosen = rows.weights > 0
    hidden = []
    for part, width in parts_by_length(chosen):
        cache = None if prefix is None else _cached(model, prefix, len(rows.tokens[part]))
        read = model.model(
            input_ids=rows.tokens[part, :width],
            attention_mask=causal_mask(width, rows.tokens.device, past=0 if prefix is None else len(prefix)),
            position_ids=rows.positions[part, :width],
            past_key_values=cache,
            use_cache=cache is not None,
            memories=None if memories is None else {layer: memory[part] for layer, memory in memories.items()},
        ).last_hidden_state
        hidden.append(read[chosen[part, :width]])
    return model.lm_head(torch.cat(hidden)), rows.targets[chosen], rows.weights[chosen]


def _cached(model: PreTrainedModel, prefix: Tensor, rows: int) -> DynamicCache:
    """A cache that holds the prefix for each of some rows; gradients flow into it."""
    cache = DynamicCache(config=model.config)
    model.model(
        input_ids=prefix[None],
        attention_mask=causal_mask(len(prefix), prefix.device),
        position_ids=torch.arange(len(prefix), device=prefix.device)[None],
        past_key_values=cache,
        use_cache=True,
    )
    cache.batch_repeat_interleave(rows)
    return cache


def memory_logits(model: PreTrainedModel, batch: MemoryBatch, layout: MemoryLayout) -> tuple[Tensor, Tensor, Tensor]:
    """`answer_logits` of rows that read memories."""
    kept = write_by_length(model, batch.references, layout)
    memories = gather(kept, batch.reads, batch.scores, layout.recall_weight)
    return answer_logits(model, batch.rows, memories, batch.prefix)


def exact(logits: Tensor, rows: Rows) -> list[bool]:
    """Whether each row's answer would be generated token for token (greedy), from the logits of `answer_logits`."""
    right = logits.argmax(dim=-1) == rows.targets[rows.weights > 0]
    is_answer = rows.weights[rows.weights > 0] >= 1.0
    owner = torch.arange(rows.tokens.shape[0])[:, None].expand_as(rows.tokens)[rows.weights.cpu() > 0]
    wrong = set(owner[(~right & is_answer).cpu()].tolist())
    return [row not in wrong for row in range(rows.tokens.shape[0])]
