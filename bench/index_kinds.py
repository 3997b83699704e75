"""FAISS's kinds of index side by side, as they come: what each finds, takes and costs.

`N` vectors, `Q` queries, `D` embedding size.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
from memory3.bench.index_vectors import Matrix

K = 5
PROBES = 32
CHANGED = 100
"""Vectors added and removed one by one to see how long it takes."""
HNSW_EF = 64
Found = npt.NDArray[np.int64]
Search = Callable[[Matrix], Found]


@dataclass(frozen=True, slots=True)
class Figures:
    """A line of the table."""

    name: str
    recall: float
    p50_ms: float
    p99_ms: float
    megabytes: float
    build_s: float
    add_us: float
    remove_us: float | None


def truth(vectors: Matrix, queries: Matrix, k: int = K, allowed: npt.NDArray[np.bool_] | None = None) -> Found:
    """Return the rows (Q, k) of the vectors nearest to each query, by numpy; fewer when fewer are allowed."""
    rows = []
    k = k if allowed is None else min(k, int(allowed.sum()))
    for start in range(0, len(queries), 20):
        scores = queries[start : start + 20] @ vectors.T
        if allowed is not None:
            scores[:, ~allowed] = -np.inf
        rows.append(np.argpartition(-scores, k, axis=1)[:, :k])
    return np.concatenate(rows)


def share_found(found: Found, expected: Found) -> float:
    pairs = zip(found.tolist(), expected.tolist(), strict=True)
    return float(np.mean([len(set(one) & set(other)) / len(other) for one, other in pairs]))


def timed(search: Callable[[Matrix], object], queries: Matrix) -> tuple[float, float]:
    """Return p50 and p99 of searching for one query, in ms."""
    for query in queries[:20]:
        search(query[None])
    seconds = []
    for query in queries:
        start = time.perf_counter()
        search(query[None])
        seconds.append(time.perf_counter() - start)
    p50, p99 = np.percentile(seconds, [50, 99])
    return 1_000 * float(p50), 1_000 * float(p99)


def measured(vectors: Matrix, queries: Matrix, expected: Found) -> Iterator[Figures]:
    lists = round(2 * len(vectors) ** 0.5)
    dimension = vectors.shape[1]
    product = faiss.METRIC_INNER_PRODUCT
    parameters = faiss.SearchParametersIVF()
    parameters.nprobe = PROBES

    def ranked(index: Any, width: int) -> Search:
        def search(batch: Matrix) -> Found:
            _, ids = index.search(batch, width, params=parameters)
            scores = np.einsum("qwd,qd->qw", vectors[ids], batch)
            return np.take_along_axis(ids, np.argsort(-np.where(ids < 0, -np.inf, scores), axis=1)[:, :K], axis=1)

        return search

    def probing(index: Any) -> Search:
        return lambda batch: index.search(batch, K, params=parameters)[1]

    def plain(index: Any) -> Search:
        return lambda batch: index.search(batch, K)[1]

    def one_list() -> Any:
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimension), dimension, 1, product)
        index.train(vectors[:100])
        return index

    def clustered(make: Callable[[Any], Any]) -> Callable[[], Any]:
        def build() -> Any:
            means = faiss.Kmeans(dimension, lists, niter=8, spherical=True, max_points_per_centroid=64)
            means.train(vectors)
            centres = faiss.IndexFlatIP(dimension)
            centres.add(np.asarray(means.centroids))
            index = make(centres)
            index.train(vectors[: 64 * lists])
            return index

        return build

    def hnsw() -> Any:
        index = faiss.IndexHNSWFlat(dimension, 32, product)
        index.hnsw.efSearch = HNSW_EF
        return index

    flat = clustered(lambda centres: faiss.IndexIVFFlat(centres, dimension, lists, product))
    sq8 = clustered(
        lambda centres: faiss.IndexIVFScalarQuantizer(
            centres, dimension, lists, faiss.ScalarQuantizer.QT_8bit, product, False
        )
    )
    rabitq = clustered(lambda centres: faiss.IndexIVFRaBitQ(centres, dimension, lists, product))
    kinds: list[tuple[str, Callable[[], Any], Callable[[Any], Search]]] = [
        ("flat", lambda: faiss.IndexFlatIP(dimension), plain),
        ("one list", one_list, plain),
        ("IVF, vectors", flat, probing),
        ("IVF, SQ8", sq8, probing),
        ("IVF, SQ8, 13 ranked by vectors", sq8, lambda index: ranked(index, 13)),
        ("IVF, RaBitQ, 13 ranked by vectors", rabitq, lambda index: ranked(index, 13)),
        ("IVF, RaBitQ, 50 ranked by vectors", rabitq, lambda index: ranked(index, 50)),
        (f"HNSW32, ef {HNSW_EF}", hnsw, plain),
    ]
    for name, make, searching in kinds:
        start = time.perf_counter()
        index = make()
        if isinstance(index, faiss.IndexIVF):
            index.set_direct_map_type(faiss.DirectMap.Hashtable)  # type: ignore[attr-defined]
            index.add_with_ids(vectors, np.arange(len(vectors)))
        else:
            index.add(vectors)
        build_s = time.perf_counter() - start
        search = searching(index)
        p50, p99 = timed(search, queries)
        megabytes = faiss.serialize_index(index).nbytes / 1e6
        recall = share_found(search(queries), expected)
        yield Figures(name, recall, p50, p99, megabytes, build_s, *_changed(index, vectors[:CHANGED], len(vectors)))


def _changed(index: Any, vectors: Matrix, next_id: int) -> tuple[float, float | None]:
    """Return the microseconds that adding one vector takes and removing one, None where that cannot be done."""
    inverted = isinstance(index, faiss.IndexIVF)
    start = time.perf_counter()
    for at, vector in enumerate(vectors):
        if inverted:
            index.add_with_ids(vector[None], np.array([next_id + at]))
        else:
            index.add(vector[None])
    added = time.perf_counter() - start
    if isinstance(index, faiss.IndexHNSW):
        return 1e6 * added / len(vectors), None
    start = time.perf_counter()
    for at in range(10):
        index.remove_ids(faiss.IDSelectorArray(np.array([at if inverted else 0])))
    return 1e6 * added / len(vectors), 1e5 * (time.perf_counter() - start)
