"""The optimizer moves float32 masters, and the bfloat16 weights follow them."""

import copy

import pytest
import torch
from memory3.model.training.optimizer import MasterOptimizer
from torch import nn


def small(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.ModuleDict({"embed": nn.Embedding(7, 6), "inner": nn.Linear(6, 5, bias=True), "norm": nn.LayerNorm(5)})
    return model.to(torch.bfloat16)


def backward(model: nn.Module, seed: int = 1) -> None:
    parts = dict(model.named_children())
    tokens = torch.randint(7, (12,), generator=torch.Generator().manual_seed(seed))
    target = torch.randn(12, 5, generator=torch.Generator().manual_seed(seed))
    hidden = parts["norm"](parts["inner"](parts["embed"](tokens)))
    (hidden.float() - target).square().mean().backward()


def masters(optimizer: MasterOptimizer) -> list[torch.Tensor]:
    state = optimizer.state()["master"]
    assert isinstance(state, list)
    return state


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in model.parameters()]


def test_weights_follow_their_masters() -> None:
    model = small()
    optimizer = MasterOptimizer(model, 1e-2, 1e-2, 0.05)
    before = weights(model)
    for seed in range(3):
        backward(model, seed)
        assert optimizer.step(rate=1.0) > 0
        for weight, master in zip(model.parameters(), masters(optimizer), strict=True):
            assert master.dtype == torch.float32 and weight.dtype == torch.bfloat16
            assert torch.equal(weight, master.to(torch.bfloat16))
            assert weight.grad is None
    assert all(not torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))


def test_steps_too_small_for_bfloat16_add_up() -> None:
    """A rate of which no single step moves a bfloat16 weight still trains, because the masters keep the rest."""
    model = small()
    optimizer = MasterOptimizer(model, 1e-6, 1e-6, 0.0)
    scale = model.get_parameter("norm.weight")
    backward(model)
    optimizer.step(rate=1.0)
    index = [name for name, _ in model.named_parameters()].index("norm.weight")
    assert torch.equal(scale, torch.ones_like(scale))
    assert (masters(optimizer)[index] != 1).all()


def test_losses_fall() -> None:
    model = small()
    optimizer = MasterOptimizer(model, 2e-2, 2e-2, 0.0)
    norms = []
    for _ in range(60):
        backward(model)
        norms.append(optimizer.step(rate=1.0))
    assert norms[-1] < norms[0] / 2


def test_a_rate_of_zero_changes_nothing() -> None:
    model = small()
    optimizer = MasterOptimizer(model, 1e-2, 1e-2, 0.05)
    before = weights(model)
    backward(model)
    optimizer.step(rate=0.0)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))


def test_rates_of_matrices_and_of_the_rest_are_their_own() -> None:
    model = small()
    optimizer = MasterOptimizer(model, 1e-2, 1e-2, 0.0)
    optimizer.set_rates(matrix_rate=0.0, other_rate=1e-2)
    before = dict(zip([name for name, _ in model.named_parameters()], weights(model), strict=True))
    backward(model)
    optimizer.step(rate=1.0)
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {"embed.weight", "inner.bias", "norm.weight", "norm.bias"}


def test_long_gradients_are_clipped() -> None:
    """A gradient of any length over the limit moves the weights alike; the norm told is the one before."""
    states, norms = [], []
    for factor in (100.0, 10_000.0):
        model = small()
        optimizer = MasterOptimizer(model, 1e-2, 1e-2, 0.0)
        backward(model)
        for weight in model.parameters():
            assert weight.grad is not None
            weight.grad *= factor
        norms.append(optimizer.step(rate=1.0))
        states.append(masters(optimizer))
    assert norms[1] == pytest.approx(100 * norms[0], rel=0.02) and norms[0] > 1
    for a, b in zip(*states, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-2)


def test_a_weight_without_gradient_stays() -> None:
    model = small()
    optimizer = MasterOptimizer(model, 1e-2, 1e-2, 0.0)
    before = weights(model)
    assert optimizer.step(rate=1.0) == 0
    assert all(torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))


def test_its_state_goes_on_where_it_was() -> None:
    """Saved and loaded into a fresh model, the next steps are the same to the bit."""
    first = small()
    optimizer = MasterOptimizer(first, 1e-2, 1e-2, 0.05)
    for seed in range(3):
        backward(first, seed)
        optimizer.step(rate=1.0)
    state = copy.deepcopy(optimizer.state())
    second = small(seed=9)
    loaded = MasterOptimizer(second, 1e-2, 1e-2, 0.05)
    loaded.load(state)
    for seed in range(3, 6):
        for model, stepped in ((first, optimizer), (second, loaded)):
            backward(model, seed)
            stepped.step(rate=0.7)
    for a, b in zip(masters(optimizer), masters(loaded), strict=True):
        assert torch.equal(a, b)
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))
