"""Memories within a training step: references are written with gradients and read by the rows of the same batch.

Dimensions: `N` references, `R` rows, `S` memories of a row, `G` KV heads, `T` tokens, `K` kept tokens, `D` head size.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..attention import LayerMemories
from ..selection import RULES, keep
from .batches import MemoryBatch, References, Rows


class _Written(Exception):
    """Raised behind the last memory layer: what later layers would compute of a reference is never read."""


class _Writer:
    """Keeps the selected keys and values of each memory layer, with their gradients."""

    def __init__(self, layers: frozenset[int], rule: str, kept_tokens: int, valid: Tensor) -> None:
        self._layers = layers
        self._rule = RULES[rule]
        self._kept_tokens = kept_tokens
        self._valid = valid
        self.kept: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def record(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> None:
        if layer in self._layers:
            with torch.no_grad():
                scores = self._rule(query, key, value, self._valid, query.shape[-1] ** -0.5)
                indices, real = keep(scores, self._valid, self._kept_tokens)
            index = indices[..., None].expand(-1, -1, -1, key.shape[-1])
            self.kept[layer] = key.gather(2, index), value.gather(2, index), real
        if len(self.kept) == len(self._layers):
            raise _Written


def causal(rows: Tensor) -> Tensor:
    """A causal mask (1, 1, T, T). Given outright, because Transformers takes a gap in positions for a new sequence."""
    width = rows.shape[1]
    return torch.ones(width, width, dtype=torch.bool, device=rows.device).tril()[None, None]


def write(
    model: PreTrainedModel, references: References, layers: frozenset[int], rule: str, kept_tokens: int
) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
    """Keys and values (N, G, K, D) and which are real (N, G, K), for each memory layer."""
    writer = _Writer(layers, rule, kept_tokens, references.valid)
    positions = torch.arange(references.tokens.shape[1], device=references.tokens.device)[None]
    try:
        model.model(
            input_ids=references.tokens,
            attention_mask=causal(references.tokens),
            position_ids=positions.expand_as(references.tokens),
            use_cache=False,
            recorder=writer,
        )
    except _Written:
        pass
    return writer.kept


def gather(kept: Mapping[int, tuple[Tensor, Tensor, Tensor]], reads: Tensor) -> dict[int, LayerMemories]:
    """The memories that each row reads, laid side by side: (R, G, S * K, D)."""
    memories = {}
    present = reads >= 0
    index = reads.clamp(min=0)
    for layer, (key, value, real) in kept.items():
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
        attention_mask=causal(rows.tokens),
        position_ids=rows.positions,
        use_cache=False,
        memories=memories,
    ).last_hidden_state
    chosen = rows.weights > 0
    return model.lm_head(hidden[chosen]), rows.targets[chosen], rows.weights[chosen]


def memory_logits(
    model: PreTrainedModel, batch: MemoryBatch, layers: frozenset[int], rule: str, kept_tokens: int
) -> tuple[Tensor, Tensor, Tensor]:
    """`answer_logits` of rows that read memories."""
    kept = write(model, batch.references, layers, rule, kept_tokens)
    return answer_logits(model, batch.rows, gather(kept, batch.reads))


def exact(logits: Tensor, rows: Rows) -> list[bool]:
    """Whether each row's answer would be generated token for token (greedy), from the logits of `answer_logits`."""
    right = logits.argmax(dim=-1) == rows.targets[rows.weights > 0]
    is_answer = rows.weights[rows.weights > 0] >= 1.0
    owner = torch.arange(rows.tokens.shape[0])[:, None].expand_as(rows.tokens)[rows.weights.cpu() > 0]
    wrong = set(owner[(~right & is_answer).cpu()].tolist())
    return [row not in wrong for row in range(rows.tokens.shape[0])]
