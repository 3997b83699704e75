"""Damaged values are named, counted, never served, and mended by writing them again."""

import shutil
from pathlib import Path

import pytest
from memory3.store import limits
from memory3.store.collection import Collection
from memory3.store.disk.seal import Damaged, seal
from memory3.store.errors import Corrupted, UnsupportedFormat
from memory3.store.types import Count

from ..builders import (
    KEY_VALUES,
    RECORDS,
    SNAPSHOT,
    collection_at,
    copy_of,
    damage_value,
    embedded,
    put_raw,
    recalled,
    seq_key,
    value_key,
    vector_of,
)

DOCUMENTS = [embedded("a", "one ", "two"), embedded("b", "three"), embedded("c", "four")]
"""Seqs: one 1, two 2, three 3, four 4."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    with collection_at(tmp_path) as collection:
        collection.upsert(DOCUMENTS)
        collection.put_key_values("model", [(seq, bytes([seq]) * 9) for seq in range(1, 5)])
    return tmp_path


def assert_reported(collection: Collection, *places: str) -> None:
    assert collection.stats().quarantined == len(places)
    for full in (False, True):
        report = collection.check(full)
        assert not report.ok
        for place in places:
            assert any(place in problem for problem in report.problems), (place, report.problems)


def assert_mended(collection: Collection) -> None:
    assert collection.stats().quarantined == 0
    assert collection.check(full=True).problems == ()


def test_a_damaged_memory_is_named_and_not_served(data: Path) -> None:
    damage_value(data / RECORDS, "memories", seq_key(2))
    with collection_at(data) as collection:
        with pytest.raises(Corrupted, match=r"seq 2 in memories.*'a'"):
            collection.get(["b", "a"])
        assert sorted(recalled(collection, "two", 4)) == ["four", "one ", "three"]
        assert collection.memories([1, 2, 3])[1] is None
        with pytest.raises(Corrupted, match="'a'"):
            collection.list(10)
        assert_reported(collection, "seq 2 in memories")
    with collection_at(data) as collection:
        assert_reported(collection, "seq 2 in memories")
        assert collection.unchanged([DOCUMENTS[0].document]) == set()
        assert collection.upsert(DOCUMENTS)[0].changed
        assert_mended(collection)
        assert recalled(collection, "two", 1) == ["two"]


@pytest.mark.parametrize("table", ["memories", "vectors"])
def test_damage_that_nobody_met_is_mended_by_the_same_document(data: Path, table: str) -> None:
    """Only marked damage kept a document from counting as unchanged, so what nobody had read yet was left damaged."""
    damage_value(data / RECORDS, table, seq_key(2))
    with collection_at(data) as collection:
        assert collection.unchanged([one.document for one in DOCUMENTS]) == {"b", "c"}
        assert [result.changed for result in collection.upsert(DOCUMENTS)] == [True, False, False]
        assert_mended(collection)
        assert recalled(collection, "two", 1) == ["two"]


def test_a_damaged_memory_can_be_deleted(data: Path) -> None:
    damage_value(data / RECORDS, "memories", seq_key(2))
    with collection_at(data) as collection:
        assert recalled(collection, "two", 1) != ["two"]
        assert collection.delete(["a"]).memories == 2
        assert_mended(collection)
        assert collection.count() == Count(2, 2)


def test_a_damaged_document_is_named_and_its_memories_are_not_served(data: Path) -> None:
    damage_value(data / RECORDS, "documents", b"a")
    with collection_at(data) as collection:
        with pytest.raises(Corrupted, match="key 'a' in documents"):
            collection.get(["a"])
        assert sorted(recalled(collection, "two", 4)) == ["four", "three"]
        assert_reported(collection, "key 'a' in documents")
        assert collection.get(["b"])[0] is not None


def test_a_damaged_document_is_replaced_whole(data: Path) -> None:
    damage_value(data / RECORDS, "documents", b"a")
    with collection_at(data) as collection:
        assert collection.unchanged([DOCUMENTS[0].document]) == set()
        collection.upsert([DOCUMENTS[0]])
        assert_mended(collection)
        assert collection.count() == Count(3, 4)
        assert collection.fetch_key_values("model", [1, 2]) == [None, None]


@pytest.mark.parametrize("damaged_memory", [None, 1, 2])
def test_a_damaged_document_is_deleted_with_all_its_memories(data: Path, damaged_memory: int | None) -> None:
    damage_value(data / RECORDS, "documents", b"a")
    if damaged_memory:
        damage_value(data / RECORDS, "memories", seq_key(damaged_memory))
    with collection_at(data) as collection:
        recalled(collection, "two")
        assert collection.delete(["a"]).memories == 2
        assert collection.count() == Count(2, 2)
        assert_mended(collection)


def test_a_missing_memory_is_an_error_and_not_a_shorter_text(data: Path) -> None:
    damage_value(data / RECORDS, "memories", seq_key(2))
    with collection_at(data) as collection, collection._shards[0]._records.environment.writing() as txn:
        collection._shards[0]._records.memories.delete(txn, seq_key(2))
    with collection_at(data) as collection:
        with pytest.raises(Corrupted, match=r"seq 2 in memories.*missing"):
            collection.get(["a"])
        collection.upsert([DOCUMENTS[0]])
        assert_mended(collection)


def test_damage_that_was_replaced_before_it_is_marked_leaves_no_mark(data: Path) -> None:
    """A reader meets the damage, a writer deletes it, and only then comes the reader to mark it."""
    with collection_at(data) as collection:
        collection.delete(["a"])
        collection._shards[0]._state.quarantine([Damaged("memories", seq_key(2), "its checksum is wrong")])
        assert_mended(collection)


def test_a_damaged_vector_is_found_when_the_index_is_built_again(data: Path) -> None:
    damage_value(data / RECORDS, "vectors", seq_key(2))
    (data / SNAPSHOT).unlink()
    with collection_at(data) as collection:
        assert sorted(recalled(collection, "two", 4)) == ["four", "one ", "three"]
        assert_reported(collection, "seq 2 in vectors")
        collection.upsert([DOCUMENTS[0]])
        assert_mended(collection)


def test_a_full_check_finds_what_nobody_read(data: Path) -> None:
    damage_value(data / RECORDS, "vectors", seq_key(2))
    damage_value(data / RECORDS, "memories", seq_key(3))
    damage_value(data / RECORDS, "changes", seq_key(4))
    damage_value(data / KEY_VALUES, "values", value_key(1, 1))
    with collection_at(data) as collection:
        assert collection.check(full=False).ok
        problems = collection.check(full=True).problems
        assert len(problems) == 4
        assert_reported(collection, "2 in vectors", "3 in memories", "4 in changes", "seq 1 in values")
        assert collection.fetch_key_values("model", [1]) == [None]


def test_a_damaged_change_costs_a_rebuild_and_no_data(data: Path) -> None:
    with collection_at(data) as collection:
        collection.upsert([embedded("d", "five")])
        collection.delete(["b"])
        collection._shards[0].close(save=False)
    damage_value(data / RECORDS, "changes", seq_key(5))
    with collection_at(data) as collection:
        assert recalled(collection, "five", 1) == ["five"]
        assert sorted(recalled(collection, "three")) == ["five", "four", "one ", "two"]
        assert collection.fetch_key_values("model", [3, 4]) == [None, bytes([4]) * 9]
        assert_reported(collection, "seq 5 in changes")


@pytest.mark.parametrize("byte", [0, 7, 8, -1])
def test_damaged_key_values_are_reported_once_and_cold_from_then_on(data: Path, byte: int) -> None:
    damage_value(data / KEY_VALUES, "values", value_key(1, 2), byte)
    with collection_at(data) as collection:
        with pytest.raises(Corrupted, match=r"'model'.*seq 2 in values"):
            collection.fetch_key_values("model", [1, 2, 3])
        assert collection.fetch_key_values("model", [1, 2, 3]) == [b"\1" * 9, None, b"\3" * 9]
        assert collection.cold("model", 9) == [(2, "two")]
        assert collection.stats().warm == {"model": 3}
        assert_reported(collection, "seq 2 in values of fingerprint 1")
        assert collection.put_key_values("model", [(2, b"\2" * 9)]) == [True]
        assert collection.fetch_key_values("model", [2]) == [b"\2" * 9]
        assert_mended(collection)


def test_the_mark_of_damaged_key_values_goes_with_their_memory(data: Path) -> None:
    damage_value(data / KEY_VALUES, "values", value_key(1, 2))
    with collection_at(data) as collection:
        with pytest.raises(Corrupted):
            collection.fetch_key_values("model", [2])
        collection.delete(["a"])
        assert_mended(collection)


@pytest.mark.parametrize("last_of", ["model", "another"])
@pytest.mark.parametrize("mended_by", ["writing", "deleting"])
def test_the_mark_of_damaged_key_values_outlives_the_last_value_and_no_longer(
    tmp_path: Path, last_of: str, mended_by: str
) -> None:
    """With the last value a fingerprint went, though one of its values had been expelled and marked: the model then
    wrote that one under a new number, and `check` reported the mark under the old number for ever."""
    with collection_at(tmp_path) as collection:
        collection.upsert(DOCUMENTS)
        collection.put_key_values("model", [(2, b"damaged")])
        collection.put_key_values(last_of, [(3, b"whole  ")])
    damage_value(tmp_path / KEY_VALUES, "values", value_key(1, 2))
    with collection_at(tmp_path) as collection:
        with pytest.raises(Corrupted):
            collection.fetch_key_values("model", [2])
        collection.delete(["b"])
        assert_reported(collection, "seq 2 in values of fingerprint 1")
        if mended_by == "writing":
            assert collection.put_key_values("model", [(2, b"mended ")]) == [True]
        else:
            collection.delete(["a"])
        assert_mended(collection)


def test_the_mark_of_damaged_key_values_goes_when_they_are_swept(
    data: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key-values from an older copy, behind the log, are swept by what is live; the sweep passed over marks."""
    damage_value(data / KEY_VALUES, "values", value_key(1, 2))
    with collection_at(data) as collection, pytest.raises(Corrupted):
        collection.fetch_key_values("model", [2])
    aside = copy_of(data / KEY_VALUES, tmp_path_factory.mktemp("aside") / "kv")
    monkeypatch.setattr(limits, "CHANGES_KEPT", 0)
    with collection_at(data) as collection:
        collection.delete(["a"])
    shutil.rmtree(data / KEY_VALUES)
    copy_of(aside, data / KEY_VALUES)
    with collection_at(data) as collection:
        assert_mended(collection)


def test_swapped_key_values_are_noticed(data: Path) -> None:
    """Both values are whole, but each stands under the other's seq."""
    with collection_at(data) as collection:
        shard = collection._shards[0]._key_values
        with shard.environment.reading() as txn:
            one = bytes(txn.get(value_key(1, 1), None, shard.values._handle) or b"")
    put_raw(data / KEY_VALUES, "values", value_key(1, 2), one)
    with collection_at(data) as collection, pytest.raises(Corrupted, match="seq 2"):
        collection.fetch_key_values("model", [2])


def test_flipped_bits_in_the_file_are_noticed(data: Path) -> None:
    """Damage below LMDB, as a disk does it: the text of a memory and the bytes of key-values."""
    for file, good in ((RECORDS / "data.mdb", b"three"), (KEY_VALUES / "data.mdb", b"\4" * 9)):
        content = (data / file).read_bytes()
        assert good in content
        (data / file).write_bytes(content.replace(good, bytes([good[0] ^ 16]) + good[1:]))
    with collection_at(data) as collection:
        assert "three" not in recalled(collection, "three")
        with pytest.raises(Corrupted, match=r"seq 3 in memories.*'b'"):
            collection.get(["b"])
        with pytest.raises(Corrupted, match="seq 4"):
            collection.fetch_key_values("model", [4])
        assert len(recalled(collection, "three")) == 3


@pytest.mark.parametrize(("table", "key"), [("meta", b"identity"), ("meta", b"position"), ("meta", b"changes_from")])
def test_damaged_basics_of_the_records_are_refused(data: Path, table: str, key: bytes) -> None:
    damage_value(data / RECORDS, table, key)
    with pytest.raises(Corrupted, match=key.decode()), collection_at(data):
        pass


@pytest.mark.parametrize(
    ("table", "key"),
    [("meta", b"identity"), ("meta", b"applied"), ("meta", b"next_fingerprint"), ("fingerprints", b"model")],
)
def test_damaged_basics_of_the_key_values_make_all_memories_cold(data: Path, table: str, key: bytes) -> None:
    damage_value(data / KEY_VALUES, table, key)
    with collection_at(data) as collection:
        assert collection.fetch_key_values("model", [1, 2]) == [None, None]
        assert len(recalled(collection, "one ")) == 4
        assert collection.put_key_values("model", [(1, b"new size")]) == [True]
        assert collection.check(full=True).ok


@pytest.mark.parametrize("name", ["data.mdb", ""])
def test_lost_key_values_make_all_memories_cold(data: Path, name: str) -> None:
    for file in [data / KEY_VALUES / name] if name else list((data / KEY_VALUES).iterdir()):
        file.unlink()
    with collection_at(data) as collection:
        assert collection.fetch_key_values("model", [1, 2]) == [None, None]
        assert collection.check(full=True).ok


def test_environments_of_garbage_are_corrupted_or_made_anew(data: Path) -> None:
    (data / KEY_VALUES / "data.mdb").write_bytes(b"garbage" * 10_000)
    with collection_at(data) as collection:
        assert collection.stats().warm == {}
    (data / RECORDS / "data.mdb").write_bytes(b"garbage" * 10_000)
    with pytest.raises(Corrupted, match="records"), collection_at(data):
        pass


@pytest.mark.parametrize("environment", [RECORDS, KEY_VALUES])
def test_an_environment_of_another_format_is_refused(data: Path, environment: Path) -> None:
    put_raw(data / environment, "meta", b"identity", seal("meta", b"identity", b'{"format":3,"magic":"later"}'))
    with pytest.raises(UnsupportedFormat, match="version 3"), collection_at(data):
        pass
    put_raw(data / environment, "meta", b"identity", seal("meta", b"identity", b'{"format":2,"magic":"later"}'))


def test_recall_of_a_damaged_memory_still_fills_up_to_k(tmp_path: Path) -> None:
    """More dead candidates than the spare ones: recall must search wider."""
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded(f"{i:03}", f"text {i}") for i in range(100)])
        nearest = [hit.seq for hit in collection.recall(vector_of("q")[None], 100)[0]]
    for seq in nearest[:60]:
        damage_value(tmp_path / RECORDS, "memories", seq_key(seq))
    with collection_at(tmp_path) as collection:
        assert [hit.seq for hit in collection.recall(vector_of("q")[None], 10)[0]] == nearest[60:70]
        assert collection.stats().quarantined == 60


@pytest.mark.parametrize("key", [b"short", b"much too long a key"])
def test_key_values_under_a_key_of_another_kind_begin_anew(data: Path, key: bytes) -> None:
    """Whoever took it apart, as a sweep does, would fail at every opening."""
    put_raw(data / KEY_VALUES, "values", key, b"anything")
    with collection_at(data) as collection:
        assert collection.stats().warm == {}
        assert collection.check(full=True).problems == ()
