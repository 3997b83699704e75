import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory3.store.errors import Corrupted
from memory3.store.filters.posting import Posting, decode_posting, encode_posting
from memory3.store.filters.roaring import CHUNK, bitmap_of, decode_bitmap, encode_bitmap, positions_of
from pyroaring import BitMap

sizes = st.sampled_from([1, 2, 4095, 4096, 4097, 20_000, CHUNK])


@given(sizes, st.integers(0, 2**32))
def test_positions_come_back(size: int, seed: int) -> None:
    positions = np.sort(np.random.default_rng(seed).choice(CHUNK, size, replace=False)).astype(np.uint16)
    bitmap = bitmap_of(positions)
    assert bitmap == BitMap(positions.tolist())
    assert positions_of(decode_bitmap(encode_bitmap(bitmap))).tolist() == positions.tolist()


def test_no_positions_are_an_empty_bitmap() -> None:
    assert bitmap_of(np.empty(0, np.uint16)) == BitMap()


@given(st.sets(st.integers(0, CHUNK - 1), min_size=1, max_size=5), st.none() | st.binary(min_size=1, max_size=300))
def test_a_posting_comes_back(positions: set[int], string: bytes | None) -> None:
    posting = decode_posting(encode_posting(Posting(BitMap(positions), string)))
    assert (posting.bitmap, posting.string) == (BitMap(positions), string)
    assert posting.single == (min(positions) if len(positions) == 1 and not string else None)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        BitMap().serialize(),
        BitMap([CHUNK]).serialize(),
        BitMap([1, 2]).serialize()[:-1],
        BitMap([1, 2]).serialize() + b"\0",
        b"no bitmap",
    ],
)
def test_other_bytes_are_corrupted(payload: bytes) -> None:
    with pytest.raises(Corrupted):
        decode_bitmap(payload)
    with pytest.raises(Corrupted):
        decode_posting(bytes(4) + payload)


@pytest.mark.parametrize("payload", [b"", b"\0\0\0", b"\xff\xff\xff\xffx"])
def test_other_bytes_are_no_posting(payload: bytes) -> None:
    with pytest.raises(Corrupted):
        decode_posting(payload)
