"""One sequence on its way through a model: its cache, its positions, and the memories of its present chunk."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from ..store.errors import InvalidArgument
from .attention import LayerMemories, MassRecorder
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

    @property
    def room(self) -> int:
        """How many more tokens the model's window takes."""
        return self._limit - self._position

    def check_prompt(self, tokens: int) -> None:
        """Refuse a prompt before any of it is read.

        Raises:
            InvalidArgument: the window has no room for so many tokens; to try again would not help.
        """
        if tokens > self.room:
            raise InvalidArgument(
                f"the prompt needs {self._position + tokens} positions, this model has {self._limit}; "
                "give a shorter one, or take a model with a larger window"
            )

    def extend(self, tokens: Sequence[int], memories: Mapping[int, LayerMemories] | None = None) -> Tensor:
        """Add tokens, for which there must be `room`, and return the logits (vocabulary,) of what follows the last."""
        return self.extend_keeping(1, tokens, memories)[0]

    @torch.inference_mode()
    def extend_keeping(
        self,
        count: int,
        tokens: Sequence[int],
        memories: Mapping[int, LayerMemories] | None = None,
        mass_recorder: MassRecorder | None = None,
    ) -> Tensor:
        """Add tokens as `extend` does, and return the logits (`count`, vocabulary) of what follows the last `count`."""
        assert 0 < count <= len(tokens)
        assert len(tokens) <= self.room
        end = self._position + len(tokens)
        device = self._model.device
        logits: Tensor = self._model(
            input_ids=torch.tensor([list(tokens)], device=device),
            attention_mask=causal_mask(len(tokens), device, past=self._tokens),
            position_ids=torch.arange(self._position, end, device=device)[None],
            past_key_values=self._cache,
            use_cache=True,
            memories=memories,
            mass_recorder=mass_recorder,
            logits_to_keep=count,
        ).logits
        self._tokens += len(tokens)
        self._position = end
        return logits[0, -count:]

    @torch.inference_mode()
    def forget(self, tokens: int) -> None:
        """Take back the last tokens added, all of them behind what was skipped."""
        assert 0 <= tokens <= self._tokens
        self._cache.crop(-tokens)
        self._tokens -= tokens
        self._position -= tokens
