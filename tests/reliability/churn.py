"""Proof: a collection that is overwritten again and again stays as large and as quick as what lives in it."""

import ctypes
import gc
import random
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from memory3.store import limits
from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.types import IndexKind

from .content import EMBEDDER, embedded_of, texts_of, values_of, vector_of
from .outcome import Outcome

FINGERPRINT = "the packaged model"
VALUE_BYTES = 34_820
"""What that stores of a memory."""
BATCH = 20
RECALLS = 5
"""After each batch, one by one."""
COMPACTED_MAX = 1.3
"""Size of all files by size of the texts, vectors and key-values that live in them, after compaction."""
GROWTH_MAX = 1.1
"""Growth of the LMDB files in the second half of the rounds: freed pages are used again."""
LATENCY_MAX = 2.0
"""Median of the last quarter by that of the first, of the processor's time: other work on the machine is not in it."""
LATENCY_SLACK_S = 0.001
MEMORY_MAX = 1.2
"""Memory at the end by that at first, both at rest: an index that is being clustered is there twice for a while, and
the pages that it leaves in pieces are not the store's."""
MEMORY_SLACK = 8 << 20
_FILES = {"records": "records/data.mdb", "kv": "kv/data.mdb", "saved index": "index.snapshot"}


class Sizes(NamedTuple):
    """Bytes at one time: of the files, of the pages in use, and of what a caller has in there.

    `payload` is that of each file: texts with vectors of 4 bytes a component, key-values, nothing.
    """

    files: dict[str, int]
    pages: dict[str, int]
    payload: dict[str, int]

    @property
    def by_pages(self) -> float:
        """How often the pages in use fit into the LMDB files; the saved index has no pages."""
        return sum(self.files[name] for name in self.pages) / sum(self.pages.values())

    @property
    def by_payload(self) -> float:
        return sum(self.files.values()) / sum(self.payload.values())


def churn(path: Path, documents: int, rounds: int, dimension: int, seed: int = 0) -> Outcome:
    """Store `documents` with key-values, overwrite all of them `rounds` times, and measure files, memory and times."""
    outcome = Outcome("churn", "the live set overwritten, with key-values, again and again: files, memory, latencies")
    with DataDirectory.open(path) as directory:
        collection = directory.create_collection("default", EMBEDDER, dimension)
        work = _Churn(collection, [f"key-{number}" for number in range(documents)], random.Random(seed))
        work.round("0")
        # What follows is measured with the index that so many memories have.
        _settle(collection)
        _judge_index(outcome, collection)
        work.forget()
        memory_before = _memory_at_rest()
        sizes = [_sizes(path, work, "0")]
        for number in range(1, rounds + 1):
            work.round(f"{number}")
            sizes.append(_sizes(path, work, f"{number}"))
        outcome.counts["documents overwritten"] = documents * rounds
        outcome.counts["memories"] = collection.count().memories
        outcome.violations += work.wrong
        _settle(collection)
        _judge_index(outcome, collection)
        memory = memory_before, _memory_at_rest()
        collection.compact()
        _judge_sizes(outcome, sizes, _sizes(path, work, f"{rounds}"))
        _judge_memory(outcome, work.memory, *memory)
        _judge_latencies(outcome, work.took)
        outcome.violations += [f"check: {problem}" for problem in collection.check(full=True).problems]
    return outcome.done()


class _Churn:
    """The work, with the memory of the process after each batch and the seconds that each call took by its name.

    Seconds of the clock and of the processor take turns, and so do memory of its own and all that is resident: in
    arrays, so that they do not count themselves.
    """

    def __init__(self, collection: Collection, keys: list[str], choose: random.Random) -> None:
        self.collection = collection
        self.keys = keys
        self.took: dict[str, array[float]] = defaultdict(lambda: array("d"))
        self.memory = array("q")
        self.wrong: list[str] = []
        self._dimension = collection.info.dimension
        self._choose = choose

    def round(self, version: str) -> None:
        """Overwrite every document once, in another order each time, and read in between."""
        self._choose.shuffle(self.keys)
        for start in range(0, len(self.keys), BATCH):
            keys = self.keys[start : start + BATCH]
            documents = [embedded_of(key, version, self._dimension) for key in keys]
            self._timed("upsert", self.collection.upsert, documents)
            stored = self._timed("get", self.collection.get, keys)
            items = [
                (seq, _values(seq, text))
                for document in stored
                for seq, text in zip(document.memories, texts_of(document.key, version), strict=True)
            ]
            self._timed("put key-values", self.collection.put_key_values, FINGERPRINT, items)
            for key in self._choose.sample(keys, min(RECALLS, len(keys))):
                self._recall(key, version)
            self.memory.extend(_memory_bytes())

    def forget(self) -> None:
        """Begin to measure."""
        self.took.clear()
        del self.memory[:]

    def _recall(self, key: str, version: str) -> None:
        text = self._choose.choice(texts_of(key, version))
        query = vector_of(text, self._dimension)[None]
        (hits,) = self._timed("recall", self.collection.recall, query, 5)
        values = self._timed("fetch key-values", self.collection.fetch_key_values, FINGERPRINT, [hits[0].seq])
        if hits[0].text != text or values != [_values(hits[0].seq, text)]:
            self.wrong.append(f"{key!r} of version {version!r} is not found after its upsert")

    def _timed(self, name: str, call: Callable[..., Any], *arguments: object) -> Any:
        clock, processor = time.perf_counter(), time.thread_time()
        result = call(*arguments)
        self.took[name].extend((time.perf_counter() - clock, time.thread_time() - processor))
        return result


def _values(seq: int, text: str) -> bytes:
    return values_of(FINGERPRINT, seq, text, VALUE_BYTES)


def _settle(collection: Collection) -> None:
    """Wait until the background has done what was due."""
    for shard in collection._shards.values():
        shard._maintenance.wait()


def _judge_index(outcome: Outcome, collection: Collection) -> None:
    (index,) = collection.stats().indices
    expected = IndexKind.QUANTIZED if index.count > limits.EXACT_MAX else IndexKind.EXACT
    outcome.figures["index"] = f"{index.kind.name.lower()}, {index.count:,} vectors in {index.lists} lists"
    if index.kind is not expected:
        outcome.violations.append(f"the index of {index.count} vectors is {index.kind.name}")


def _judge_sizes(outcome: Outcome, sizes: Sequence[Sizes], compacted: Sizes) -> None:
    outcome.figures["LMDB files by pages in use, after each round"] = _ratios(one.by_pages for one in sizes)
    outcome.figures["all files by payload, after each round"] = _ratios(one.by_payload for one in sizes)
    outcome.figures["LMDB files by pages in use, after compaction"] = f"{compacted.by_pages:.2f}"
    outcome.figures["all files by payload, after compaction"] = f"{compacted.by_payload:.2f}"
    for name, size in compacted.files.items():
        payload, pages = compacted.payload[name], compacted.pages.get(name)
        parts = [f"before {_mib(sizes[-1].files[name])}", f"after {_mib(size)}"]
        parts += [f"pages in use {_mib(pages)}"] if pages else []
        parts += [f"payload {_mib(payload)}", f"{size / payload:.2f} of it"] if payload else []
        outcome.figures[f"{name}, by compaction"] = ", ".join(parts)
    half, last = (sum(one.files[name] for name in one.pages) for one in (sizes[len(sizes) // 2], sizes[-1]))
    if last > GROWTH_MAX * half:
        outcome.violations.append(f"the files grow from {half} to {last} bytes in the second half")
    if compacted.by_payload > COMPACTED_MAX:
        outcome.violations.append(f"after compaction the files are {compacted.by_payload:.2f} times the live data")


def _judge_memory(outcome: Outcome, memory: "array[int]", before: int, after: int) -> None:
    quarters = [np.median(part, axis=0) for part in _quarters(memory)]
    for place, name in enumerate(("memory of its own", "resident memory, mapped files included")):
        outcome.figures[f"{name}, medians of the quarters"] = " ".join(_mib(quarter[place]) for quarter in quarters)
    outcome.figures["memory of its own at rest, at first and at the end"] = f"{_mib(before)} and {_mib(after)}"
    if after > MEMORY_MAX * before + MEMORY_SLACK:
        outcome.violations.append(f"the process grows from {before} to {after} bytes")


def _judge_latencies(outcome: Outcome, took: Mapping[str, "array[float]"]) -> None:
    for name, times in took.items():
        quarters = _quarters(times)
        clock = [np.percentile(quarter[:, 0], (50, 99)) * 1000 for quarter in quarters]
        outcome.figures[f"{name}, p50/p99 of the quarters by the clock"] = (
            " ".join(f"{median:.2f}/{slow:.2f}" for median, slow in clock) + " ms"
        )
        first, last = (float(np.median(quarter[:, 1])) for quarter in (quarters[0], quarters[-1]))
        if last > LATENCY_MAX * first + LATENCY_SLACK_S:
            outcome.violations.append(f"{name} takes {last:.6f} s at the end, {first:.6f} s at first")


def _quarters(pairs: "array[Any]") -> list[npt.NDArray[Any]]:
    return np.array_split(np.array(pairs).reshape(-1, 2), 4)


def _sizes(path: Path, work: _Churn, version: str) -> Sizes:
    stats = work.collection.stats()
    texts = [text for key in work.keys for text in texts_of(key, version)]
    return Sizes(
        {name: sum(file.stat().st_size for file in path.glob(f"**/{end}")) for name, end in _FILES.items()},
        {"records": stats.records_bytes, "kv": stats.key_values_bytes},
        {
            "records": sum(len(text.encode()) + 4 * stats.info.dimension for text in texts),
            "kv": VALUE_BYTES * len(texts),
            "saved index": 0,
        },
    )


def _memory_bytes() -> tuple[int, int]:
    """What the process holds for itself, and with pages of mapped files, which the system may take back at any time."""
    lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    found = {line[0]: int(line[1]) << 10 for line in lines if line and line[0] in ("RssAnon:", "VmRSS:")}
    return found["RssAnon:"], found["VmRSS:"]


def _memory_at_rest() -> int:
    """What the process holds for itself once the allocator has given back what nobody uses."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return _memory_bytes()[0]


def _ratios(ratios: Iterable[float]) -> str:
    return " ".join(f"{ratio:.2f}" for ratio in ratios)


def _mib(size: float) -> str:
    return f"{size / (1 << 20):.1f} MiB"
