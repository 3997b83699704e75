"""What a filter costs: finding the memories that match, the bitmap that FAISS wants of them, and writing the terms.

    python bench/filters.py [--memories 1000000] [--batch 256]

One shard's table of terms, a memory a document. Every selection is compared with the metadata before it is timed. The
writes are transactions of `--batch` documents, synced as the store's are; the disk is that of the temporary folder.
Finding takes no waiting, so it is given in processor time, which other work on the machine changes least.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import faiss
import numpy as np
from memory3.bench.machine import machine_line
from memory3.store.disk.environment import Environment, WriteTransaction
from memory3.store.filters.language import matches
from memory3.store.filters.parser import parse_filter
from memory3.store.filters.term_changes import TermChanges
from memory3.store.filters.terms import Terms
from memory3.store.format import decode_u64, encode_u64
from memory3.store.types import Metadata

RUNS = 9
CHECKED = 20_000
"""Memories whose metadata is compared with each selection, chosen evenly."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--memories", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=256, help="documents in one transaction")
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    print(machine_line())
    with tempfile.TemporaryDirectory() as folder:
        environment = Environment.create(Path(folder) / "records", 64 << 30, durable=True)
        terms = Terms(environment)
        metadata = documents(options.memories)
        print_writes(environment, terms, metadata, options.batch)
        print_queries(environment, terms, metadata)
        environment.close()


def documents(count: int) -> list[Metadata]:
    """Metadata of five entries; what a name says of its share of the memories is true of it, evenly mixed."""
    rng = np.random.default_rng(0)
    share = rng.random(count)
    numbers = rng.permutation(count).tolist()
    names = np.select([share < 0.01, share < 0.11, share < 0.61], ["one", "ten", "fifty"], "rest").tolist()
    return [
        {
            "share": name,
            "number": number,
            "text": f"2026-{number:012d}",
            "year": 1900 + number % 100,
            "public": number % 2 == 0,
        }
        for name, number in zip(names, numbers, strict=True)
    ]


def print_writes(environment: Environment, terms: Terms, metadata: list[Metadata], batch: int) -> None:
    count = len(metadata)
    begun = time.perf_counter()
    gathering = applying = 0.0
    for start in range(0, count, batch):
        at = time.perf_counter()
        changes = TermChanges()
        for seq in range(start, min(start + batch, count)):
            changes.add(metadata[seq], range(seq + 1, seq + 2))
        gathering += time.perf_counter() - at
        with environment.writing() as txn:
            at = time.perf_counter()
            terms.apply(txn, changes)
            applying += time.perf_counter() - at
    whole = time.perf_counter() - begun
    with environment.reading() as state:
        bytes_used, entries = terms.postings.bytes_used(state), terms.postings.count(state)
    print(
        f"\n{count:,} documents of 5 metadata entries, {batch} to a transaction: {bytes_used / count:.0f} bytes each\n"
    )
    print("| a document | µs |\n|---|---|")
    for name, seconds in (("gathered", gathering), ("applied", applying), ("with the synced commit", whole)):
        print(f"| {name} | {seconds / count * 1e6:.1f} |")
    print(f"\n{entries:,} values. A transaction of one document, median of {RUNS}:\n\n| | ms |\n|---|---|")
    numbers = environment.table("floor", encode_u64, decode_u64)
    following = iter(range(count + 1, count + 1 + RUNS))

    def add(txn: WriteTransaction) -> None:
        seq = next(following)
        terms.add(txn, metadata[0], range(seq, seq + 1))

    print(f"| its terms, written and synced | {transaction(environment, add):.2f} |")
    print(f"| one number, written and synced | {transaction(environment, lambda txn: numbers.put(txn, b'n', 1)):.2f} |")
    with environment.writing() as txn:
        for seq in range(count + 1, count + 1 + RUNS):
            terms.remove(txn, metadata[0], range(seq, seq + 1))


def transaction(environment: Environment, change: Callable[[WriteTransaction], None]) -> float:
    """Milliseconds of a transaction that makes a change."""

    def commit() -> None:
        with environment.writing() as txn:
            change(txn)

    return milliseconds(commit, time.perf_counter)


def print_queries(environment: Environment, terms: Terms, metadata: list[Metadata]) -> None:
    count = len(metadata)
    tenth, hundredth = count // 10, count // 100
    filters: dict[str, dict[str, object]] = {
        "equality, 1 %": {"share": "one"},
        "equality, 10 %": {"share": "ten"},
        "equality, 50 %": {"share": "fifty"},
        "not equal, 99 %": {"share": {"$ne": "one"}},
        "string, one memory": {"text": metadata[count // 2]["text"]},
        "100 strings listed": {"text": {"$in": [one["text"] for one in metadata[:100]]}},
        "number, one memory": {"number": 7},
        "number of a hundred, 1 %": {"year": 1950},
        "1,000 numbers listed": {"number": {"$in": list(range(1_000))}},
        "range of different numbers, 1 %": {"number": {"$gte": 5, "$lt": 5 + hundredth}},
        "range of different numbers, 10 %": {"number": {"$gte": 5, "$lt": 5 + tenth}},
        "range of different strings, 1 %": {"text": {"$lt": f"2026-{hundredth:012d}"}},
        "range of different strings, 10 %": {"text": {"$lt": f"2026-{tenth:012d}"}},
        "exists, 100 %": {"year": {"$exists": True}},
        "three conditions, and": {"share": "one", "year": {"$gte": 1950}, "public": True},
        "one memory, and a range": {"text": metadata[count // 2]["text"], "number": {"$gte": 5}},
    }
    print(f"\nProcessor time, median of {RUNS} runs, records in the page cache.\n")
    print("| filter | memories | find them, ms | bitmap for FAISS, ms |\n|---|---|---|---|")
    for name, written in filters.items():
        filter = parse_filter(written)
        with environment.reading() as txn:
            found = terms.matching(txn, filter)
            for row in range(0, count, max(1, count // CHECKED)):
                assert found.contains(row + 1) == matches(filter, metadata[row]), name
            bits, selected = found.bitmap(0)
            assert selected == found.count
            assert faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits)).is_member(found.first)
            find = milliseconds(lambda f=filter, t=txn: terms.matching(t, f), time.thread_time)  # type: ignore[misc]
            spread = milliseconds(lambda f=found: f.bitmap(0), time.thread_time)  # type: ignore[misc]
        print(f"| {name} | {found.count:,} | {find:.2f} | {spread:.2f} |", flush=True)


def milliseconds(call: Callable[[], object], clock: Callable[[], float]) -> float:
    """The median of several runs."""
    times = []
    for _ in range(RUNS):
        begun = clock()
        call()
        times.append(clock() - begun)
    return median(times) * 1e3


if __name__ == "__main__":
    main()
