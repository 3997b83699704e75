"""Terms under keys that nobody looks for: a flipped bit in a key hides a value, and its checksum is never read."""

from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest
from memory3.store.collection import Collection
from memory3.store.disk.environment import DATA_FILE
from memory3.store.disk.page_check import look_at
from memory3.store.filters.parser import parse_filter
from memory3.tests.reliability.pages import pages_in_use

from ..builders import RECORDS, collection_at, embedded, vector_of

WITHOUT = parse_filter({"number": {"$exists": False}})
"""Finds by what is not there."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory of which all terms of the name `number` are hidden."""
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded(f"with {i}", f"text {i}", metadata={"number": i}) for i in range(10)])
        collection.upsert([embedded(f"without {i}", f"other {i}", metadata={"name": "x"}) for i in range(10)])
    with lmdb.open(str(tmp_path / RECORDS), max_dbs=16, map_size=1 << 30) as opened:
        handle = opened.open_db(b"terms", create=False)
        with opened.begin(write=True, db=handle) as txn:
            hidden = [(key, value) for key, value in txn.cursor() if b"number" in key]
            assert hidden
            for key, value in hidden:
                txn.delete(key)
                txn.put(key.replace(b"number", b"numbes"), value)
    return tmp_path


def listed(collection: Collection) -> set[str]:
    return {document.key for document in collection.list(100, filter=WITHOUT).documents}


def recalled(collection: Collection) -> set[str]:
    return {hit.key for hit in collection.recall(vector_of("text 3")[None], 100, filter=WITHOUT)[0]}


def deleted(collection: Collection) -> set[str]:
    return set(collection.delete_matching(WITHOUT).deleted)


@pytest.mark.parametrize("find", [listed, recalled, deleted])
def test_what_does_not_match_is_never_found(data: Path, find: Callable[[Collection], set[str]]) -> None:
    """The terms are made again by who finds it."""
    expected = {f"without {i}" for i in range(10)}
    with collection_at(data) as collection:
        assert find(collection) == expected
        assert collection.check(full=True).problems == ()
        assert collection.stats().quarantined == 0
        assert listed(collection) == recalled(collection) == (set() if find is deleted else expected)
        assert collection.count(parse_filter({"number": {"$exists": True}})).documents == 10


def test_terms_out_of_order_are_made_again_by_a_check(tmp_path: Path) -> None:
    """A key that belongs on another page, where no look-up comes to it."""
    expected = {f"key {i}" for i in range(200)}
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded(key, key, metadata={"name": key * 10}) for key in expected])
    file = tmp_path / RECORDS / DATA_FILE
    data = bytearray(file.read_bytes())
    pages = [page for page in pages_in_use(bytes(data)) if (page.kind, page.table) == ("leaf", "terms")]
    assert len(pages) > 3
    start = pages[1].start
    node = start + int.from_bytes(data[start + 16 + 2 * 5 :][:2], "little")
    data[node + 8] ^= 0x80
    file.write_bytes(data)
    assert look_at(file).unfit is None
    with collection_at(tmp_path) as collection:
        assert collection.check(full=True).problems
        assert collection.check(full=True).problems == ()
        filter = parse_filter({"name": {"$in": [key * 10 for key in expected]}})
        assert {document.key for document in collection.list(500, filter=filter).documents} == expected
