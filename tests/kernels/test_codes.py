"""The decoding of codes, against loops over single numbers, and the order in which codes are packed.

Dimensions: `D` size of a vector, `B` bytes of a code, `S` stages, `E` entries of the table.
"""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory3.kernels.codes import code_bytes, decode_int4, decode_int8, decode_residual, firsts, pack, unpack
from torch import Tensor

PAPER = (14, 14, *[10] * 8)
widths = st.lists(st.integers(1, 16), min_size=1, max_size=12)


def drawn_bytes(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def bits_of(code: Sequence[int]) -> list[int]:
    """All bits of some bytes, the lowest of the first byte first."""
    return [byte >> place & 1 for byte in code for place in range(8)]


def number_of(bits: Sequence[int]) -> int:
    return sum(bit << place for place, bit in enumerate(bits))


def test_every_byte_of_int8_is_a_signed_number() -> None:
    codes = torch.arange(256, dtype=torch.uint8).view(2, 128)
    decoded = decode_int8(codes, torch.tensor([1.0, 0.5], dtype=torch.bfloat16))
    assert decoded.dtype == torch.float32
    assert decoded.tolist() == [[float(n) for n in range(128)], [0.5 * n for n in range(-128, 0)]]


def test_every_half_byte_of_int4_is_a_signed_number() -> None:
    """The low half of byte i is dimension i, the high half dimension B + i."""
    codes = torch.arange(256, dtype=torch.uint8)
    decoded = decode_int4(codes, torch.tensor(2.0), 512)
    signed = [*range(8), *range(-8, 0)]
    assert decoded[:256].tolist() == [2.0 * signed[byte & 15] for byte in range(256)]
    assert decoded[256:].tolist() == [2.0 * signed[byte >> 4] for byte in range(256)]


@pytest.mark.parametrize("size", [1, 2, 3, 63, 64, 80, 111])
def test_an_odd_size_leaves_the_last_half_byte_unused(size: int) -> None:
    codes = drawn_bytes(3, 2, -(-size // 2))
    scales = torch.rand(3, 2)
    decoded = decode_int4(codes, scales, size)
    assert decoded.shape == (3, 2, size)
    if size % 2:
        codes[..., -1] ^= 0xF0
        assert torch.equal(decode_int4(codes, scales, size), decoded)


@given(widths, st.integers(0, 2**32))
@settings(deadline=None)
def test_what_is_packed_is_unpacked(bits: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.stack([torch.randint(0, 1 << width, (2, 3), generator=generator) for width in bits], dim=-1)
    codes = pack(numbers, bits)
    assert codes.shape == (2, 3, code_bytes(bits)) and codes.dtype == torch.uint8
    assert torch.equal(unpack(codes, bits), numbers)


@given(widths, st.integers(0, 2**32))
@settings(deadline=None)
def test_numbers_lie_behind_each_other_from_the_lowest_bit_on(bits: list[int], seed: int) -> None:
    code = drawn_bytes(code_bytes(bits), seed=seed % 2**31)
    stream = bits_of(code.tolist())
    expected = []
    for width in bits:
        expected.append(number_of(stream[:width]))
        stream = stream[width:]
    assert unpack(code, bits).tolist() == expected
    # Packing fills what is left of the last byte with zeros.
    assert bits_of(pack(unpack(code, bits), bits).tolist())[sum(bits) :] == [0] * len(stream)


def test_the_largest_numbers_do_not_run_into_each_other() -> None:
    numbers = torch.tensor([[2**14 - 1, 0, *[1023, 0] * 4], [0, 2**14 - 1, *[0, 1023] * 4]])
    codes = pack(numbers, PAPER)
    assert codes.shape == (2, 14) and torch.equal(unpack(codes, PAPER), numbers)
    assert (codes[0] & codes[1]).tolist() == [0] * 14
    assert bits_of((codes[0] | codes[1]).tolist()) == [1] * 108 + [0] * 4


@pytest.mark.parametrize(("bits", "size"), [((3,), 1), ((2, 2), 5), ((6, 6, 3, 3, 3), 63), ((5, 1, 4), 8)])
def test_a_vector_is_the_sum_of_one_entry_of_each_stage(bits: tuple[int, ...], size: int) -> None:
    table = torch.randn(sum(1 << width for width in bits), size, generator=torch.Generator().manual_seed(1)).half()
    codes = drawn_bytes(4, 3, code_bytes(bits))
    decoded = decode_residual(codes, bits, table)
    assert decoded.shape == (4, 3, size) and decoded.dtype == torch.float32
    for row in range(4):
        for column in range(3):
            expected = torch.zeros(size)
            for number, first in zip(unpack(codes[row, column], bits).tolist(), firsts(bits), strict=True):
                expected = expected + table[first + number].float()
            assert torch.equal(decoded[row, column], expected)
