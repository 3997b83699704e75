"""A CPU's kernels equal the reference, with memories as floats and as whole numbers, by one thread and by several.

Dimensions: those of kernels/blocks.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numba
import numpy as np
import pytest
import torch
from attention_cases import ONE_QUERY, SEVERAL_QUERIES, Case, Inputs, inputs
from memory3.kernels.blocks import Slots
from memory3.kernels.cpu import decode as decoding
from memory3.kernels.cpu import loops
from memory3.kernels.cpu.decode import compile_now, decode
from memory3.kernels.cpu.prefill import prefill
from memory3.kernels.reference import attend_blocks
from torch import Tensor

ALL = [*((decode, case) for case in ONE_QUERY), *((prefill, case) for case in [*ONE_QUERY, *SEVERAL_QUERIES])]
kernels = pytest.mark.parametrize(("kernel", "case"), ALL, ids=[f"{k.__name__}-{case.name}" for k, case in ALL])
Kernel = Callable[..., None]


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """How many threads work, each for as little as there is."""
    before = torch.get_num_threads()
    monkeypatch.setattr(decoding, "_PART_BYTES", 1)
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def run(kernel: Kernel, given: Inputs) -> Tensor:
    """Results, written into a buffer of NaN."""
    out = torch.full(given.query.shape, torch.nan, dtype=given.query.dtype)
    kernel(given.query, given.pages, given.slots, given.blocks, scale=given.scale, out=out)
    return out


def check(kernel: Kernel, given: Inputs, tolerance: float) -> None:
    out = run(kernel, given)
    wanted, _ = attend_blocks(given.query, given.pages, given.slots, given.blocks, scale=given.scale)
    rows = torch.zeros(len(out), dtype=torch.bool)
    for first, queries in zip(given.blocks.first.tolist(), given.blocks.queries.tolist(), strict=True):
        rows[first : first + queries] = True
    assert out[~rows].isnan().all()
    torch.testing.assert_close(out[rows], wanted[rows], atol=tolerance, rtol=tolerance)


def in_whole_numbers(given: Inputs) -> Inputs:
    """The same with memories of whole numbers; what is not real has numbers that are wrong, and scales of NaN."""
    assert given.slots is not None
    generator = torch.Generator().manual_seed(12)
    shape = given.slots.key.shape
    key, value = (torch.randint(-128, 128, shape, generator=generator, dtype=torch.int8) for _ in range(2))
    scales = [torch.rand(shape[:3], generator=generator) / 64 for _ in range(2)]
    for one in scales:
        one[torch.arange(shape[2])[None, None].expand(shape[:3]) >= given.slots.tokens[:, None, None]] = torch.nan
    return replace(given, slots=Slots(key, value, given.slots.tokens, (scales[0], scales[1])))


@kernels
def test_equals_the_reference(kernel: Kernel, case: Case, threads: int) -> None:
    # As for a GPU's kernels: scores are rounded at their own size.
    check(kernel, inputs(case, "cpu"), 2e-6 * max(1.0, case.strength))


@kernels
def test_whole_numbers_are_multiplied_as_they_are_read(kernel: Kernel, case: Case, threads: int) -> None:
    given = inputs(case, "cpu")
    if given.slots is not None:
        check(kernel, in_whole_numbers(given), 4e-6 * max(1.0, case.strength))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@kernels
def test_is_as_near_as_half_precision_allows(kernel: Kernel, case: Case, dtype: torch.dtype) -> None:
    given = inputs(case, "cpu").of(dtype)
    values = attend_blocks(given.query, given.pages, given.slots, given.blocks, scale=given.scale)[0].abs().max().item()
    # PyTorch rounds the weights as well as the result, and what bias is added.
    check(kernel, given, 2 * torch.finfo(dtype).eps * max(1.0, values) * (4 if case.bias else 1))


def test_who_stands_beside_a_query_changes_nothing() -> None:
    given = inputs(Case("beside", lengths=(70, 130, 3), groups=2, slots=((0, 1), (2, -1), (3, 3))), "cpu")
    together = run(decode, given)
    for block in range(3):
        part = {name: getattr(given.blocks, name)[block : block + 1] for name in ("first", "queries", "length")}
        tables = {name: getattr(given.blocks, name)[block : block + 1] for name in ("pages", "slots")}
        alone = run(decode, replace(given, blocks=replace(given.blocks, **part, **tables)))
        row = int(given.blocks.first[block])
        assert torch.equal(alone[row], together[row])


def test_compiling_reads_no_slot() -> None:
    nothing = torch.full((1, 2, 4, 16), torch.nan)
    compile_now(Slots(nothing, nothing, torch.full((1,), 2**30, dtype=torch.int32)))


def test_where_compiled_code_cannot_be_kept_it_is_compiled_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(function: Callable[..., None]) -> None:
        raise RuntimeError("cannot cache function: no locator available")

    compiling = numba.njit
    monkeypatch.setattr(loops, "njit", lambda cache=False, **options: nowhere if cache else compiling(**options))

    def double(numbers: np.ndarray) -> None:
        numbers *= 2

    numbers = np.ones(3)
    loops.compiled(double)(numbers)
    assert numbers.tolist() == [2, 2, 2]
