"""Attention over memories and a dense context that gradients flow through: `reference.attend` for training.

The weights are never written. Forwards keeps the logarithm of each query's sum of powers; backwards computes the
weights again, tile by tile, once for the gradient of the queries and once for that of keys and values (gpu/dense.py).

Dimensions: those of kernels/reference.py, with at least as many context keys `S` as queries `T`.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .dense import forward_kernel, key_gradient_kernel, query_gradient_kernel
from .launch import LANES, Table, head_whole, table


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scale: float,
    memory_key: Tensor | None = None,
    memory_value: Tensor | None = None,
    memory_mask: Tensor | None = None,
) -> Tensor:
    """What `reference.attend` gives with a causal mask, forwards and backwards; no gradient for the memories' mask."""
    if memory_mask is not None and memory_mask.dtype == torch.bool:
        memory_mask = torch.zeros_like(memory_mask, dtype=torch.float32).masked_fill(~memory_mask, float("-inf"))
    out: Tensor = _Attention.apply(query, key, value, memory_key, memory_value, memory_mask, scale)  # type: ignore[no-untyped-call]
    return out


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        memory_key: Tensor | None,
        memory_value: Tensor | None,
        mask: Tensor | None,
        scale: float,
    ) -> Tensor:
        out = torch.empty_like(query)
        logs = query.new_empty(query.shape[:3], dtype=torch.float32)
        forward_kernel[_grid(query, query.shape[1])](
            table(query), table(key), table(value), _table(memory_key), _table(memory_value), _table(mask),
            table(out), logs, *_counts(query, key, memory_key), scale, **_constants(query, key),
        )  # fmt: skip
        ctx.save_for_backward(query, key, value, memory_key, memory_value, mask, out, logs)
        ctx.scale = scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, memory_key, memory_value, mask, out, logs = ctx.saved_tensors
        deltas = (gradient.float() * out.float()).sum(dim=-1)
        of_query = torch.empty_like(query)
        counts, constants = _counts(query, key, memory_key), _constants(query, key)
        query_gradient_kernel[_grid(query, query.shape[1])](
            table(query), table(key), table(value), _table(memory_key), _table(memory_value), _table(mask),
            table(gradient), logs, deltas, table(of_query), *counts, ctx.scale, **constants,
        )  # fmt: skip

        def of_keys(key: Tensor, value: Tensor, mask: Tensor | None, causal: bool) -> tuple[Tensor, Tensor]:
            of_key, of_value = torch.empty_like(key), torch.empty_like(value)
            key_gradient_kernel[_grid(key, key.shape[1])](
                table(query), table(key), table(value), _table(mask), table(gradient), logs, deltas,
                table(of_key), table(of_value), query.shape[2], key.shape[2], ctx.scale, CAUSAL=causal, **constants,
            )  # fmt: skip
            return of_key, of_value

        of_memories = (None, None) if memory_key is None else of_keys(memory_key, memory_value, mask, False)
        return of_query, *of_keys(key, value, None, True), *of_memories, None, None


def _table(tensor: Tensor | None) -> Table | None:
    return None if tensor is None else table(tensor)


def _grid(rows: Tensor, heads: int) -> tuple[int, int, int]:
    return -(-rows.shape[2] // (2 * LANES)), heads, rows.shape[0]


def _counts(query: Tensor, key: Tensor, memory_key: Tensor | None) -> tuple[int, int, int]:
    assert key.shape[2] >= query.shape[2], "a query sees at least itself"
    return query.shape[2], key.shape[2], 0 if memory_key is None else memory_key.shape[2]


def _constants(query: Tensor, key: Tensor) -> dict[str, int]:
    size = query.shape[3]
    whole = head_whole(size)
    return {
        "RATIO": query.shape[1] // key.shape[1], "ROWS": 2 * LANES, "SIZE": size, "WHOLE": whole,
        "num_warps": 4 if whole <= 64 else 8, "num_stages": 2,
    }  # fmt: skip
