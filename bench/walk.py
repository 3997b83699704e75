"""What it takes to walk through a store that ended its processes (store/disk/walk.py), and to open it otherwise.

    python bench/walk.py [--memories 100000] [--value-kib 4] [--folder FOLDER]

Files are in the system's cache, as they are soon after a process has ended.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import machine_line
from memory3.store.directory import DataDirectory
from memory3.store.disk.walk import set_aside
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
            print(f"| walk through {file.parent.name} | {_seconds_of_walk([file.parent]):.2f} |")
        started = time.perf_counter()
        with DataDirectory.open(path) as directory:
            directory.collection("default")
            print(f"| open the collection | {time.perf_counter() - started:.2f} |")


def _seconds_of_walk(environments: list[Path]) -> float:
    started = time.perf_counter()
    set_aside(environments)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
