"""Many threads at once: no crash, no stale answer, and nothing missing in between."""

import gc
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from memory3.store import limits
from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.disk import turns
from memory3.store.disk.environment import Environment
from memory3.store.disk.turns import READS
from memory3.store.errors import Unavailable
from memory3.store.filters.language import Filter
from memory3.store.filters.parser import parse_filter
from memory3.store.index.vector_index import Candidates, VectorIndex
from memory3.store.types import Document, EmbeddedDocument, IndexKind, Metadata, Quotas, Reference

from .builders import DIMENSION, EMBEDDER, collection_at, embedded, recalled, seq_key, vector_of

SECONDS = 2.0

T = TypeVar("T")


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

    def run(self, seconds: float = SECONDS, enough: Callable[[], bool] = lambda: True) -> None:
        """Go on for these seconds, and until there was enough, which takes long on a busy machine."""
        for thread in self._threads:
            thread.start()
        self._stop.wait(seconds)
        patience = time.monotonic() + 60
        while not enough() and not self._stop.wait(0.05):
            assert time.monotonic() < patience, "it was never enough"
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a thread hangs"
        for failure in self._failures:
            raise failure


class Holds:
    """For how long locks were held, in seconds of their holders' own work.

    What a thread waits for the interpreter or a processor meanwhile belongs to the machine, and is not counted.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []

    @contextmanager
    def counted(self, lock: AbstractContextManager[T]) -> Iterator[T]:
        with lock as held:
            start = time.thread_time()
            yield held
            self.seconds.append(time.thread_time() - start)


class CountedLock:
    """A lock whose holds are counted."""

    def __init__(self, lock: threading.Lock, holds: Holds) -> None:
        self._lock = lock
        self._holds = holds
        self._entered = ExitStack()

    def __enter__(self) -> None:
        entered = ExitStack()
        entered.enter_context(self._holds.counted(self._lock))
        # Only the thread that has the lock comes here.
        self._entered = entered

    def __exit__(self, *_: object) -> None:
        self._entered.close()


@pytest.fixture
def frozen() -> Iterator[None]:
    """As in a server: the collector need not look through what was loaded, amid somebody's hold."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def always_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a small index clustered without end, saved after a few changes, and the log kept short."""
    monkeypatch.setattr(limits, "EXACT_MAX", 40)
    monkeypatch.setattr(limits, "CLUSTERING_FACTOR", 1)
    monkeypatch.setattr(limits, "SNAPSHOT_CHANGES_MIN", 5)
    monkeypatch.setattr(limits, "CHANGES_KEPT", 1)


@pytest.mark.parametrize("clustered", [False, True])
def test_no_stale_answers_under_a_storm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clustered: bool) -> None:
    """Each key's text carries a number that only grows; no reader may see one older than was acknowledged before.

    Once more with an index that is clustered, taken up, saved and its log trimmed over and over meanwhile.
    """
    if clustered:
        always_due(monkeypatch)
    keys = [f"key {i}" for i in range(12)]
    acknowledged = dict.fromkeys(keys, 0)
    deleted = dict.fromkeys(keys, 0)
    guards = {key: threading.Lock() for key in keys}
    numbers = iter(range(1, 1_000_000))
    found: set[str] = set()

    def number_of(text: str) -> int:
        return int(text.split()[2])

    with collection_at(tmp_path) as collection:
        collection.upsert([embedded(f"other {i}", f"other {i}") for i in range(60)])

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
            hits = collection.recall(vector_of(f"{key} {least} one")[None], 60, "model")[0]
            assert len({hit.seq for hit in hits}) == len(hits)
            for hit in hits:
                if hit.key == key:
                    found.add(key)
                    assert number_of(hit.text) >= least
                    assert number_of(hit.text) > gone
            collection.put_key_values("model", [(hit.seq, b"%20d" % hit.seq) for hit in hits[:3]])
            seqs = [hit.seq for hit in hits]
            for seq, value in zip(seqs, collection.fetch_key_values("model", seqs), strict=True):
                assert value in (None, b"%20d" % seq)

        storm = Storm()
        for work in (write, write, read, read, read, lambda: collection.list(5), lambda: collection.stats()):
            storm.add(work)
        storm.add(collection.save)
        index = collection._shards[0]._derived.index

        def enough() -> bool:
            swaps = 3 if clustered else 0
            return storm.turns > 100 and len(found) > len(keys) // 2 and index.generation >= swaps

        storm.run(enough=enough)
        assert (index.kind is IndexKind.QUANTIZED) is clustered
        assert collection.check(full=True).problems == ()
    with collection_at(tmp_path) as collection:
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


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("filter", [None, parse_filter({"kind": "bee"})])
def test_recall_bridges_what_happens_around_its_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filter: Filter | None, moment: str
) -> None:
    """Between the choice of a filter and the search, and between the search and the look at the records."""
    bee: Metadata = {"kind": "bee"}
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded(key, f"{key} old", metadata=bee) for key in ("replaced", "deleted", "left")])
        index = collection._shards[0]._derived.index
        search = index.search

        def change() -> None:
            collection.upsert([embedded("replaced", "replaced new", metadata=bee), embedded("other", "other")])
            collection.delete(["deleted"])

        def around(*of: Any) -> Candidates:
            monkeypatch.setattr(index, "search", search)
            if moment == "before":
                change()
            found = search(*of)
            if moment == "after":
                change()
            return found

        monkeypatch.setattr(index, "search", around)
        hits = collection.recall(vector_of("replaced old")[None], 5, filter=filter)[0]
        expected = {"replaced new", "left old"} if filter else {"replaced new", "left old", "other"}
        assert {hit.text for hit in hits} == expected and len(hits) == len(expected)


@pytest.mark.parametrize("quick", [False, True])
def test_no_change_of_the_index_waits_for_a_recall_that_waits_for_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: bool
) -> None:
    monkeypatch.setattr(turns, "PATIENCE_S", 60.0)
    monkeypatch.setattr(VectorIndex, "is_quick", lambda *_: quick)
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded("key", "text")])
        index = collection._shards[0]._derived.index
        with READS.turn():
            recall = threading.Thread(target=lambda: recalled(collection, "text"))
            recall.start()
            while not READS._waiting:
                assert recall.is_alive()
                time.sleep(0.001)
            nothing = np.empty((0, DIMENSION), np.float32)
            change = threading.Thread(target=lambda: index.apply(index.position, [], [], nothing))
            change.start()
            change.join(30.0)
            assert not change.is_alive()
        recall.join(30.0)


def churn(collection: Collection, keys: list[str]) -> Callable[[], None]:
    """A writer of these keys: documents of several memories, some with a time to end, and their key-values."""
    numbers = iter(range(1 << 30))

    def write() -> None:
        key, number = random.choice(keys), next(numbers)
        if random.random() < 0.25:
            collection.delete([key])
            return
        ends = time.time() + 0.1 if random.random() < 0.2 else None
        texts = [f"{key} {number} {part}" for part in range(random.randint(1, 4))]
        collection.upsert([embedded(key, *texts, metadata={"part": number % 3, "key": key}, expires_at=ends)])
        (stored,) = collection.get([key])
        if stored is not None:
            collection.put_key_values("model", [(seq, b"%20d" % seq) for seq in stored.memories])

    return write


@pytest.mark.parametrize("clustered", [False, True])
def test_a_check_beside_writers_tells_nothing_false(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clustered: bool
) -> None:
    if clustered:
        always_due(monkeypatch)
    checks: list[int] = []

    def check() -> None:
        assert collection.check(full=True).problems == ()
        checks.append(1)

    with collection_at(tmp_path) as collection:
        collection.upsert([embedded(f"other {i}", f"other {i}") for i in range(200)])
        index = collection._shards[0]._derived.index
        write = churn(collection, [f"key {i}" for i in range(40)])
        storm = Storm()
        for work in (write, write, write, check):
            storm.add(work)
        storm.run(enough=lambda: len(checks) >= 10 and storm.turns > 300 and index.generation >= 3 * clustered)


def test_a_check_beside_writers_finds_what_is_broken(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded(key, key) for key in "abcd"])
        shard, (a, b, c, d) = collection._shards[0], range(1, 5)
        collection.delete(["d"])
        with shard._records.environment.writing() as txn:
            shard._records.vectors.delete(txn, seq_key(a))
            shard._records.vectors.put(txn, seq_key(b), vector_of("x"))
            shard._records.memories.delete(txn, seq_key(c))
        shard._key_values.put(b"model", [(d, b"%20d" % d)])
        lists, orphan, vectors = shard._derived.index._lists, np.array([1 << 30]), vector_of("x")[None]
        lists.add(orphan, vectors, lists.assign(orphan, vectors))
        broken = {
            f"seq {a} has a memory and no vector",
            f"the index holds another vector for memory {b} than the records",
            f"document 'c' names memory {c}, which is missing",
            f"seq {c} has a vector and no memory",
            f"the index holds {c}, which is no live memory",
            f"key-values of seq {d} stand for no live memory",
            f"the index holds {1 << 30}, which is no live memory",
        }
        checks: list[int] = []

        def check() -> None:
            assert set(collection.check(full=True).problems) == broken
            checks.append(1)

        write = churn(collection, [f"key {i}" for i in range(40)])
        storm = Storm()
        for work in (write, write, check):
            storm.add(work)
        storm.run(enough=lambda: len(checks) >= 5 and storm.turns > 100)


@pytest.mark.usefixtures("frozen")
def test_no_write_waits_long_for_searches_saving_or_clustering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recall of 1,024 queries held the index for its whole length, and a save the writer lock for the whole file."""
    dimension, memories = 384, 12_000
    monkeypatch.setattr(limits, "EXACT_MAX", 5_000)
    random = np.random.default_rng(0)
    vectors = random.standard_normal((memories, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    numbers = iter(range(1 << 30))

    def document(rows: np.ndarray) -> EmbeddedDocument:
        number = next(numbers)
        return EmbeddedDocument(Document(f"{number}", "text" * len(rows)), [Reference("text", row) for row in rows])

    with DataDirectory.open(tmp_path) as directory:
        collection = directory.create_collection("one", EMBEDDER, dimension)
        for start in range(0, memories, 500):
            collection.upsert([document(vectors[start : start + 500])])
        shard = collection._shards[0]
        shard._maintenance.wait()
        derived, give_way = shard._derived, shard._maintenance._give_way
        assert derived.index.kind is IndexKind.QUANTIZED

        holds = Holds()
        reading, writing = derived.index._lock.reading, derived.index._lock.writing
        monkeypatch.setattr(derived.index._lock, "reading", lambda: holds.counted(reading()))
        monkeypatch.setattr(derived.index._lock, "writing", lambda: holds.counted(writing()))

        def cluster_and_save() -> None:
            shard._maintenance._worked_since = time.monotonic()
            derived.cluster(CountedLock(shard._writer, holds), give_way)
            derived._saved = None
            derived.save(give_way)
            ended.append(True)

        ended: list[bool] = []
        storm = Storm()
        storm.add(lambda: collection.recall(vectors[:1_024], 5))
        storm.add(cluster_and_save)
        storm.add(lambda: collection.upsert([document(vectors[:5])]))
        storm.run(3.0, enough=lambda: bool(ended) and len(holds.seconds) > 300)
        assert max(holds.seconds) < 0.05


@pytest.mark.usefixtures("frozen")
def test_no_write_waits_long_for_upkeep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeping a document looked at all that will expire; making room for key-values sorted them all; both under the
    lock. The counts of reads were saved in one transaction, however many there were."""

    def count_transactions(environment: Environment) -> None:
        begin = environment.writing
        monkeypatch.setattr(environment, "writing", lambda: holds.counted(begin()))

    memories = 10_000
    with DataDirectory.open(tmp_path) as directory:
        collection = directory.create_collection("one", EMBEDDER, DIMENSION)
        shard = collection._shards[0]
        for start in range(0, memories, 500):
            numbers = range(start, start + 500)
            collection.upsert([embedded(str(i), f"text {i}", expires_at=time.time() + 1e6) for i in numbers])
            collection.put_key_values("model", [(i + 1, bytes(100)) for i in numbers])
        shard._maintenance.wait()

        holds = Holds()
        lock = CountedLock(shard._writer, holds)
        for owner, name in ((shard, "_writer"), (shard._commits, "_lock"), (shard._maintenance, "_writer")):
            setattr(owner, name, lock)
        for environment in (shard._records.environment, shard._key_values.environment):
            count_transactions(environment)

        ends = time.time() + 1
        for start in range(0, 500, 50):
            collection.upsert([embedded(f"ends {i}", f"ends {i}", expires_at=ends) for i in range(start, start + 50)])
        time.sleep(max(0.0, ends - time.time()))
        while collection.sweep():
            pass
        shard._state.room.quotas = Quotas(key_values_bytes_max=collection.stats().key_values_bytes - 1)
        collection.put_key_values("model", [(memories, bytes(100))])
        assert memories - 2_000 < collection.stats().warm["model"] < memories
        for start in range(0, 200_000, 1_000):
            shard._key_values.reads.note(range(start, start + 1_000))
        collection.save()
        assert len(holds.seconds) > 100 and max(holds.seconds) < 0.05


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
