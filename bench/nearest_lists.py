"""How fast the nearest lists of vectors are found: by FAISS and by a product of matrices in NumPy.

    OMP_NUM_THREADS=1 python bench/nearest_lists.py [--lists 2000 6325] [--vectors 1 5 200 1000]

Vectors and centroids are random, of 384 dimensions. Milliseconds are by the clock, GFLOPS by the processor's time.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
from memory3.bench.machine import machine_line
from memory3.store.index.nearest import by_faiss

DIMENSION = 384
_SEED = 25


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lists", type=int, nargs="+", default=[2_000, 6_325])
    parser.add_argument("--vectors", type=int, nargs="+", default=[1, 5, 200, 1_000])
    parser.add_argument("--calls", type=int, default=30, help="of each [30]")
    options = parser.parse_args(arguments)
    print(machine_line())
    print(
        "\n| lists | vectors | FAISS: p50 / longest ms, GFLOPS | NumPy: p50 / longest ms, GFLOPS |\n|---|---|---|---|"
    )
    for lists in options.lists:
        for vectors in options.vectors:
            print(row(lists, vectors, options.calls))
    return 0


def row(lists: int, vectors: int, calls: int) -> str:
    """Return a row of the table."""
    random = np.random.default_rng(_SEED)
    centroids = random.standard_normal((lists, DIMENSION), np.float32)
    rows = random.standard_normal((vectors, DIMENSION), np.float32)
    products = 2 * lists * vectors * DIMENSION
    cells = [
        _timed(lambda: by_faiss(rows, centroids), calls, products),
        _timed(lambda: np.argmax(rows @ centroids.T, axis=1), calls, products),
    ]
    return f"| {lists:,} | {vectors:,} | {cells[0]} | {cells[1]} |"


def _timed(call: Callable[[], object], calls: int, products: int) -> str:
    call()
    took: list[float] = []
    before = time.process_time()
    for _ in range(calls):
        started = time.perf_counter()
        call()
        took.append((time.perf_counter() - started) * 1e3)
    rate = products * calls / (time.process_time() - before) / 1e9
    return f"{np.median(took):.2f} / {max(took):.1f}, {rate:.0f}"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
