import time
from pathlib import Path

import pytest
from memory3.store.collection import Collection
from memory3.store.errors import Corrupted, InvalidArgument
from memory3.store.format import decode_expiry, encode_expiry
from memory3.store.shard.shard import Shard
from memory3.store.types import Count

from .builders import RECORDS, collection_at, damage_value, embedded, put_raw, recalled, vector_of

SOON_S = 0.3


@pytest.fixture
def swept_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that expires is deleted in the background, however long a test takes."""
    monkeypatch.setattr(Shard, "_sweep_is_due", lambda _: False)


by_hand = pytest.mark.usefixtures("swept_by_hand")


def wait_until(at: float) -> None:
    time.sleep(max(0.0, at - time.time()) + 0.02)


def records_of(collection: Collection) -> int:
    """How many documents are stored, those that have expired included."""
    records = collection._shards[0]._records
    with records.environment.reading() as txn:
        return records.documents.count(txn)


def test_what_has_expired_is_hidden_at_once_and_swept_by_the_next_change(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        at = time.time() + SOON_S
        collection.upsert([embedded(f"brief {n}", f"brief {n}", expires_at=at) for n in range(600)])
        collection.upsert([embedded("long", "long")])
        assert collection.count() == Count(601, 601)
        wait_until(at)
        assert collection.count() == Count(1, 1)
        assert records_of(collection) == 601
        collection.upsert([embedded("another", "another")])
        collection._shards[0]._maintenance.wait()
        assert records_of(collection) == 2
        assert collection.check(full=True).problems == ()


def test_a_recall_that_meets_what_has_expired_has_it_swept(tmp_path: Path) -> None:
    """In a store that only answers it stood in the way of every search for good."""
    with collection_at(tmp_path) as collection:
        at = time.time() + SOON_S
        collection.upsert([embedded(f"brief {n}", f"brief {n}", expires_at=at) for n in range(50)])
        collection.upsert([embedded("long", "long")])
        collection.put_key_values("model", [(seq, b"x") for seq in range(1, 52)])
        wait_until(at)
        assert collection.fetch_key_values("model", [1, 51]) == [None, b"x"]
        assert collection.put_key_values("model", [(1, b"y"), (51, b"y")]) == [False, True]
        assert recalled(collection, "brief 3", 9) == ["long"]
        collection._shards[0]._maintenance.wait()
        assert records_of(collection) == 1
        assert collection.check(full=True).problems == ()


def test_a_sweep_mends_terms_that_are_damaged(tmp_path: Path) -> None:
    at = time.time() + SOON_S
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded("brief", "brief", metadata={"a": "x"}, expires_at=at), embedded("long", "long")])
        records = collection._shards[0]._records
        with records.environment.reading() as txn:
            place = next(key for key in records.terms.postings.keys(txn) if b"a" in key)
    damage_value(tmp_path / RECORDS, "terms", place)
    with collection_at(tmp_path) as collection:
        wait_until(at)
        assert collection.sweep() == 1
        assert collection.count() == Count(1, 1)
        assert collection.check(full=True).problems == ()


def test_what_expired_while_nobody_looked_is_swept_at_the_next_opening(tmp_path: Path) -> None:
    at = time.time() + SOON_S
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded("brief", "brief", expires_at=at), embedded("long", "long")])
        collection.put_key_values("model", [(1, b"x")])
    wait_until(at)
    with collection_at(tmp_path) as collection:
        assert collection.get(["brief", "long"])[0] is None
        collection._shards[0]._maintenance.wait()
        assert records_of(collection) == 1
        assert collection.stats().warm == {}
        assert collection.check(full=True).problems == ()


def test_a_new_time_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        at = time.time() + SOON_S
        collection.upsert([embedded("key", "text", expires_at=at)])
        (result,) = collection.upsert([embedded("key", "text", expires_at=at + 1000)])
        assert result.changed
        assert not collection.upsert([embedded("key", "text", expires_at=at + 1000)])[0].changed
        wait_until(at)
        assert collection.sweep() == 0
        assert collection.count() == Count(1, 1)
        collection.upsert([embedded("key", "text")])
        (stored,) = collection.get(["key"])
        assert stored is not None and stored.expires_at is None
        assert collection.check(full=True).problems == ()


def test_what_has_expired_may_be_stored_again(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        at = time.time() + SOON_S
        collection.upsert([embedded("key", "text", expires_at=at)])
        wait_until(at)
        (result,) = collection.upsert([embedded("key", "text")])
        assert result.changed and collection.count() == Count(1, 1)
        assert collection.sweep() == 0
        assert collection.check(full=True).problems == ()


@by_hand
@pytest.mark.parametrize("damaged", ["expiry", "documents"])
def test_damage_hides_no_living_document(tmp_path: Path, damaged: str) -> None:
    """An entry that outlives its document must not end the one that has come under its key since."""
    at = time.time() + SOON_S
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded("key", "text", expires_at=at), embedded("other", "other")])
        records = collection._shards[0]._records
        with records.environment.reading() as txn:
            (place,) = records.expiry.table.keys(txn)
    damage_value(tmp_path / RECORDS, damaged, place if damaged == "expiry" else b"key")
    with collection_at(tmp_path) as collection:
        assert any(damaged in problem for problem in collection.check(full=True).problems)
        collection.upsert([embedded("key", "new text")])
        wait_until(at)
        collection.sweep()
        (stored,) = collection.get(["key"])
        assert stored is not None and stored.text == "new text"
        assert collection.count() == Count(2, 2)
        assert [hit.key for hit in collection.recall(vector_of("new text")[None], 1)[0]] == ["key"]
        assert collection.check(full=True).problems == ()


@by_hand
def test_a_sweep_makes_damaged_entries_again(tmp_path: Path) -> None:
    """What had expired was counted for good, and its key-values were served."""
    at = time.time() + SOON_S
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded("brief", "brief", expires_at=at), embedded("long", "long", expires_at=at + 1000)])
        collection.put_key_values("model", [(1, b"x"), (2, b"y")])
        records = collection._shards[0]._records
        with records.environment.reading() as txn:
            place, _ = records.expiry.table.keys(txn)
    wait_until(at)
    damage_value(tmp_path / RECORDS, "expiry", place)
    with collection_at(tmp_path) as collection:
        assert collection.fetch_key_values("model", [1, 2]) == [None, b"y"]
        assert collection.sweep() == 1
        assert collection.count() == Count(1, 1)
        assert collection.check(full=True).problems == ()


@by_hand
@pytest.mark.parametrize("key", [b"\1 short", bytes(16)])
def test_a_key_that_is_none_is_damage(tmp_path: Path, key: bytes) -> None:
    """It ended calls in an error that is none of ours."""
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded("key", "text", expires_at=4e9)])
        collection.put_key_values("model", [(1, b"x")])
    put_raw(tmp_path / RECORDS, "expiry", key, b"garbage" * 3)
    with collection_at(tmp_path) as collection:
        assert collection.fetch_key_values("model", [1]) == [b"x"]
        assert any("in expiry" in problem for problem in collection.check(full=True).problems)
        assert collection.sweep() == 0
        assert collection.check(full=True).problems == ()


@by_hand
@pytest.mark.parametrize("lost", [True, False])
def test_nothing_is_served_of_what_has_expired_and_cannot_be_read(tmp_path: Path, lost: bool) -> None:
    """A sweep took its entry for one that had outlived its document, and then nothing said that it had expired."""
    at = time.time() + SOON_S
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded("brief", "brief", expires_at=at), embedded("long", "long")])
        collection.put_key_values("model", [(1, b"x"), (2, b"y")])
        if lost:
            # As when a page above the leaves is damaged: what is there is not found.
            records = collection._shards[0]._records
            with records.environment.writing() as txn:
                records.documents.delete(txn, b"brief")
    if not lost:
        damage_value(tmp_path / RECORDS, "documents", b"brief")
    wait_until(at)
    with collection_at(tmp_path) as collection:
        assert collection.fetch_key_values("model", [1, 2]) == [None, b"y"]
        if lost:
            with pytest.raises(Corrupted, match="it is missing, though it is to expire"):
                collection.sweep()
        else:
            assert collection.sweep() == 1
            assert collection.count() == Count(1, 1)
        assert collection.fetch_key_values("model", [1, 2]) == [None, b"y"]


def test_a_check_compares_the_times_with_the_documents(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded("key", "text", expires_at=4e9)])
        records = collection._shards[0]._records
        with records.environment.writing() as txn:
            records.expiry.remove(txn, 4e9, range(1, 2))
            records.expiry.add(txn, 5e9, "key", range(1, 2))
        assert collection.check(full=False).problems == (
            "that document 'key' expires at 4000000000.0 is missing in expiry",
            "expiry says that document 'key' expires at 5000000000.0, its own record does not",
        )
        assert collection.check(full=False).problems == ()


@pytest.mark.parametrize("at", [0, 59.5, 1.9e12, float("inf"), float("nan"), "soon", True])
def test_what_is_no_time_of_this_era_is_refused(tmp_path: Path, at: float) -> None:
    with collection_at(tmp_path) as collection:
        with pytest.raises(InvalidArgument, match="seconds since the epoch"):
            collection.upsert([embedded("key", "text", expires_at=at)])
        assert collection.count() == Count(0, 0)


def test_an_entry_comes_back() -> None:
    assert decode_expiry(encode_expiry(("Zoë", 7))) == ("Zoë", 7)
