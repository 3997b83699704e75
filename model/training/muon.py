"""Muon with a choice of precision: momentum, made orthogonal by Newton-Schulz iterations (Jordan et al., 2024).

`torch.optim.Muon` computes its iterations in bfloat16 whatever the weights are. On a processor without bfloat16
products that is thirty times as slow as float32 (bench/training_step.py: 12.4 s a step of the small model, 0.4 s here),
so the type is ours to choose; in bfloat16 the steps are those of `torch.optim.Muon` to the bit.
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def orthogonal(matrix: Tensor, products: torch.dtype) -> Tensor:
    """The nearly orthogonal matrix closest to `matrix` (A, B); its singular values come to lie around 1."""
    a, b, c = _COEFFICIENTS
    result = matrix.to(products)
    tall = matrix.shape[0] > matrix.shape[1]
    if tall:
        result = result.T
    result = result / result.norm().clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = result @ result.T
        result = torch.addmm(result, torch.addmm(gram, gram, gram, beta=b, alpha=c), result, beta=a)
    return result.T if tall else result


class Muon(torch.optim.Optimizer):
    """Steps matrices by their orthogonal momentum (Nesterov), as long as a step of AdamW would be.

    Args:
        products: the type in which the iterations multiply; weights and momentum keep their own.
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        rate: float,
        weight_decay: float,
        products: torch.dtype,
        momentum: float = 0.95,
    ) -> None:
        self._products = products
        super().__init__(matrices, {"lr": rate, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None, "a step needs no second look at the loss"
        for group in self.param_groups:
            for matrix in group["params"]:
                self._move(matrix, group["lr"], group["weight_decay"], group["momentum"])

    def _move(self, matrix: Tensor, rate: float, weight_decay: float, momentum: float) -> None:
        state = self.state[matrix]
        if not state:
            state["momentum"] = torch.zeros_like(matrix)
        gradient = matrix.grad
        assert gradient is not None, "every matrix has a gradient, be it zero"
        state["momentum"].lerp_(gradient, 1 - momentum)
        update = orthogonal(gradient.lerp(state["momentum"], momentum), self._products)
        matrix.mul_(1 - rate * weight_decay)
        matrix.add_(update, alpha=-rate * 0.2 * math.sqrt(max(matrix.shape)))
