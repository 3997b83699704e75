"""Sampling: greedy at zero, the same for a seed, and true to temperature and top-p."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory3.model.sampling import Sampler, choose
from memory3.model.source import GenerationOptions

LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()


def drawn(options: GenerationOptions, logits: torch.Tensor = LOGITS, count: int = 2_000) -> list[int]:
    sampler = Sampler(options)
    return [choose(logits[None], [sampler])[0] for _ in range(count)]


def shares(tokens: list[int]) -> list[float]:
    counted = Counter(tokens)
    return [counted[token] / len(tokens) for token in range(4)]


def test_temperature_zero_takes_the_likeliest() -> None:
    assert set(drawn(GenerationOptions(temperature=0.0), torch.tensor([1.0, 3.0, 2.0]), 20)) == {1}


def test_temperature_one_draws_by_likelihood() -> None:
    assert shares(drawn(GenerationOptions(temperature=1.0, seed=1))) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.04)


def test_temperature_sharpens_and_flattens() -> None:
    squared = torch.tensor([0.5, 0.3, 0.15, 0.05]) ** 2
    expected = (squared / squared.sum()).tolist()
    assert shares(drawn(GenerationOptions(temperature=0.5, seed=1))) == pytest.approx(expected, abs=0.04)
    assert shares(drawn(GenerationOptions(temperature=1e6, seed=1))) == pytest.approx([0.25] * 4, abs=0.04)


@pytest.mark.parametrize("temperature", [1e-3, 1e-10, 1e-38, 5e-324])
def test_the_smallest_temperatures_are_greedy(temperature: float) -> None:
    """Dividing by them once made infinities, and the draw failed."""
    assert set(drawn(GenerationOptions(temperature=temperature, seed=1), LOGITS + 40, 20)) == {0}


def test_the_same_seed_draws_the_same_tokens() -> None:
    logits = torch.randn(50, generator=torch.Generator().manual_seed(0))
    first = drawn(GenerationOptions(temperature=1.0, seed=7), logits, 50)
    assert drawn(GenerationOptions(temperature=1.0, seed=7), logits, 50) == first
    assert drawn(GenerationOptions(temperature=1.0, seed=8), logits, 50) != first
    unseeded = [drawn(GenerationOptions(temperature=1.0), logits, 50) for _ in range(2)]
    assert unseeded[0] != unseeded[1]


def test_a_seed_disturbs_no_other_randomness() -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    drawn(GenerationOptions(temperature=1.0, seed=7), count=5)
    assert torch.equal(torch.rand(3), expected)


def test_top_k_draws_from_the_likeliest_alone() -> None:
    tokens = drawn(GenerationOptions(temperature=1.0, top_k=2, seed=2))
    assert shares(tokens) == pytest.approx([0.5 / 0.8, 0.3 / 0.8, 0, 0], abs=0.04)
    # What top_p cuts off is a share of what top_k has left.
    assert set(drawn(GenerationOptions(temperature=1.0, top_k=2, top_p=0.6, seed=2), count=50)) == {0}
    assert set(drawn(GenerationOptions(temperature=1.0, top_k=9, seed=2))) == {0, 1, 2, 3}


def test_each_of_many_draws_what_it_draws_alone() -> None:
    ways = [
        GenerationOptions(temperature=0.0),
        GenerationOptions(temperature=1.0, seed=1),
        GenerationOptions(temperature=0.7, top_p=0.9, seed=2),
        GenerationOptions(temperature=3.0, top_k=5, seed=3),
        GenerationOptions(temperature=0.0, seed=4),
    ]
    logits = 3 * torch.randn(20, len(ways), 50, generator=torch.Generator().manual_seed(0))
    alone = [[Sampler(options) for options in ways] for _ in range(2)]
    for number, step in enumerate(logits):
        # Some of them miss steps, as sequences do that wait for their memories.
        part = [place for place in range(len(ways)) if (number + place) % 3]
        together = choose(step[part], [alone[0][place] for place in part])
        assert together == [choose(step[place : place + 1], [alone[1][place]])[0] for place in part]


@pytest.mark.parametrize("draw", [0.0, 1 - 2**-53])
def test_the_least_and_the_greatest_draw_take_a_token_that_is_likely(draw: float) -> None:
    class Drawn(Sampler):
        def draw(self) -> float:
            return draw

    logits = torch.tensor([[-torch.inf, 0.1, 0.2, 0.3, -torch.inf, -800.0]])
    samplers = [Drawn(GenerationOptions(temperature=1.0))]
    assert choose(logits, samplers) == [1 if draw else 3]


@settings(deadline=None, max_examples=60)
@given(
    logits=st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=20),
    top_p=st.floats(0.01, 1.0),
    seed=st.integers(0, 2**63 - 1),
)
def test_top_p_draws_from_the_smallest_set_that_reaches_it(logits: list[float], top_p: float, seed: int) -> None:
    likelihood = torch.tensor(logits).softmax(0)
    likelier = [float(likelihood[likelihood > share].sum()) for share in likelihood]
    sampler = Sampler(GenerationOptions(temperature=1.0, top_p=top_p, seed=seed))
    for _ in range(5):
        (token,) = choose(torch.tensor([logits]), [sampler])
        assert likelier[token] < top_p + 1e-5


def test_top_p_leaves_shares_within_it_as_they_are() -> None:
    tokens = drawn(GenerationOptions(temperature=1.0, top_p=0.75, seed=2))
    assert shares(tokens) == pytest.approx([0.5 / 0.8, 0.3 / 0.8, 0, 0], abs=0.04)
    assert set(drawn(GenerationOptions(temperature=1.0, top_p=0.4, seed=2), count=50)) == {0}
