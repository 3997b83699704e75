"""The reference attention equals loops over batches, heads and queries, forwards and backwards.

Dimensions: `B` batch, `H` query heads, `G` KV heads, `T` queries, `S` context keys, `M` memory tokens, `D` head size.
"""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from memory3.kernels.reference import attend
from torch import Tensor

TOLERANCE = 1e-6


@dataclass(frozen=True)
class Case:
    """A shape, and which masks are given."""

    name: str
    batch: int = 2
    heads: int = 4
    groups: int = 2
    queries: int = 5
    keys: int = 5
    memories: int = 6
    size: int = 8
    mask: str = "causal"
    memory_mask: str = ""


CASES = [
    Case("plain"),
    Case("no-memories", memories=0),
    Case("one-head-each", groups=4),
    Case("one-kv-head", groups=1),
    Case("memory-mask-per-kv-head", memory_mask="bool"),
    Case("memory-bias", memory_mask="float"),
    Case("memory-bias-and-float-mask", groups=1, mask="float", memory_mask="float"),
    Case("one-query", queries=1, keys=9, memory_mask="bool"),
    Case("one-query-no-memories", queries=1, keys=9, memories=0),
    Case("one-of-everything", batch=1, heads=1, groups=1, queries=1, keys=1, memories=1, size=1),
    Case("more-keys-than-queries", queries=3, keys=10),
    Case("more-keys-no-memories", queries=3, keys=10, memories=0),
    Case("bool-mask", mask="bool", memory_mask="bool"),
    Case("bool-mask-no-memories", mask="bool", memories=0),
    Case("bool-mask-per-head", mask="bool-heads"),
    Case("bool-mask-for-all-rows", mask="bool-shared"),
    Case("float-mask", mask="float", memory_mask="bool"),
    Case("float-mask-per-head", mask="float-heads", keys=7),
    Case("odd-sizes", batch=3, heads=6, groups=2, queries=7, keys=11, memories=13, size=5, memory_mask="bool"),
]
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@dataclass
class Inputs:
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    memory_key: Tensor | None
    memory_value: Tensor | None
    memory_mask: Tensor | None
    scale: float

    @property
    def differentiable(self) -> list[Tensor]:
        tensors = [self.query, self.key, self.value, self.memory_key, self.memory_value]
        return [tensor for tensor in tensors if tensor is not None]


def inputs(case: Case) -> Inputs:
    generator = torch.Generator().manual_seed(7)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).requires_grad_()

    masks = {
        "bool": (case.batch, 1),
        "bool-heads": (case.batch, case.heads),
        "bool-shared": (1, 1),
        "float": (case.batch, 1),
        "float-heads": (case.batch, case.heads),
    }
    mask = None
    if case.mask in masks:
        shape = (*masks[case.mask], case.queries, case.keys)
        mask = torch.rand(shape, generator=generator) > 0.4
        mask[..., 0] = True  # every query attends to something
        if case.mask.startswith("float"):
            mask = torch.randn(shape, generator=generator).masked_fill(~mask, float("-inf"))
    memory_mask = None
    if case.memory_mask:
        memory_mask = torch.rand(case.batch, case.groups, case.memories, generator=generator) > 0.5
        memory_mask[0, 0] = False  # one KV head reads no memory at all
        if case.memory_mask == "float":
            memory_mask = torch.randn(memory_mask.shape, generator=generator).masked_fill(~memory_mask, float("-inf"))
    kept = (case.batch, case.groups, case.memories, case.size)
    return Inputs(
        drawn(case.batch, case.heads, case.queries, case.size),
        drawn(case.batch, case.groups, case.keys, case.size),
        drawn(case.batch, case.groups, case.keys, case.size),
        mask,
        drawn(*kept) if case.memories else None,
        drawn(*kept) if case.memories else None,
        memory_mask,
        0.37,
    )


def attended(given: Inputs, memory_weights: Tensor | None = None) -> Tensor:
    return attend(
        given.query,
        given.key,
        given.value,
        scale=given.scale,
        mask=given.mask,
        memory_key=given.memory_key,
        memory_value=given.memory_value,
        memory_mask=given.memory_mask,
        memory_weights=memory_weights,
    )


def by_loops(given: Inputs) -> Tensor:
    """Softmax by hand, one query of one head at a time, over a list of the keys that take part."""
    batch, heads, queries, _ = given.query.shape
    groups, keys = given.key.shape[1], given.key.shape[2]
    rows = []
    for b in range(batch):
        for h in range(heads):
            g = h * groups // heads
            for t in range(queries):
                scores: list[Tensor] = []
                values: list[Tensor] = []
                for m in range(0 if given.memory_key is None else given.memory_key.shape[2]):
                    assert given.memory_key is not None and given.memory_value is not None
                    added = 0.0 if given.memory_mask is None else _added(given.memory_mask[b, g, m])
                    if added > -math.inf:
                        scores.append((given.query[b, h, t] * given.memory_key[b, g, m]).sum() * given.scale + added)
                        values.append(given.memory_value[b, g, m])
                for s in range(keys):
                    added = _mask_at(given.mask, b, h, t, s, keys - queries)
                    if added > -math.inf:
                        scores.append((given.query[b, h, t] * given.key[b, g, s]).sum() * given.scale + added)
                        values.append(given.value[b, g, s])
                powers = torch.stack(scores).exp()
                rows.append((powers[:, None] * torch.stack(values)).sum(0) / powers.sum())
    return torch.stack(rows).view_as(given.query)


def _mask_at(mask: Tensor | None, b: int, h: int, t: int, s: int, offset: int) -> float:
    """What a mask adds to one score."""
    if mask is None:
        return 0.0 if s <= t + offset else -math.inf
    return _added(mask[b if mask.shape[0] > 1 else 0, h if mask.shape[1] > 1 else 0, t, s])


def _added(entry: Tensor) -> float:
    """What one entry of a mask adds to its score."""
    if entry.dtype == torch.bool:
        return 0.0 if entry else -math.inf
    return float(entry)


@cases
def test_equals_loops(case: Case) -> None:
    given = inputs(case)
    torch.testing.assert_close(attended(given), by_loops(given), atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("case", [case for case in CASES if 0 < case.memories <= case.size], ids=lambda case: case.name)
def test_the_shares_of_memory_tokens_equal_loops(case: Case) -> None:
    """A value of 1 in a place of its own, and 0 in the context: the result is the token's share."""
    given = inputs(case)
    assert given.memory_value is not None
    marks = torch.eye(case.memories, case.size).expand_as(given.memory_value)
    given = replace(given, value=torch.zeros_like(given.value), memory_value=marks)
    weights = torch.full((case.batch, case.heads, case.queries, case.memories), math.nan)
    got = attended(given, weights)
    torch.testing.assert_close(got, attended(given), atol=0, rtol=0)
    torch.testing.assert_close(weights, by_loops(given)[..., : case.memories], atol=TOLERANCE, rtol=TOLERANCE)


@cases
def test_gradients_equal_those_of_loops(case: Case) -> None:
    given = inputs(case)
    weights = torch.randn(given.query.shape, generator=torch.Generator().manual_seed(1))
    got = torch.autograd.grad((attended(given) * weights).sum(), given.differentiable)
    expected = torch.autograd.grad((by_loops(given) * weights).sum(), given.differentiable)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=5 * TOLERANCE, rtol=5 * TOLERANCE)


def test_memories_masked_out_do_not_exist() -> None:
    """Whatever stands in a masked slot, the result is that of the context alone."""
    case = Case("masked")
    given = inputs(case)
    assert given.memory_key is not None and given.memory_value is not None
    expected = attend(given.query, given.key, given.value, scale=given.scale)
    got = attend(
        given.query,
        given.key,
        given.value,
        scale=given.scale,
        memory_key=given.memory_key * 100,
        memory_value=given.memory_value * 100,
        memory_mask=torch.zeros(case.batch, case.groups, case.memories, dtype=torch.bool),
    )
    torch.testing.assert_close(got, expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_memories_and_context_share_one_softmax() -> None:
    """Keys handed in as memories weigh as much as the same keys in the context."""
    given = inputs(Case("split", queries=1, keys=9, memories=0))
    joined = attend(given.query, given.key, given.value, scale=given.scale)
    split = attend(
        given.query,
        given.key[:, :, 4:],
        given.value[:, :, 4:],
        scale=given.scale,
        memory_key=given.key[:, :, :4],
        memory_value=given.value[:, :, :4],
    )
    torch.testing.assert_close(split, joined, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_result_has_the_dtype_of_the_query(dtype: torch.dtype) -> None:
    given = inputs(Case("half"))
    assert given.memory_key is not None and given.memory_value is not None
    got = attend(
        given.query.to(dtype),
        given.key.to(dtype),
        given.value.to(dtype),
        scale=given.scale,
        memory_key=given.memory_key.to(dtype),
        memory_value=given.memory_value.to(dtype),
    )
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), attended(given), atol=0.03, rtol=0.03)
