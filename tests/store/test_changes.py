"""Following the log of changes: what it tells, and that waiting for it holds nobody up."""

import threading
import time
from pathlib import Path

import pytest
from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.errors import FailedPrecondition, InvalidArgument, Unavailable
from memory3.store.types import Change

from .builders import DIMENSION, EMBEDDER, collection_at, embedded


def told(collection: Collection, after: int = 0, limit: int = 100) -> list[tuple[int, str, str]]:
    return [(change.seq, change.kind, change.key) for change in collection.changes(after, limit)]


def test_the_log_tells_each_change_by_its_last_seq(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        before = time.time()
        collection.upsert([embedded("a", "1 ", "2 ", "3"), embedded("b", "4")])
        collection.delete(["a", "none"])
        collection.upsert([embedded("b", "5")])
        assert told(collection) == [(3, "upsert", "a"), (4, "upsert", "b"), (5, "delete", "a"), (6, "upsert", "b")]
        assert told(collection, after=4) == [(5, "delete", "a"), (6, "upsert", "b")]
        assert told(collection, after=6) == []
        (change, *_) = collection.changes(0, 100)
        assert isinstance(change, Change) and before <= change.at <= time.time()


def test_a_part_of_the_log_leads_on_to_the_next(tmp_path: Path) -> None:
    """A document that the limit cuts in two is told of twice, never left out."""
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded("a", "1 ", "2 ", "3"), embedded("b", "4")])
        found, after = [], 0
        while part := told(collection, after, limit=2):
            found += part
            after = part[-1][0]
        assert found == [(2, "upsert", "a"), (3, "upsert", "a"), (4, "upsert", "b")]


def test_what_the_log_no_longer_holds_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memory3.store.limits.CHANGES_KEPT", 1)
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded(str(number), f"text {number}") for number in range(5)])
        collection.save()
        assert told(collection, after=4) == [(5, "upsert", "4")]
        with pytest.raises(FailedPrecondition, match="the log begins at seq 5"):
            collection.changes(3, 10)
        with pytest.raises(InvalidArgument, match="shard 1"):
            collection.changes(1 << 48, 10)


def test_a_wait_ends_with_the_next_change_of_any_shard(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path) as directory:
        collection = directory.create_collection("default", EMBEDDER, DIMENSION, 3)
        positions = collection.positions()
        assert not collection.wait(positions, 0.05)

        def wait(positions: tuple[int, ...], woken: list[bool]) -> None:
            woken.append(collection.wait(positions, 20))

        for key in ("a", "b", "c", "d"):
            woken: list[bool] = []
            positions = collection.positions()
            waiter = threading.Thread(target=wait, args=(positions, woken))
            waiter.start()
            collection.upsert([embedded(key, key)])
            waiter.join(20)
            assert woken == [True]
        assert collection.wait(positions, 0)


def test_those_who_wait_hold_up_neither_commits_nor_closing(tmp_path: Path) -> None:
    """A watcher asked the shard under the lock that a commit waits for, which a closing shard then let neither pass."""
    for turn in range(10):
        directory = DataDirectory.open(tmp_path / str(turn))
        collection = directory.create_collection("default", EMBEDDER, DIMENSION, 2)

        def write(collection: Collection = collection) -> None:
            for number in range(1_000_000):
                collection.upsert([embedded(f"key {number % 7}", f"text {number}")])

        def watch(collection: Collection = collection) -> None:
            while True:
                collection.wait(collection.positions(), 0.2)

        def until_closed(work: object) -> None:
            with pytest.raises(Unavailable):
                work()  # type: ignore[operator]

        threads = [
            threading.Thread(target=until_closed, args=(work,), daemon=True)
            for work in (write, write, watch, watch, watch)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        closing = threading.Thread(target=directory.close, daemon=True)
        closing.start()
        for thread in (closing, *threads):
            thread.join(20)
            assert not thread.is_alive(), "everybody waits for everybody"
