from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory3.store import limits
from memory3.store.errors import Corrupted
from memory3.store.filters.language import Bound, Kind, Range, within
from memory3.store.filters.term_keys import (
    ALL_LIVE,
    NAME,
    NUMBER,
    PARTS,
    STRING_BYTES_KEPT,
    boolean_term,
    decode_key,
    name_term,
    numbers_term,
    part_key,
    part_of,
    string_keys,
    string_term,
    strings_of,
)

letters = st.sampled_from(["", "\0", "\0\0", "\x01", "a", "b", "é", "\uffff", "\U0001f600", "\x7f", "ÿ"])
strings = st.lists(letters, max_size=5).map("".join) | st.builds(
    lambda length, end: "z" * length + end, st.integers(STRING_BYTES_KEPT - 2, STRING_BYTES_KEPT + 3), letters
)
parts = st.integers(0, PARTS - 1)


@given(strings, strings, parts, parts)
def test_whole_strings_keep_their_order(one: str, other: str, part: int, other_part: int) -> None:
    keys = [part_key(string_term("n", text.encode()), number) for text, number in ((one, part), (other, other_part))]
    if max(len(one.encode()), len(other.encode())) <= STRING_BYTES_KEPT:
        assert (keys[0] < keys[1]) == ((one, part) < (other, other_part))
    assert (keys[0] == keys[1]) == ((one, part) == (other, other_part))


@given(strings, parts)
def test_a_key_is_taken_apart_into_what_it_was_made_of(text: str, part: int) -> None:
    encoded = text.encode()
    term = decode_key(part_key(string_term("näme", encoded), part))
    assert (term.name, term.value, term.part) == ("näme", encoded[:STRING_BYTES_KEPT], part)
    assert term.cut == (len(encoded) > STRING_BYTES_KEPT)
    assert part_of(part_key(string_term("näme", encoded), part)) == part


@given(st.lists(strings, max_size=3), strings, strings, st.booleans(), st.booleans(), parts)
def test_the_keys_of_a_range_lie_between_its_ends(
    texts: list[str], lower: str, upper: str, with_lower: bool, with_upper: bool, part: int
) -> None:
    span = Range("n", Kind.STRING, Bound(lower, with_lower), Bound(upper, with_upper))
    start, stop = string_keys(span)
    for text in [*texts, lower, upper]:
        key = part_key(string_term("n", text.encode()), part)
        if within(span, text):
            assert start <= key < stop
        elif len(text.encode()) <= STRING_BYTES_KEPT:
            assert not start <= key < stop


@given(strings, parts)
def test_a_range_without_bounds_holds_all_strings_of_its_name_and_no_others(text: str, part: int) -> None:
    start, stop = string_keys(Range("n", Kind.STRING, None, None))
    assert start <= part_key(string_term("n", text.encode()), part) < stop
    for other in (string_term("m", b"x"), string_term("o", b"x"), string_term("na", b"x"), boolean_term("n", True)):
        assert not start <= part_key(other, part) < stop


@given(st.binary(max_size=60) | st.builds(lambda rest: strings_of("n") + rest, st.binary(max_size=30)))
def test_any_bytes_are_a_key_or_corrupted(key: bytes) -> None:
    try:
        term = decode_key(key)
    except Corrupted:
        return
    assert term.kind in range(5)


@pytest.mark.parametrize(
    "key", [b"", b"\x00\x00", b"\x00\x01a" + bytes(8), b"\x01\x00" + bytes(8), b"\x05\x01a" + bytes(8)]
)
def test_keys_that_are_never_made_are_corrupted(key: bytes) -> None:
    with pytest.raises(Corrupted):
        decode_key(key)


def test_no_key_is_longer_than_lmdb_allows() -> None:
    name = "n" * limits.METADATA_KEY_BYTES_MAX
    for value in (b"\0" * STRING_BYTES_KEPT, b"\0" * 60_000):
        assert len(part_key(string_term(name, value), PARTS - 1)) <= limits.KEY_BYTES_MAX


def test_terms_of_a_kind_and_name_lie_together() -> None:
    terms = [ALL_LIVE, name_term("a"), name_term("b"), name_term("aa"), string_term("a", b""), boolean_term("a", False)]
    terms += [boolean_term("a", True), numbers_term("a"), numbers_term("b")]
    assert all(one < other for one, other in pairwise(terms))
    assert [decode_key(part_key(term, 7)).kind for term in (name_term("a"), numbers_term("a"))] == [NAME, NUMBER]


def test_a_digest_that_ends_like_a_whole_string_is_still_a_digest() -> None:
    term = strings_of("n") + b"z" * STRING_BYTES_KEPT + b"\x00\x02" + bytes(14) + b"\x00\x01"
    assert decode_key(part_key(term, 1)).cut
