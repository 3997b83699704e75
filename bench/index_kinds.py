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
RANKED = 7, 9, 13
"""How many candidates are ranked by their exact vectors, to see how many it takes."""
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


def whole_numbers(vectors: Matrix) -> Matrix:
    """Return vectors (N, D) with components of -127 to 127, alike in scale: what FAISS's signed bytes hold."""
    return np.asarray(np.rint(vectors * (127 / np.abs(vectors).max())), np.float32)


def share_found(found: Found, expected: Found) -> float:
    pairs = zip(found.tolist(), expected.tolist(), strict=True)
    return float(np.mean([len(set(one) & set(other)) / len(other) for one, other in pairs]))


def timed(search: Callable[[Matrix], object], queries: Matrix) -> tuple[float, float]:
    """Return p50 and p99 of searching for one query, in ms of this thread's own time.

    Searches take one thread and no input or output, so that this is what they take on a machine that does nothing else.
    """
    for query in queries[:20]:
        search(query[None])
    seconds = []
    for query in queries:
        start = time.thread_time()
        search(query[None])
        seconds.append(time.thread_time() - start)
    p50, p99 = np.percentile(seconds, [50, 99])
    return 1_000 * float(p50), 1_000 * float(p99)


class Candidates:
    """The kinds to compare for `vectors` (N, D), each built when asked for."""

    def __init__(self, vectors: Matrix) -> None:
        self._vectors = vectors
        self._dimension = vectors.shape[1]
        self._means: dict[int, tuple[Matrix, float]] = {}
        self._parameters = faiss.SearchParametersIVF()
        self._parameters.nprobe = PROBES

    def all(self) -> Iterator[tuple[str, Any, Search, float]]:
        """Yield name, filled index, how to search it, and the seconds that building took."""
        product, kinds = faiss.METRIC_INNER_PRODUCT, faiss.ScalarQuantizer
        dimension = self._dimension

        def quantized(centres: Any, lists: int) -> Any:
            return faiss.IndexIVFScalarQuantizer(centres, dimension, lists, kinds.QT_8bit, product, False)

        def signed_bytes(centres: Any, lists: int) -> Any:
            return faiss.IndexIVFScalarQuantizer(centres, dimension, lists, kinds.QT_8bit_direct_signed, product, False)

        def flat_lists(centres: Any, lists: int) -> Any:
            return faiss.IndexIVFFlat(centres, dimension, lists, product)

        def rabitq(centres: Any, lists: int) -> Any:
            return faiss.IndexIVFRaBitQ(centres, dimension, lists, product)

        index, seconds = self._filled(faiss.IndexFlatIP(dimension))
        yield "flat", index, self._plain(index), seconds
        index, seconds = self._clustered(flat_lists, 1)
        yield "one list", index, self._probing(index), seconds
        lists = round(2 * len(self._vectors) ** 0.5)
        index, seconds = self._clustered(flat_lists, lists)
        yield "IVF, vectors", index, self._probing(index), seconds
        index, seconds = self._clustered(quantized, lists)
        yield "IVF, SQ8", index, self._probing(index), seconds
        for width in RANKED:
            yield f"IVF, SQ8, {width} ranked by vectors", index, self._ranked(index, width), seconds
        index, seconds = self._clustered(signed_bytes, lists, whole_numbers)
        yield "IVF, signed bytes", index, self._probing(index, whole_numbers), seconds
        for width in RANKED:
            search = self._ranked(index, width, whole_numbers)
            yield f"IVF, signed bytes, {width} ranked by vectors", index, search, seconds
        index, seconds = self._clustered(signed_bytes, lists, whole_numbers, self._coded_means)
        search = self._ranked(index, RANKED[1], whole_numbers)
        yield f"the same, centroids too, {RANKED[1]} ranked", index, search, seconds
        index, seconds = self._clustered(quantized, 2 * lists)
        yield f"IVF, SQ8, twice the lists, {RANKED[-1]} ranked", index, self._ranked(index, RANKED[-1]), seconds
        index, seconds = self._clustered(rabitq, lists)
        yield "IVF, RaBitQ, 13 ranked by vectors", index, self._ranked(index, 13), seconds
        yield "IVF, RaBitQ, 50 ranked by vectors", index, self._ranked(index, 50), seconds
        graph = faiss.IndexHNSWFlat(dimension, 32, product)
        graph.hnsw.efSearch = HNSW_EF
        index, seconds = self._filled(graph)
        yield f"HNSW32, ef {HNSW_EF}", index, self._plain(index), seconds

    def _filled(self, index: Any) -> tuple[Any, float]:
        start = time.perf_counter()
        index.add(self._vectors)
        return index, time.perf_counter() - start

    def _clustered(
        self,
        make: Callable[[Any, int], Any],
        lists: int,
        told: Callable[[Matrix], Matrix] = np.asarray,
        centres: Callable[[Matrix], Any] | None = None,
    ) -> tuple[Any, float]:
        means, seconds = self._centroids(lists)
        start = time.perf_counter()
        index = make((centres or self._means_as_they_are)(means), lists)
        index.train(self._vectors[: 64 * lists])
        index.set_direct_map_type(faiss.DirectMap.Hashtable)  # type: ignore[attr-defined]  # not in FAISS's stubs
        index.add_with_ids(told(self._vectors), np.arange(len(self._vectors)))
        return index, seconds + time.perf_counter() - start

    def _means_as_they_are(self, means: Matrix) -> Any:
        index = faiss.IndexFlatIP(self._dimension)
        index.add(means)
        return index

    def _coded_means(self, means: Matrix) -> Any:
        kind = faiss.ScalarQuantizer.QT_8bit_direct_signed
        index: Any = faiss.IndexScalarQuantizer(self._dimension, kind, faiss.METRIC_INNER_PRODUCT)
        index.is_trained = True
        index.add(whole_numbers(means))
        return index

    def _centroids(self, lists: int) -> tuple[Matrix, float]:
        if lists not in self._means:
            start = time.perf_counter()
            means = faiss.Kmeans(self._dimension, lists, niter=8, spherical=True, max_points_per_centroid=64)
            means.train(self._vectors)
            self._means[lists] = np.asarray(means.centroids), time.perf_counter() - start
        return self._means[lists]

    def _plain(self, index: Any) -> Search:
        return lambda batch: index.search(batch, K)[1]

    def _probing(self, index: Any, told: Callable[[Matrix], Matrix] = np.asarray) -> Search:
        return lambda batch: index.search(told(batch), K, params=self._parameters)[1]

    def _ranked(self, index: Any, width: int, told: Callable[[Matrix], Matrix] = np.asarray) -> Search:
        def search(batch: Matrix) -> Found:
            _, ids = index.search(told(batch), width, params=self._parameters)
            scores = np.einsum("qwd,qd->qw", self._vectors[ids], batch)
            return np.take_along_axis(ids, np.argsort(-np.where(ids < 0, -np.inf, scores), axis=1)[:, :K], axis=1)

        return search


def measured(vectors: Matrix, queries: Matrix, expected: Found) -> Iterator[Figures]:
    """Yield a line for each kind; `expected` are the rows that are nearest to each query."""
    for name, index, search, build_s in Candidates(vectors).all():
        p50, p99 = timed(search, queries)
        megabytes = faiss.serialize_index(index).nbytes / 1e6
        recall = share_found(search(queries), expected)
        yield Figures(name, recall, p50, p99, megabytes, build_s, *_changed(index, vectors[:CHANGED], len(vectors)))


def _changed(index: Any, vectors: Matrix, next_id: int) -> tuple[float, float | None]:
    """Add vectors one by one and remove them again; return the microseconds for each, None where it cannot be done."""
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
    for at in range(len(vectors)):
        # A flat index moves everything behind the vector: this is the first of all, and the worst case.
        index.remove_ids(faiss.IDSelectorArray(np.array([next_id + at if inverted else 0])))
    return 1e6 * added / len(vectors), 1e6 * (time.perf_counter() - start) / len(vectors)
