"""How many lists a search has to go through when a filter leaves a share of the memories.

    OMP_NUM_THREADS=1 python bench/index_filters.py [--data FOLDER] [--cache FOLDER] [--sizes N…]

Filters at random leave that share of every list; those by topic leave what is nearest to some reference, mostly far
from the query, as a filter on a product or a country does. Rules: as many more lists as the filter leaves fewer
memories (ours), and the root of that. Times are the processor's, of the search in the lists alone.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    from memory3.bench.index_vectors import Matrix
    from memory3.store.index.inverted import InvertedLists

    Mask = npt.NDArray[np.bool_]

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before FAISS loads

K = 5
QUERIES = 200
TOPICS = 20
SHARES = (0.01, 0.1, 0.5)
RULES = {"share": 1.0, "root of the share": 0.5}
"""The exponent of the share that the number of lists is divided by."""
_SEED = 26


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the data [MEMORY3_TEST_DATA; default ../shared/data]")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "memory3-bench-index")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000], help="numbers of vectors")
    options = parser.parse_args(arguments)
    from memory3.bench.index_vectors import grown, queries, text_vectors
    from memory3.bench.machine import machine_line
    from memory3.bench.real_data import DataMissing

    try:
        vectors = text_vectors(options.data, options.cache, 10_000)
    except DataMissing as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(machine_line())
    for size in options.sizes:
        print(
            f"\n{size:,} vectors:\n\n| filter | lists divided by | lists | recall@5 | p50 ms |\n|---|---|---|---|---|"
        )
        for line in compared(grown(vectors.references, size), queries(vectors, QUERIES)):
            print(line, flush=True)
    return 0


def compared(rows: "Matrix", asked: "Matrix") -> Iterator[str]:
    """Yield the rows of a table for vectors (N, D) and queries (Q, D)."""
    from memory3.store.index.clustering import clustered, plan
    from memory3.store.index.vector_index import PROBES
    from memory3.store.shard.derived import at_once

    random = np.random.default_rng(_SEED)
    chosen = plan(len(rows))
    lists = clustered(random.permutation(rows)[: chosen.sample], chosen, at_once)
    lists.add(np.arange(len(rows)), rows, lists.assign(np.arange(len(rows)), rows))
    for share in SHARES:
        for kind, masks in _filters(rows, round(share * len(rows)), random):
            for rule, exponent in RULES.items():
                probes = min(lists.lists, ceil(PROBES / share**exponent))
                recall, p50_ms = _searched(lists, rows, asked, masks, probes)
                yield f"| {share:.0%} {kind} | {rule} | {probes} | {recall:.3f} | {p50_ms:.2f} |"


def _filters(rows: "Matrix", count: int, random: np.random.Generator) -> Iterator[tuple[str, list["Mask"]]]:
    def mask(chosen: "np.ndarray") -> "Mask":
        found = np.zeros(len(rows), bool)
        found[chosen[:count]] = True
        return found

    yield "at random", [mask(random.permutation(len(rows)))]
    topics = rows[random.integers(len(rows), size=TOPICS)]
    yield "by topic", [mask(np.argpartition(-(rows @ topic), count)) for topic in topics]


def _searched(
    lists: "InvertedLists", rows: "Matrix", asked: "Matrix", masks: Sequence["Mask"], probes: int
) -> tuple[float, float]:
    """Return recall@K, candidates ranked by their vectors, and the median in ms."""
    from memory3.bench.index_kinds import share_found, truth
    from memory3.store.index.vector_index import candidates_for

    shares, seconds = [], []
    for number, query in enumerate(asked):
        mask = masks[number % len(masks)]
        bits = np.packbits(mask, bitorder="little")
        started = time.thread_time()
        _, ids = lists.search(query[None], candidates_for(K), probes, bits)
        seconds.append(time.thread_time() - started)
        found = ids[0][ids[0] >= 0]
        best = found[np.argsort(-(rows[found] @ query))[:K]]
        shares.append(share_found(best[None], truth(rows, query[None], K, mask)))
    return float(np.mean(shares)), 1_000 * float(np.median(seconds))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
