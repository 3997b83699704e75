"""The selection kernel keeps the tokens that model/selection.py keeps by the paper's rule.

Dimensions: `B` references, `H` query heads, `G` KV heads, `T` tokens, `D` head size, `K` kept tokens.
"""

from dataclasses import dataclass

import pytest
import torch
from kernel_device import DEVICE, HALVES
from memory3.kernels.gpu.selection import select
from memory3.model.selection import attention_sum, keep
from torch import Tensor


@dataclass(frozen=True)
class Case:
    """A shape; `valid` are the first and the last valid token of each reference, all if none are named."""

    name: str
    heads: int = 4
    groups: int = 2
    tokens: int = 33
    size: int = 32
    kept: int = 8
    valid: tuple[tuple[int, int], ...] = ()


CASES = [
    Case("plain"),
    Case("paper", heads=10, groups=2, tokens=128, size=80),
    Case("whole-reference", tokens=160, size=64, valid=((1, 159), (0, 100))),
    Case("one-head-each", groups=4, tokens=17),
    Case("five-heads-a-group", heads=5, groups=1, size=96),
    Case("prefix-and-padding", valid=((3, 20), (5, 32))),
    Case("fewer-valid-than-kept", valid=((2, 5), (0, 0))),
    Case("fewer-tokens-than-kept", tokens=5),
    Case("all-are-kept", tokens=16, kept=16, valid=((1, 14), (0, 15))),
    Case("one-token", tokens=1, kept=1),
    Case("odd-head", size=63, tokens=63),
]
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def inputs(case: Case, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    query = torch.randn(2, case.heads, case.tokens, case.size, generator=generator)
    key = torch.randn(2, case.groups, case.tokens, case.size, generator=generator)
    valid = torch.ones(2, case.tokens, dtype=torch.bool)
    for row, (first, last) in enumerate(case.valid):
        valid[row] = (torch.arange(case.tokens) >= first) & (torch.arange(case.tokens) <= last)
    return query.to(DEVICE, dtype), key.to(DEVICE, dtype), valid.to(DEVICE)


def expected(query: Tensor, key: Tensor, valid: Tensor, scale: float, kept: int) -> tuple[Tensor, Tensor]:
    return keep(attention_sum(query, key, key, valid, scale), valid, kept)


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
@cases
def test_keeps_what_the_rule_keeps(case: Case, dtype: torch.dtype) -> None:
    given = inputs(case, dtype)
    scale = case.size**-0.5
    indices, real = select(*given, scale, case.kept)
    wanted, wanted_real = expected(*given, scale, case.kept)
    assert indices.dtype == torch.int64 and real.dtype == torch.bool
    assert torch.equal(indices, wanted) and torch.equal(real, wanted_real)


def test_of_equally_good_tokens_the_first_are_kept() -> None:
    """Tokens with one and the same key receive the same, but for the last bits of the sum."""
    query, key, valid = inputs(Case("ties", tokens=48), torch.float32)
    key[:, :, 1::2] = key[:, :, 1:2]
    indices, _ = select(query, key, valid, 0.3, 30)
    assert torch.equal(indices, expected(query, key, valid, 0.3, 30)[0])
    key[:] = key[:, :, :1]
    indices, real = select(query, key, valid, 0.3, 7)
    assert real.all() and torch.equal(indices, torch.arange(7, device=DEVICE).expand_as(indices))


def test_views_are_read_as_they_lie() -> None:
    """Queries come as (B, T, H, D) from the projection; what is not valid may be NaN."""
    query, key, valid = inputs(Case("views", valid=((2, 30), (0, 12))), torch.float32)
    wanted = expected(query, key, valid, 0.2, 8)
    query, key = (one.transpose(1, 2).contiguous().transpose(1, 2) for one in (query, key))
    for one in (query, key):
        one.masked_fill_(~valid[:, None, :, None], torch.nan)
    indices, real = select(query, key, valid, 0.2, 8)
    assert torch.equal(indices, wanted[0]) and torch.equal(real, wanted[1])
