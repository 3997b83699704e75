"""Compaction gives space back while others read and write, and a crash leaves the old file or the new one."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.disk import points
from memory3.store.errors import Cancelled, NotFound, ResourceExhausted, Unavailable

from ..builders import DIMENSION, EMBEDDER, KEY_VALUES, RECORDS, collection_at, embedded, largest_file, vector_of
from ..test_threads import Storm

ROUNDS = 4
DOCUMENTS = 100


def churn(collection: Collection, rounds: int = ROUNDS) -> None:
    """Write everything several times over, then delete half of it: most pages of the files are free."""
    for number in range(rounds):
        collection.upsert([embedded(f"key {key}", f"text {key} of round {number} " * 100) for key in range(DOCUMENTS)])
        first = number * DOCUMENTS + 1
        collection.put_key_values("model", [(seq, b"%20000d" % seq) for seq in range(first, first + DOCUMENTS)])
    collection.delete([f"key {key}" for key in range(0, DOCUMENTS, 2)])


def sizes(path: Path) -> list[int]:
    return [(path / environment / "data.mdb").stat().st_size for environment in (RECORDS, KEY_VALUES)]


def test_the_files_shrink_to_what_they_hold(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        churn(collection)
        before = collection.stats()
        assert before.key_values_free_bytes > before.key_values_bytes
        assert sizes(tmp_path) == [
            before.records_bytes + before.records_free_bytes,
            before.key_values_bytes + before.key_values_free_bytes,
        ]
        expected = (collection.list(1000), collection.recall(vector_of("q")[None], 50, "model"))
        told: list[tuple[int, int]] = []
        report = collection.compact(lambda *how_far: told.append(how_far))
        after = collection.stats()
        assert report.bytes_before == sum((before.records_bytes, before.records_free_bytes)) + sum(
            (before.key_values_bytes, before.key_values_free_bytes)
        )
        assert report.bytes_after == sum(sizes(tmp_path)) == after.records_bytes + after.key_values_bytes
        assert (after.records_free_bytes, after.key_values_free_bytes) == (0, 0)
        assert told[0][0] == 0 and told[-1] == (report.bytes_after, report.bytes_after)
        assert (collection.list(1000), collection.recall(vector_of("q")[None], 50, "model")) == expected
        assert collection.check(full=True).problems == ()
        # It is the same environment as before: it takes writes, and nothing is compacted twice.
        collection.upsert([embedded("new", "new")])
        collection.put_key_values("model", [(collection.stats().positions[0], b"%20000d" % 1)])
        assert collection.stats().warm == {"model": DOCUMENTS // 2 + 1}
    with collection_at(tmp_path) as collection:
        assert collection.count().documents == DOCUMENTS // 2 + 1
        assert collection.check(full=True).problems == ()


def test_little_free_space_is_not_worth_a_copy(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        churn(collection)
        collection.compact()
        files = [(tmp_path / environment / "data.mdb").stat().st_ino for environment in (RECORDS, KEY_VALUES)]
        report = collection.compact()
        assert report.bytes_before == report.bytes_after
        assert files == [(tmp_path / name / "data.mdb").stat().st_ino for name in (RECORDS, KEY_VALUES)]


def test_readers_and_writers_go_on_around_it(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path) as directory:
        collection = directory.create_collection("default", EMBEDDER, DIMENSION)
        churn(collection)
        compacted = []
        numbers = iter(range(1, 1_000_000))

        def read() -> None:
            assert collection.get(["key 1"])[0] is not None
            hits = collection.recall(vector_of("q")[None], 20, "model")[0]
            assert len(hits) == 20
            for value in collection.fetch_key_values("model", [hit.seq for hit in hits if hit.warm]):
                assert value is None or len(value) == 20000

        def write() -> None:
            collection.upsert([embedded(f"written {next(numbers) % 50}", f"text {time.perf_counter_ns()} " * 100)])

        def compact() -> None:
            before = collection.stats()
            compacted.append(directory.compact("default"))
            if len(compacted) == 1:
                assert before.key_values_free_bytes > before.key_values_bytes
            churn(collection, rounds=1)

        storm = Storm()
        for work in (read, read, read, write, compact):
            storm.add(work)
        storm.run(3.0)
        assert len(compacted) > 1
        directory.compact("default")
        stats = collection.stats()
        assert sum(sizes(tmp_path)) <= 1.3 * (stats.records_bytes + stats.key_values_bytes)
        assert collection.check(full=True).problems == ()
    with collection_at(tmp_path) as collection:
        assert collection.check(full=True).problems == ()


@pytest.mark.parametrize("last", [0, 100])
def test_what_is_written_while_a_file_is_copied_does_not_wait_and_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    monkeypatch.setattr("memory3.store.backup.compact.TOUCHED_LAST_MAX", last)
    monkeypatch.setattr("memory3.store.backup.copying.COPY_PIECE_BYTES", 65536)
    monkeypatch.setattr("memory3.store.backup.copying.TOUCHED_BATCH", 3)
    with collection_at(tmp_path) as collection:
        churn(collection)
        (changed,) = collection.get(["key 1"])
        assert changed is not None
        written: list[int] = []

        def write() -> None:
            number = len(written)
            collection.upsert([embedded(f"late {number}", f"late {number}")])
            collection.upsert([embedded("often", f"version {number}")])
            collection.delete([f"key {2 * number + 3}"])
            collection.put_key_values("model", [(changed.memories[0], b"%20000d" % number)])
            collection.put_key_values("another", [(changed.memories[0], b"%d" % number)])
            written.append(number)

        def meanwhile(done: int, total: int) -> None:
            if done and len(written) < 9:
                thread = threading.Thread(target=write)
                thread.start()
                thread.join(20)
                assert not thread.is_alive(), "a write waits for the copy"

        collection.compact(meanwhile)
        assert len(written) > 3
        assert list(tmp_path.rglob("*.tmp")) == []
        stats = collection.stats()
        assert sum(sizes(tmp_path)) <= 1.3 * (stats.records_bytes + stats.key_values_bytes)
    with collection_at(tmp_path) as collection:
        gone = [f"key {2 * number + 3}" for number in written]
        assert None not in collection.get([f"late {number}" for number in written])
        assert collection.get(gone) == [None] * len(gone)
        (often,) = collection.get(["often"])
        assert often is not None and often.text == f"version {written[-1]}"
        assert collection.fetch_key_values("model", changed.memories) == [b"%20000d" % written[-1]]
        assert collection.fetch_key_values("another", changed.memories) == [b"%d" % written[-1]]
        assert collection.check(full=True).problems == ()


def test_too_many_changes_meanwhile_give_it_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memory3.store.disk.environment.TOUCHED_MAX", 3)
    with collection_at(tmp_path) as collection:
        churn(collection)
        before = sizes(tmp_path)
        written: list[object] = []

        def meanwhile(done: int, total: int) -> None:
            if done and not written:
                written.extend(collection.upsert([embedded("late", "late")]))

        with pytest.raises(ResourceExhausted, match="when less is written"):
            collection.compact(meanwhile)
        assert sizes(tmp_path)[0] >= before[0] and list(tmp_path.rglob("*.tmp")) == []
        assert collection.get(["late"])[0] is not None
        assert collection.compact().bytes_after < sum(before)
        assert collection.check(full=True).problems == ()


def test_it_waits_for_a_read_under_way_and_no_longer(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        churn(collection)
        environment = collection._shards[0]._records.environment
        thread = threading.Thread(target=collection.compact)
        with environment.reading() as txn:
            thread.start()
            thread.join(0.5)
            assert thread.is_alive()
            # This state is the old file's, and stays whole as long as it is read.
            assert collection._shards[0]._records.documents.count(txn) == DOCUMENTS // 2
        thread.join(10)
        assert not thread.is_alive()
        assert collection.check(full=True).problems == ()


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        churn(collection)
        before = sizes(tmp_path)
        with largest_file(50_000), pytest.raises(ResourceExhausted, match="disk is full"):
            collection.compact()
        assert sizes(tmp_path) == before
        assert list(tmp_path.rglob("*.tmp")) == []
        assert collection.check(full=True).problems == ()
        assert collection.compact().bytes_after < sum(before)


def test_it_can_be_stopped(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done:
            raise Cancelled("enough")

    with collection_at(tmp_path) as collection:
        churn(collection)
        before = sizes(tmp_path)
        with pytest.raises(Cancelled):
            collection.compact(stop)
        assert sizes(tmp_path) == before
        assert list(tmp_path.rglob("*.tmp")) == []
        collection.upsert([embedded("new", "new")])
        assert collection.check(full=True).problems == ()


def test_dropping_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memory3.store.backup.copying.COPY_PIECE_BYTES", 4096)
    with DataDirectory.open(tmp_path) as directory:
        churn(directory.create_collection("default", EMBEDDER, DIMENSION))
        dropping = threading.Thread(target=directory.drop_collection, args=("default",))

        def slowly(done: int, total: int) -> None:
            if done and not dropping.ident:
                dropping.start()
            time.sleep(0.005)

        with pytest.raises(Unavailable, match="closed"):
            directory.compact("default", slowly)
        dropping.join(10)
        with pytest.raises(NotFound):
            directory.compact("default")
        assert list((tmp_path / "collections").iterdir()) == []


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[3])
from builders import collection_at
from memory3.store.disk import points

name, environment = sys.argv[2].split(":")

def reached(point, path):
    if point == name and environment in path.parts:
        os.kill(os.getpid(), 9)

with collection_at(sys.argv[1]) as collection:
    points.reached = reached
    collection.compact()
    os._exit(3)
"""


@pytest.mark.parametrize("environment", ["records", "kv"])
@pytest.mark.parametrize("point", [points.COPYING, points.COPIED, points.BEFORE_RENAME, points.RENAMED])
def test_a_crash_leaves_the_old_file_or_the_new_one(tmp_path: Path, point: str, environment: str) -> None:
    with collection_at(tmp_path) as collection:
        churn(collection)
        expected = collection.list(1000)
    before = sizes(tmp_path)
    command = [sys.executable, "-c", KILLED, str(tmp_path), f"{point}:{environment}", str(Path(__file__).parents[1])]
    assert subprocess.run(command, timeout=60).returncode == -9
    after = sizes(tmp_path)[["records", "kv"].index(environment)]
    old = before[["records", "kv"].index(environment)]
    assert (after < old) is (point == points.RENAMED)
    with collection_at(tmp_path) as collection:
        assert list(tmp_path.rglob("*.tmp")) == []
        assert collection.list(1000) == expected
        assert collection.stats().warm == {"model": DOCUMENTS // 2}
        assert collection.check(full=True).problems == ()
        collection.compact()
        assert collection.check(full=True).problems == ()
