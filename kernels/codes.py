"""Decoding of coded vectors in plain PyTorch: what every kernel must equal.

Every vector has a code of its own, so that a kernel can decode any of them alone.

Dimensions: `D` size of a vector, `B` bytes of a code, `S` stages of a residual quantizer, `E` entries of its table.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor


def decode_int8(codes: Tensor, scales: Tensor) -> Tensor:
    """Vectors (..., D) float32 of codes (..., D) uint8, each a signed byte, and scales (...) of any float type."""
    return codes.view(torch.int8).float() * scales.float()[..., None]


def decode_int4(codes: Tensor, scales: Tensor, size: int) -> Tensor:
    """Vectors (..., `size`) float32 of codes (..., B) uint8, two signed numbers a byte, and scales (...).

    The low halves of the bytes are the first B dimensions, the high halves those behind them: so a kernel has two
    halves of a vector side by side and never interleaves. An odd size leaves the last high half unused.
    """
    return numbers_of_int4(codes, size).float() * scales.float()[..., None]


def numbers_of_int4(codes: Tensor, size: int) -> Tensor:
    """The whole numbers (..., `size`) int8 of the same codes, without their scales."""
    signed = codes.view(torch.int8)
    # The arithmetic shift to the right brings the sign along.
    return torch.cat([signed << 4 >> 4, signed >> 4], dim=-1)[..., :size]


def decode_residual(codes: Tensor, bits: Sequence[int], table: Tensor) -> Tensor:
    """Vectors (..., D) float32 of a residual quantizer's codes (..., B) uint8: the sum of one entry of each stage.

    Args:
        bits: of each stage's number, as `unpack` takes them.
        table: (E, D), the entries of all stages, one stage behind the other; E is the sum of 2 ** bits.
    """
    numbers = unpack(codes, bits)
    total = torch.zeros(*codes.shape[:-1], table.shape[1], device=codes.device)
    for stage, first in enumerate(firsts(bits)):
        total += table[numbers[..., stage] + first].float()
    return total


def firsts(bits: Sequence[int]) -> list[int]:
    """The place of each stage's first entry in the table of a residual quantizer."""
    return list(accumulate((1 << width for width in bits[:-1]), initial=0))


def code_bytes(bits: Sequence[int]) -> int:
    """Bytes of a code: all numbers side by side, filled up to a whole byte."""
    return -(-sum(bits) // 8)


def pack(numbers: Tensor, bits: Sequence[int]) -> Tensor:
    """Codes (..., B) uint8 of numbers (..., S) int64, the s-th of them below 2 ** bits[s].

    The numbers lie behind each other from the lowest bit of the first byte on.
    """
    code = torch.zeros(*numbers.shape[:-1], code_bytes(bits), dtype=torch.int64, device=numbers.device)
    for stage, (start, width) in enumerate(_places(bits)):
        shifted = numbers[..., stage] << start % 8
        for byte in range(start // 8, (start + width - 1) // 8 + 1):
            code[..., byte] |= shifted >> 8 * (byte - start // 8) & 0xFF
    return code.to(torch.uint8)


def unpack(codes: Tensor, bits: Sequence[int]) -> Tensor:
    """The inverse of `pack`: numbers (..., S) int64 of codes (..., B) uint8."""
    numbers = torch.empty(*codes.shape[:-1], len(bits), dtype=torch.int64, device=codes.device)
    for stage, (start, width) in enumerate(_places(bits)):
        number = torch.zeros(codes.shape[:-1], dtype=torch.int64, device=codes.device)
        for byte in range(start // 8, (start + width - 1) // 8 + 1):
            number |= codes[..., byte].long() << 8 * (byte - start // 8)
        numbers[..., stage] = number >> start % 8 & (1 << width) - 1
    return numbers


def _places(bits: Sequence[int]) -> list[tuple[int, int]]:
    """The first bit and the width of each number in a code."""
    return list(zip(accumulate(bits[:-1], initial=0), bits, strict=True))
