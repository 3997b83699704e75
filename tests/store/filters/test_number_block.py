import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory3.store.errors import Corrupted
from memory3.store.filters.language import Bound, Kind, Range, within
from memory3.store.filters.number_block import BLOCK, EMPTY, Numbers, decode_numbers, encode_numbers, split

EDGES = [0, 0.0, -0.0, 1, 1.0, -1, 2**53 - 1, 2**53, 2**53 + 1, float(2**53), 2**53 + 2, 2**63 - 1, float(2**63)]
EDGES += [-(2**63), -(2**63) + 1, 2**62 + 511, 2**62 + 512, 2**62 + 513, 1.7976931348623157e308, -1.7e308, 5e-324, 0.1]
numbers = (
    st.sampled_from(EDGES)
    | st.integers(-(2**63), 2**63 - 1)
    | st.integers(-3, 3)
    | st.floats(allow_nan=False, allow_infinity=False)
)


@given(numbers, numbers)
def test_pairs_are_in_the_order_of_the_numbers(one: float, other: float) -> None:
    assert (split(one) < split(other)) == (one < other)
    assert (split(one) == split(other)) == (one == other)


@given(
    st.dictionaries(st.integers(0, BLOCK - 1), numbers, min_size=1, max_size=12),
    st.none() | st.builds(Bound, numbers, st.booleans()),
    st.none() | st.builds(Bound, numbers, st.booleans()),
    st.lists(numbers, min_size=1, max_size=5),
)
def test_ranges_and_lists_find_what_python_finds(
    values: dict[int, float], lower: Bound | None, upper: Bound | None, listed: list[float]
) -> None:
    block = decode_numbers(encode_numbers(EMPTY.changed((at, at + 1, value) for at, value in values.items())))
    assert len(block) == len(values)
    if lower or upper:
        span = Range("n", Kind.NUMBER, lower, upper)
        expected = sorted(at for at, value in values.items() if within(span, value))
        assert block.between(lower, upper).tolist() == expected
    expected = sorted(at for at, value in values.items() if value in listed)
    assert block.equal(Numbers(listed)).tolist() == expected


runs = st.lists(
    st.tuples(st.integers(0, BLOCK), st.integers(0, BLOCK), st.none() | numbers).map(
        lambda run: (min(run[:2]), max(run[:2]), run[2])
    ),
    max_size=6,
)


@given(runs, runs)
def test_of_changes_the_later_one_holds(
    first: list[tuple[int, int, float]], then: list[tuple[int, int, float]]
) -> None:
    expected: dict[int, float] = {}
    for start, stop, value in first + then:
        for at in range(start, stop):
            expected.pop(at, None)
            if value is not None:
                expected[at] = value
    block = EMPTY.changed(first).changed(then)
    assert block.positions.tolist() == sorted(expected)
    rests = block.rests if block.rests is not None else np.zeros(len(block), np.int16)
    found = zip(block.floats.tolist(), rests.tolist(), strict=True)
    assert list(found) == [split(expected[at]) for at in sorted(expected)]
    assert len(block.differs(EMPTY.changed(first + then))) == 0


def test_blocks_differ_where_one_has_another_number_or_none() -> None:
    one = EMPTY.changed([(0, 4, 5), (4, 6, 2**53 + 1)])
    other = EMPTY.changed([(0, 2, 5.0), (3, 4, 6), (4, 5, 2**53), (5, 6, 2**53 + 1)])
    assert one.differs(other).tolist() == [2, 3, 4]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        struct.pack("<II", 0, 0),
        struct.pack("<II", 1, 0) + bytes(9),
        struct.pack("<II", 1, 0) + bytes(12),
        struct.pack("<II", 1, 2) + bytes(12),
        struct.pack("<II", BLOCK + 1, 0) + bytes(10 * (BLOCK + 1)),
    ],
)
def test_other_bytes_are_corrupted(payload: bytes) -> None:
    with pytest.raises(Corrupted):
        decode_numbers(payload)
