"""What it takes to walk through a store that ended its processes (store/disk/walk.py), and what other openings take.

    python bench/walk.py [--memories 100000] [--value-kib 4] [--folder FOLDER]

Files are in the system's cache, as they are soon after a process has ended.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from memory3.bench.machine import machine_line
from memory3.store.directory import DataDirectory
from memory3.store.disk.page_check import look_at
from memory3.store.disk.set_aside import LOOKED_AT_BYTES_MAX
from memory3.store.disk.walk import ended_by
from memory3.store.format import decode_value_key
from memory3.store.types import Document, EmbeddedDocument, Reference

DIMENSION = 384
BATCH = 1_000
FINGERPRINT = "model"
TEXT = "a reference of about the usual length, which says what it says and nothing else; " * 6


def fill(path: Path, memories: int, value_bytes: int) -> None:
    random = np.random.default_rng(0)
    with DataDirectory.open(path) as directory:
        collection = directory.create_collection("default", "vectors", DIMENSION)
        for start in range(0, memories, BATCH):
            vectors = random.standard_normal((BATCH, DIMENSION)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            results = collection.upsert(
                [
                    EmbeddedDocument(Document(f"{start + n}", TEXT, {"n": start + n}), [Reference(TEXT, vector)])
                    for n, vector in enumerate(vectors)
                ]
            )
            collection.put_key_values(FINGERPRINT, [(one.version, random.bytes(value_bytes)) for one in results])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memories", type=int, default=100_000)
    parser.add_argument("--value-kib", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="where the store is made, and removed afterwards")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder, "data")
        fill(path, arguments.memories, arguments.value_kib << 10)
        files = sorted(path.glob("collections/*/shard-*/*/data.mdb"))
        size = sum(file.stat().st_size for file in files)
        print(f"{machine_line()}; {arguments.memories} memories, {size / 2**20:.0f} MiB")
        print("| what | seconds |\n|---|---|")
        for file in files:
            print_row(f"look at the pages of {file.parent.name}, as each opening does", partial(looked_at, file))
            print_row(f"look at all pages of {file.parent.name}", partial(look_at, file))
            print_row(f"walk through {file.parent.name}", partial(ended_by, [file.parent]))
        with DataDirectory.open(path) as directory:
            print_row("open the collection", lambda: directory.collection("default"))
            print_row("look through the keys of kv, as each opening does", lambda: keys_by_cursor(directory))
            print_row("the same, one by one", lambda: keys_one_by_one(directory))


def print_row(what: str, work: Callable[[], object]) -> None:
    started = time.perf_counter()
    work()
    print(f"| {what} | {time.perf_counter() - started:.3f} |")


def looked_at(file: Path) -> None:
    look_at(file, LOOKED_AT_BYTES_MAX)


def keys_by_cursor(directory: DataDirectory) -> None:
    key_values = directory.collection("default")._shards[0]._key_values
    with key_values.environment.reading() as txn:
        key_values.values.bytes_of_keys(txn)


def keys_one_by_one(directory: DataDirectory) -> None:
    key_values = directory.collection("default")._shards[0]._key_values
    with key_values.environment.reading() as txn:
        for key in key_values.values.keys(txn):
            decode_value_key(key)


if __name__ == "__main__":
    main()
