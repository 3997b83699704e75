"""Memories decoded into slots equal kernels/codes.py, bit for bit, and touch nothing else.

Dimensions: those of kernels/gpu/codes.py.
"""

from collections.abc import Callable

import pytest
import torch
from kernel_device import DEVICE, HALVES
from memory3.kernels.codes import code_bytes, decode_int4, decode_int8, decode_residual
from memory3.kernels.gpu.codes import decode_integers_into, decode_residual_into
from torch import Tensor

PAPER = (14, 14, *[10] * 8)
SLOTS = 6
CHOSEN = (4, 0, 3)
DTYPES = [torch.float32, *HALVES]


def drawn_bytes(*shape: int, seed: int) -> Tensor:
    """Bytes as they lie in stored values: each memory behind a header and other planes, at any address."""
    generator = torch.Generator().manual_seed(seed)
    plane = torch.Size(shape[1:]).numel()
    data = torch.randint(0, 256, (shape[0], 5 + plane + 2), generator=generator, dtype=torch.uint8, device="cpu")
    return data.to(DEVICE)[:, 5 : 5 + plane].view(shape)


def drawn_scales(*shape: int) -> Tensor:
    scales = torch.rand(shape, generator=torch.Generator().manual_seed(3)).to(torch.bfloat16)
    scales.view(-1)[:2] = torch.tensor([0.0, torch.finfo(torch.bfloat16).tiny])
    plane = torch.Size(shape[1:]).numel() * 2
    data = torch.zeros(shape[0], 3 + plane, dtype=torch.uint8)
    data[:, 3:] = scales.view(torch.uint8).view(shape[0], -1)
    return data.to(DEVICE)[:, 3:].view(*shape, 2)


def pools(shape: tuple[int, ...], dtype: torch.dtype, strided: bool) -> tuple[Tensor, Tensor]:
    """Key and value pools (L, S, G, K, D) of NaN; views into larger ones if strided."""
    layers, groups, kept, size = shape
    if not strided:
        return tuple(
            torch.full((layers, SLOTS, groups, kept, size), torch.nan, dtype=dtype, device=DEVICE) for _ in "kv"
        )  # type: ignore[return-value]
    larger = torch.full((SLOTS, 2, layers, groups, kept + 1, size + 3), torch.nan, dtype=dtype, device=DEVICE)
    views = larger[..., :kept, :size].transpose(0, 2)
    return views[:, 0], views[:, 1]


def check(write: Callable[[Tensor, Tensor, Tensor], None], vectors: Tensor, dtype: torch.dtype, strided: bool) -> None:
    """`write` puts these vectors (N, L, 2, G, K, D) where they belong."""
    _, layers, _, groups, kept, size = vectors.shape
    key, value = pools((layers, groups, kept, size), dtype, strided)
    slots = torch.tensor(CHOSEN, dtype=torch.int32, device=DEVICE)
    write(slots, key, value)
    for kind, pool in enumerate((key, value)):
        expected = torch.full_like(pool, torch.nan)
        expected[:, slots.long()] = vectors[:, :, kind].transpose(0, 1).to(dtype)
        assert torch.equal(pool.nan_to_num(nan=1e4), expected.nan_to_num(nan=1e4))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("strided", [False, True], ids=["whole", "strided"])
@pytest.mark.parametrize("size", [1, 63, 64, 80])
@pytest.mark.parametrize("bits", [8, 4])
def test_integers_are_decoded_into_slots(bits: int, size: int, strided: bool, dtype: torch.dtype) -> None:
    layout = (len(CHOSEN), 2, 2, 3, 7)
    codes = drawn_bytes(*layout, -(-size * bits // 8), seed=1)
    scales = drawn_scales(*layout)
    numbers = scales.clone(memory_format=torch.contiguous_format).view(torch.bfloat16)[..., 0]
    vectors = decode_int8(codes, numbers) if bits == 8 else decode_int4(codes, numbers, size)
    check(lambda *to: decode_integers_into(codes, scales, bits, *to), vectors, dtype, strided)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("strided", [False, True], ids=["whole", "strided"])
@pytest.mark.parametrize(
    ("bits", "size", "tables"),
    [(PAPER, 80, 1), ((6, 6, 3, 3, 3), 63, 2), ((3,), 1, 2), ((5, 1, 16), 32, 1)],
    ids=["paper", "a-table-a-layer", "one-stage", "widest"],
)
def test_residual_codes_are_decoded_into_slots(
    bits: tuple[int, ...], size: int, tables: int, strided: bool, dtype: torch.dtype
) -> None:
    layers = 2
    entries = sum(1 << width for width in bits)
    generator = torch.Generator().manual_seed(2)
    table = torch.randn(tables, 2, entries, size, generator=generator).half().to(DEVICE)
    codes = drawn_bytes(len(CHOSEN), layers, 2, 2, 5, code_bytes(bits), seed=4)
    vectors = torch.stack([_decoded(codes[:, layer], bits, table[layer % tables]) for layer in range(layers)], dim=1)
    check(lambda *to: decode_residual_into(codes, bits, table, *to), vectors, dtype, strided)


def _decoded(codes: Tensor, bits: tuple[int, ...], table: Tensor) -> Tensor:
    """Keys and values (N, 2, G, K, D) of one layer."""
    return torch.stack([decode_residual(codes[:, kind], bits, table[kind]) for kind in range(2)], dim=1)
