"""Muon: in bfloat16 the steps of PyTorch's own to the bit, in float32 the same method computed more exactly."""

import pytest
import torch
from memory3.model.training.muon import Muon, orthogonal


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(8, 8), (12, 5), (5, 12)])
def test_in_bfloat16_it_is_pytorchs(shape: tuple[int, int]) -> None:
    ours, theirs = drawn(*shape).requires_grad_(), drawn(*shape).requires_grad_()
    steps = (
        Muon([ours], 0.02, 0.1, torch.bfloat16),
        torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
    )
    for seed in range(5):
        for matrix, optimizer in zip((ours, theirs), steps, strict=True):
            matrix.grad = drawn(*shape, seed=seed)
            optimizer.step()
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("shape", [(16, 16), (24, 10), (10, 24)])
def test_a_step_has_singular_values_around_one(shape: tuple[int, int]) -> None:
    """Between 0.68 and 1.14, where the iteration's coefficients lead, whatever they were."""
    left, _ = torch.linalg.qr(drawn(shape[0], min(shape)))
    right, _ = torch.linalg.qr(drawn(shape[1], min(shape), seed=1))
    matrix = left @ torch.diag(torch.logspace(0, -1.5, min(shape))) @ right.T
    values = torch.linalg.svdvals(orthogonal(matrix, torch.float32))
    assert values.min() > 0.6 and values.max() < 1.2


def test_a_gradient_of_nothing_moves_nothing_but_the_decay() -> None:
    matrix = torch.ones(4, 3, requires_grad=True)
    matrix.grad = torch.zeros(4, 3)
    Muon([matrix], 0.1, 0.5, torch.float32).step()
    torch.testing.assert_close(matrix.detach(), torch.full((4, 3), 0.95))
