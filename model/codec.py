"""How one vector (a key or a value of one token and KV head) is written as bytes: the stored forms but `rq14`.

`bfloat16`, `float16` and `float32` are the numbers themselves. `int8` and `int4` are whole numbers, symmetric about
zero, and one scale for each vector. The scale is a bfloat16, which reaches as far as the numbers do; they are rounded
by the scale as it is stored, so its own rounding costs next to nothing.

Dimensions: `D` head size, `W` bytes of a vector in one plane.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..kernels.codes import decode_int4, decode_int8, numbers_of_int4
from ..store.errors import InvalidArgument


class Codec(Protocol):
    """Writes vectors as planes of bytes, and reads them.

    Attributes:
        dtype: of the vectors it reads.
        widths: bytes of a vector, plane by plane.
    """

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def widths(self) -> tuple[int, ...]: ...

    def encode(self, vectors: Tensor) -> list[Tensor]:
        """Planes (L, 2, G, T, W) uint8 of vectors (L, 2, G, T, D), keys and values of each memory layer.

        Raises:
            InvalidArgument: a number that the codec cannot write (NaN, infinity).
        """
        ...

    def decode(self, planes: Sequence[Tensor]) -> Tensor:
        """Vectors (S, L, 2, G, K, D) of the planes (S, L, 2, G, K, W) uint8 of several memories, on their device."""
        ...


@dataclass(frozen=True, slots=True)
class Floats:
    """The numbers themselves."""

    size: int
    dtype: torch.dtype

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.size * self.dtype.itemsize,)

    def encode(self, vectors: Tensor) -> list[Tensor]:
        return [vectors.to(self.dtype).contiguous().view(torch.uint8)]

    def decode(self, planes: Sequence[Tensor]) -> Tensor:
        return planes[0].contiguous().view(self.dtype)


@dataclass(frozen=True, slots=True)
class Integers:
    """Whole numbers of 8 or 4 bits and one scale a vector; a number is off by at most half of its vector's scale."""

    size: int
    bits: int

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    @property
    def widths(self) -> tuple[int, ...]:
        return -(-self.size * self.bits // 8), 2

    def encode(self, vectors: Tensor) -> list[Tensor]:
        check_finite(vectors)
        scales = self._scales(vectors.float())
        # Empty vectors have the scale 0 and are written as zeros.
        numbers = torch.where(scales > 0, vectors.float() / scales, 0.0).round().to(torch.int8)
        return [self._packed(numbers), scales.to(torch.bfloat16).view(torch.uint8)]

    def decode(self, planes: Sequence[Tensor]) -> Tensor:
        if self.bits == 8:
            return decode_int8(planes[0], _scales_in(planes))
        return decode_int4(planes[0], _scales_in(planes), self.size)

    def numbers(self, planes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """What `decode` multiplies: whole numbers (S, L, 2, G, K, D) int8, and scales (S, L, 2, G, K) bfloat16."""
        whole = planes[0].view(torch.int8) if self.bits == 8 else numbers_of_int4(planes[0], self.size)
        return whole, _scales_in(planes)

    def _scales(self, vectors: Tensor) -> Tensor:
        """The scale of each vector (..., 1), such as bfloat16 can hold: the largest number over the top of the range.

        Rounding takes away at most a 512th of it, and a number that should be the top stays below the top and a half.
        """
        largest = vectors.abs().amax(dim=-1, keepdim=True)
        scales = (largest / ((1 << self.bits - 1) - 1)).to(torch.bfloat16).float()
        return torch.where(largest > 0, scales.clamp(min=torch.finfo(torch.bfloat16).tiny), 0.0)

    def _packed(self, numbers: Tensor) -> Tensor:
        if self.bits == 8:
            return numbers.view(torch.uint8)
        padded = torch.nn.functional.pad(numbers, (0, numbers.shape[-1] % 2))
        low, high = padded.chunk(2, dim=-1)
        return (low & 0xF | high << 4).view(torch.uint8)


def _scales_in(planes: Sequence[Tensor]) -> Tensor:
    return planes[1].contiguous().view(torch.bfloat16)[..., 0]


def check_finite(vectors: Tensor) -> None:
    """Refuse NaN and infinity, which a code has no number for.

    Raises:
        InvalidArgument: there is one.
    """
    if not vectors.isfinite().all():
        raise InvalidArgument(
            "this model makes keys or values that are not finite (NaN or infinity), which codes cannot hold; run it in "
            "float32 or bfloat16, or store its key-values as those"
        )
