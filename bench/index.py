"""The vector index: kinds of it side by side, then ours in a shard. What it does to writes: bench/waits.py.

    python bench/index.py [--data FOLDER] [--cache FOLDER] [--sizes N…] [--parts NAME…] [--markdown FILE]

Parts: `kinds` of FAISS side by side; our index in a `shard`, with records and starts; and `alone`, built from
the vectors in memory, which takes less time for very many.

Vectors are those of SQuAD and country-profile references; larger numbers are made by perturbing them with Gaussian
noise. Queries are real SQuAD questions and perturbed references, half and half. `bench/real_data.py` says what the
data folder holds; embeddings are kept in the cache folder. Exits with 1 when recall@5 is below 0.95 of exact.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from memory3.bench.index_vectors import Matrix
    from memory3.store.collection import Collection
    from memory3.store.index.vector_index import Allowed, Proposal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before FAISS loads

K = 5
REFERENCES = 10_000
QUERIES = 400
RECALL_MIN = 0.95
BATCH = 500
"""References of a document, which is one transaction."""
FILTERS = (0.01, 0.1)


@dataclass(frozen=True, slots=True)
class Line:
    """A figure of our index, with its name."""

    name: str
    value: str


def main(arguments: Sequence[str]) -> int:
    options = _parsed(arguments)
    from memory3.bench.index_vectors import grown, queries, text_vectors
    from memory3.bench.machine import machine_line
    from memory3.bench.real_data import DataMissing

    try:
        vectors = text_vectors(options.data, options.cache, REFERENCES)
    except DataMissing as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    asked = queries(vectors, QUERIES)
    tables = [f"{machine_line()}\n"]
    recalls: list[float] = []
    for size in options.sizes:
        rows = grown(vectors.references, size)
        if "kinds" in options.parts:
            tables.append(_kinds(rows, asked))
        if "alone" in options.parts:
            tables.append(_alone(rows, asked, recalls))
        if "shard" in options.parts:
            tables.append(_ours(rows, asked, recalls))
    if options.markdown:
        options.markdown.write_text("\n".join(tables), encoding="utf-8")
    print("\n".join(tables))
    return 0 if min(recalls, default=1.0) >= RECALL_MIN else 1


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the data [MEMORY3_TEST_DATA; default ../shared/data]")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "memory3-bench-index")
    parser.add_argument("--sizes", type=int, nargs="+", default=[REFERENCES, 100_000], help="numbers of vectors")
    parser.add_argument("--parts", nargs="+", default=["kinds", "shard"], choices=["kinds", "alone", "shard"])
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the tables there")
    return parser.parse_args(arguments)


def _kinds(rows: "Matrix", asked: "Matrix") -> str:
    from memory3.bench.index_kinds import measured, truth

    lines = [
        f"{len(rows):,} vectors, kinds of FAISS:\n",
        "| kind | recall@5 | p50 / p99 ms | MB | built in s | add one µs | remove one µs |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in measured(rows, asked, truth(rows, asked)):
        remove = "no" if one.remove_us is None else f"{one.remove_us:.0f}"
        lines.append(
            f"| {one.name} | {one.recall:.3f} | {one.p50_ms:.2f} / {one.p99_ms:.2f} | {one.megabytes:.0f} | "
            f"{one.build_s:.1f} | {one.add_us:.0f} | {remove} |"
        )
    return "\n".join([*lines, ""])


def _ours(rows: "Matrix", asked: "Matrix", recalls: list[float]) -> str:
    from memory3.store.directory import DataDirectory

    with tempfile.TemporaryDirectory(prefix="memory3-bench-") as work:
        with DataDirectory.open(work) as directory:
            collection = directory.create_collection("one", "bench", rows.shape[1])
            filled = _fill(collection, rows)
            lines = [filled, *_searched(collection, rows, asked, recalls)]
        lines += _started(Path(work))
    return _table(f"{len(rows):,} vectors, ours in a shard:", lines)


def _table(title: str, lines: Sequence[Line]) -> str:
    rows = [f"| {line.name} | {line.value} |" for line in lines]
    return "\n".join([f"{title}\n", "| | |", "|---|---|", *rows, ""])


def _fill(collection: "Collection", rows: "Matrix") -> Line:
    from memory3.store.types import Document, EmbeddedDocument, Reference

    start = time.perf_counter()
    for at in range(0, len(rows), BATCH):
        references = [Reference("text", row) for row in rows[at : at + BATCH]]
        collection.upsert([EmbeddedDocument(Document(f"{at}", "text" * len(references)), references)])
    stored = time.perf_counter() - start
    collection._shards[0]._maintenance.wait()
    settled = time.perf_counter() - start
    derived = collection._shards[0]._derived
    state = derived.state()
    kind = f"{state.kind.name.lower()}, {state.lists} lists, {derived.index.bytes_used / 1e6:.0f} MB"
    return Line("stored in, clustered and saved after", f"{stored:.1f} s, {settled:.1f} s: {kind}")


def _alone(rows: "Matrix", asked: "Matrix", recalls: list[float]) -> str:
    from memory3.store.index.clustering import clustered, plan
    from memory3.store.index.vector_index import VectorIndex, candidates_for
    from memory3.store.shard.derived import at_once

    start = time.perf_counter()
    chosen = plan(len(rows))
    sample = rows[np.random.default_rng(2).choice(len(rows), min(chosen.sample, len(rows)), replace=False)]
    lists = clustered(sample, chosen, at_once)
    made = time.perf_counter() - start
    lists.make_room(len(rows))
    for at in range(0, len(rows), BATCH):
        ids = np.arange(at + 1, at + 1 + len(rows[at : at + BATCH]))
        lists.add(ids, rows[at : at + BATCH], lists.assign(ids, rows[at : at + BATCH]))
    index = VectorIndex(rows.shape[1])
    index.adopt(lists, len(rows), len(rows))
    took = f"{made:.1f} s, {time.perf_counter() - start - made:.1f} s"
    lines = [
        Line("lists made in, filled in", took),
        Line("lists, memory", f"{lists.lists}, {index.bytes_used / 1e6:.0f} MB"),
    ]

    def search(batch: "Matrix", selection: "Allowed | None" = None) -> "list[Proposal]":
        found = index.search(batch, candidates_for(K), selection)
        return found.ranked(lambda seqs: (seqs, rows[np.array(seqs) - 1]))

    lines += _found(search, rows, asked, recalls)
    return _table(f"{len(rows):,} vectors, our index alone:", lines)


def _searched(collection: "Collection", rows: "Matrix", asked: "Matrix", recalls: list[float]) -> list[Line]:
    from memory3.bench.index_kinds import timed
    from memory3.store.index.vector_index import candidates_for

    shard = collection._shards[0]
    index, records = shard._derived.index, shard._records

    def search(batch: "Matrix", selection: "Allowed | None" = None) -> "list[Proposal]":
        found = index.search(batch, candidates_for(K), selection)
        with records.environment.reading() as txn:
            return found.ranked(lambda seqs: records.matrix(txn, seqs)[:2])

    lines = _found(search, rows, asked, recalls)
    p50, p99 = timed(lambda batch: collection.recall(batch, K), asked)
    return [*lines, Line("recall with texts", f"p50 / p99 {p50:.2f} / {p99:.2f} ms")]


def _found(
    search: "Callable[[Matrix, Allowed | None], list[Proposal]]", rows: "Matrix", asked: "Matrix", recalls: list[float]
) -> list[Line]:
    """What searches find of the truth, among all and among a few; row i has seq i + 1."""
    from memory3.bench.index_kinds import share_found, timed, truth
    from memory3.store.index.vector_index import Allowed

    random = np.random.default_rng(1)
    lines = []
    for share in (1.0, *FILTERS):
        chosen = random.random(len(rows)) < share
        bits = np.packbits(np.concatenate([[False], chosen]), bitorder="little")
        selection = None if share == 1.0 else Allowed(bits, int(chosen.sum()))
        found = np.array([[seq for _, seq in search(query[None], selection)[0][:K]] for query in asked])
        recalls.append(share_found(found - 1, truth(rows, asked, K, chosen)))
        p50, p99 = timed(lambda batch, selection=selection: search(batch, selection), asked)  # type: ignore[misc]
        name = "search" if selection is None else f"search among {share:.0%}"
        lines.append(Line(name, f"recall@5 {recalls[-1]:.3f}, p50 / p99 {p50:.2f} / {p99:.2f} ms"))
    return lines


def _started(path: Path) -> list[Line]:
    from memory3.store.directory import DataDirectory

    (snapshot,) = path.glob("collections/*/shard-*/index.snapshot")
    size = snapshot.stat().st_size
    with DataDirectory.open(path) as directory:
        start = time.perf_counter()
        directory.collection("one")
        loaded = time.perf_counter() - start
        directory.collection("one").close(save=False)
    snapshot.unlink()
    with DataDirectory.open(path) as directory:
        start = time.perf_counter()
        directory.collection("one")
        rebuilt = time.perf_counter() - start
        directory.collection("one").close(save=False)
    return [
        Line("saved index", f"{size / 1e6:.0f} MB"),
        Line("opened with it, without it", f"{loaded:.1f} s, {rebuilt:.1f} s"),
    ]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
