"""The table of terms against the plain meaning of filters, over documents that come and go at the borders of chunks."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory3.store.disk.environment import Environment, WriteTransaction
from memory3.store.disk.seal import Damaged
from memory3.store.filters.language import matches
from memory3.store.filters.parser import parse_filter
from memory3.store.filters.posting import Posting
from memory3.store.filters.term_changes import TermChanges
from memory3.store.filters.term_keys import ALL_LIVE, numbers_term, part_key, string_term
from memory3.store.filters.terms import Terms
from memory3.store.types import Metadata
from pyroaring import BitMap

LONG = "z" * 500
NAMES = ["a", "b", "ab", "n" * 128, "é" * 64]
STRINGS = ["", "\0", "a", "a\0", "a\0b", "ab", "b", "é", "\uffff", "\U0001f600", LONG, LONG + "a", LONG + "b"]
STRINGS += ["z" * 127, "z" * 128, "z" * 129, "z" * 128 + "\0", "z" * 128 + "é"]
NUMBERS = [0, -0.0, 0.5, 1, 1.0, 2, -1, 2**53 - 1, 2**53, 2**53 + 1, float(2**53), 2**63 - 1, float(2**63), -(2**63)]
NUMBERS += [1e308, -1e308, 5e-324, 2**62 + 513]

Documents = list[tuple[Metadata, range]]

names = st.sampled_from(NAMES)
strings = st.sampled_from(STRINGS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
numbers = st.sampled_from(NUMBERS) | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = strings | numbers | st.booleans()
metadatas = st.dictionaries(names, values, max_size=4)


def ranges(bounds: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    lower = st.dictionaries(st.sampled_from(["$gt", "$gte"]), bounds, max_size=1)
    upper = st.dictionaries(st.sampled_from(["$lt", "$lte"]), bounds, max_size=1)
    return st.builds(lambda one, other: one | other, lower, upper).filter(bool)


listed = st.lists(values, min_size=1, max_size=4)
operators = (
    st.builds(lambda name, value: {name: value}, st.sampled_from(["$eq", "$ne"]), values)
    | st.builds(lambda name, listed: {name: listed}, st.sampled_from(["$in", "$nin"]), listed)
    | st.builds(lambda wanted: {"$exists": wanted}, st.booleans())
    | ranges(strings)
    | ranges(numbers)
)
conditions = st.dictionaries(
    names, values | operators | operators.map(lambda one: {"$not": one}), min_size=1, max_size=2
)
filters = st.recursive(
    conditions,
    lambda inner: (
        st.builds(
            lambda name, parts: {name: parts}, st.sampled_from(["$and", "$or"]), st.lists(inner, min_size=1, max_size=3)
        )
        | inner.map(lambda one: {"$not": one})
    ),
    max_leaves=5,
)


@st.composite
def documents(draw: st.DrawFn) -> Documents:
    """Documents whose memories stand before, on and after borders of blocks and chunks, of several shards."""
    drawn: Documents = []
    seq = 0
    for base in (1, 4_090, 65_530, (1 << 48) + 131_065, (32_767 << 48) + 65_530):
        seq = max(base, seq)
        for metadata in draw(st.lists(metadatas, max_size=3)):
            seq += draw(st.integers(0, 3))
            seqs = range(seq, seq + draw(st.sampled_from([1, 1, 2, 5, 3_000])))
            drawn.append((metadata, seqs))
            seq = seqs.stop
    return drawn


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    environment = Environment.create(tmp_path_factory.mktemp("terms") / "records", 1 << 30, durable=True)
    yield environment
    environment.close()


@pytest.fixture(scope="module")
def terms(environment: Environment) -> Terms:
    return Terms(environment)


@contextmanager
def undone(environment: Environment) -> Iterator[WriteTransaction]:
    """A transaction for one example, of which nothing stays."""
    with environment.lmdb.begin(write=True) as txn:
        yield txn
        txn.abort()


def seqs_of(documents: Documents) -> list[int]:
    return sorted(seq for _, seqs in documents for seq in seqs)


@settings(max_examples=200, deadline=None)
@given(documents(), st.lists(filters, min_size=1, max_size=4), st.data())
def test_what_is_found_is_what_matches(
    environment: Environment, terms: Terms, documents: Documents, written: list[dict[str, Any]], data: st.DataObject
) -> None:
    gone = data.draw(st.sets(st.integers(0, max(0, len(documents) - 1))), label="gone")
    batches = data.draw(st.integers(1, 4), label="batches")
    live = [document for place, document in enumerate(documents) if place not in gone]
    with undone(environment) as txn:
        for batch in range(batches):
            changes = TermChanges()
            for metadata, seqs in documents[batch::batches]:
                changes.add(metadata, seqs)
            terms.apply(txn, changes)
        for place in gone & set(range(len(documents))):
            terms.remove(txn, *documents[place])
        assert list(terms.live(txn)) == seqs_of(live)
        for one in written:
            filter = parse_filter(one)
            found = terms.matching(txn, filter)
            expected = seqs_of([(metadata, seqs) for metadata, seqs in live if matches(filter, metadata)])
            assert list(found) == expected
            assert found.count == len(expected)
        assert list(terms.check(txn, live)) == []
        for metadata, seqs in live:
            terms.remove(txn, metadata, seqs)
        assert terms.postings.count(txn) == 0


@settings(max_examples=50, deadline=None)
@given(documents(), documents(), filters)
def test_a_rebuild_leaves_what_the_documents_say(
    environment: Environment, terms: Terms, before: Documents, documents: Documents, written: dict[str, Any]
) -> None:
    filter = parse_filter(written)
    with undone(environment) as txn:
        terms.rebuild(txn, before)
        terms.rebuild(txn, iter(documents))
        assert list(terms.check(txn, iter(documents))) == []
        expected = seqs_of([(metadata, seqs) for metadata, seqs in documents if matches(filter, metadata)])
        assert list(terms.matching(txn, filter)) == expected


def test_of_two_changes_in_one_transaction_the_later_one_holds(environment: Environment, terms: Terms) -> None:
    metadata: Metadata = {"a": LONG, "b": 1, "ab": True}
    changes = TermChanges()
    changes.add(metadata, range(1, 4))
    changes.remove(metadata, range(1, 4))
    changes.remove(metadata, range(5, 6))
    changes.add(metadata, range(5, 6))
    with undone(environment) as txn:
        terms.apply(txn, changes)
        assert list(terms.live(txn)) == [5]
        assert list(terms.check(txn, [(metadata, range(5, 6))])) == []


def test_a_document_of_many_chunks_is_found_and_forgotten_whole(environment: Environment, terms: Terms) -> None:
    metadata: Metadata = {"a": "x", "b": 3}
    seqs = range(65_000, 65_000 + (1 << 18))
    with undone(environment) as txn:
        terms.add(txn, metadata, seqs)
        terms.add(txn, {"a": "y", "b": 4}, range(seqs.stop, seqs.stop + 1))
        for written in ({"a": "x"}, {"b": 3}, {"b": {"$lt": 4}}, {"a": {"$lt": "y"}}, {"a": {"$ne": "y"}}):
            found = terms.matching(txn, parse_filter(written))
            assert (found.first, found.last, found.count) == (seqs.start, seqs.stop - 1, len(seqs))
        terms.remove(txn, metadata, seqs)
        assert list(terms.live(txn)) == [seqs.stop]


def test_strings_that_keys_cannot_tell_apart_are_compared_whole(environment: Environment, terms: Terms) -> None:
    strings = [
        "z" * 127,
        "z" * 128,
        LONG,
        LONG + "a",
        LONG + "b",
        "z" * 128 + "a",
        "z" * 127 + "y" * 400,
        "zz",
        "é" * 300,
    ]
    documents: Documents = [({"a": text}, range(seq, seq + 1)) for seq, text in enumerate(strings, start=1)]
    with undone(environment) as txn:
        terms.rebuild(txn, documents)
        for one in strings:
            for written in (one, {"$gt": one}, {"$gte": one}, {"$lt": one}, {"$lte": one}, {"$gt": "z", "$lt": one}):
                filter = parse_filter({"a": written})
                expected = seqs_of([document for document in documents if matches(filter, document[0])])
                assert list(terms.matching(txn, filter)) == expected


def test_only_live_memories_are_found(environment: Environment, terms: Terms) -> None:
    """Whatever else stands in the table, a memory that is not live there is never found."""
    with undone(environment) as txn:
        terms.add(txn, {"a": "x", "b": 1}, range(1, 3))
        terms.remove(txn, {}, range(1, 2))
        for written in ({"a": "x"}, {"b": 1}, {"a": {"$gte": "x"}}, {"a": {"$exists": True}}, {"a": {"$ne": "y"}}):
            assert list(terms.matching(txn, parse_filter(written))) == [2]


@pytest.mark.parametrize(
    ("key", "written"),
    [
        (part_key(ALL_LIVE, 0), {"b": 1}),
        (part_key(string_term("a", b"x"), 0), {"a": "x"}),
        (part_key(string_term("a", b"x"), 0), {"a": {"$gte": "a", "$lt": "y"}}),
        (part_key(numbers_term("b"), 0), {"b": {"$gt": 0}}),
        (part_key(numbers_term("b"), 0), {"$not": {"b": 1}}),
    ],
)
def test_damage_is_named_and_never_taken_for_an_answer(
    environment: Environment, terms: Terms, key: bytes, written: dict[str, Any]
) -> None:
    documents: Documents = [({"a": "x", "b": 1}, range(1, 3)), ({"a": "y", "b": 2}, range(3, 4))]
    with undone(environment) as txn:
        terms.rebuild(txn, documents)
        damage(environment, txn, key)
        with pytest.raises(Damaged) as raised:
            terms.matching(txn, parse_filter(written))
        assert (raised.value.table, raised.value.key) == ("terms", key)
        with pytest.raises(Damaged):
            terms.add(txn, {"a": "x", "b": 1}, range(4, 5))
        found = list(terms.check(txn, documents))
        assert any(str(raised.value) in sentence for sentence in found)
        terms.rebuild(txn, documents)
        assert list(terms.check(txn, documents)) == []
        filter = parse_filter(written)
        assert list(terms.matching(txn, filter)) == seqs_of([one for one in documents if matches(filter, one[0])])


def test_damage_elsewhere_hinders_no_other_filter(environment: Environment, terms: Terms) -> None:
    with undone(environment) as txn:
        terms.rebuild(txn, [({"a": "x", "b": 1}, range(1, 3)), ({"a": "y", "b": 2}, range(3, 4))])
        damage(environment, txn, part_key(string_term("a", b"y"), 0))
        assert list(terms.matching(txn, parse_filter({"a": "x"}))) == [1, 2]
        assert list(terms.matching(txn, parse_filter({"a": {"$lt": "y"}}))) == [1, 2]
        assert list(terms.matching(txn, parse_filter({"b": 2}))) == [3]


def damage(environment: Environment, txn: WriteTransaction, key: bytes) -> None:
    """Flip a bit of a stored value, within the transaction."""
    handle = environment.lmdb.open_db(b"terms", txn=txn, create=False)
    value = bytearray(txn.get(key, db=handle) or b"")
    value[-1] ^= 1
    txn.put(key, bytes(value), db=handle)


Change = tuple[str, Metadata, range]


@pytest.mark.parametrize(
    ("changes", "sentences"),
    [
        (
            [("remove", {"a": "x"}, range(2, 3))],
            [
                "memory 2 is not under all live memories in terms as the documents say",
                "memory 2 is not under metadata 'a', any value in terms as the documents say",
                "memory 2 is not under metadata 'a', strings 'x' in terms as the documents say",
                "terms hold 3 memories under all live memories, the documents have 4",
                "terms hold 3 memories under metadata 'a', any value, the documents have 4",
                "terms hold 3 memories under metadata 'a', strings, the documents have 4",
            ],
        ),
        (
            [("add", {}, range(9, 11))],
            [
                "terms hold 6 memories under all live memories, the documents have 4",
                "terms hold 3 memories under the first memories of documents, the documents have 2",
            ],
        ),
        (
            [("remove", {"b": 1}, range(1, 4)), ("add", {}, range(1, 4)), ("add", {"b": 2}, range(2, 3))],
            [
                "memory 1 and 1 more are not under metadata 'b', any value in terms as the documents say",
                "memory 1 and 2 more are not under metadata 'b', numbers in terms as the documents say",
                "terms hold 1 memories under metadata 'b', any value, the documents have 3",
                "terms hold 1 memories under metadata 'b', numbers, the documents have 3",
                "terms hold 3 memories under the first memories of documents, the documents have 2",
            ],
        ),
        (
            [("add", {"b": 5}, range(3, 4))],
            [
                "memory 3 is not under metadata 'b', numbers in terms as the documents say",
                "terms hold 3 memories under the first memories of documents, the documents have 2",
            ],
        ),
        (
            [("add", {"c": True, "a": "y"}, range(1, 2))],
            [
                "terms hold 1 memories under metadata 'c', any value, the documents have 0",
                "terms hold 5 memories under metadata 'a', strings, the documents have 4",
                "terms hold 1 memories under metadata 'c', booleans, the documents have 0",
            ],
        ),
    ],
)
def test_a_check_names_what_differs(
    environment: Environment, terms: Terms, changes: list[Change], sentences: list[str]
) -> None:
    documents: Documents = [({"a": "x", "b": 1}, range(1, 4)), ({"a": "x"}, range(4, 5))]
    with undone(environment) as txn:
        terms.rebuild(txn, documents)
        assert list(terms.check(txn, documents)) == []
        for name, metadata, seqs in changes:
            getattr(terms, name)(txn, metadata, seqs)
        assert list(terms.check(txn, documents)) == sentences


def test_a_check_names_a_long_string_that_is_not_its_key_s(environment: Environment, terms: Terms) -> None:
    documents: Documents = [({"a": LONG}, range(1, 2))]
    with undone(environment) as txn:
        terms.rebuild(txn, documents)
        terms.postings.put(txn, part_key(string_term("a", LONG.encode()), 0), Posting(BitMap([1]), b"another"))
        assert list(terms.check(txn, documents)) == [
            "terms hold another string under metadata 'a', strings than its key was made of"
        ]


def test_a_check_names_a_key_that_is_none(environment: Environment, terms: Terms) -> None:
    with undone(environment) as txn:
        txn.put(b"\x09key", b"value", db=environment.lmdb.open_db(b"terms", txn=txn, create=False))
        assert list(terms.check(txn, [])) == ["terms hold what is no term: a key of kind 9 and 4 bytes"]


def test_terms_are_durable_with_what_they_are_written_with(tmp_path: Path) -> None:
    path = tmp_path / "records"
    first = Environment.create(path, 1 << 24, durable=True)
    terms = Terms(first)
    with first.writing() as txn:
        terms.add(txn, {"a": "x"}, range(1, 3))
    with pytest.raises(ZeroDivisionError), first.writing() as txn:  # noqa: PT012  # the second line undoes the first
        terms.add(txn, {"a": "x"}, range(3, 4))
        raise ZeroDivisionError
    first.close()
    again = Environment(path, 1 << 24, durable=True)
    terms = Terms(again)
    with again.reading() as txn:
        assert list(terms.matching(txn, parse_filter({"a": "x"}))) == [1, 2]
    again.close()
