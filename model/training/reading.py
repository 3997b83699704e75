"""Memories within a training step: references are written with gradients and read by the rows of the same batch.

Dimensions: `N` references, `R` rows, `S` memories of a row, `G` KV heads, `T` tokens, `K` kept tokens, `D` head size.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..attention import LayerMemories
from ..layout import MemoryLayout
from ..writer import Kept, causal_mask, write_references
from .batches import MemoryBatch, Rows


def gather(kept: Mapping[int, Kept], reads: Tensor) -> dict[int, LayerMemories]:
    """The memories that each row reads, laid side by side: (R, G, S * K, D)."""
    memories = {}
    present = reads >= 0
    index = reads.clamp(min=0)
    for layer, written in kept.items():
        key, value, real = written.key, written.value, written.real
        rows, reading = reads.shape
        _, groups, tokens, size = key.shape
        shape = (rows, groups, reading * tokens, size)
        mask = (real[index] & present[:, :, None, None]).permute(0, 2, 1, 3).reshape(shape[:3])
        memories[layer] = LayerMemories(
            key[index].permute(0, 2, 1, 3, 4).reshape(shape),
            value[index].permute(0, 2, 1, 3, 4).reshape(shape),
            mask,
        )
    return memories


def answer_logits(
    model: PreTrainedModel, rows: Rows, memories: dict[int, LayerMemories] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the tokens that carry loss (L, vocabulary), their targets (L,) and weights (L,)."""
    hidden = model.model(
        input_ids=rows.tokens,
        attention_mask=causal_mask(rows.tokens.shape[1], rows.tokens.device),
        position_ids=rows.positions,
        use_cache=False,
        memories=memories,
    ).last_hidden_state
    chosen = rows.weights > 0
    return model.lm_head(hidden[chosen]), rows.targets[chosen], rows.weights[chosen]


def memory_logits(model: PreTrainedModel, batch: MemoryBatch, layout: MemoryLayout) -> tuple[Tensor, Tensor, Tensor]:
    """`answer_logits` of rows that read memories."""
    kept = write_references(model, batch.references.tokens, batch.references.valid, layout)
    return answer_logits(model, batch.rows, gather(kept, batch.reads))


def exact(logits: Tensor, rows: Rows) -> list[bool]:
    """Whether each row's answer would be generated token for token (greedy), from the logits of `answer_logits`."""
    right = logits.argmax(dim=-1) == rows.targets[rows.weights > 0]
    is_answer = rows.weights[rows.weights > 0] >= 1.0
    owner = torch.arange(rows.tokens.shape[0])[:, None].expand_as(rows.tokens)[rows.weights.cpu() > 0]
    wrong = set(owner[(~right & is_answer).cpu()].tolist())
    return [row not in wrong for row in range(rows.tokens.shape[0])]
