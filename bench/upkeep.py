"""What a backup and a compaction take, and what those who read and write meanwhile notice of them.

    python bench/upkeep.py [--memories 20000] [--value-kib 20] [--folder FOLDER]

A store is filled, its key-values are written twice and half of the documents deleted, so that most of its files is
free. One thread recalls and fetches, another one upserts, as fast as each of them can: for some seconds alone, then
while a backup and a compaction run. Every backup is restored and checked before its figures count.
"""

import argparse
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from memory3.bench.machine import machine_line
from memory3.store.backup.back_up import back_up
from memory3.store.backup.restore import restore
from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.types import Document, EmbeddedDocument, Reference, Vector

DIMENSION = 384
BATCH = 256
ALONE_S = 5.0
TEXT = "a reference of about the usual length, which says what it says and nothing else; " * 6


class Client:
    """A thread that repeats a call and notes how long each took, in milliseconds."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.took_ms: list[float] = []

    def __enter__(self) -> "Client":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            started = time.perf_counter()
            self._call()
            self.took_ms.append((time.perf_counter() - started) * 1000)

    def row(self) -> str:
        p50, p99 = np.percentile(self.took_ms, [50, 99])
        return f"{len(self.took_ms):,} | {p50:.2f} | {p99:.2f} | {max(self.took_ms):.0f}"


def vectors_of(seed: int, count: int) -> list[Vector]:
    found = np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)
    return list(found / np.linalg.norm(found, axis=1, keepdims=True))


def embedded(key: str, vector: Vector, version: int = 0) -> EmbeddedDocument:
    text = f"{key}.{version}: {TEXT}"
    return EmbeddedDocument(Document(key, text), [Reference(text, vector)])


def fill(collection: Collection, memories: int, value_bytes: int) -> None:
    """Write every document twice with its key-values, then delete half of them."""
    values = np.random.default_rng(0).bytes(value_bytes)
    for turn in range(2):
        for start in range(0, memories, BATCH):
            vectors = vectors_of(turn * memories + start, BATCH)
            documents = [embedded(f"{turn} {start + i}", vector) for i, vector in enumerate(vectors)]
            results = collection.upsert(documents)
            collection.put_key_values("model", [(result.version, values) for result in results])
        if turn:
            continue
        keys = [f"0 {number}" for number in range(memories)]
        for start in range(0, memories, BATCH):
            collection.delete(keys[start : start + BATCH])
    keys = [f"1 {number}" for number in range(0, memories, 2)]
    for start in range(0, len(keys), BATCH):
        collection.delete(keys[start : start + BATCH])


def measured(what: str, collection: Collection, work: Callable[[], object]) -> float:
    """Run `work` beside a reader and a writer, print what they saw, and return the seconds it took."""
    queries = vectors_of(1, 64)
    numbers = iter(range(1, 1_000_000_000))
    late = vectors_of(2, 64)

    def read() -> None:
        hits = collection.recall(queries[next(numbers) % 64][None], 5, "model")[0]
        collection.fetch_key_values("model", [hit.seq for hit in hits])

    def write() -> None:
        number = next(numbers)
        collection.upsert([embedded(f"late {number % 64}", late[number % 64], number)])

    with Client(read) as reader, Client(write) as writer:
        started = time.perf_counter()
        work()
        took = time.perf_counter() - started
    print(f"| {what} | {took:.2f} | {reader.row()} | {writer.row()} |", flush=True)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--memories", type=int, default=20_000)
    parser.add_argument("--value-kib", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=None, help="where to work; a temporary folder without it")
    options = parser.parse_args()
    print(machine_line())
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        run(folder, options.memories, options.value_kib << 10)
    finally:
        shutil.rmtree(folder)


def run(folder: Path, memories: int, value_bytes: int) -> None:
    with DataDirectory.open(folder / "data") as directory:
        collection = directory.create_collection("default", "bench", DIMENSION)
        fill(collection, memories, value_bytes)
        stats = collection.stats()
        used, free = (
            stats.records_bytes + stats.key_values_bytes,
            stats.records_free_bytes + stats.key_values_free_bytes,
        )
        print(f"{stats.count.memories:,} memories, {used >> 20} MiB in use, {free >> 20} MiB free in the files\n")
        columns = "calls | p50 | p99 | longest"
        print(f"| | s | recall and fetch of 5: {columns} ms | upsert of 1: {columns} ms |")
        print("|---" * 10 + "|")
        measured("nothing else", collection, lambda: time.sleep(ALONE_S))
        took = measured("backup", collection, lambda: back_up(directory, folder / "backup"))
        compacted = measured("compact", collection, lambda: directory.compact("default"))
        stats = collection.stats()
        held = stats.records_bytes + stats.key_values_bytes
        files = held + stats.records_free_bytes + stats.key_values_free_bytes
        assert files <= 1.3 * held, (files, held)
        print(f"\nbackup {used / took / 2**20:.0f} MiB/s, compact {held / compacted / 2**20:.0f} MiB/s;")
        print(f"files after it: {files >> 20} MiB, {files / held:.2f} times what they hold")
    started = time.perf_counter()
    restore(folder / "backup", folder / "restored")
    print(f"restore {time.perf_counter() - started:.2f} s", end=", ")
    started = time.perf_counter()
    with DataDirectory.open(folder / "restored") as directory:
        collection = directory.collection("default")
        print(f"first opening {time.perf_counter() - started:.2f} s")
        assert collection.check(full=True).ok


if __name__ == "__main__":
    main()
