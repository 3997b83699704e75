"""The index and the key-values follow the records, whatever became of them."""

import shutil
from pathlib import Path

import pytest
from memory3.store import limits
from memory3.store.collection import Collection
from memory3.store.errors import ResourceExhausted, Unavailable
from memory3.store.key_values import KeyValues
from memory3.store.shard import derived
from memory3.store.shard.derived import Derived
from memory3.store.types import Hit

from .builders import KEY_VALUES, RECORDS, SNAPSHOT, collection_at, embedded, vector_of


def hits(collection: Collection) -> list[Hit]:
    return collection.recall(vector_of("query")[None], 100, "model")[0]


def history(collection: Collection, start: int) -> None:
    """Write, replace and delete: 10 documents from `start` on, a third of them changed, one in five deleted."""
    keys = [str(i) for i in range(start, start + 10)]
    collection.upsert([embedded(key, f"{key} one ", f"{key} two") for key in keys])
    collection.put_key_values("model", [(seq, b"x" * 10) for seq in range(1, collection.stats().positions[0] + 1)])
    collection.upsert([embedded(key, f"{key} changed") for key in keys[::3]])
    collection.delete(keys[::5])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    with collection_at(tmp_path) as collection:
        history(collection, 0)
    return tmp_path


def rebuilds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often an index is built from the vectors."""
    calls: list[int] = []
    rebuild = Derived._lose_index

    def counted(followed: Derived) -> None:
        rebuild(followed)
        calls.append(followed.index.position)

    monkeypatch.setattr(Derived, "_lose_index", counted)
    return calls


def assert_same(data: Path, expected: list[Hit]) -> None:
    with collection_at(data) as collection:
        assert collection.check(full=True).problems == ()
        assert hits(collection) == expected


def test_a_saved_index_is_loaded_and_not_built_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = rebuilds(monkeypatch)
    with collection_at(data) as collection:
        before = hits(collection)
    assert_same(data, before)
    assert calls == []


@pytest.mark.parametrize("damage", ["missing", "empty", "flipped", "cut", "temporary"])
def test_a_lost_or_damaged_index_is_built_again_with_equal_results(
    data: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    with collection_at(data) as collection:
        before = hits(collection)
    good = (data / SNAPSHOT).read_bytes()
    (data / SNAPSHOT).unlink()
    if damage == "empty":
        (data / SNAPSHOT).write_bytes(b"")
    elif damage == "flipped":
        (data / SNAPSHOT).write_bytes(good[:-9] + bytes([good[-9] ^ 4]) + good[-8:])
    elif damage == "cut":
        (data / SNAPSHOT).write_bytes(good[:-100])
    elif damage == "temporary":
        (data / SNAPSHOT).with_name("index.snapshot.tmp").write_bytes(good[:-100])
    calls = rebuilds(monkeypatch)
    assert_same(data, before)
    assert len(calls) == 1
    assert not (data / SNAPSHOT).with_name("index.snapshot.tmp").exists()
    assert (data / SNAPSHOT).stat().st_size == len(good)


def test_a_stale_index_is_brought_up_to_date_from_the_log(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = (data / SNAPSHOT).read_bytes()
    with collection_at(data) as collection:
        history(collection, 5)
        before = hits(collection)
    (data / SNAPSHOT).write_bytes(stale)
    calls = rebuilds(monkeypatch)
    assert_same(data, before)
    assert calls == []


def test_an_index_older_than_the_log_is_built_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = (data / SNAPSHOT).read_bytes()
    monkeypatch.setattr(limits, "CHANGES_KEPT", 3)
    with collection_at(data) as collection:
        history(collection, 5)
        before = hits(collection)
    (data / SNAPSHOT).write_bytes(stale)
    calls = rebuilds(monkeypatch)
    assert_same(data, before)
    assert len(calls) == 1


def test_an_index_of_another_shard_is_not_taken(data: Path, tmp_path: Path) -> None:
    with collection_at(data) as collection:
        before = hits(collection)
    with collection_at(tmp_path / "other") as collection:
        collection.upsert([embedded("stranger", "query", "query", "query", "query")])
    shutil.copy(tmp_path / "other" / SNAPSHOT, data / SNAPSHOT)
    assert_same(data, before)


def test_the_log_is_trimmed_to_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHANGES_KEPT", 7)
    with collection_at(tmp_path) as collection:
        history(collection, 0)
        collection.save()
        records = collection._shards[0]._records
        with records.environment.reading() as txn:
            assert records.changes.count(txn) == 7
            assert records.changes_from(txn) == records.position(txn) - 6
        assert collection.check(full=True).ok
        history(collection, 0)
        assert collection.check(full=True).ok


def test_the_log_keeps_what_has_not_been_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`CHANGES_KEPT` is the least that stays and no upper bound."""
    monkeypatch.setattr(limits, "CHANGES_KEPT", 7)
    with collection_at(tmp_path) as collection:
        history(collection, 0)
        records, key_values = collection._shards[0]._records, collection._shards[0]._key_values
        key_values.applied = 2
        collection.save()
        with records.environment.reading() as txn:
            assert records.changes_from(txn) == 3
            assert records.changes.count(txn) == records.position(txn) - 2 > 7


def test_the_index_is_saved_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SNAPSHOT_CHANGES_MIN", 10)
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded(str(i), f"{i}") for i in range(9)])
        assert not (tmp_path / SNAPSHOT).exists()
        collection.upsert([embedded("more", "more")])
        collection._shards[0]._maintenance.wait()
        assert (tmp_path / SNAPSHOT).exists()


def test_saving_twice_writes_once(data: Path) -> None:
    with collection_at(data) as collection:
        collection.upsert([embedded("more", "more")])
        collection.save()
        first = (data / SNAPSHOT).stat()
        collection.save()
        assert (data / SNAPSHOT).stat().st_ino == first.st_ino


def test_a_failed_save_fails_no_write(
    data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_space(*_: object) -> None:
        raise ResourceExhausted("the disk is full")

    monkeypatch.setattr(limits, "SNAPSHOT_CHANGES_MIN", 1)
    monkeypatch.setattr(derived, "write_snapshot", no_space)
    caplog.set_level("WARNING")
    with collection_at(data) as collection:
        history(collection, 5)
        before = hits(collection)
        with pytest.raises(ResourceExhausted):
            collection.save()
        collection._shards[0]._maintenance.wait()
        assert "tried again later: the disk is full" in caplog.text
    monkeypatch.undo()
    assert_same(data, before)


@pytest.mark.parametrize("at_once", [1, 2_000])
def test_key_values_left_by_a_crash_after_the_commit_are_removed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """The records forget first; a crash before the key-values follow leaves them behind."""
    monkeypatch.setattr(limits, "CHANGES_AT_ONCE", at_once)
    shutil.copytree(data / KEY_VALUES, tmp_path / "aside")
    with collection_at(data) as collection:
        live = [document.memories for document in collection.list(100).documents]
        collection.delete(["1", "2"])
        before = hits(collection)
    shutil.rmtree(data / KEY_VALUES)
    shutil.copytree(tmp_path / "aside", data / KEY_VALUES)
    assert len(live) == 8
    assert_same(data, before)


def test_key_values_in_step_are_not_swept_at_open(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def swept(*_: object) -> None:
        raise AssertionError("every key-value was read")

    monkeypatch.setattr(limits, "CHANGES_KEPT", 1)
    with collection_at(data) as collection:
        history(collection, 5)
        before = hits(collection)
    monkeypatch.setattr(KeyValues, "sweep", swept)
    assert_same(data, before)


def test_key_values_behind_the_log_are_swept(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(data / KEY_VALUES, tmp_path / "aside")
    monkeypatch.setattr(limits, "CHANGES_KEPT", 1)
    with collection_at(data) as collection:
        collection.delete(["1", "2"])
        before = hits(collection)
    shutil.rmtree(data / KEY_VALUES)
    shutil.copytree(tmp_path / "aside", data / KEY_VALUES)
    assert_same(data, before)


def test_a_failed_removal_of_key_values_fails_no_delete_and_is_made_up_for(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object) -> None:
        raise ResourceExhausted("no space is left")

    with collection_at(data) as collection:
        (one,) = collection.get(["1"])
        assert one is not None
        with monkeypatch.context() as patched:
            patched.setattr(collection._shards[0]._key_values, "_remove", no_space)
            assert collection.delete(["1"]).deleted == ("1",)
        assert collection.fetch_key_values("model", one.memories) == [None] * len(one.memories)
        assert not collection.check(full=False).ok
        collection.delete(["2"])
        assert collection.check(full=True).ok


@pytest.mark.parametrize("saved", [True, False])
def test_nothing_newer_shines_through_records_restored_from_an_older_copy(
    data: Path, tmp_path: Path, saved: bool
) -> None:
    """The same seqs are given again, so key-values and index of the lost future must not answer for them."""
    shutil.copytree(data / RECORDS, tmp_path / "aside")
    with collection_at(data) as collection:
        collection.upsert([embedded("future", "lost")])
        seq = collection.stats().positions[0]
        collection.put_key_values("model", [(seq, b"wrong" * 2)])
        collection.close(save=saved)
    shutil.rmtree(data / RECORDS)
    shutil.copytree(tmp_path / "aside", data / RECORDS)
    with collection_at(data) as collection:
        collection.upsert([embedded("present", "new")])
        assert collection.stats().positions[0] == seq
        assert collection.fetch_key_values("model", [seq]) == [None]
        assert collection.recall(vector_of("lost")[None], 100)[0][0].text != "lost"
        assert collection.check(full=True).problems == ()


def test_a_saved_index_newer_than_restored_records_is_never_taken_up(data: Path, tmp_path: Path) -> None:
    """The snapshot was passed over while the records were behind it, and stayed: once they had grown past its seq, a
    crash brought it back, and new texts were found by lost ones' vectors, with a score of 1.0."""
    shutil.copytree(data / RECORDS, tmp_path / "aside")
    with collection_at(data) as collection:
        collection.upsert([embedded("future", "lost")])
        saved_at = collection.stats().positions[0]
    shutil.rmtree(data / RECORDS)
    shutil.copytree(tmp_path / "aside", data / RECORDS)
    with collection_at(data) as collection:
        assert not (data / SNAPSHOT).exists()
        collection.upsert([embedded("present", "new"), embedded("more", "more")])
        assert collection.stats().positions[0] > saved_at
        collection._shards[0].close(save=False)
    with collection_at(data) as collection:
        assert collection.recall(vector_of("lost")[None], 1)[0][0].score < 0.9
        assert collection.check(full=True).problems == ()


def test_a_saved_index_that_cannot_be_removed_keeps_restored_records_shut(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened nevertheless, they would grow past the snapshot's seq and take it up."""

    def refused(path: Path) -> None:
        raise Unavailable(f"removing {path}: it is refused")

    shutil.copytree(data / RECORDS, tmp_path / "aside")
    with collection_at(data) as collection:
        collection.upsert([embedded("future", "lost")])
    shutil.rmtree(data / RECORDS)
    shutil.copytree(tmp_path / "aside", data / RECORDS)
    monkeypatch.setattr(derived, "remove_file", refused)
    with pytest.raises(Unavailable, match=r"removing .*index\.snapshot"), collection_at(data):
        pass


def test_key_values_ahead_of_restored_records_are_set_back(data: Path, tmp_path: Path) -> None:
    """`applied` stayed ahead on the disk when nothing had to be removed. Key-values that a failure and a crash then
    left behind would not have been removed once the records had caught up with it."""
    shutil.copytree(data / RECORDS, tmp_path / "aside")
    with collection_at(data) as collection:
        collection.upsert([embedded("future", "lost")])
    shutil.rmtree(data / RECORDS)
    shutil.copytree(tmp_path / "aside", data / RECORDS)
    with collection_at(data) as collection:
        position = collection.stats().positions[0]
        collection._shards[0].close(save=False)
    with collection_at(data) as collection:
        key_values = collection._shards[0]._key_values
        with key_values.environment.reading() as txn:
            assert key_values.numbers.get(txn, b"applied") == position


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 1.0])
def test_a_damaged_page_of_key_values_costs_key_values_and_nothing_else(tmp_path: Path, share: float) -> None:
    """LMDB's error at that page kept the whole collection from being opened, or came back with every fetch."""
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded(str(number), f"text {number}") for number in range(100)])
        collection.put_key_values("model", [(seq, bytes([seq]) * 500) for seq in range(1, 101)])
        expected = [hit.text for hit in hits(collection)]
    file = tmp_path / KEY_VALUES / "data.mdb"
    content = bytearray(file.read_bytes())
    first = 2 * 4096
    content[first + int((len(content) - first) * (share - 0.2)) : first + int((len(content) - first) * share)] = b""
    file.write_bytes(content.ljust(file.stat().st_size, b"\0"))
    with collection_at(tmp_path) as collection:
        assert [hit.text for hit in hits(collection)] == expected
        for seq, value in enumerate(collection.fetch_key_values("model", range(1, 101)), start=1):
            assert value in (None, bytes([seq]) * 500)
        assert collection.check(full=True).problems == ()
        assert all(collection.put_key_values("model", [(seq, bytes([seq]) * 500) for seq in range(1, 101)]))
