"""One sequence on its way through a model: its cache, its positions, and the memories of its present chunk."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from ..store.errors import ResourceExhausted
from .attention import LayerMemories
from .loading import context_limit
from .writer import causal_mask


class Context:
    """A context that grows; what is added attends to all before it and to the memories given with it."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._cache = DynamicCache(config=model.config)
        self._limit = context_limit(model)
        self._tokens = 0
        self._position = 0

    def skip(self, positions: int) -> None:
        """Leave out positions: those in which all references lie (paper: parallel positions)."""
        self._position += positions

    @torch.inference_mode()
    def extend(self, tokens: Sequence[int], memories: Mapping[int, LayerMemories] | None = None) -> Tensor:
        """Add tokens and return the logits (vocabulary,) of the one that follows the last.

        Raises:
            ResourceExhausted: the sequence would outgrow the model's window.
        """
        end = self._position + len(tokens)
        if end > self._limit:
            raise ResourceExhausted(
                f"the sequence needs {end} positions, this model has {self._limit}; "
                "ask with a shorter prompt or for fewer tokens"
            )
        device = self._model.device
        logits: Tensor = self._model(
            input_ids=torch.tensor([list(tokens)], device=device),
            attention_mask=causal_mask(len(tokens), device, past=self._tokens),
            position_ids=torch.arange(self._position, end, device=device)[None],
            past_key_values=self._cache,
            use_cache=True,
            memories=memories,
            logits_to_keep=1,
        ).logits
        self._tokens += len(tokens)
        self._position = end
        return logits[0, -1]
