"""The residual quantizer: the beam finds near sums, training is steady, and it beats whole numbers at the same bits.

Dimensions: `N` vectors, `D` their size, `S` stages, `E` entries of the table.
"""

import itertools

import pytest
import torch
from memory3.kernels.codes import decode_residual, firsts, pack
from memory3.model import residual
from memory3.model.codec import Integers
from memory3.model.residual import comparisons, encode, train
from torch import Tensor

BITS = (6, 6, 4, 4)


def correlated(count: int, seed: int = 0, size: int = 16) -> Tensor:
    """Vectors (N, D) that lie near a few directions, as keys of one model do."""
    directions = torch.randn(4, size, generator=torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(count, 4, generator=generator)
    return weights @ directions + 0.1 * torch.randn(count, size, generator=generator)


def trained(vectors: Tensor, bits: tuple[int, ...] = BITS, seed: int = 0) -> Tensor:
    return train(vectors, bits, torch.Generator().manual_seed(seed), lambda entries: None)


def decoded(vectors: Tensor, bits: tuple[int, ...], table: Tensor) -> Tensor:
    return decode_residual(pack(encode(vectors, bits, table), bits), bits, table)


def error(made: Tensor, wanted: Tensor) -> float:
    return float((made - wanted).square().sum() / wanted.square().sum())


def test_the_beam_comes_near_the_best_sum_of_all() -> None:
    """Against every sum there is: the best in most cases, and never a worse one than greedy search finds."""
    bits = (3, 3, 2)
    vectors, table = correlated(200, seed=2), trained(correlated(400), bits)
    stages = [table[first : first + (1 << width)] for first, width in zip(firsts(bits), bits, strict=True)]
    every = torch.stack([torch.stack(entries).sum(0) for entries in itertools.product(*stages)])
    best = torch.cdist(vectors, every).amin(1)
    found = (decoded(vectors, bits, table) - vectors).norm(dim=1)
    rest = vectors
    for stage in stages:
        rest = rest - stage[torch.cdist(rest, stage).argmin(1)]
    assert (found <= rest.norm(dim=1) + 1e-5).float().mean() > 0.97
    assert (found >= best - 1e-5).all()
    assert (found <= best + 1e-5).float().mean() > 0.9
    assert found.mean() < rest.norm(dim=1).mean()


def test_a_sum_of_entries_is_found_again() -> None:
    """Where the stages are of falling size, so that no two sums lie close to each other."""
    generator = torch.Generator().manual_seed(0)
    table = torch.cat([torch.randn(1 << width, 32, generator=generator) / 8**n for n, width in enumerate(BITS)])
    numbers = torch.stack([torch.randint(0, 1 << width, (100,), generator=generator) for width in BITS], dim=1)
    vectors = decode_residual(pack(numbers, BITS), BITS, table)
    assert torch.equal(encode(vectors, BITS, table), numbers)


def test_long_stages_are_searched_as_short_ones_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages of so many entries are searched block by block, and the vectors a few at a time."""
    bits = (11, 10, 4)
    vectors = correlated(50, seed=3)
    table = torch.randn(sum(1 << width for width in bits), 16, generator=torch.Generator().manual_seed(0))
    blockwise = encode(vectors, bits, table)
    monkeypatch.setattr(residual, "_BLOCK", 1 << 11)
    monkeypatch.setattr(residual, "_SCORES", 1 << 24)
    assert torch.equal(encode(vectors, bits, table), blockwise)


def test_training_is_determined_by_its_seed() -> None:
    vectors = correlated(300)
    assert torch.equal(trained(vectors), trained(vectors))
    assert not torch.equal(trained(vectors), trained(vectors, seed=1))


def test_training_tells_how_far_it_is() -> None:
    told: list[int] = []
    train(correlated(100), BITS, torch.Generator().manual_seed(0), told.append)
    assert sum(told) == comparisons(BITS) and len(told) == 6 * len(BITS)


def test_every_stage_takes_error_away() -> None:
    vectors, seen = correlated(500, seed=4), correlated(2000)
    errors = [error(decoded(vectors, BITS[:n], trained(seen, BITS[:n])), vectors) for n in range(1, 5)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.6 * errors[0]


def test_it_beats_whole_numbers_at_fewer_bits_where_dimensions_hang_together() -> None:
    vectors = correlated(500, seed=5)
    bits = (8, 8, 8, 8, 8)
    assert sum(bits) == 40 < 4 * 16
    planes = Integers(16, 4).encode(vectors)
    assert error(decoded(vectors, bits, trained(correlated(3000), bits)), vectors) < error(
        Integers(16, 4).decode(planes), vectors
    )


def test_entries_that_nothing_is_near_are_put_to_use() -> None:
    """Vectors of which most are the same: drawn entries coincide, and all but one of them would stay unused."""
    vectors = torch.cat([torch.zeros(300, 4), torch.randn(40, 4, generator=torch.Generator().manual_seed(0))])
    table = trained(vectors, (4,))
    assert len(table.unique(dim=0)) > 8
    assert table.isfinite().all()
