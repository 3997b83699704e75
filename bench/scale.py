"""One shard at its full size: built once, then measured.

    python bench/scale.py build DIRECTORY [--memories 10000000] [--key-values 100000] [--memory-gib 16]

`build` fills one collection of one shard through the store's own interface, and prints a JSON object a line of how it
goes. SIGTERM stops it after the round under way; the same command goes on from there. Texts are references of SQuAD and
country profiles, 10,000 a round, embedded once and kept in `--real`; the vectors of later rounds are perturbed copies.
The first references of every round have key-values, bytes that do not compress.
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
COLLECTION = "scale"
FINGERPRINT = "bench"
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
    common.add_argument("--key-values", type=int, default=100_000, help="memories that have key-values [100000]")
    common.add_argument("--memories", type=int, default=10_000_000, help="[10000000]")
    build = commands.add_parser("build", parents=[common], help="fill the shard")
    build.add_argument("--key-value-bytes", type=int, default=KEY_VALUE_BYTES, help=f"of each [{KEY_VALUE_BYTES}]")
    build.add_argument("--log-every", type=float, default=15.0, metavar="S", help="seconds between lines [15]")
    build.set_defaults(run=build_shard)
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
        stopped = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
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


def _add_round(collection: "Collection", real: "RealDocuments", number: int, carriers: int, value_bytes: int) -> None:
    from memory3.bench.scale_data import round_documents

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


def key_values(seq: int, size: int) -> bytes:
    """Return the key-values of a memory: bytes that do not compress, the same each time."""
    import numpy as np

    return np.random.Generator(np.random.SFC64(seq)).bytes(size)


@contextmanager
def _opened(path: Path, real: "RealDocuments") -> "Iterator[Collection]":
    from memory3.store.directory import DataDirectory

    with DataDirectory.open(path) as directory:
        yield directory.create_collection(COLLECTION, "bench", real.references.shape[1])


def bytes_on_disk(directory: Path) -> dict[str, int]:
    """Return the bytes that the shard's files take on the disk: records, key-values, saved index."""
    (shard,) = directory.glob("collections/*/shard-*")
    files = {"records": shard / "records/data.mdb", "kv": shard / "kv/data.mdb", "index": shard / "index.snapshot"}
    return {name: file.stat().st_blocks * 512 if file.exists() else 0 for name, file in files.items()}


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
