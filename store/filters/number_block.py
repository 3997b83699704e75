"""The numbers that one metadata name has in a block of seqs, side by side, so that a range is one comparison.

Numbers do not stand under terms of their own as strings do: a range over a million different ones would visit as many
terms, and reads 245 blocks of 40 KB instead (docs/filters.md has the figures of both). `N` numbers in a block.
"""

import operator
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ..disk.seal import Bytes
from ..errors import Corrupted
from .language import Bound
from .roaring import Positions

BLOCK_BITS: Final = 12
BLOCK: Final = 1 << BLOCK_BITS

Run = tuple[int, int, int | float | None]
"""Start, stop and what stands there from now on, None for nothing."""
Mask = npt.NDArray[np.bool_]

_HEAD = struct.Struct("<II")


@dataclass(frozen=True, slots=True)
class NumberBlock:
    """Numbers and where in the block they stand.

    A number is the nearest float (N,) and, for integers beyond 2**53, what is left to the number itself (N,). These
    pairs are in the order of the numbers, because rounding never swaps two of them. What is left is at most 512, half
    of the distance of floats below 2**63; `rests` is None when nothing is left of any.
    """

    positions: Positions
    floats: npt.NDArray[np.float64]
    rests: npt.NDArray[np.int16] | None

    def between(self, lower: Bound | None, upper: Bound | None) -> Positions:
        """Return the positions of the numbers between two bounds, of which there is at least one."""
        masks = [self._beyond(bound, above) for bound, above in ((lower, True), (upper, False)) if bound is not None]
        return self.positions[masks[0] if len(masks) == 1 else masks[0] & masks[1]]

    def equal(self, numbers: "Numbers") -> Positions:
        """Return the positions of the numbers that are among these."""
        mask = self._floats_among(numbers.floats)
        if numbers.exact and self.rests is None:
            return self.positions[mask]
        # Floats that integers were rounded to: the pairs decide.
        rests = self.rests if self.rests is not None else np.zeros(len(self.floats), np.int16)
        for row in np.flatnonzero(mask):
            mask[row] = (float(self.floats[row]), int(rests[row])) in numbers.pairs
        return self.positions[mask]

    def changed(self, runs: Iterable[Run]) -> "NumberBlock":
        """Return the block after changes, the later ones over the earlier ones."""
        floats, rests = self._spread()
        for start, stop, value in runs:
            floats[start:stop], rests[start:stop] = (np.nan, 0) if value is None else split(value)
        positions = np.flatnonzero(~np.isnan(floats)).astype(np.uint16)
        return NumberBlock(positions, floats[positions], rests[positions] if rests.any() else None)

    def differs(self, other: "NumberBlock") -> Positions:
        """Return the positions at which one block has a number that the other has not."""
        (floats, rests), (other_floats, other_rests) = self._spread(), other._spread()
        same = (floats == other_floats) | (np.isnan(floats) & np.isnan(other_floats))
        return np.flatnonzero(~same | (rests != other_rests)).astype(np.uint16)

    def __len__(self) -> int:
        return len(self.positions)

    def _floats_among(self, floats: npt.NDArray[np.float64]) -> Mask:
        # One number is by far the most frequent question, and NumPy compares one ten times as fast as it searches.
        among = floats[0] if len(floats) == 1 else floats[np.searchsorted(floats[:-1], self.floats)]
        mask: Mask = self.floats == among
        return mask

    def _spread(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int16]]:
        """Floats and rests of all positions of a block; NaN, which no number is, where there is none."""
        floats = np.full(BLOCK, np.nan)
        rests = np.zeros(BLOCK, np.int16)
        floats[self.positions] = self.floats
        if self.rests is not None:
            rests[self.positions] = self.rests
        return floats, rests

    def _beyond(self, bound: Bound, above: bool) -> Mask:
        """Return which numbers lie above, or below, a bound or on it where it is inclusive."""
        number, rest = split(bound.value)
        compare = operator.gt if above else operator.lt
        compare_equal = operator.ge if above else operator.le
        compare_rest = compare_equal if bound.inclusive else compare
        if self.rests is None:
            # Every number is a float, so those on the float of the bound are all within or all without.
            mask: Mask = (compare_equal if compare_rest(0, rest) else compare)(self.floats, number)
            return mask
        beyond: Mask = compare(self.floats, number) | ((self.floats == number) & compare_rest(self.rests, rest))
        return beyond


class Numbers:
    """The numbers of an `In`, prepared for many blocks. At least one."""

    def __init__(self, values: Iterable[int | float]) -> None:
        self.pairs = {split(value) for value in values}
        self.floats = np.array(sorted({number for number, _ in self.pairs}))
        self.exact = all(rest == 0 for _, rest in self.pairs)


EMPTY: Final = NumberBlock(np.empty(0, np.uint16), np.empty(0), None)


def split(value: object) -> tuple[float, int]:
    """Return the float nearest to a number and what is left to the number itself."""
    assert isinstance(value, int | float)
    number = float(value)
    return number, 0 if isinstance(value, float) else value - int(number)


def encode_numbers(block: NumberBlock) -> bytes:
    arrays = [block.floats.astype("<f8", copy=False), block.positions.astype("<u2", copy=False)]
    if block.rests is not None:
        arrays.append(block.rests.astype("<i2", copy=False))
    return b"".join([_HEAD.pack(len(block), block.rests is not None), *(array.tobytes() for array in arrays)])


def decode_numbers(payload: Bytes) -> NumberBlock:
    """Decode what `encode_numbers` made of a block that is not empty; the arrays share the payload's memory.

    Raises:
        Corrupted: the bytes are no such block. Numbers and their order are not looked at, which would take as long as
            the whole query: that they are those that were written the seal says.
    """
    if len(payload) < _HEAD.size:
        raise Corrupted(f"a block of numbers of {len(payload)} bytes, expected at least {_HEAD.size}")
    count, has_rests = _HEAD.unpack_from(payload)
    if not 1 <= count <= BLOCK or has_rests > 1 or len(payload) != _HEAD.size + count * (12 if has_rests else 10):
        raise Corrupted(f"a block of {count} numbers of {len(payload)} bytes")
    floats = np.frombuffer(payload, "<f8", count, _HEAD.size)
    positions = np.frombuffer(payload, "<u2", count, _HEAD.size + 8 * count)
    rests = np.frombuffer(payload, "<i2", count, _HEAD.size + 10 * count) if has_rests else None
    return NumberBlock(positions, floats, rests)
