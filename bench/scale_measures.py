"""What a built shard does: its start, what it finds and how fast, changes, what it takes of memory and disk."""

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from memory3.bench.index_vectors import Matrix, perturbed
from memory3.bench.memory import Peak, forget_files, memory_bytes
from memory3.bench.peers.timing import calls_per_second
from memory3.bench.scale_data import COLLECTION, FINGERPRINT, RealDocuments, bytes_on_disk, key_values
from memory3.bench.scale_exact import FILTERS, Nearest, kept_exact
from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.filters.language import Filter
from memory3.store.filters.parser import parse_filter
from memory3.store.key_values import KeyValues
from memory3.store.records import Records
from memory3.store.types import Document, EmbeddedDocument, Hit, Reference

K = 5
BATCH = 64
CALLERS = (1, 2, 4)
PAGE = 100
_SEED = 23
_SCORE_TOLERANCE = 1e-4


class Measures:
    """The measures of one shard. `samples` are times of calls in milliseconds, `figures` everything else, by name.

    What exact search finds is kept in the folder `kept`.
    """

    def __init__(self, path: Path, real: RealDocuments, kept: Path, questions: int, calls: int, seconds: float) -> None:
        self.samples: dict[str, list[float]] = {}
        self.figures: dict[str, Any] = {}
        self._path = path
        self._real = real
        self._kept = kept
        self._questions = questions
        self._calls = calls
        self._seconds = seconds
        self._random = np.random.default_rng(_SEED)
        self._order = self._random.permutation(len(real.questions))

    def run_without_index(self) -> None:
        """Measure a start that builds the index anew, as after a restore; the saved index comes back afterwards."""
        (snapshot,) = self._path.glob("collections/*/shard-*/index.snapshot")
        aside = snapshot.rename(self._path.with_name(f"{self._path.name}.index"))
        try:
            forget_files(self._path)
            with Peak() as peak, self._started("start without saved index, files not in memory"):
                pass
            self.figures["start without saved index, peak bytes"] = peak.anonymous
        finally:
            aside.rename(snapshot)

    def run(self) -> None:
        """Measure everything. Documents that changes add are deleted again."""
        self.figures["memory before"] = memory_bytes()
        self._opened_key_values()
        forget_files(self._path)
        with self._started("start, files not in memory") as collection:
            self.figures["memory started"] = memory_bytes()
            self._recalls(collection)
            self.figures["memory serving"] = memory_bytes()
            self._found(collection)
            self._with_key_values(collection)
            self._reads(collection)
            self._changes(collection)
            self.figures["memory at the end"] = memory_bytes()
            self._stands(collection)
            self._check(collection)
        with self._started("start again"):
            pass

    @contextmanager
    def _started(self, name: str) -> Iterator[Collection]:
        before = time.perf_counter()
        with DataDirectory.open(self._path) as directory:
            collection = directory.collection(COLLECTION)
            self.figures[f"{name}, s"] = time.perf_counter() - before
            yield collection
        del collection, directory
        # A shard that is closed is freed by the collector of cycles only, and with it its index.
        gc.collect()

    def _opened_key_values(self) -> None:
        """Time the part of a start that is for the key-values, whose keys are all read, from the disk and again."""
        (shard,) = self._path.glob("collections/*/shard-*")
        records = Records.open(shard / "records")
        records.environment.close()
        forget_files(self._path)
        for name in ("files not in memory", "again"):
            before, mapped = time.perf_counter(), memory_bytes()["mapped"]
            key_values = KeyValues.open(shard / "kv", records.identity)
            self.figures[f"key-values opened, {name}, s"] = time.perf_counter() - before
            self.figures[f"key-values opened, {name}, bytes read"] = memory_bytes()["mapped"] - mapped
            key_values.environment.close()

    def _recalls(self, collection: Collection) -> None:
        asked = self._real.questions[self._order[: self._calls]]
        for name in ("recall, first time", "recall, again"):
            self._timed(name, lambda number: collection.recall(asked[number][None], K), len(asked))
        for callers in CALLERS:
            self.figures[f"recalls/s, {callers} callers"] = calls_per_second(
                lambda number: collection.recall(asked[number % len(asked)][None], K), callers, self._seconds
            )

    def _found(self, collection: Collection) -> None:
        asked = self._real.questions[self._order[: self._questions]]
        rounds = collection.count().memories // len(self._real.texts)
        expected = kept_exact(self._kept, self._real, rounds, asked, K)
        for name, written in FILTERS.items():
            chosen = None if written is None else parse_filter(written)
            call = self._recall_among(collection, asked, chosen)
            # The first call makes the choice, which later ones have until something changes.
            self._timed(f"recall among {name}, first", call, 1)
            hits = self._timed(f"recall among {name}", call, len(asked))
            self.figures[f"recall@5 among {name}"] = share_found(hits, expected[name])

    def _recall_among(self, collection: Collection, asked: Matrix, chosen: Filter | None) -> Callable[[int], list[Hit]]:
        return lambda number: collection.recall(asked[number][None], K, filter=chosen)[0]

    def _with_key_values(self, collection: Collection) -> None:
        """Ask about documents of which all references have key-values, and compare each that comes."""
        warm = collection.stats().warm.get(FINGERPRINT, 0)
        carriers = warm // (collection.count().memories // len(self._real.texts))
        documents = int(np.searchsorted(np.cumsum(self._real.sizes), carriers, side="right"))
        asked = self._real.questions[self._real.asked < documents]
        if not len(asked):
            return

        def recall(number: int) -> list[Hit]:
            return collection.recall(asked[number][None], K, FINGERPRINT, key_values=True)[0]

        for name in ("recall with key-values, first time", "recall with key-values, again"):
            hits = [hit for found in self._timed(name, recall, len(asked)) for hit in found]
        self.figures["share of hits with key-values"] = float(np.mean([hit.warm for hit in hits]))
        for hit in hits:
            if hit.key_values is not None and hit.key_values != key_values(hit.seq, len(hit.key_values)):
                raise AssertionError(f"seq {hit.seq} came with other key-values than were stored")

    def _reads(self, collection: Collection) -> None:
        token = ""

        def page(_: int) -> None:
            nonlocal token
            token = collection.list(PAGE, token).next_page_token

        self._timed(f"list {PAGE} documents", page, 50)
        self._timed("count", lambda _: collection.count(), 50)
        for name, written in FILTERS.items():
            if written is not None:
                self._reads_among(collection, name, parse_filter(written))

    def _reads_among(self, collection: Collection, name: str, chosen: Filter) -> None:
        self._timed(f"count {name}", lambda _: collection.count(chosen), 10)
        self._timed(f"list {PAGE} of {name}", lambda _: collection.list(PAGE, "", chosen), 5)

    def _changes(self, collection: Collection) -> None:
        rows = self._random.integers(len(self._real.texts), size=self._calls)
        vectors = perturbed(self._real.references[rows], self._random)
        documents = [
            EmbeddedDocument(Document(f"new/{number:06}", text, {"percent": number % 100}), [Reference(text, vector)])
            for number, (text, vector) in enumerate(zip((self._real.texts[row] for row in rows), vectors, strict=True))
        ]
        keys = [document.document.key for document in documents]
        half = len(documents) // 2
        batches = [slice(start, start + BATCH) for start in range(half, len(documents), BATCH)]
        self._timed("upsert of one memory", lambda number: collection.upsert([documents[number]]), half)
        self._timed(f"upsert of {BATCH}", lambda number: collection.upsert(documents[batches[number]]), len(batches))
        self._timed("delete of one document", lambda number: collection.delete([keys[number]]), half)
        self._timed(f"delete of {BATCH}", lambda number: collection.delete(keys[batches[number]]), len(batches))

    def _stands(self, collection: Collection) -> None:
        stats = collection.stats()
        index = stats.indices[0]
        self.figures |= {
            "documents": stats.count.documents,
            "memories": stats.count.memories,
            "warm": sum(stats.warm.values()),
            "disk": bytes_on_disk(self._path),
            "records bytes in use": stats.records_bytes,
            "key-values bytes in use": stats.key_values_bytes,
            "index bytes": stats.index_bytes,
            "index": f"{index.kind.name.lower()}, {index.lists} lists",
        }

    def _check(self, collection: Collection) -> None:
        before = time.perf_counter()
        with Peak() as peak:
            report = collection.check(full=False)
        self.figures["check, s"] = time.perf_counter() - before
        self.figures["check, peak bytes"] = peak.anonymous
        self.figures["check, problems"] = report.problems

    def _timed(self, name: str, call: Callable[[int], Any], calls: int) -> list[Any]:
        answers, samples = [], []
        for number in range(calls):
            before = time.perf_counter()
            answers.append(call(number))
            samples.append((time.perf_counter() - before) * 1000)
        self.samples[name] = samples
        return answers


def share_found(hits: Sequence[Sequence[Hit]], expected: Nearest) -> float:
    """Return which share of the expected seqs (Q, K) is among the hits, whose scores must be the exact ones."""
    shares = []
    for found, seqs, scores in zip(hits, expected.seqs.tolist(), expected.scores.tolist(), strict=True):
        exactly = dict(zip(seqs, scores, strict=True))
        right = [hit for hit in found if hit.seq in exactly]
        for hit in right:
            if abs(hit.score - exactly[hit.seq]) > _SCORE_TOLERANCE:
                raise AssertionError(f"seq {hit.seq} has score {hit.score}, exact search says {exactly[hit.seq]}")
        shares.append(len(right) / len(seqs))
    return float(np.mean(shares))


def table(figures: Mapping[str, Any], samples: Mapping[str, Sequence[float]]) -> str:
    """Return everything as rows of a table."""
    rows = [f"| {name} | {_told(value)} |" for name, value in figures.items()]
    for name, found in samples.items():
        p50, p99 = np.percentile(found, [50, 99])
        rows.append(f"| {name}, p50 / p99 of {len(found)} | {p50:.2f} / {p99:.2f} ms |")
    return "\n".join(["| | |", "|---|---|", *rows])


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_told(part)}" for name, part in value.items())
    if isinstance(value, float):
        return f"{value:,.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
