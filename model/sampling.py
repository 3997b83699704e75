"""Choosing the next token of each sequence, where the logits lie: nothing but the tokens leaves the device.

Dimensions: `S` sequences, `V` vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .source import GenerationOptions


class Sampler:
    """How one sequence chooses; the same seed draws the same tokens, whatever runs beside."""

    def __init__(self, options: GenerationOptions) -> None:
        self.temperature = options.temperature
        self.top_k = options.top_k
        self.top_p = options.top_p
        self._generator = torch.Generator()
        if options.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(options.seed)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken each time."""
        return self.temperature == 0

    def draw(self) -> float:
        """The next number of its own, 0 up to 1."""
        return float(torch.rand((), generator=self._generator, dtype=torch.float64))


def choose(logits: Tensor, samplers: Sequence[Sampler]) -> list[int]:
    """The next token's id of each sequence, from logits (S, V): greedy, or by temperature, top-k and top-p."""
    tokens = logits.argmax(-1)
    drawing = [number for number, sampler in enumerate(samplers) if not sampler.greedy]
    if drawing:
        tokens[drawing] = _drawn(logits[drawing], [samplers[number] for number in drawing])
    ids: list[int] = tokens.tolist()
    return ids


def _drawn(logits: Tensor, samplers: Sequence[Sampler]) -> Tensor:
    """Ids (S,) of tokens drawn from logits (S, V), each with the number that its sampler draws."""
    vocabulary = logits.shape[1]
    told = [(each.temperature, each.top_p, each.draw(), each.top_k or vocabulary) for each in samplers]
    temperature, top_p, draw, top_k = logits.new_tensor(told, dtype=torch.float64).T[..., None]
    logits = logits.double()
    # From the greatest down, so that no temperature, however small, divides a logit to infinity.
    likelihood = torch.softmax((logits - logits.amax(-1, keepdim=True)) / temperature, dim=-1)
    ordered, ids = likelihood.sort(dim=-1, descending=True, stable=True)
    ordered = ordered.masked_fill(torch.arange(vocabulary, device=logits.device) >= top_k, 0)
    ordered = ordered / ordered.sum(-1, keepdim=True)
    # Keep the likeliest tokens until they reach top_p together; the first is always among them.
    ordered = ordered.masked_fill(ordered.cumsum(-1) - ordered >= top_p, 0)
    reached = ordered.cumsum(-1)
    place = torch.searchsorted(reached, draw * reached[:, -1:], right=True)
    # The product may be rounded up to all that is reached.
    last = (ordered > 0).sum(-1, keepdim=True) - 1
    return ids.gather(1, torch.minimum(place, last).clamp_min(0))[:, 0]
