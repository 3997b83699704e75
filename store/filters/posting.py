"""The memories under a term in one chunk of seqs, byte by byte as docs/format.md gives them."""

import struct
from typing import Final

from pyroaring import BitMap

from ..disk.seal import Bytes
from ..errors import Corrupted
from .roaring import decode_bitmap, encode_bitmap

_LENGTH: Final = struct.Struct("<I")
_SINGLE_HEAD: Final = _LENGTH.pack(0) + BitMap([0]).serialize()[:-2]
_SINGLE_BYTES: Final = len(_SINGLE_HEAD) + 2
"""A posting of one seq and no string differs from others of its like in the last two bytes only."""


class Posting:
    """Which seqs of a chunk stand under a term, and the whole string where the key holds only its beginning.

    Attributes:
        single: the position of the only seq where that is known without a bitmap. A million different strings are as
            many postings of one seq, and making a bitmap is most of what reading one costs.
    """

    __slots__ = ("_bitmap", "single", "string")

    def __init__(self, bitmap: BitMap | None, string: bytes | None = None, single: int | None = None) -> None:
        self._bitmap = bitmap
        self.single = single
        self.string = string

    @property
    def bitmap(self) -> BitMap:
        if self._bitmap is None:
            assert self.single is not None
            self._bitmap = BitMap([self.single])
        return self._bitmap


def encode_posting(posting: Posting) -> bytes:
    string = posting.string or b""
    return _LENGTH.pack(len(string)) + string + encode_bitmap(posting.bitmap)


def decode_posting(payload: Bytes) -> Posting:
    """Decode what `encode_posting` made.

    Raises:
        Corrupted: the bytes are anything else.
    """
    if len(payload) == _SINGLE_BYTES and payload[:-2] == _SINGLE_HEAD:
        return Posting(None, single=int.from_bytes(payload[-2:], "little"))
    if len(payload) < _LENGTH.size:
        raise Corrupted(f"a posting of {len(payload)} bytes")
    end = _LENGTH.size + int(_LENGTH.unpack_from(payload)[0])
    string = bytes(payload[_LENGTH.size : end]) or None
    return Posting(decode_bitmap(payload[end:]), string)
