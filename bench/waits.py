"""What a write waits for: how long each kind of work keeps other writes of its shard from going on.

    python bench/waits.py [--memories 100000] [--folder FOLDER] [--only NAME…]

A shard is filled, with key-values of 2 KiB, a tenth of the documents expiring in a day. Then each kind of work is done
beside a thread that upserts documents of one memory, one after the other. Told are the longest times that the writer
lock, a write transaction of LMDB and the index were held, in seconds of the holder's own work (what it waits for a
processor meanwhile is the machine's) and by the clock, syncs included; and what the upserts took.
"""

import argparse
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from memory3.bench.machine import machine_line
from memory3.bench.upkeep import DIMENSION, Client, embedded, vectors_of
from memory3.store import limits
from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.filters.parser import parse_filter
from memory3.store.types import Document, EmbeddedDocument, Reference

BATCH = 500
VALUE_BYTES = 2 << 10
EXPIRING = 10
"""One document in so many expires, all of them at the same time."""
LOG_KEPT = 10_000
"""In the place of `limits.CHANGES_KEPT`, so that there is something to trim."""
QUERIES = 1_024


class Holds:
    """The longest hold of each lock, in milliseconds of the holder's own work and by the clock."""

    def __init__(self) -> None:
        self._longest: dict[str, tuple[float, float]] = {}
        self._mutex = threading.Lock()

    def clear(self) -> None:
        self._longest.clear()

    @contextmanager
    def counted(self, name: str, lock: AbstractContextManager[Any]) -> Iterator[Any]:
        with lock as held:
            own, clock = time.thread_time(), time.perf_counter()
            try:
                yield held
            finally:
                took = 1e3 * (time.thread_time() - own), 1e3 * (time.perf_counter() - clock)
                with self._mutex:
                    before = self._longest.get(name, (0.0, 0.0))
                    self._longest[name] = max(took[0], before[0]), max(took[1], before[1])

    def row(self) -> str:
        found = (self._longest.get(name, (0.0, 0.0)) for name in ("writer", "transaction", "index"))
        return " | ".join(f"{own:.0f} / {clock:.0f}" for own, clock in found)


class CountedLock:
    """A lock whose holds are counted."""

    def __init__(self, lock: threading.Lock, holds: Holds) -> None:
        self._lock = lock
        self._holds = holds
        self._entered = threading.local()

    def __enter__(self) -> None:
        self._entered.hold = self._holds.counted("writer", self._lock)
        self._entered.hold.__enter__()

    def __exit__(self, *_: object) -> None:
        self._entered.hold.__exit__(None, None, None)


def count_holds(collection: Collection) -> Holds:
    """Count the holds of the locks of a collection of one shard."""
    holds = Holds()
    shard: Any = collection._shards[0]
    lock = CountedLock(shard._writer, holds)
    shard._state.writer = shard._writer = shard._commits._lock = shard._maintenance._writer = lock
    index_lock = shard._derived.index._lock
    reading, writing = index_lock.reading, index_lock.writing
    index_lock.reading = lambda: holds.counted("index", reading())
    index_lock.writing = lambda: holds.counted("index", writing())
    for environment in (shard._records.environment, shard._key_values.environment):
        begin = environment.writing
        environment.writing = lambda begin=begin: holds.counted("transaction", begin())
    return holds


def fill(collection: Collection, memories: int) -> None:
    ends = time.time() + 86_400
    values = np.random.default_rng(0).bytes(VALUE_BYTES)
    for start in range(0, memories, BATCH):
        documents = []
        for number, vector in enumerate(vectors_of(start, BATCH), start):
            expires = ends if number % EXPIRING == 0 else None
            document = Document(f"key {number}", f"text {number}", {"tenth": number % 10}, expires)
            documents.append(EmbeddedDocument(document, [Reference(document.text, vector)]))
        results = collection.upsert(documents)
        collection.put_key_values("model", [(result.version, values) for result in results])
    collection._shards[0]._maintenance.wait()


def works(collection: Collection) -> dict[str, Callable[[], object]]:
    """Each kind of work, by name, in the order in which they are done."""
    shard: Any = collection._shards[0]
    derived, maintenance = shard._derived, shard._maintenance
    queries = np.array(vectors_of(1, QUERIES))
    seqs = [hit.seq for hit in collection.memories(range(1, 10_001)) if hit is not None]

    def cluster() -> None:
        maintenance._worked_since = time.monotonic()
        derived.cluster(maintenance._writer, maintenance._give_way)

    def lose_index() -> None:
        with maintenance._writer:
            derived._lose_index()
        collection.recall(queries[:1], 5)

    def save() -> None:
        maintenance._worked_since = time.monotonic()
        derived._saved = None
        derived.save(maintenance._give_way)

    def save_reads() -> None:
        note(range(1, limits.READS_KEPT))
        save()

    def age_reads() -> None:
        note(range(limits.READS_KEPT, limits.READS_KEPT + 100_000))

    def note(seqs: range) -> None:
        for start in range(0, len(seqs), 5):
            shard._key_values.reads.note(seqs[start : start + 5])

    def put() -> None:
        value = bytes(VALUE_BYTES)
        for start in range(0, len(seqs), 1_000):
            collection.put_key_values("model", [(seq, value) for seq in seqs[start : start + 1_000]])

    def put_large() -> None:
        collection.put_key_values("large", [(seq, bytes(1 << 20)) for seq in seqs[:100]])

    def make_room() -> None:
        shard._state.room.quotas = type(shard._state.room.quotas)(
            key_values_bytes_max=collection.stats().key_values_bytes - (1 << 20)
        )
        put()

    def large_upsert() -> None:
        collection.upsert([embedded(f"large {number}", vector) for number, vector in enumerate(vectors_of(3, 5_000))])

    return {
        "nothing else": lambda: time.sleep(5),
        "recalls of 1,024 queries": lambda: collection.recall(queries, 5, "model"),
        "recalls of 1,024 queries, k = 1,000": lambda: collection.recall(queries[:64], 1_000, "model"),
        "recalls with a filter": lambda: collection.recall(queries, 5, "model", parse_filter({"tenth": {"$lt": 5}})),
        "a check": lambda: collection.check(False),
        "a full check": lambda: collection.check(True),
        "statistics": lambda: collection.stats(100),
        "clustering": cluster,
        "building a lost index": lose_index,
        "saving, the log trimmed": save,
        "saving a million counts of reads": save_reads,
        "counting reads of over a million": age_reads,
        "putting key-values": put,
        "putting 100 MiB of key-values": put_large,
        "making room for key-values": make_room,
        "an upsert of 5,000 documents": large_upsert,
        "a delete of 10,000 documents": lambda: collection.delete([f"key {number}" for number in range(3, 10_003)]),
        "a delete by filter, a tenth": lambda: collection.delete_matching(parse_filter({"tenth": 7})),
        "sweeping 10,000 that have expired": lambda: swept(collection),
        "compaction": collection.compact,
    }


def expire(collection: Collection, documents: int) -> None:
    """Store documents that have ended when this returns, and are not swept yet."""
    ends = time.time() + 5 + documents / 1_000
    for start in range(0, documents, BATCH):
        vectors = vectors_of(start, BATCH)
        parts = [embedded(f"ends {start + number}", vector) for number, vector in enumerate(vectors)]
        ending = [replace(part, document=replace(part.document, expires_at=ends)) for part in parts]
        collection.upsert(ending)
    time.sleep(max(0.0, ends - time.time()))


def swept(collection: Collection) -> None:
    """Wait until nothing is left to be swept: the first write begins it."""
    shard: Any = collection._shards[0]
    while shard._sweep_is_due():
        time.sleep(0.05)


def measured(name: str, collection: Collection, holds: Holds, work: Callable[[], object]) -> None:
    numbers = iter(range(1 << 30))
    vectors = vectors_of(2, 64)

    def write() -> None:
        number = next(numbers)
        collection.upsert([embedded(f"late {number % 64}", vectors[number % 64], number)])
        time.sleep(0.002)

    holds.clear()
    started = time.perf_counter()
    with Client(write) as writer:
        work()
    took = time.perf_counter() - started
    p50, p99 = np.percentile(writer.took_ms, [50, 99])
    print(f"| {name} | {took:.1f} | {holds.row()} | {p50:.0f} / {p99:.0f} / {max(writer.took_ms):.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--memories", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=None, help="where to work; a temporary folder without it")
    parser.add_argument("--only", nargs="+", help="kinds of work whose names begin so")
    options = parser.parse_args()
    print(machine_line())
    limits.CHANGES_KEPT = LOG_KEPT
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        with DataDirectory.open(folder / "data") as directory:
            collection = directory.create_collection("default", "bench", DIMENSION)
            fill(collection, options.memories)
            print(f"\n{options.memories:,} memories of {DIMENSION} dimensions\n")
            print("| beside | s | writer lock: own / clock ms | transaction | index | upsert: p50 / p99 / longest |")
            print("|---|---|---|---|---|---|")
            holds = count_holds(collection)
            for name, work in works(collection).items():
                if options.only and not name.startswith(tuple(options.only)):
                    continue
                if name.startswith("sweeping"):
                    expire(collection, 10_000)
                measured(name, collection, holds, work)
            assert collection.check(full=True).ok
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
