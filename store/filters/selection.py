"""A set of seqs, such as the memories that match a filter, kept as one Roaring bitmap a chunk of 65,536 seqs."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from .roaring import CHUNK, CHUNK_BITS, positions_of

_POSITION = CHUNK - 1


class Selection:
    """Seqs in ascending order; `&`, `|` and `-` make new selections. Bitmaps given to it are not changed any more."""

    __slots__ = ("_chunks",)

    def __init__(self, chunks: Mapping[int, BitMap]) -> None:
        """`chunks` are bitmaps of the low 16 bits of seqs by the bits above them."""
        self._chunks = {number: chunks[number] for number in sorted(chunks) if chunks[number]}

    @classmethod
    def of(cls, seqs: range) -> "Selection":
        """Return the selection of a run of seqs."""
        chunks: dict[int, BitMap] = {}
        for number, start, stop in spans(seqs, CHUNK_BITS):
            chunks[number] = BitMap()
            chunks[number].add_range(start, stop)
        return cls(chunks)

    @property
    def count(self) -> int:
        return sum(len(bitmap) for bitmap in self._chunks.values())

    @property
    def numbers(self) -> range:
        """The numbers of the chunks, from the first that holds a seq to the last."""
        return range(next(iter(self._chunks)), next(reversed(self._chunks)) + 1) if self._chunks else range(0)

    @property
    def first(self) -> int:
        """The least seq. Only of a selection that holds one."""
        number, bitmap = next(iter(self._chunks.items()))
        return (number << CHUNK_BITS) + bitmap.min()

    @property
    def last(self) -> int:
        """The greatest seq. Only of a selection that holds one."""
        number, bitmap = next(reversed(self._chunks.items()))
        return (number << CHUNK_BITS) + bitmap.max()

    def contains(self, seq: int) -> bool:
        bitmap = self._chunks.get(seq >> CHUNK_BITS)
        return bitmap is not None and seq & _POSITION in bitmap

    def meets(self, seqs: range) -> bool:
        """Say whether any of a run of seqs within one chunk is here."""
        bitmap = self._chunks.get(seqs.start >> CHUNK_BITS)
        if bitmap is None:
            return False
        start = seqs.start & _POSITION
        return bitmap.range_cardinality(start, start + len(seqs)) > 0

    def array(self) -> npt.NDArray[np.int64]:
        """Return all seqs, ascending, shape (count,)."""
        pieces = [positions_of(bitmap) + np.int64(number << CHUNK_BITS) for number, bitmap in self._chunks.items()]
        return np.concatenate(pieces) if pieces else np.empty(0, np.int64)

    def bitmap(self, base: int) -> tuple[npt.NDArray[np.uint8], int]:
        """Return the seqs as bits, and how many are set: bit i, in little bit order, stands for seq `base` + i.

        That is the form of `faiss.IDSelectorBitmap`. `base` is at most the first seq; the last one is in the last byte.
        """
        if not self._chunks:
            return np.empty(0, np.uint8), 0
        assert base <= self.first, f"the bitmap begins at seq {base}, after seq {self.first}"
        bits = np.zeros(self.last - base + 1, dtype=bool)
        for number, bitmap in self._chunks.items():
            bits[positions_of(bitmap) + np.int64((number << CHUNK_BITS) - base)] = True
        return np.packbits(bits, bitorder="little"), self.count

    def __iter__(self) -> Iterator[int]:
        for number, bitmap in self._chunks.items():
            start = number << CHUNK_BITS
            for position in bitmap:
                yield start + position

    def __len__(self) -> int:
        return self.count

    def __bool__(self) -> bool:
        return bool(self._chunks)

    def __contains__(self, seq: int) -> bool:
        return self.contains(seq)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Selection) and self._chunks == other._chunks

    __hash__ = None  # type: ignore[assignment]  # bitmaps have none

    def __and__(self, other: "Selection") -> "Selection":
        few, many = sorted((self._chunks, other._chunks), key=len)
        return Selection({number: few[number] & many[number] for number in few if number in many})

    def __or__(self, other: "Selection") -> "Selection":
        both = dict(self._chunks)
        for number, bitmap in other._chunks.items():
            both[number] = both[number] | bitmap if number in both else bitmap
        return Selection(both)

    def __sub__(self, other: "Selection") -> "Selection":
        left = other._chunks
        return Selection(
            {number: bitmap - left[number] if number in left else bitmap for number, bitmap in self._chunks.items()}
        )


def spans(seqs: range, bits: int) -> Iterator[tuple[int, int, int]]:
    """Cut a run of seqs at multiples of 2**bits: yield the bits above, and start and stop among the low ones."""
    start = seqs.start
    while start < seqs.stop:
        number = start >> bits
        stop = min(seqs.stop, (number + 1) << bits)
        yield number, start - (number << bits), stop - (number << bits)
        start = stop
