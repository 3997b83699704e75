"""Choosing the next token."""

import torch
from torch import Tensor

from .source import GenerationOptions


class Sampler:
    """Greedy, or drawn by temperature, top-k and top-p; the same seed draws the same tokens, whatever runs beside."""

    def __init__(self, options: GenerationOptions) -> None:
        self._temperature = options.temperature
        self._top_k = options.top_k
        self._top_p = options.top_p
        self._generator = torch.Generator()
        if options.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(options.seed)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken each time."""
        return self._temperature == 0

    def choose(self, logits: Tensor) -> int:
        """The next token's id, from logits (vocabulary,)."""
        if self.greedy:
            return int(logits.argmax())
        logits = logits.double().cpu()
        # From the greatest down, so that no temperature, however small, divides a logit to infinity.
        likelihood = torch.softmax((logits - logits.max()) / self._temperature, dim=-1)
        ordered, ids = likelihood.sort(descending=True)
        if self._top_k:
            ordered, ids = ordered[: self._top_k], ids[: self._top_k]
            ordered = ordered / ordered.sum()
        # Keep the likeliest tokens until they reach top_p together; the first is always among them.
        ordered[ordered.cumsum(0) - ordered >= self._top_p] = 0
        return int(ids[torch.multinomial(ordered, 1, generator=self._generator)])
