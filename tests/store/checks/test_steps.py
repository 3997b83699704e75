"""Each invariant, broken on purpose, is named by a check."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from memory3.store import limits
from memory3.store.checks.steps import steps
from memory3.store.collection import Collection
from memory3.store.disk.environment import WriteTransaction
from memory3.store.errors import Unavailable
from memory3.store.format import ChangeRecord, DocumentRecord, MemoryRecord
from memory3.store.records import Records
from memory3.store.types import IndexKind

from ..builders import DIMENSION, RECORDS, collection_at, damage_value, embedded, seq_key, value_key, vector_of

PAGE, FLAGS_AT, BRANCH = 4_096, 10, 1
"""Of LMDB's pages."""
Break = Callable[[Records, WriteTransaction], object]


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    with collection_at(tmp_path) as opened:
        opened.upsert([embedded("a", "one ", "two"), embedded("b", "three")])
        opened.put_key_values("model", [(1, b"11"), (3, b"33")])
        assert opened.check(full=True).ok
        yield opened


def document(records: Records, txn: WriteTransaction, key: bytes) -> DocumentRecord:
    record = records.documents.get(txn, key)
    assert record is not None
    return record


def test_a_sound_collection_is_counted(collection: Collection) -> None:
    report = collection.check(full=False)
    assert (report.documents, report.memories, report.key_values, report.problems) == (2, 3, 2, ())


@pytest.mark.parametrize(
    ("broken", "said", "full"),
    [
        (lambda r, t: r.memories.delete(t, seq_key(2)), "document 'a' names memory 2, which is missing", False),
        (lambda r, t: r.documents.delete(t, b"b"), "memory 3 belongs to no document", False),
        (lambda r, t: r.vectors.delete(t, seq_key(3)), "seq 3 has a memory and no vector", False),
        (lambda r, t: r.vectors.put(t, seq_key(9), vector_of("x")), "seq 9 has a vector and no memory", False),
        (lambda r, t: r.changes.delete(t, seq_key(2)), "the log lacks change 2", False),
        (
            lambda r, t: r.changes.put(t, seq_key(8), ChangeRecord(2, 0.0, "x", range(0))),
            "the log has an unexpected change 8",
            False,
        ),
        (lambda r, t: r.numbers.put(t, b"position", 2), "document 'b' has version 3, after the last seq", False),
        (lambda r, t: r.numbers.put(t, b"position", 4), "the index is at seq 3, the records at 4", False),
        (
            lambda r, t: r.documents.put(t, b"b", document(r, t, b"b")._replace(first_seq=2)),
            "document 'b' shares memories with another document",
            False,
        ),
        (lambda r, t: r.memories.delete(t, seq_key(3)), "the index holds 3, which is no live memory", False),
        (lambda r, t: r.memories.delete(t, seq_key(3)), "key-values of seq 3 stand for no live memory", False),
        (
            lambda r, t: r.memories.put(t, seq_key(9), MemoryRecord("b", 0, 1, "text")),
            "memory 9 is not in the index",
            False,
        ),
        (
            lambda r, t: r.memories.put(t, seq_key(2), MemoryRecord("a", 0, 2, "two")),
            "memory 2 does not fit its place 1 in document 'a'",
            True,
        ),
        (
            lambda r, t: r.memories.put(t, seq_key(3), MemoryRecord("b", 0, 1, "thrEe")),
            "the content of document 'b' is not what its digest says",
            True,
        ),
        (
            lambda r, t: r.vectors.put(t, seq_key(3), np.zeros(DIMENSION, np.float32)),
            "vector 3 is not of length one",
            True,
        ),
        (
            lambda r, t: r.vectors.put(t, seq_key(3), vector_of("x")),
            "the index holds another vector for memory 3 than the records",
            True,
        ),
        (lambda r, t: r.vectors.put(t, seq_key(3), vector_of("x", 3)), "vector 3 has size 3", True),
    ],
)
def test_a_broken_invariant_of_the_records_is_named(
    collection: Collection, broken: Break, said: str, full: bool
) -> None:
    records = collection._shards[0]._records
    with records.environment.writing() as txn:
        broken(records, txn)
    assert said in collection.check(full).problems


def test_broken_invariants_of_the_key_values_are_named(collection: Collection) -> None:
    key_values = collection._shards[0]._key_values
    with key_values.environment.writing() as txn:
        key_values.values.put(txn, value_key(7, 1), b"11")
        key_values.values.put(txn, value_key(1, 2), b"222")
    problems = collection.check(full=True).problems
    assert "key-values of seq 1 stand under the unknown fingerprint 7" in problems
    assert "fingerprint 'model' has 3 key-values, its record says 2" in problems
    assert "key-values of seq 2 have 3 bytes, expected 2" in problems


def test_a_vector_twice_in_the_index_is_named(collection: Collection) -> None:
    lists, ids, vectors = collection._shards[0]._derived.index._lists, np.array([3]), vector_of("x")[None]
    lists.add(ids, vectors, lists.assign(ids, vectors))
    assert "the index holds 1 vectors twice" in collection.check(full=False).problems


def test_writes_go_on_at_every_step(collection: Collection) -> None:
    told: list[tuple[int, int]] = []
    with ThreadPoolExecutor(1) as writer:

        def write(done: int, total: int) -> None:
            told.append((done, total))
            document = embedded(f"other {len(told)}", f"text {len(told)}")
            assert writer.submit(collection.upsert, [document]).result(30)[0].changed

        assert collection.check(full=True, progress=write).ok
    # More often than at the end of each step: also while it reads.
    assert told[-1] == (len(steps(True)), len(steps(True))) and len(told) > 2 * len(steps(True))


def test_whoever_does_not_want_it_any_more_ends_it(collection: Collection) -> None:
    class Enough(Exception):
        pass

    for last in range(len(steps(True))):

        def stop(done: int, total: int, last: int = last) -> None:
            if done == last:
                raise Enough

        with pytest.raises(Enough):
            collection.check(full=True, progress=stop)
    assert collection.check(full=True).ok


def test_closing_ends_it(collection: Collection) -> None:
    with ThreadPoolExecutor(1) as other:
        closing: list[Future[None]] = []

        def close(done: int, total: int) -> None:
            if done == 3 and not closing:
                closing.append(other.submit(collection.close))
                assert collection._shards[0]._state.leaving.wait(30)

        with pytest.raises(Unavailable, match="its check was given up"):
            collection.check(full=True, progress=close)
        closing[0].result(30)


def test_a_compaction_waits_for_it(collection: Collection) -> None:
    """Its swap would wait for the reads of a check, and everybody else for the swap."""
    with ThreadPoolExecutor(1) as other:
        compacting: list[Future[object]] = []

        def compact(done: int, total: int) -> None:
            if done and not compacting:
                compacting.append(other.submit(collection.compact, lambda done, total: waits.set()))
                assert waits.wait(30)
            assert not any(one.done() for one in compacting)

        waits = threading.Event()
        assert collection.check(full=True, progress=compact).ok
        compacting[0].result(30)


def test_what_was_mended_meanwhile_is_not_quarantined(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded("b", "three")])
    damage_value(tmp_path / RECORDS, "documents", b"b")
    with collection_at(tmp_path) as opened, ThreadPoolExecutor(1) as other:

        def mend(done: int, total: int) -> None:
            if done == 1:
                other.submit(opened.upsert, [embedded("b", "three")]).result(30)

        assert not opened.check(full=False, progress=mend).ok
        assert opened.stats().quarantined == 0 and opened.check(full=True).ok


def test_endless_problems_are_cut(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memory3.store.checks.findings._PROBLEMS_MAX", 2)
    records = collection._shards[0]._records
    with records.environment.writing() as txn:
        for seq in range(1, 4):
            records.vectors.delete(txn, seq_key(seq))
    assert collection.check(full=False).problems[-1] == "1 further problems are left out"


def test_a_quantized_index_is_checked_like_an_exact_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EXACT_MAX", 20)
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded(str(i), f"text {i}") for i in range(40)])
        collection._shards[0]._maintenance.wait()
        assert collection._shards[0]._derived.state().kind is IndexKind.QUANTIZED
        assert collection.check(full=True).ok
        records = collection._shards[0]._records
        with records.environment.writing() as txn:
            records.vectors.put(txn, seq_key(3), vector_of("x"))
            records.memories.delete(txn, seq_key(5))
        problems = collection.check(full=True).problems
        assert "the index holds another vector for memory 3 than the records" in problems
        assert "the index holds 5, which is no live memory" in problems


def test_a_document_that_is_stored_and_not_found_by_its_key_is_named(tmp_path: Path) -> None:
    """One flipped bit on the page above the leaves hid half of the documents from `get`, and no check said so."""
    keys = [f"key {number:03}" for number in range(100)]
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded(key, f"text of {key}", metadata={"padding": "x" * 40}) for key in keys])
    file = tmp_path / RECORDS / "data.mdb"
    content = bytearray(file.read_bytes())
    for page in range(0, len(content), PAGE):
        at = content.find(b"key ", page, page + PAGE)
        if content[page + FLAGS_AT] & BRANCH and at >= 0:
            content[at] ^= 0x20
    file.write_bytes(content)
    with collection_at(tmp_path) as collection:
        missing = [key for key, stored in zip(keys, collection.get(keys), strict=True) if stored is None]
        problems = collection.check(full=True).problems
        assert 0 < len(missing) < len(keys)
        for key in missing:
            assert any(f"key {key!r} in documents is stored but not found" in problem for problem in problems)


def test_a_check_makes_again_what_follows_from_the_documents(tmp_path: Path) -> None:
    """Of a document whose record was damaged nobody knows the terms that it stood under, so they stayed for good."""
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded(key, key, metadata={"n": 1}) for key in "ab"])
    damage_value(tmp_path / RECORDS, "documents", b"a")
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded("a", "a", metadata={"n": 2})])
        assert any("terms hold" in problem for problem in collection.check(full=True).problems)
        assert collection.check(full=True).problems == ()
