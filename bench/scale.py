"""One shard at its full size: built once, then measured.

    python bench/scale.py build DIRECTORY [--memories 10000000] [--key-values 100000] [--memory-gib 16]
    python bench/scale.py measure DIRECTORY --out FILE.json [--memory-gib 16]

`build` fills one collection of one shard through the store's own interface, and prints a JSON object a line of how it
goes. SIGTERM stops it after the round under way; the same command goes on from there. Texts are references of SQuAD and
country profiles, 10,000 a round, embedded once and kept in `--real`; the vectors of later rounds are perturbed copies.
The first references of every round have key-values, bytes that do not compress.

`measure` starts the shard with none of its files in memory, and writes times of calls, what was found of what exact
search finds, and what the shard takes; `bench/fanout.py` and `bench/capacity.py` go on from that file.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memory3.bench.scale_data import RealDocuments
    from memory3.store.collection import Collection
    from memory3.store.types import EmbeddedDocument, UpsertResult

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy loads

ROOT = Path(__file__).resolve().parents[1]
KEY_VALUE_BYTES = 39_424
REFERENCES = 10_000
BATCH = 2_000
"""Memories of one upsert, about."""
POLL_S = 1.0


def main(arguments: Sequence[str]) -> int:
    from memory3.bench.memory import NoLimit, memory_limit
    from memory3.bench.real_data import DataMissing

    options = _parsed(arguments)
    try:
        with memory_limit(options.memory_gib):
            options.run(options)
    except (NoLimit, DataMissing) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("directory", type=Path, help="data directory, on the disk to be measured")
    common.add_argument("--real", type=Path, default=ROOT / "runs" / "scale" / "real.npz", help="made if missing")
    common.add_argument("--data", type=Path, help="folder that it is made from [MEMORY3_TEST_DATA]")
    common.add_argument("--memory-gib", type=float, metavar="GIB", help="bound on memory, kept by the kernel [none]")
    build = commands.add_parser("build", parents=[common], help="fill the shard")
    build.add_argument("--memories", type=int, default=10_000_000, help="[10000000]")
    build.add_argument("--key-values", type=int, default=100_000, help="memories that have key-values [100000]")
    build.add_argument("--key-value-bytes", type=int, default=KEY_VALUE_BYTES, help=f"of each [{KEY_VALUE_BYTES}]")
    build.add_argument("--log-every", type=float, default=15.0, metavar="S", help="seconds between lines [15]")
    build.set_defaults(run=build_shard)
    cluster = commands.add_parser("cluster", parents=[common], help="cluster the index of a shard that is at rest")
    cluster.set_defaults(run=cluster_shard)
    measure = commands.add_parser("measure", parents=[common], help="measure a shard that was built")
    measure.add_argument("--out", type=Path, required=True, help="results, JSON")
    measure.add_argument("--questions", type=int, default=300, help="compared with exact search [300]")
    measure.add_argument("--calls", type=int, default=1_000, help="of each latency [1000]")
    measure.add_argument("--seconds", type=float, default=10.0, help="of each measure of throughput [10]")
    measure.add_argument("--without-index", action="store_true", help="measure a start without saved index, no more")
    measure.set_defaults(run=measure_shard)
    return parser.parse_args(arguments)


def build_shard(options: argparse.Namespace) -> None:
    """Fill the shard up to the number of memories, whole rounds; wait until its index is clustered and saved."""
    from memory3.bench.machine import machine
    from memory3.bench.scale_data import real_documents

    real = real_documents(options.real, options.data, REFERENCES)
    per_round = len(real.texts)
    rounds = -(-options.memories // per_round)
    carriers = -(-options.key_values // rounds)
    with _opened(options.directory, real) as collection:
        log = _Log(options, collection)
        # The last round that is whole may lack key-values.
        first = max(0, collection.count().memories // per_round - 1)
        log.write({"machine": machine(), "rounds": rounds, "carriers": carriers, "first round": first})
        with _terminated() as stopped:
            for number in range(first, rounds):
                if stopped.is_set():
                    log.write_state("stopped")
                    return
                _add_round(collection, real, number, carriers, options.key_value_bytes)
                log.write_if_due()
        log.write_state("filled")
        while collection.stats().indices[0].clustering:
            time.sleep(POLL_S)
        log.write_state("clustered")


def cluster_shard(options: argparse.Namespace) -> None:
    """Cluster the index in one go, and say what that took."""
    from memory3.bench.machine import machine
    from memory3.bench.memory import Peak
    from memory3.bench.scale_cluster import cluster_at_rest

    before = time.monotonic()
    with Peak() as peak:
        cluster_at_rest(options.directory)
    seconds = round(time.monotonic() - before, 1)
    print(json.dumps({"machine": machine(), "clustered in seconds": seconds, "peak bytes": peak.anonymous}))


def measure_shard(options: argparse.Namespace) -> None:
    """Measure the shard, print a table and write everything to a file."""
    from memory3.bench.machine import machine
    from memory3.bench.scale_data import real_documents
    from memory3.bench.scale_measures import Measures, table

    real = real_documents(options.real, options.data, REFERENCES)
    kept = options.real.parent
    measures = Measures(options.directory, real, kept, options.questions, options.calls, options.seconds)
    found = {"machine": machine(), "memory_gib": options.memory_gib}
    try:
        measures.run_without_index() if options.without_index else measures.run()
    finally:
        found |= {"figures": measures.figures, "samples_ms": measures.samples}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(measures.figures, measures.samples))


def _add_round(collection: "Collection", real: "RealDocuments", number: int, carriers: int, value_bytes: int) -> None:
    from memory3.bench.scale_data import FINGERPRINT, key_values, round_documents

    results: list[UpsertResult] = []
    for batch in batches(round_documents(real, number), BATCH):
        results += collection.upsert(batch)
    seqs = [seq for result in results for seq in range(result.version - result.memories + 1, result.version + 1)]
    values = ((seq, key_values(seq, value_bytes)) for seq in seqs[:carriers])
    collection.put_key_values(FINGERPRINT, values)


def batches(documents: "Iterator[EmbeddedDocument]", memories: int) -> "Iterator[list[EmbeddedDocument]]":
    """Cut documents into batches that hold about so many memories."""
    before = 0

    def number_of_batch(document: "EmbeddedDocument") -> int:
        nonlocal before
        before += len(document.references)
        return (before - len(document.references)) // memories

    for _, batch in groupby(documents, number_of_batch):
        yield list(batch)


@contextmanager
def _terminated() -> Iterator[threading.Event]:
    """Set the event on SIGTERM, instead of ending."""
    event = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _opened(path: Path, real: "RealDocuments") -> "Iterator[Collection]":
    from memory3.bench.scale_data import COLLECTION
    from memory3.store.directory import DataDirectory

    with DataDirectory.open(path) as directory:
        yield directory.create_collection(COLLECTION, "bench", real.references.shape[1])


class _Log:
    """Lines of progress; the rate is that since the line before."""

    def __init__(self, options: argparse.Namespace, collection: "Collection") -> None:
        self._options = options
        self._collection = collection
        self._began = self._last = time.monotonic()
        self._memories = collection.count().memories

    def write_if_due(self) -> None:
        if time.monotonic() - self._last >= self._options.log_every:
            self.write_state("filling")

    def write_state(self, what: str) -> None:
        from memory3.bench.memory import memory_bytes
        from memory3.bench.scale_data import bytes_on_disk

        stats = self._collection.stats()
        index = stats.indices[0]
        now = time.monotonic()
        self.write(
            {
                "state": what,
                "seconds": round(now - self._began, 1),
                "documents": stats.count.documents,
                "memories": stats.count.memories,
                "memories/s": round((stats.count.memories - self._memories) / (now - self._last)),
                "warm": sum(stats.warm.values()),
                "memory": memory_bytes(),
                "disk": bytes_on_disk(self._options.directory),
                "index": {"kind": index.kind.name, "lists": index.lists, "clustering": index.clustering},
                "index_bytes": stats.index_bytes,
                "load": os.getloadavg()[0],
            }
        )
        self._last, self._memories = now, stats.count.memories

    def write(self, line: dict[str, Any]) -> None:
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
