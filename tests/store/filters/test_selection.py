import faiss
from hypothesis import given
from hypothesis import strategies as st
from memory3.store.filters.selection import Selection, spans

BASES = [0, 65_530, (1 << 32) - 3, (32_767 << 48) + 131_065]
seq_sets = st.sets(st.builds(int.__add__, st.sampled_from(BASES), st.integers(0, 12)), max_size=20)


def selection(seqs: set[int]) -> Selection:
    found = Selection({})
    for seq in seqs:
        found |= Selection.of(range(seq, seq + 1))
    return found


@given(seq_sets, seq_sets)
def test_selections_are_sets(one: set[int], other: set[int]) -> None:
    a, b = selection(one), selection(other)
    assert [list(found) for found in (a & b, a | b, a - b)] == [
        sorted(one & other),
        sorted(one | other),
        sorted(one - other),
    ]
    assert (a & b, a | b, a - b) == (selection(one & other), selection(one | other), selection(one - other))
    assert (list(a), a.count, len(a), bool(a)) == (sorted(one), len(one), len(one), bool(one))
    assert a.array().tolist() == sorted(one)
    assert [seq for seq in sorted(other) if a.contains(seq)] == sorted(one & other)
    assert [seq for seq in other if a.meets(range(seq, seq + 1))] == [seq for seq in other if seq in one]
    if one:
        assert (a.first, a.last) == (min(one), max(one))
        assert a.numbers == range(min(one) >> 16, (max(one) >> 16) + 1)


@given(
    st.sampled_from([0, 65_530, (32_767 << 48) + 131_065]), st.sets(st.integers(0, 200_000), min_size=1, max_size=40)
)
def test_faiss_reads_the_bits(base: int, offsets: set[int]) -> None:
    found = selection({base + offset for offset in offsets})
    bits, count = found.bitmap(base)
    assert (bits.dtype.name, count) == ("uint8", len(offsets))
    assert len(bits) == max(offsets) // 8 + 1
    selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
    near = {offset + step for offset in offsets for step in (-1, 0, 1) if offset + step >= 0}
    assert {offset for offset in near if selector.is_member(offset)} == offsets


def test_the_bits_of_nothing_are_none() -> None:
    bits, count = Selection({}).bitmap(7)
    assert (len(bits), count) == (0, 0)
    assert Selection({}).numbers == range(0)


@given(st.integers(0, 1 << 50), st.integers(0, 300_000))
def test_spans_cut_a_run_at_the_borders(start: int, length: int) -> None:
    pieces = list(spans(range(start, start + length), 16))
    assert all(0 <= first < stop <= 65_536 for _, first, stop in pieces)
    joined = [(number << 16) + at for number, first, stop in pieces for at in (first, stop)]
    assert joined[:1] + joined[-1:] == ([start, start + length] if length else [])
    assert joined[1:-1:2] == joined[2::2]
