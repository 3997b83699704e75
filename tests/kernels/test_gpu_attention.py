"""The kernels equal the reference: compiled on a CUDA device, in Triton's interpreter where there is none.

Float32 may differ by the rounding of sums in another order. In half precision the kernel gets the same rounded inputs
as the reference, which goes on in float32; what the kernel rounds are the weights, which are 1 at most, and the result:
each by half a unit in the last place. In the interpreter bfloat16 is left out: its product of tiles is wrong there.

Dimensions: those of kernels/blocks.py.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from attention_cases import ONE_QUERY, SEVERAL_QUERIES, Case, Inputs, inputs
from kernel_device import DEVICE, HALVES
from memory3.kernels.blocks import PAGE_TOKENS
from memory3.kernels.gpu import decode as decoding
from memory3.kernels.gpu.decode import decode
from memory3.kernels.gpu.prefill import prefill
from memory3.kernels.reference import attend_blocks
from torch import Tensor

ALL = [*((decode, case) for case in ONE_QUERY), *((prefill, case) for case in SEVERAL_QUERIES)]
# Prefill takes single queries too, as the last chunk of a prompt.
ALL += [(prefill, case) for case in ONE_QUERY if case.name in ("5-memories", "head-80", "all-are-none")]
kernels = pytest.mark.parametrize(("kernel", "case"), ALL, ids=[f"{k.__name__}-{case.name}" for k, case in ALL])
Kernel = Callable[..., tuple[Tensor, Tensor | None]]


@pytest.fixture(autouse=True)
def short_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contexts of a test are split too: after each page."""
    monkeypatch.setattr(decoding, "split_tokens", lambda *_: PAGE_TOKENS)


def run(kernel: Kernel, given: Inputs) -> tuple[Tensor, Tensor]:
    """Results and mass, written into a buffer of NaN."""
    out = torch.full_like(given.query, torch.nan)
    got, mass = kernel(given.query, given.pages, given.slots, given.blocks, scale=given.scale, mass=True, out=out)
    assert got is out and mass is not None
    return got, mass


def expected(given: Inputs) -> tuple[Tensor, Tensor]:
    out, mass = attend_blocks(given.query, given.pages, given.slots, given.blocks, scale=given.scale, mass=True)
    assert mass is not None
    return out, mass


def of_blocks(given: Inputs) -> Tensor:
    """Which queries belong to a block, (N,) bool."""
    belongs = torch.zeros(len(given.query), dtype=torch.bool)
    for first, queries in zip(given.blocks.first.tolist(), given.blocks.queries.tolist(), strict=True):
        belongs[first : first + queries] = True
    return belongs


@kernels
def test_equals_the_reference_in_float32(kernel: Kernel, case: Case) -> None:
    given = inputs(case, DEVICE)
    (out, mass), (wanted, wanted_mass) = run(kernel, given), expected(given)
    rows = of_blocks(given)
    assert out[~rows].isnan().all() and not mass[~rows].any()
    # Scores are rounded at their own size, and so are the logarithms of weights: 2 ** -24 of some hundred is 1e-5.
    tolerance = 2e-6 * max(1.0, case.strength)
    torch.testing.assert_close(out[rows], wanted[rows], atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(mass[rows], wanted_mass[rows], atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@kernels
def test_is_as_near_as_half_precision_allows(kernel: Kernel, case: Case, dtype: torch.dtype) -> None:
    given = inputs(case, DEVICE).of(dtype)
    exact, exact_mass = expected(given.of(torch.float32))
    out, mass = run(kernel, given)
    rows = of_blocks(given)
    assert out.dtype == dtype and mass.dtype == torch.float32
    # Two roundings by half a unit in the last place of the greatest value.
    step = torch.finfo(dtype).eps
    values = exact[rows].abs().max().item()
    torch.testing.assert_close(out[rows].float(), exact[rows], atol=step * max(1.0, values), rtol=step)
    # The mass comes from scores alone, summed in float32 from the same products.
    torch.testing.assert_close(mass[rows], exact_mass[rows], atol=2e-6 * max(1.0, case.strength), rtol=1e-5)


def test_without_a_buffer_queries_of_no_block_are_zero() -> None:
    given = inputs(ONE_QUERY[0], DEVICE)
    out, mass = decode(given.query, given.pages, given.slots, given.blocks, scale=given.scale)
    assert mass is None and not out[~of_blocks(given)].any()
    torch.testing.assert_close(out, expected(given)[0], atol=2e-6, rtol=2e-6)


def test_mass_and_context_are_one_softmax() -> None:
    """Where all values are 1 in the context and 0 in memories, the result is what the memories leave."""
    given = inputs(Case("mass", lengths=(70, 3), slots=((0, 1, -1),), bias=True), DEVICE)
    assert given.slots is not None
    given.pages.value.fill_(1.0)
    given.slots.value.fill_(0.0)
    out, mass = run(decode, given)
    rows = of_blocks(given)
    assert not mass[rows][..., 2].any()
    torch.testing.assert_close(out[rows][..., 0], 1 - mass[rows].sum(-1), atol=2e-6, rtol=2e-6)


def test_a_short_context_beside_a_long_one_is_split_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """`length_max` may be more than any length: splits behind the ends write nothing and count for nothing."""
    case = Case("long", lengths=(300, 2), bias=True)
    given = inputs(case, DEVICE)
    given = replace(given, blocks=replace(given.blocks, length_max=1000))
    whole, whole_mass = expected(given)
    out, mass = run(decode, given)
    rows = of_blocks(given)
    torch.testing.assert_close(out[rows], whole[rows], atol=2e-6, rtol=2e-6)
    monkeypatch.undo()
    unsplit, unsplit_mass = run(decode, given)
    torch.testing.assert_close(out[rows], unsplit[rows], atol=2e-6, rtol=2e-6)
    torch.testing.assert_close(mass[rows], unsplit_mass[rows], atol=2e-6, rtol=2e-6)
    torch.testing.assert_close(mass[rows], whole_mass[rows], atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize(("length_max", "blocks"), [(1, 1), (300, 1), (32768, 1), (32768, 64), (32768, 10_000)])
def test_splits_are_whole_pages_and_not_too_many(monkeypatch: pytest.MonkeyPatch, length_max: int, blocks: int) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(decoding, "processors", lambda _: 132)
    one = inputs(Case("one", lengths=(1,) * blocks), DEVICE).blocks
    tokens = decoding.split_tokens(replace(one, length_max=length_max), 8, torch.device(DEVICE))
    splits = -(-length_max // tokens)
    assert tokens % PAGE_TOKENS == 0 and 1 <= splits <= decoding.SPLITS_MAX
    assert splits == 1 or ((blocks - 1) * 8 * splits < 2 * 132 and tokens >= decoding.SPLIT_TOKENS_MIN)
