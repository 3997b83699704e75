"""A residual quantizer: encoding by beam search, and its training by k-means, stage after stage.

Dimensions: `N` vectors, `D` their size, `S` stages, `E` entries of the table, `C` entries of one stage.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels.codes import firsts

BEAM = 5
"""Sums kept from stage to stage, as in FAISS."""
ITERATIONS = 5
"""Of k-means in each stage."""
_SCORES = 1 << 20
"""Distances computed together: 4 MiB of float32, which stay in the cache of a processor."""

_BLOCK = 128


def encode(vectors: Tensor, bits: Sequence[int], table: Tensor) -> Tensor:
    """Numbers (N, S) int64 of the entries whose sum comes near each vector (N, D), searched with a beam.

    Args:
        table: (E, D) float32, the entries of all stages (kernels/codes.py).
    """
    stages = [_Stage.of(table[first : first + (1 << width)]) for first, width in zip(firsts(bits), bits, strict=True)]
    rows = max(1, _SCORES // (BEAM << max(bits)))
    return torch.cat([_search(part, stages) for part in vectors.split(rows)])


@dataclass(frozen=True, slots=True)
class _Stage:
    """Entries (C, D) and their squared lengths (C,)."""

    entries: Tensor
    squares: Tensor

    @classmethod
    def of(cls, entries: Tensor) -> "_Stage":
        return cls(entries, entries.square().sum(1))

    def distances(self, vectors: Tensor) -> Tensor:
        """Squared distances (N, C) less each vector's own square, which changes no order among entries."""
        return torch.addmm(self.squares, vectors, self.entries.T, alpha=-2)

    def nearest(self, vectors: Tensor) -> Tensor:
        """The nearest entry of each vector: (N,) int64."""
        rows = max(1, _SCORES // len(self.entries))
        return torch.cat([self.distances(part).argmin(1) for part in vectors.split(rows)])


def _search(vectors: Tensor, stages: Sequence[_Stage]) -> Tensor:
    count, size = vectors.shape
    rest = vectors[:, None]
    numbers = torch.empty(count, 1, 0, dtype=torch.long, device=vectors.device)
    for stage in stages:
        beams = rest.shape[1]
        near, entries = _smallest(stage.distances(rest.reshape(-1, size)), BEAM)
        # The beams differ in what is left, whose own square therefore counts here.
        distances = near.view(count, beams, -1) + rest.square().sum(-1, keepdim=True)
        best = distances.flatten(1).topk(min(BEAM, distances[0].numel()), largest=False).indices
        beam, entry = best // distances.shape[2], entries.view(count, -1).gather(1, best)
        rest = _of(rest, beam) - stage.entries[entry]
        numbers = torch.cat([_of(numbers, beam), entry[..., None]], dim=-1)
    # `topk` puts the nearest first.
    return numbers[:, 0]


def _of(beams: Tensor, chosen: Tensor) -> Tensor:
    """Those of the beams (N, B, X) that are `chosen` (N, C): (N, C, X)."""
    return beams.gather(1, chosen[..., None].expand(-1, -1, beams.shape[-1]))


def _smallest(distances: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The smallest of each row (N, C) and their places, (N, up to `count`).

    `topk` over a long row costs more than the distances themselves. So the row is cut into blocks: the smallest numbers
    lie in the blocks whose own smallest are the smallest.
    """
    rows, columns = distances.shape
    if columns <= _BLOCK * count:
        smallest = distances.topk(min(count, columns), largest=False)
        return smallest.values, smallest.indices
    blocks = distances.view(rows, -1, _BLOCK)
    chosen = blocks.amin(-1).topk(count, largest=False).indices
    smallest = _of(blocks, chosen).flatten(1).topk(count, largest=False)
    block = chosen.gather(1, smallest.indices // _BLOCK)
    return smallest.values, block * _BLOCK + smallest.indices % _BLOCK


def train(vectors: Tensor, bits: Sequence[int], generator: torch.Generator, progress: Callable[[int], None]) -> Tensor:
    """The table (E, D) float32 for vectors like these (N, D), N at least the entries of the largest stage.

    Each stage is trained on what the stages before it leave, so the order of the stages matters.

    Args:
        generator: draws the first entries; the same seed gives the same table.
        progress: told, as often as the vectors have been compared with a stage, of how many entries.
    """
    rest, stages = vectors, []
    for width in bits:
        stage = _k_means(rest, 1 << width, generator, progress)
        rest = rest - stage.entries[stage.nearest(rest)]
        progress(1 << width)
        stages.append(stage.entries)
    return torch.cat(stages)


def comparisons(bits: Sequence[int]) -> int:
    """What `train` tells its `progress` in all."""
    return (ITERATIONS + 1) * sum(1 << width for width in bits)


def _k_means(vectors: Tensor, entries: int, generator: torch.Generator, progress: Callable[[int], None]) -> _Stage:
    """Centres of the vectors; one that no vector is nearest to is put where some vector is."""
    stage = _Stage.of(vectors[torch.randperm(len(vectors), generator=generator)[:entries].to(vectors.device)])
    for _ in range(ITERATIONS):
        nearest = stage.nearest(vectors)
        counts = nearest.bincount(minlength=entries)[:, None]
        sums = torch.zeros_like(stage.entries).index_add_(0, nearest, vectors)
        drawn = torch.randint(len(vectors), (entries,), generator=generator).to(vectors.device)
        stage = _Stage.of(torch.where(counts > 0, sums / counts.clamp(min=1), vectors[drawn]))
        progress(entries)
    return stage
