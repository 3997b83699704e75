"""Proof: a collection that is overwritten again and again stays as large and as quick as what lives in it."""

import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory

from .content import DIMENSION, EMBEDDER, embedded_of, texts_of, values_of, vector_of
from .outcome import Outcome

FINGERPRINT = "model b"
BATCH = 5
COMPACTED_MAX = 1.3
"""Size of the files by size of the pages that hold live data, after compaction."""
GROWTH_MAX = 1.1
"""Growth of the files in the second half of the rounds: freed pages are used again."""
LATENCY_MAX = 2.0
"""Median of the last quarter by that of the first; other work on the machine shows in it too."""
LATENCY_SLACK_S = 0.001
MEMORY_MAX = 1.2
MEMORY_SLACK = 8 << 20


def churn(path: Path, documents: int, rounds: int, seed: int = 0) -> Outcome:
    """Store `documents` with key-values, overwrite all of them `rounds` times, and measure files, memory and times."""
    outcome = Outcome("churn", "the live set overwritten, with key-values, again and again: files, memory, latencies")
    with DataDirectory.open(path) as directory:
        collection = directory.create_collection("default", EMBEDDER, DIMENSION)
        work = _Churn(collection, [f"key-{number}" for number in range(documents)], random.Random(seed))
        work.round("0")
        work.seconds.clear()
        sizes, memory = [], []
        for number in range(rounds):
            work.round(f"{number + 1}")
            sizes.append(_file_bytes(path))
            memory.append(_memory_bytes())
        outcome.counts["documents overwritten"] = documents * rounds
        outcome.violations += work.wrong
        _judge_sizes(outcome, collection, path, sizes)
        _judge_memory(outcome, memory)
        _judge_latencies(outcome, work.seconds)
        outcome.violations += [f"check: {problem}" for problem in collection.check(full=True).problems]
    return outcome.done()


class _Churn:
    """The work, with the seconds that each call took by its name."""

    def __init__(self, collection: Collection, keys: list[str], choose: random.Random) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.wrong: list[str] = []
        self._collection = collection
        self._keys = keys
        self._choose = choose

    def round(self, version: str) -> None:
        """Overwrite every document once, in another order each time, and read in between."""
        self._choose.shuffle(self._keys)
        for start in range(0, len(self._keys), BATCH):
            keys = self._keys[start : start + BATCH]
            documents = [embedded_of(key, version) for key in keys]
            self._timed("upsert", self._collection.upsert, documents)
            stored = self._timed("get", self._collection.get, keys)
            items = [
                (seq, values_of(FINGERPRINT, seq, text))
                for document in stored
                for seq, text in zip(document.memories, texts_of(document.key, version), strict=True)
            ]
            self._timed("put key-values", self._collection.put_key_values, FINGERPRINT, items)
            text = texts_of(keys[0], version)[0]
            (hits,) = self._timed("recall", self._collection.recall, vector_of(text)[None], 5)
            values = self._timed("fetch key-values", self._collection.fetch_key_values, FINGERPRINT, [hits[0].seq])
            if hits[0].text != text or values != [values_of(FINGERPRINT, hits[0].seq, text)]:
                self.wrong.append(f"{keys[0]!r} of version {version!r} is not found after its upsert")

    def _timed(self, name: str, call: Callable[..., Any], *arguments: object) -> Any:
        # The processor's time: what waits for other work on the machine says nothing of the store.
        started = time.thread_time()
        result = call(*arguments)
        self.seconds[name].append(time.thread_time() - started)
        return result


def _judge_sizes(outcome: Outcome, collection: Collection, path: Path, sizes: list[int]) -> None:
    live = _live_bytes(collection)
    half, last = sizes[len(sizes) // 2 - 1], sizes[-1]
    outcome.figures["files by live data, after each round"] = " ".join(f"{size / live:.2f}" for size in sizes)
    if last > GROWTH_MAX * half:
        outcome.violations.append(f"the files grow from {half} to {last} bytes in the second half")
    compact = getattr(collection, "compact", None)
    if compact is None:
        outcome.figures["files by live data, after compaction"] = "this release does not compact"
        return
    compact()
    ratio = _file_bytes(path) / _live_bytes(collection)
    outcome.figures["files by live data, after compaction"] = f"{ratio:.2f}"
    if ratio > COMPACTED_MAX:
        outcome.violations.append(f"after compaction the files are {ratio:.2f} times the live data")


def _judge_memory(outcome: Outcome, memory: list[int]) -> None:
    quarter = max(1, len(memory) // 4)
    first, last = memory[quarter - 1], memory[-1]
    outcome.figures["memory of the process, after a quarter and at the end"] = f"{first >> 20} and {last >> 20} MiB"
    if last > MEMORY_MAX * first + MEMORY_SLACK:
        outcome.violations.append(f"the process grows from {first} to {last} bytes")


def _judge_latencies(outcome: Outcome, seconds: dict[str, list[float]]) -> None:
    for name, times in seconds.items():
        quarter = len(times) // 4
        first, last = statistics.median(times[:quarter]), statistics.median(times[-quarter:])
        outcome.figures[f"{name}, median of the first and the last quarter"] = (
            f"{first * 1000:.2f} and {last * 1000:.2f} ms"
        )
        if last > LATENCY_MAX * first + LATENCY_SLACK_S:
            outcome.violations.append(f"{name} takes {last:.6f} s at the end, {first:.6f} s at first")


def _file_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("data.mdb"))


def _live_bytes(collection: Collection) -> int:
    stats = collection.stats()
    return stats.records_bytes + stats.key_values_bytes


def _memory_bytes() -> int:
    """What the process holds for itself, without pages of mapped files, which the system may take back at any time."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))
