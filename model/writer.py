"""Write: run references through the model once and keep a small part of their keys and values (paper: write).

Dimensions: `N` references, `H` query heads, `G` KV heads, `T` tokens, `K` kept tokens, `D` head size.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .layout import MemoryLayout
from .rotation import Rotation
from .selection import PAPERS_RULE, RULES, WITHOUT_POSITIONS, keep


@dataclass(frozen=True, slots=True)
class Kept:
    """Kept keys and values (N, G, K, D) of one layer, and which of them are real tokens (N, G, K)."""

    key: Tensor
    value: Tensor
    real: Tensor


class _Done(Exception):
    """Raised behind the last memory layer: nothing that later layers compute of a reference is ever read."""


class _Keeper:
    """A `Recorder` (attention.py) that keeps the selected tokens of each memory layer."""

    def __init__(self, layout: MemoryLayout, valid: Tensor, rotation: Rotation | None) -> None:
        self._layout = layout
        self._valid = valid
        self._rotation = rotation
        self.kept: dict[int, Kept] = {}

    def record(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> None:
        if layer in self._layout.layers:
            with torch.no_grad():
                indices, real = self._best(query, key, value)
            index = indices[..., None].expand(-1, -1, -1, key.shape[-1])
            self.kept[layer] = Kept(key.gather(2, index), value.gather(2, index), real)
        if len(self.kept) == len(self._layout.layers):
            raise _Done

    def _best(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Which tokens are kept, as `keep` gives them."""
        if self._rotation is not None:
            query, key = self._rotation.undo(query, key)
        rule, kept, scale = self._layout.rule, self._layout.kept_tokens, query.shape[-1] ** -0.5
        if query.is_cuda and rule == PAPERS_RULE:
            from ..kernels.gpu.selection import TOKENS_MAX, select

            if query.shape[2] <= TOKENS_MAX:
                return select(query, key, self._valid, scale, kept)
        return keep(RULES[rule](query, key, value, self._valid, scale), self._valid, kept)


def causal_mask(tokens: int, device: torch.device, past: int = 0) -> Tensor:
    """A causal mask (1, 1, `tokens`, `past` + `tokens`), bool.

    Given to the model outright, because Transformers takes a gap in the positions for the start of a new sequence.
    """
    return torch.ones(tokens, past + tokens, dtype=torch.bool, device=device).tril(past)[None, None]


def write_references(model: PreTrainedModel, tokens: Tensor, valid: Tensor, layout: MemoryLayout) -> dict[int, Kept]:
    """Keep the memories of a batch of references; gradients flow through what is kept.

    Args:
        tokens: (N, T) int64, each row the prefix, a reference, and padding.
        valid: (N, T) bool, True for the tokens of the reference itself: only these can be kept.

    Returns:
        What is kept, by memory layer.
    """
    decoder: Any = model.base_model
    positions = torch.arange(tokens.shape[1], device=tokens.device)[None].expand_as(tokens)
    rotation = None
    if layout.rule in WITHOUT_POSITIONS:
        hidden = next(decoder.parameters())[:1]
        rotation = Rotation(decoder, decoder.layers[0].self_attn, hidden, positions)
    keeper = _Keeper(layout, valid, rotation)
    with suppress(_Done):
        decoder(
            input_ids=tokens,
            attention_mask=causal_mask(tokens.shape[1], tokens.device),
            position_ids=positions,
            use_cache=False,
            recorder=keeper,
        )
    return keeper.kept
