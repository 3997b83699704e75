"""Decoding of coded memories straight into slots of a pool: the vectors never lie anywhere else.

What is written equals kernels/codes.py bit for bit in float32, and is rounded once to the pool's dtype. Planes of bytes
may be views into the values as they are stored: nothing is asked of their alignment.

Dimensions: `N` memories, `L` memory layers, `G` KV heads, `K` tokens of a slot, `D` head size, `W` bytes of a vector,
`S` slots, `Y` tables (1 or `L`), `E` entries of all stages of a residual quantizer.
"""

from collections.abc import Sequence
from itertools import accumulate

import triton
import triton.language as tl
from torch import Tensor

from ..codes import firsts
from .launch import KeyValues, check_arrays, key_values, power_of_two, table

ROWS = 16
"""Vectors that a program decodes."""


def decode_integers_into(codes: Tensor, scales: Tensor, bits: int, slots: Tensor, key: Tensor, value: Tensor) -> None:
    """Write memories of the codec `int8` or `int4` to slots of pools.

    Args:
        codes: (N, L, 2, G, K, W) uint8, keys and values.
        scales: (N, L, 2, G, K, 2) uint8, the bytes of a bfloat16.
        bits: of a number, 8 or 4.
        slots: (N,) int32, all different.
        key, value: (L, S, G, K, D) of any float dtype.
    """
    pool, size = _pool(codes, slots, key, value)
    integers_kernel[_grid(codes)](
        table(codes), table(scales), slots, pool, *_counts(codes),
        BITS=bits, HALF=codes.shape[-1], SIZE=size, WHOLE=power_of_two(size), ROWS=ROWS,
    )  # fmt: skip


def decode_residual_into(
    codes: Tensor, bits: Sequence[int], tables: Tensor, slots: Tensor, key: Tensor, value: Tensor
) -> None:
    """Write memories of a residual quantizer to slots of pools.

    Args:
        codes: (N, L, 2, G, K, W) uint8, keys and values.
        bits: of each stage, at most 16.
        tables: (Y, 2, E, D), for keys and for values.
        slots: (N,) int32, all different.
        key, value: (L, S, G, K, D) of any float dtype.
    """
    assert max(bits) <= 16, "a number of a stage lies in three bytes at most"
    pool, size = _pool(codes, slots, key, value)
    residual_kernel[_grid(codes)](
        table(codes), table(tables), slots, pool, *_counts(codes),
        STARTS=tuple(accumulate(bits[:-1], initial=0)), WIDTHS=tuple(bits), FIRSTS=tuple(firsts(bits)),
        STAGES=len(bits), SHARED=tables.shape[0] == 1, SIZE=size, WHOLE=power_of_two(size), ROWS=ROWS,
    )  # fmt: skip


def _pool(codes: Tensor, slots: Tensor, key: Tensor, value: Tensor) -> tuple[KeyValues, int]:
    """The pools as a kernel gets them, and the size of a vector."""
    layers, _, groups, kept, size = key.shape
    assert key.shape == value.shape and codes.shape[1:5] == (layers, 2, groups, kept), "codes of another layout"
    assert slots.shape == codes.shape[:1], "one slot for each memory"
    check_arrays(slots)
    return key_values(key, value), size


def _grid(codes: Tensor) -> tuple[int, int, int]:
    """Programs: memories, layers with keys and values apart, and parts of the vectors."""
    memories, layers, kinds, groups, kept, _ = codes.shape
    return memories, layers * kinds, -(-groups * kept // ROWS)


def _counts(codes: Tensor) -> tuple[int, int]:
    return codes.shape[3], codes.shape[4]


@triton.jit
def integers_kernel(
    codes, scales, p_slots, pool, groups, kept,
    BITS: tl.constexpr, HALF: tl.constexpr, SIZE: tl.constexpr, WHOLE: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Whole numbers times the scale of their vector."""
    i_groups, i_tokens, m_rows = rows(groups, kept, ROWS)
    i_dims = tl.arange(0, WHOLE)
    # Of 4 bits: the low halves of all bytes come before the high ones.
    i_bytes = tl.where(i_dims < HALF, i_dims, i_dims - HALF)
    m_bytes = m_rows[:, None] & (i_dims < SIZE)[None]
    p_codes = vectors(codes, i_groups, i_tokens)
    b_bytes = tl.load(p_codes[:, None] + i_bytes[None] * codes.s[5], mask=m_bytes, other=0).to(tl.int32)
    b_numbers = b_bytes >> tl.where(i_dims < HALF, 0, BITS)[None] & (1 << BITS) - 1
    sign = 1 << BITS - 1
    b_numbers = (b_numbers ^ sign) - sign
    p_scales = vectors(scales, i_groups, i_tokens)
    b_low = tl.load(p_scales, mask=m_rows, other=0).to(tl.int32)
    b_high = tl.load(p_scales + scales.s[5], mask=m_rows, other=0).to(tl.int32)
    # A bfloat16 is the upper half of a float32.
    b_scales = (b_low << 16 | b_high << 24).to(tl.float32, bitcast=True)
    store(pool, p_slots, i_groups, i_tokens, m_rows, b_numbers.to(tl.float32) * b_scales[:, None], SIZE, WHOLE)


@triton.jit
def residual_kernel(
    codes, tables, p_slots, pool, groups, kept,
    STARTS: tl.constexpr, WIDTHS: tl.constexpr, FIRSTS: tl.constexpr, STAGES: tl.constexpr, SHARED: tl.constexpr,
    SIZE: tl.constexpr, WHOLE: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The sum of one entry of each stage, in the order of the stages."""
    i_layer, i_kind = tl.program_id(1) // 2, tl.program_id(1) % 2
    i_groups, i_tokens, m_rows = rows(groups, kept, ROWS)
    i_dims = tl.arange(0, WHOLE)
    m_entries = m_rows[:, None] & (i_dims < SIZE)[None]
    p_codes = vectors(codes, i_groups, i_tokens)
    p_table = tables.data + i_kind * tables.s[1] + (0 if SHARED else i_layer) * tables.s[0]
    b_total = tl.zeros([ROWS, WHOLE], tl.float32)
    for stage in tl.static_range(STAGES):
        b_number = tl.zeros([ROWS], tl.int32)
        for byte in tl.static_range(STARTS[stage] // 8, (STARTS[stage] + WIDTHS[stage] - 1) // 8 + 1):
            b_byte = tl.load(p_codes + byte * codes.s[5], mask=m_rows, other=0).to(tl.int32)
            b_number |= b_byte << 8 * (byte - STARTS[stage] // 8)
        b_number = b_number >> STARTS[stage] % 8 & (1 << WIDTHS[stage]) - 1
        p_entries = p_table + (b_number + FIRSTS[stage])[:, None] * tables.s[2] + i_dims[None] * tables.s[3]
        b_total += tl.load(p_entries, mask=m_entries, other=0.0).to(tl.float32)
    store(pool, p_slots, i_groups, i_tokens, m_rows, b_total, SIZE, WHOLE)


@triton.jit
def rows(groups, kept, ROWS: tl.constexpr):
    """KV head and token of each vector of a program, and whether there is one."""
    i_rows = tl.program_id(2) * ROWS + tl.arange(0, ROWS)
    return i_rows // kept, i_rows % kept, i_rows < groups * kept


@triton.jit
def vectors(plane, i_groups, i_tokens):
    """Where the bytes of each vector of a program begin in a plane (N, L, 2, G, K, W)."""
    i_memory, i_part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    p_part = plane.data + i_memory * plane.s[0] + i_part // 2 * plane.s[1] + i_part % 2 * plane.s[2]
    return p_part + i_groups * plane.s[3] + i_tokens * plane.s[4]


@triton.jit
def store(pool, p_slots, i_groups, i_tokens, m_rows, b_vectors, SIZE: tl.constexpr, WHOLE: tl.constexpr):
    """Write the vectors of a program to the keys or to the values of its layer and slot."""
    i_slot, i_layer = tl.load(p_slots + tl.program_id(0)).to(tl.int64), (tl.program_id(1) // 2).to(tl.int64)
    i_dims = tl.arange(0, WHOLE)[None]
    m_out = m_rows[:, None] & (i_dims < SIZE)
    b_vectors = b_vectors.to(pool.key.dtype.element_ty)
    if tl.program_id(1) % 2 == 0:
        p_slot = pool.key + i_layer * pool.s_key[0] + i_slot * pool.s_key[1]
        p_rows = p_slot + i_groups * pool.s_key[2] + i_tokens * pool.s_key[3]
        tl.store(p_rows[:, None] + i_dims * pool.s_key[4], b_vectors, mask=m_out)
    else:
        p_slot = pool.value + i_layer * pool.s_value[0] + i_slot * pool.s_value[1]
        p_rows = p_slot + i_groups * pool.s_value[2] + i_tokens * pool.s_value[3]
        tl.store(p_rows[:, None] + i_dims * pool.s_value[4], b_vectors, mask=m_out)
