import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from memory3.store import limits
from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.errors import InvalidArgument, ResourceExhausted
from memory3.store.shard.shard import Shard
from memory3.store.types import MemoryReads, Quotas

from .builders import DIMENSION, EMBEDDER, embedded

VALUE_BYTES = 40_000


def opened(path: Path, quotas: Quotas, shards: int = 1) -> Iterator[Collection]:
    with DataDirectory.open(path, quotas) as directory:
        yield directory.create_collection("default", EMBEDDER, DIMENSION, shards)


def fill(collection: Collection, count: int, start: int = 0) -> list[int]:
    """Store documents of one memory each, with key-values; return the seqs."""
    results = collection.upsert([embedded(f"key {n}", f"text {n}") for n in range(start, start + count)])
    seqs = [result.version for result in results]
    collection.put_key_values("model", [(seq, b"%d" % seq + bytes(VALUE_BYTES - len(b"%d" % seq))) for seq in seqs])
    return seqs


def fill_up(collection: Collection) -> None:
    for start in range(0, 200, 5):
        fill(collection, 5, start)


def write_texts(collection: Collection, count: int, text: str) -> None:
    for number in range(count):
        collection.upsert([embedded(f"{text[:4]} {number}", text)])


def warm(collection: Collection) -> set[int]:
    return {hit.seq for hit in collection.memories(range(1, 200), "model") if hit is not None and hit.warm}


@pytest.mark.parametrize("shards", [1, 2])
def test_a_full_quota_refuses_what_adds_and_lets_deletes_through(tmp_path: Path, shards: int) -> None:
    for collection in opened(tmp_path, Quotas(bytes_max=2 << 20), shards):
        with pytest.raises(ResourceExhausted, match=r"its quota is .*delete documents, or raise the quota"):
            fill_up(collection)
        count = collection.count().documents
        assert 20 <= count < 200
        with pytest.raises(ResourceExhausted, match="quota"):
            write_texts(collection, 20, "new")
        assert collection.get(["key 0"]) != [None]
        receipt = collection.delete([f"key {n}" for n in range(count)])
        assert len(receipt.deleted) >= 20
        collection.upsert([embedded("new", "new")])
        assert collection.check(full=True).problems == ()
    for collection in opened(tmp_path, Quotas(bytes_max=100 << 20), shards):
        fill(collection, 60)
        assert collection.check(full=True).problems == ()


def test_a_request_that_was_answered_is_answered_again_when_there_is_no_room(tmp_path: Path) -> None:
    for collection in opened(tmp_path, Quotas()):
        answer = collection.upsert([embedded("key", "text")], "request")
    for collection in opened(tmp_path, Quotas(bytes_max=1)):
        assert collection.upsert([embedded("key", "text")], "request") == answer
        with pytest.raises(InvalidArgument, match="was used for another request"):
            collection.upsert([embedded("key", "other")], "request")
        with pytest.raises(ResourceExhausted, match="quota"):
            collection.upsert([embedded("key", "text")], "other request")


def test_the_last_of_the_disk_is_kept_for_deletes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for collection in opened(tmp_path, Quotas()):
        seqs = fill(collection, 3)
        with monkeypatch.context() as patched:
            patched.setattr(limits, "BYTES_RESERVED", 1 << 60)
            with pytest.raises(ResourceExhausted, match=r"bytes left, .* are kept so that deletes can be stored"):
                collection.upsert([embedded("new", "new")])
            with pytest.raises(ResourceExhausted, match="bytes left"):
                collection.put_key_values("model", [(seqs[0], bytes(VALUE_BYTES))])
            assert collection.delete(["key 1"]).deleted == ("key 1",)
        collection.upsert([embedded("new", "new")])
        assert collection.count().documents == 3
        assert collection.check(full=True).problems == ()


def test_the_last_of_a_map_is_kept_for_deletes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RECORDS_BYTES_MAX", 4 << 20)
    monkeypatch.setattr(limits, "BYTES_RESERVED", 1 << 20)
    for collection in opened(tmp_path, Quotas()):
        with pytest.raises(ResourceExhausted, match="at most 4194304 are possible; delete documents"):
            write_texts(collection, 2_000, "text " * 2_000)
        keys = [document.key for document in collection.list(1_000).documents]
        assert len(keys) > 100
        for key in keys:
            assert collection.delete([key]).deleted == (key,)
        collection.upsert([embedded("new", "new")])
        assert collection.check(full=True).problems == ()


def test_key_values_read_least_make_room_for_new_ones(tmp_path: Path) -> None:
    for collection in opened(tmp_path, Quotas(key_values_bytes_max=1 << 20)):
        first = fill(collection, 10)
        for _ in range(3):
            collection.fetch_key_values("model", first[:4])
        assert collection.has_room_for_key_values()
        fill(collection, 30, 10)
        stats = collection.stats()
        assert stats.key_values_bytes <= 1 << 20
        assert 10 <= stats.warm["model"] < 40
        left = warm(collection)
        assert left >= set(first[:4]), "what was read often is gone"
        assert not left & set(first[4:]), "what was never read is kept before what is new"
        assert stats.reads == 12
        # Their text is there still, and so they can be written again.
        (again,) = collection.memories([first[5]], "model")
        assert again is not None and not again.warm and again.text == "text 5"
        assert collection.check(full=True).problems == ()


@pytest.mark.parametrize("shards", [1, 3])
def test_reads_are_told_memory_by_memory(tmp_path: Path, shards: int) -> None:
    for collection in opened(tmp_path, Quotas(), shards):
        seqs = fill(collection, 12)
        for times, seq in enumerate(seqs[:5]):
            collection.fetch_key_values("model", [seq] * times)
        counts = [0, 1, 2, 3, 4, *[0] * 7]
        stored = collection.get([f"key {n}" for n in range(12)])
        assert [document.reads for document in stored if document is not None] == [(count,) for count in counts]
        page = {document.key: document.reads for document in collection.list(100).documents}
        assert page == {f"key {n}": (count,) for n, count in enumerate(counts)}
        stats = collection.stats(3)
        assert stats.most_read == tuple(MemoryReads(f"key {n}", seqs[n], n) for n in (4, 3, 2))
        assert (stats.memories_read, stats.reads) == (4, 10)
        assert stats.warm_bytes == {"model": 12 * VALUE_BYTES}
        collection.delete(["key 4"])
        assert [memory.key for memory in collection.stats(100).most_read] == ["key 3", "key 2", "key 1"]
        assert collection.stats().most_read == ()
        for refused in (-1, 1_001):
            with pytest.raises(InvalidArgument, match="most_read"):
                collection.stats(refused)


def test_reads_are_kept_from_one_opening_to_the_next_and_go_with_their_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "READS_SAVED_AT_ONCE", 1)
    for collection in opened(tmp_path, Quotas()):
        first, second = fill(collection, 2)
        collection.fetch_key_values("model", [first, second, second])
    for collection in opened(tmp_path, Quotas()):
        reads = collection._shards[0]._key_values.reads
        assert (reads.of(first), reads.of(second), collection.stats().reads) == (1, 2, 3)
        collection.delete(["key 1"])
        assert collection.stats().reads == 1
    for collection in opened(tmp_path, Quotas()):
        assert collection.stats().reads == 1
        assert collection.check(full=True).problems == ()


def test_reads_of_an_opening_in_which_nothing_changes_are_kept(tmp_path: Path) -> None:
    for collection in opened(tmp_path, Quotas()):
        seqs = fill(collection, 2)
    for collection in opened(tmp_path, Quotas()):
        collection.fetch_key_values("model", seqs)
    for collection in opened(tmp_path, Quotas()):
        assert collection.stats().reads == 2


@pytest.mark.parametrize("key_values_applied", [True, False])
def test_what_was_forgotten_before_a_crash_has_no_reads_after_it(tmp_path: Path, key_values_applied: bool) -> None:
    for collection in opened(tmp_path, Quotas()):
        first, second = fill(collection, 2)
        collection.fetch_key_values("model", [first, second])
        collection.save()
        with pytest.MonkeyPatch.context() as patched:
            if not key_values_applied:
                patched.setattr("memory3.store.key_values.KeyValues.forget", lambda *_: None)
            collection.delete(["key 0"])
        collection.close(save=False)
    for collection in opened(tmp_path, Quotas()):
        stats = collection.stats(5)
        assert (stats.reads, stats.memories_read) == (1, 1)
        assert stats.most_read == (MemoryReads("key 1", second, 1),)


def test_reads_of_what_is_gone_or_never_was_are_not_counted(tmp_path: Path) -> None:
    for collection in opened(tmp_path, Quotas(), shards=2):
        first, second = fill(collection, 2)
        collection.delete(["key 0"])
        collection.note_reads([first, second, second, second + 1])
        fill(collection, 10, start=2)
        stats = collection.stats(5)
        assert (stats.reads, stats.most_read) == (2, (MemoryReads("key 1", second, 2),))


def test_what_has_expired_takes_no_place_among_what_is_read_most(tmp_path: Path) -> None:
    for collection in opened(tmp_path, Quotas()):
        documents = [embedded("a", "one", expires_at=time.time() + 0.1), embedded("b", "two"), embedded("c", "three")]
        seqs = [result.version for result in collection.upsert(documents)]
        with patch.object(Shard, "_sweep_is_due", lambda _: False):
            collection.note_reads([seqs[0], seqs[0], seqs[1]])
            time.sleep(0.15)
            assert collection.stats(1).most_read == (MemoryReads("b", seqs[1], 1),)


def test_counts_are_halved_when_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memory3.store.reads.READS_KEPT", 4)
    for collection in opened(tmp_path, Quotas()):
        seqs = fill(collection, 6)
        for _ in range(4):
            collection.fetch_key_values("model", seqs[:1])
        collection.fetch_key_values("model", seqs[1:])
        reads = collection._shards[0]._key_values.reads
        assert [reads.of(seq) for seq in seqs] == [2, 0, 0, 0, 0, 0]
