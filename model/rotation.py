"""Undoing the rotation by position (RoPE), for selection rules that score without positions."""

import sys
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class Rotation:
    """Takes the rotation off queries and keys of one batch.

    The model's own rotation function is applied with the angle's sign turned, so that partial and interleaved
    rotations are undone by the code that made them.
    """

    def __init__(self, decoder: nn.Module, attention: nn.Module, hidden: Tensor, positions: Tensor) -> None:
        rotary: Any = decoder.rotary_emb
        cos, sin = rotary(hidden, position_ids=positions)
        # Some scaled rotations (YaRN, LongRoPE) also lengthen what they rotate. Undone here and not on the result,
        # because a partial rotation leaves the other dimensions as they are.
        scaling = float(getattr(rotary, "attention_scaling", 1.0)) ** 2
        self._cos, self._sin = cos / scaling, -sin / scaling
        self._rotate: Callable[..., tuple[Tensor, Tensor]] = sys.modules[
            type(attention).__module__
        ].apply_rotary_pos_emb

    def undo(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Query (B, H, T, D) and key (B, G, T, D) as they were before positions."""
        return self._rotate(query, key, self._cos, self._sin)
