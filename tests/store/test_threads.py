"""Many threads at once: no crash, no stale answer, and nothing missing in between."""

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.errors import Unavailable

from .builders import DIMENSION, EMBEDDER, collection_at, embedded, vector_of

SECONDS = 2.0


class Storm:
    """Threads that repeat their work until time is up; the first failure ends the test."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self.turns = 0

    def add(self, work: Callable[[], object]) -> None:
        self._threads.append(threading.Thread(target=self._repeat, args=(work,), daemon=True))

    def _repeat(self, work: Callable[[], object]) -> None:
        try:
            while not self._stop.is_set():
                work()
                self.turns += 1
        except BaseException as failure:
            self._failures.append(failure)
            self._stop.set()

    def run(self, seconds: float = SECONDS) -> None:
        for thread in self._threads:
            thread.start()
        self._stop.wait(seconds)
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a thread hangs"
        for failure in self._failures:
            raise failure


def test_no_stale_answers_under_a_storm(tmp_path: Path) -> None:
    """Each key's text carries a number that only grows; no reader may see one older than was acknowledged before."""
    keys = [f"key {i}" for i in range(12)]
    acknowledged = dict.fromkeys(keys, 0)
    deleted = dict.fromkeys(keys, 0)
    guards = {key: threading.Lock() for key in keys}
    numbers = iter(range(1, 1_000_000))

    def number_of(text: str) -> int:
        return int(text.split()[2])

    with collection_at(tmp_path) as collection:

        def write() -> None:
            key = random.choice(keys)
            with guards[key]:
                number = next(numbers)
                if random.random() < 0.25:
                    collection.delete([key])
                    deleted[key] = number
                else:
                    collection.upsert([embedded(key, f"{key} {number} one", f"{key} {number} two")])
                    acknowledged[key] = number

        def read() -> None:
            key = random.choice(keys)
            least, gone = acknowledged[key], deleted[key]
            (stored,) = collection.get([key])
            assert stored is None or number_of(stored.text) >= least
            hits = collection.recall(vector_of(f"{key} {least} one")[None], 30, "model")[0]
            assert len({hit.seq for hit in hits}) == len(hits)
            for hit in hits:
                if hit.key == key:
                    assert number_of(hit.text) >= least
                    assert number_of(hit.text) > gone
            collection.put_key_values("model", [(hit.seq, b"%20d" % hit.seq) for hit in hits[:3]])
            seqs = [hit.seq for hit in hits]
            for seq, value in zip(seqs, collection.fetch_key_values("model", seqs), strict=True):
                assert value in (None, b"%20d" % seq)

        storm = Storm()
        for work in (write, write, read, read, read, lambda: collection.list(5), lambda: collection.stats()):
            storm.add(work)
        storm.run()
        assert storm.turns > 100
        assert collection.check(full=True).problems == ()


def test_a_document_being_replaced_is_always_found(tmp_path: Path) -> None:
    """Between commit and index the old version is gone and the new one not indexed yet; recall must bridge that."""
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded("key", "text 0")])
        numbers = iter(range(1, 1_000_000))

        def replace() -> None:
            collection.upsert([embedded("key", f"text {next(numbers)}")])

        def read() -> None:
            (hit,) = collection.recall(vector_of("text 0")[None], 1)[0]
            assert hit.key == "key"
            assert len(collection.list(5).documents) == 1

        storm = Storm()
        for work in (replace, read, read, read):
            storm.add(work)
        storm.run()


def test_recall_bridges_a_commit_that_the_index_has_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded("key", "old"), embedded("other", "other")])
        with monkeypatch.context() as patched:
            patched.setattr(collection._shards[0]._derived, "catch_up", lambda: None)
            collection.upsert([embedded("key", "new")])
            collection.delete(["other"])
            assert [hit.text for hit in collection.recall(vector_of("old")[None], 5)[0]] == ["new"]
        collection.upsert([embedded("more", "more")])
        assert {hit.text for hit in collection.recall(vector_of("old")[None], 5)[0]} == {"new", "more"}
        assert collection.check(full=True).problems == ()


def test_closing_and_dropping_wait_for_calls_under_way(tmp_path: Path) -> None:
    for end in ("close", "drop"):
        with DataDirectory.open(tmp_path / end) as directory:
            collection = directory.create_collection("one", EMBEDDER, DIMENSION)
            collection.upsert([embedded(str(i), f"text {i}") for i in range(50)])
            ended = threading.Event()

            def work(collection: Collection = collection, ended: threading.Event = ended) -> None:
                try:
                    collection.recall(vector_of("q")[None], 10)
                    collection.upsert([embedded("key", str(time.perf_counter_ns()))])
                except Unavailable:
                    assert ended.is_set()
                    time.sleep(0.01)

            def finish(end: str = end, directory: DataDirectory = directory, ended: threading.Event = ended) -> None:
                time.sleep(0.2)
                if not ended.is_set():
                    ended.set()
                    if end == "close":
                        directory.close()
                    else:
                        directory.drop_collection("one")

            storm = Storm()
            for job in (work, work, work, finish):
                storm.add(job)
            storm.run(0.6)
