"""Attention for training equals the reference, forwards and backwards.

Dimensions: those of kernels/reference.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from kernel_device import DEVICE, HALVES
from memory3.kernels import reference
from memory3.kernels.gpu import training
from torch import Tensor

TOLERANCE = 5e-6


@dataclass(frozen=True)
class Case:
    name: str
    heads: int = 4
    groups: int = 2
    queries: int = 37
    keys: int = 37
    memories: int = 11
    size: int = 20
    mask: str = "float"
    strided: bool = False


CASES = [
    Case("plain", mask=""),
    Case("bias"),
    Case("bool-mask", mask="bool"),
    Case("no-memories", memories=0, mask=""),
    Case("more-memories-than-a-tile", memories=45, queries=5, keys=5),
    Case("more-keys-than-queries", queries=7, keys=70),
    Case("one-query", queries=1, keys=1, memories=1, mask=""),
    Case("head-80", heads=5, groups=1, size=80, queries=33, keys=33, memories=40),
    Case("head-128", size=128, queries=9, keys=9),
    Case("strided", strided=True),
]
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def inputs(case: Case) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Tensors that gradients are wanted of, and the mask."""
    generator = torch.Generator().manual_seed(9)

    def drawn(heads: int, rows: int) -> Tensor:
        if case.strided:
            return torch.randn(2, rows, heads, case.size, generator=generator).transpose(1, 2)
        return torch.randn(2, heads, rows, case.size, generator=generator)

    rows = [(case.heads, case.queries), *[(case.groups, case.keys)] * 2]
    rows += [(case.groups, case.memories)] * 2 if case.memories else []
    masks = {}
    if case.mask:
        mask = torch.rand(2, case.groups, case.memories, generator=generator) > 0.5
        mask[0, 0] = False  # one KV head reads no memory at all
        if case.mask == "float":
            mask = torch.randn(mask.shape, generator=generator).masked_fill(~mask, float("-inf"))
        masks["memory_mask"] = mask.to(DEVICE)
    return [drawn(*one).to(DEVICE).requires_grad_() for one in rows], masks


def attended(attend: Callable[..., Tensor], tensors: list[Tensor], masks: dict[str, Tensor]) -> Tensor:
    memories = dict(zip(("memory_key", "memory_value"), tensors[3:], strict=False))
    return attend(*tensors[:3], scale=0.3, **memories, **masks)


@cases
def test_equals_the_reference_forwards_and_backwards(case: Case) -> None:
    tensors, masks = inputs(case)
    got, wanted = (attended(attend, tensors, masks) for attend in (training.attend, reference.attend))
    torch.testing.assert_close(got, wanted, atol=TOLERANCE, rtol=TOLERANCE)
    upper = torch.randn(got.shape, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    # The gradient of a transposed result comes in another order of dimensions.
    upper = upper.transpose(1, 2).contiguous().transpose(1, 2) if case.strided else upper
    ours = torch.autograd.grad(got, tensors, upper)
    for gradient, theirs in zip(ours, torch.autograd.grad(wanted, tensors, upper), strict=True):
        torch.testing.assert_close(gradient, theirs, atol=5 * TOLERANCE, rtol=5 * TOLERANCE)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_is_as_near_as_half_precision_allows(dtype: torch.dtype) -> None:
    """Weights, gradients of scores and results are rounded once each, by half a last place of the greatest number."""
    tensors, masks = inputs(Case("half"))
    halves = [tensor.detach().to(dtype).requires_grad_() for tensor in tensors]
    exact = [tensor.detach().float().requires_grad_() for tensor in halves]
    got, wanted = attended(training.attend, halves, masks), attended(reference.attend, exact, masks)
    upper = torch.ones_like(wanted)
    ours = [got, *torch.autograd.grad(got, halves, upper.to(dtype))]
    for half, theirs in zip(ours, [wanted, *torch.autograd.grad(wanted, exact, upper)], strict=True):
        assert half.dtype == dtype
        step = torch.finfo(dtype).eps * theirs.abs().max().item()
        torch.testing.assert_close(half.float(), theirs, atol=step, rtol=0.0)
