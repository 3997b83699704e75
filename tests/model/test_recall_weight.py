"""A memory's place in the recall as a prior on its attention.

Dimensions: `S` memories, `K` kept tokens, `D` head size.
"""

import torch
from memory3.kernels.reference import attend
from memory3.model.recall_weight import recall_bias, spread


def test_the_bias_falls_with_the_distance_from_the_best() -> None:
    scores = torch.tensor([[0.5, 0.8, 0.7], [0.2, 0.2, -1.0]])
    torch.testing.assert_close(recall_bias(scores, 10.0), torch.tensor([[-3.0, 0.0, -1.0], [0.0, 0.0, -12.0]]))
    assert not recall_bias(scores, 0.0).any()


def test_it_multiplies_the_attention_that_each_memory_gets() -> None:
    """By exp(bias), before the weights are made to add up to one."""
    generator = torch.Generator().manual_seed(3)
    query, key = (torch.randn(1, 1, 1, 7, generator=generator) for _ in range(2))
    memory_key = torch.randn(1, 1, 6, 7, generator=generator)
    real = torch.tensor([[True, True], [True, False], [True, True]])
    bias = torch.tensor([0.0, -1.0, -2.5])
    # Values that tell the weights: unit vectors, one for each token.
    units = torch.eye(7)
    weights = attend(
        query,
        key,
        units[6:][None, None],
        scale=1.0,
        memory_key=memory_key,
        memory_value=units[:6][None, None],
        memory_mask=spread(bias, real).reshape(1, 1, 6),
    )[0, 0, 0]
    likelihood = (torch.cat([memory_key, key], dim=2) @ query.transpose(2, 3))[0, 0, :, 0].exp()
    likelihood[:6] *= (bias.exp()[:, None] * real).reshape(6)
    torch.testing.assert_close(weights, likelihood / likelihood.sum())


def test_tokens_that_are_not_there_take_no_part() -> None:
    real = torch.tensor([[True, False], [True, True]])
    assert spread(torch.tensor([0.0, -2.0]), real).tolist() == [[0.0, -float("inf")], [-2.0, -2.0]]
