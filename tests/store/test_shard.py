import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from memory3.store import limits
from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.errors import InvalidArgument, ResourceExhausted
from memory3.store.types import (
    Count,
    Document,
    EmbeddedDocument,
    MetadataValue,
    Reference,
    StoredDocument,
    UpsertResult,
)

from .builders import DIMENSION, EMBEDDER, collection_at, embedded, recalled, vector_of


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    with collection_at(tmp_path) as opened:
        yield opened
        assert opened.check(full=True).problems == ()


def test_a_document_comes_back_whole(collection: Collection) -> None:
    metadata: dict[str, MetadataValue] = {"source": "a", "year": 1999, "score": 0.5, "public": True}
    results = collection.upsert([embedded("Zoë", "First sentence. ", "Second sentence.", metadata=metadata)])
    assert results == [UpsertResult("Zoë", 2, True, 2)]
    (stored,) = collection.get(["Zoë"])
    assert stored is not None
    assert (stored.key, stored.text) == ("Zoë", "First sentence. Second sentence.")
    assert stored.metadata == metadata
    assert (stored.version, stored.memories) == (2, (1, 2))
    assert stored.updated_at > 1.7e9


def test_get_answers_in_the_order_of_the_keys_with_none_for_missing(collection: Collection) -> None:
    collection.upsert([embedded("a", "1"), embedded("b", "2")])
    found = collection.get(["b", "none", "a", "b"])
    assert [stored and stored.text for stored in found] == ["2", None, "1", "2"]
    assert collection.get([]) == []


def test_an_upsert_is_recalled_by_the_next_query(collection: Collection) -> None:
    collection.upsert([embedded("key", "one ", "two")])
    (hit, *_) = collection.recall(vector_of("two")[None], 1)[0]
    assert (hit.key, hit.text, hit.version, hit.seq, hit.shard, hit.warm) == ("key", "two", 2, 2, 0, False)
    assert hit.score == pytest.approx(1)


def test_an_upsert_replaces_the_whole_document(collection: Collection) -> None:
    collection.upsert([embedded("key", "old one ", "old two")])
    (result,) = collection.upsert([embedded("key", "new")])
    assert result == UpsertResult("key", 3, True, 1)
    assert recalled(collection, "old one ") == ["new"]
    assert collection.count() == Count(1, 1)
    assert collection.memories([1, 2]) == [None, None]


def test_the_same_content_again_changes_nothing(collection: Collection) -> None:
    document = embedded("key", "text", metadata={"a": 1})
    collection.upsert([document])
    assert collection.unchanged([document.document, Document("other", "text")]) == {"key"}
    assert collection.upsert([document]) == [UpsertResult("key", 1, False, 1)]
    assert collection.stats().positions[0] == 1
    for changed in (embedded("key", "text", metadata={"a": 2}), embedded("key", "text!", metadata={"a": 2})):
        assert collection.unchanged([changed.document]) == set()
        assert collection.upsert([changed])[0].changed


def test_content_that_came_back_is_a_change(collection: Collection) -> None:
    for text in ("one", "two", "one"):
        assert collection.upsert([embedded("key", text)])[0].changed
    assert recalled(collection, "one") == ["one"]


def test_an_upsert_is_whole_or_not_at_all(collection: Collection) -> None:
    bad = EmbeddedDocument(Document("bad", "text"), [Reference("text", np.zeros(DIMENSION, np.float32))])
    with pytest.raises(InvalidArgument, match="'bad'"):
        collection.upsert([embedded("good", "text"), bad])
    with pytest.raises(InvalidArgument, match="'twice' comes twice"):
        collection.upsert([embedded("twice", "a"), embedded("twice", "b")])
    assert collection.count() == Count(0, 0)
    assert collection.stats().positions[0] == 0
    assert collection.upsert([]) == []


def test_a_deleted_document_never_answers(collection: Collection) -> None:
    collection.upsert([embedded("a", "one ", "two"), embedded("b", "three")])
    receipt = collection.delete(["a", "none", "a"])
    assert (receipt.deleted, receipt.missing, receipt.memories, receipt.positions) == (("a",), ("none",), 2, (4,))
    assert collection.get(["a"]) == [None]
    assert recalled(collection, "one ") == ["three"]
    assert collection.delete(["a"]).missing == ("a",)
    assert collection.count() == Count(1, 1)


def test_a_delete_of_nothing_changes_nothing(collection: Collection) -> None:
    collection.upsert([embedded("a", "one")])
    assert collection.delete([]).positions == ()
    assert collection.delete(["none"]).positions[0] == 1


def test_seqs_are_never_given_twice(tmp_path: Path) -> None:
    seen: set[int] = set()
    for text in "abcd":
        with collection_at(tmp_path) as opened:
            opened.upsert([embedded("key", text, text)])
            (stored,) = opened.get(["key"])
            assert stored is not None
            assert not seen & set(stored.memories)
            seen |= set(stored.memories)
            opened.delete(["key"])
            seen.add(opened.stats().positions[0])
    assert seen == set(range(1, 13))


def test_list_gives_every_document_once_in_the_order_of_keys(collection: Collection) -> None:
    keys = [f"key {i}" for i in range(23)] + ["é", "a", "a!", "Z", "x" * 511]
    collection.upsert([embedded(key, f"text of {key}") for key in keys])
    found: list[StoredDocument] = []
    token, pages = "", 0
    while True:
        page = collection.list(5, token)
        found += page.documents
        pages += 1
        token = page.next_page_token
        if not token:
            break
    assert [stored.key for stored in found] == sorted(keys, key=str.encode)
    assert all(stored.text == f"text of {stored.key}" for stored in found)
    assert pages == 6


def test_the_last_page_has_no_token(collection: Collection) -> None:
    assert collection.list(5) == collection.list(5, "")
    collection.upsert([embedded("a", "1"), embedded("b", "2")])
    assert collection.list(2).next_page_token == ""
    token = collection.list(1).next_page_token
    collection.delete(["b"])
    assert collection.list(1, token).documents == ()


def test_a_bad_page_is_refused(collection: Collection) -> None:
    for limit in (0, -1, 1001, 1.5, None):
        with pytest.raises(InvalidArgument, match="limit"):
            collection.list(limit)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="page token"):
        collection.list(1, "nonsense")


def test_recall_finds_exactly_the_nearest(collection: Collection) -> None:
    texts = [f"text {i}" for i in range(300)]
    collection.upsert([embedded(text, text) for text in texts])
    matrix = np.array([vector_of(text) for text in texts])
    queries = np.array([vector_of(f"query {i}") for i in range(20)])
    for query, hits in zip(queries, collection.recall(queries, 10), strict=True):
        scores = matrix @ query
        assert [hit.text for hit in hits] == [texts[i] for i in np.argsort(-scores)[:10]]
        np.testing.assert_allclose([hit.score for hit in hits], np.sort(scores)[::-1][:10], atol=1e-6)


def test_recall_of_more_than_there_is_gives_all(collection: Collection) -> None:
    assert collection.recall(vector_of("x")[None], 5) == [[]]
    assert collection.recall(np.empty((0, DIMENSION), np.float32), 5) == []
    collection.upsert([embedded("a", "1", "2", "3")])
    assert len(collection.recall(vector_of("x")[None], 1000)[0]) == 3


def test_equal_scores_come_in_the_order_of_seqs(collection: Collection) -> None:
    collection.upsert([embedded(str(i), "same") for i in range(30)])
    collection.delete(["3", "4"])
    hits = collection.recall(vector_of("same")[None], 28)[0]
    assert [hit.seq for hit in hits] == sorted(hit.seq for hit in hits)


def test_key_values_make_a_memory_warm(collection: Collection) -> None:
    collection.upsert([embedded("a", "one ", "two"), embedded("b", "three")])
    assert collection.cold("model", 10) == [(1, "one "), (2, "two"), (3, "three")]
    assert collection.put_key_values("model", [(2, b"22"), (3, b"33")]) == [True, True]
    assert collection.fetch_key_values("model", [3, 1, 2, 99]) == [b"33", None, b"22", None]
    assert collection.cold("model", 10) == [(1, "one ")]
    warm = {hit.text: hit.warm for hit in collection.recall(vector_of("x")[None], 3, "model")[0]}
    assert warm == {"one ": False, "two": True, "three": True}
    assert not any(hit.warm for hit in collection.recall(vector_of("x")[None], 3)[0])
    assert collection.stats().warm == {"model": 2}


def test_key_values_of_another_fingerprint_are_never_read(collection: Collection) -> None:
    collection.upsert([embedded("a", "one")])
    collection.put_key_values("model", [(1, b"11")])
    assert collection.fetch_key_values("other", [1]) == [None]
    assert collection.fetch_key_values("mode", [1]) == [None]
    assert not collection.recall(vector_of("one")[None], 1, "other")[0][0].warm
    collection.put_key_values("other", [(1, b"other size")])
    assert collection.fetch_key_values("model", [1]) == [b"11"]
    assert collection.fetch_key_values("other", [1]) == [b"other size"]


def test_key_values_are_never_stored_for_the_dead(collection: Collection) -> None:
    collection.upsert([embedded("a", "one"), embedded("b", "two")])
    collection.delete(["a"])
    assert collection.put_key_values("model", [(1, b"11"), (2, b"22"), (3, b"33"), (77, b"44")]) == [
        False,
        True,
        False,
        False,
    ]
    assert collection.put_key_values("nobody", [(1, b"11")]) == [False]
    assert collection.stats().warm == {"model": 1}


def test_key_values_go_with_their_memory(collection: Collection) -> None:
    collection.upsert([embedded("a", "one"), embedded("b", "two")])
    collection.put_key_values("model", [(1, b"11"), (2, b"22")])
    collection.put_key_values("other", [(1, b"111")])
    collection.upsert([embedded("a", "changed")])
    assert collection.fetch_key_values("model", [1, 2, 3]) == [None, b"22", None]
    assert collection.stats().warm == {"model": 1}
    collection.delete(["b"])
    assert collection.stats().warm == {}


def test_key_values_of_one_fingerprint_have_one_size(collection: Collection) -> None:
    collection.upsert([embedded("a", "one ", "two")])
    with pytest.raises(InvalidArgument, match="seq 2 have 3 bytes, those of fingerprint 'model' have 2"):
        collection.put_key_values("model", [(1, b"11"), (2, b"222")])
    assert collection.stats().warm == {}
    collection.put_key_values("model", [(1, b"11")])
    with pytest.raises(InvalidArgument, match="have 1 bytes"):
        collection.put_key_values("model", [(1, b"1")])
    assert collection.put_key_values("model", [(1, b"1!")]) == [True]
    assert collection.fetch_key_values("model", [1]) == [b"1!"]


def test_a_long_stream_of_key_values_takes_several_transactions(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "KEY_VALUES_BATCH_MAX", 3)
    collection.upsert([embedded("a", *[f"{i} " for i in range(10)])])
    stored = collection.put_key_values("model", ((seq, bytes([seq])) for seq in range(1, 12)))
    assert stored == [True] * 10 + [False]
    assert collection.fetch_key_values("model", range(1, 11)) == [bytes([seq]) for seq in range(1, 11)]


def test_more_fingerprints_than_allowed_are_refused(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FINGERPRINTS_MAX", 2)
    collection.upsert([embedded("a", "one")])
    for fingerprint in "ab":
        collection.put_key_values(fingerprint, [(1, b"1")])
    with pytest.raises(ResourceExhausted, match="2 fingerprints"):
        collection.put_key_values("c", [(1, b"1")])
    collection.upsert([embedded("a", "two")])
    assert collection.put_key_values("c", [(2, b"1")]) == [True]


def test_cold_memories_come_in_pages(collection: Collection) -> None:
    collection.upsert([embedded("a", *[f"{i} " for i in range(7)])])
    collection.put_key_values("model", [(2, b"1"), (5, b"1")])
    assert [seq for seq, _ in collection.cold("model", 3)] == [1, 3, 4]
    assert [seq for seq, _ in collection.cold("model", 3, after=4)] == [6, 7]
    assert collection.cold("model", 3, after=7) == []
    for bad in (0, 1001):
        with pytest.raises(InvalidArgument, match="limit"):
            collection.cold("model", bad)


def test_memories_are_found_by_seq(collection: Collection) -> None:
    collection.upsert([embedded("a", "one ", "two", metadata={"m": 1})])
    collection.put_key_values("model", [(2, b"1")])
    two, none, one = collection.memories([2, 9, 1], "model")
    assert two is not None and one is not None and none is None
    assert (two.text, two.key, two.metadata, two.score, two.warm) == ("two", "a", {"m": 1}, 0.0, True)
    assert (one.text, one.warm, one.version) == ("one ", False, 2)


def test_stats_add_up(collection: Collection) -> None:
    empty = collection.stats()
    assert (empty.count, empty.positions[0], empty.index_bytes, empty.quarantined) == (Count(0, 0), 0, 0, 0)
    collection.upsert([embedded(str(i), f"{i} ", "x" * 500) for i in range(50)])
    collection.put_key_values("model", [(seq, b"x" * 5000) for seq in range(1, 11)])
    stats = collection.stats()
    assert stats.info == collection.info
    assert (stats.count, stats.positions[0], stats.warm) == (Count(50, 100), 100, {"model": 10})
    assert stats.records_bytes > 50 * 500
    assert stats.key_values_bytes > 10 * 5000
    assert stats.index_bytes > 100 * DIMENSION * 4


def test_what_is_cold_is_counted_for_each_model(tmp_path: Path) -> None:
    """Also in a shard that has no key-values of it, and without what has expired, warm or not."""
    with DataDirectory.open(tmp_path) as directory:
        collection = directory.create_collection("default", EMBEDDER, DIMENSION, shards=3)
        results = collection.upsert([embedded(f"key {n}", f"text {n}") for n in range(20)])
        collection.put_key_values("one", [(results[0].version, b"1")])
        collection.put_key_values("all", [(result.version, b"22") for result in results])
        assert collection.stats().cold == {"one": 19, "all": 0}
        at = time.time() + 0.2
        ending = collection.upsert([embedded(f"ends {n}", f"text {n}", expires_at=at) for n in range(4)])
        collection.put_key_values("all", [(result.version, b"22") for result in ending[:2]])
        assert collection.stats().cold == {"one": 23, "all": 2}
        time.sleep(max(0, at - time.time()))
        assert collection.stats().cold == {"one": 19, "all": 0}
        collection.delete(["key 1", "key 2"])
        assert collection.stats().cold == {"one": 17, "all": 0}


def test_stats_tell_of_the_file_system(collection: Collection, tmp_path: Path) -> None:
    stats, found = collection.stats(), os.statvfs(tmp_path)
    assert 0 < stats.disk_free_bytes <= found.f_blocks * found.f_frsize
    assert stats.disk_reserved_bytes == limits.BYTES_RESERVED


def everything_in(opened: Collection) -> list[object]:
    # Closing saves, which leaves other pages of the files free.
    stats = replace(opened.stats(), records_free_bytes=0, key_values_free_bytes=0, disk_free_bytes=0, indices=())
    return [opened.list(100), opened.recall(vector_of("q")[None], 20, "model"), stats]


def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    with collection_at(tmp_path) as opened:
        opened.upsert([embedded(str(i), f"text {i}") for i in range(20)])
        opened.delete(["3"])
        opened.put_key_values("model", [(1, b"1")])
        before = everything_in(opened)
    with collection_at(tmp_path) as opened:
        assert everything_in(opened) == before
        assert opened.check(full=True).ok
