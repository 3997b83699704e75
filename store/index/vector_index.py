"""The vector index: a cache of the records in memory, which proposes seqs for queries.

`N` queries or vectors, `D` embedding size, `K` results, `L` lists. How it is built and why: docs/format.md.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .. import limits
from ..disk.locks import ReadWriteLock
from ..errors import Corrupted, Unavailable
from ..seqs import SHARD_SHIFT
from ..types import IndexKind, Vector
from .inverted import EXACT_LISTS, InvertedLists, flat_ids
from .snapshot import Slice, Snapshot

Seqs: TypeAlias = npt.NDArray[np.int64]
Matrix: TypeAlias = npt.NDArray[np.float32]
Fetch: TypeAlias = Callable[[Sequence[int]], tuple[Sequence[int], Matrix]]
"""Returns for seqs in rising order those that are there, in the same order, and their exact vectors (N, D)."""

Proposal: TypeAlias = list[tuple[float, int]]
"""Candidates for one query, as (score, seq): best first, equal scores by seq."""

NOT_WHOLE = (
    "the index is being built again from the vectors, because the saved one was missing or damaged; try again later"
)

PROBES = 32
"""Lists that a search goes through. With 2 * sqrt(N) lists, recall@5 of text vectors is 0.98 at 100,000 and at
1,000,000 (bench/index.py)."""
_SPARE = 3
_SPARE_SHARE = 4
"""Candidates beyond k, and one more for so many of k."""
_FOUND_SHARE = 4
"""A search goes through lists that hold at least so many times K."""
_SLICE_COMPONENTS = 1 << 22
"""What may be done at once while others wait, counted in components of vectors compared: a millisecond or two."""
_QUICK_COMPONENTS = 1 << 20
"""A tenth of a millisecond, so counted."""
_CANDIDATE_COMPONENTS = 1 << 14
_CHECK_COMPONENTS = 1 << 4
"""What it takes to read the vector of a candidate, and to see whether a vector is allowed, in components compared."""
_LEAST_MAX, _WIDTH_MIN, _WIDTH_MAX = 2.0, float(np.finfo(np.float32).eps), 3.0
"""What the ranges of the components of vectors of length one keep within, with their margins
(store/index/clustering.py)."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """A selection of memories: bit i of `bits`, lowest bit first, stands for seq `base` + i; `count` bits are set."""

    bits: npt.NDArray[np.uint8]
    count: int


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a search of the index, current up to `position`, found for queries (N, D); to be ranked at any time later.

    `seqs` are those of each query, and `scores` theirs where they are exact. `complete`: there are no others.
    """

    queries: Matrix
    seqs: list[list[int]]
    scores: list[list[float]] | None
    position: int
    complete: bool

    def ranked(self, fetch: Fetch) -> list[Proposal]:
        """Return the candidates of each query with exact scores.

        Those of a quantized index are computed from the vectors that `fetch` returns; what it does not return is left
        out.
        """
        if self.scores is None:
            return _by_vectors(self.queries, self.seqs, fetch)
        return [ranked(zip(scores, seqs, strict=False)) for scores, seqs in zip(self.scores, self.seqs, strict=True)]


class VectorIndex:
    """Vectors by seq, current up to `position`; exact or quantized (`kind`).

    One thread at a time changes it, while others search. FAISS's ids are seqs less `base`, so that selections of them
    are dense. One that is not `whole` lacks memories, and is not searched.
    """

    def __init__(self, dimension: int, base: int = 0) -> None:
        self.dimension = dimension
        self.base = base
        self.position = base
        self.clustered_at = base
        self.whole = True
        self.generation = 0
        """How often the lists were replaced by other ones."""
        self._lock = ReadWriteLock()
        """FAISS crashes when it is changed under a search."""
        self._lists = InvertedLists.exact(dimension)

    @classmethod
    def load(cls, snapshot: Snapshot) -> "VectorIndex":
        """Restore a saved index.

        Raises:
            Corrupted: the file is damaged, or the entries are not those of an index.
        """
        _check_head(snapshot)
        index = cls(snapshot.dimension, snapshot.base)
        lists = InvertedLists(snapshot.kind, snapshot.dimension, snapshot.centroids, snapshot.ranges)
        lists.put_entries(_distinct(_checked(snapshot)))
        ids = lists.ids()
        if len(np.unique(ids)) != len(ids):
            raise Corrupted("the index snapshot holds a vector twice")
        index._lists = lists
        index.position = snapshot.seq
        index.clustered_at = snapshot.clustered_at
        return index

    def snapshot(self, shard_id: str) -> Snapshot:
        """Return the index to be saved while it is changed: `slices` are copied when they are taken.

        It is labelled with the position of this moment. What changes meanwhile may be in it or not, so the changes
        after that position have to be applied when it is loaded.

        Raises:
            Unavailable: the index is not whole.
        """
        with self._lock.reading():
            if not self.whole:
                raise Unavailable(NOT_WHOLE)
            lists, position, clustered_at = self._lists, self.position, self.clustered_at
        return Snapshot(
            lists.kind,
            self.dimension,
            shard_id,
            self.base,
            position,
            clustered_at,
            lists.code_bytes,
            lists.centroids,
            lists.ranges,
            self._slices(lists),
        )

    @property
    def kind(self) -> IndexKind:
        return self._lists.kind

    @property
    def count(self) -> int:
        return self._lists.count

    @property
    def lists(self) -> int:
        return self._lists.lists

    @property
    def bytes_used(self) -> int:
        return self._lists.bytes_used

    def queries_at_once(self, k: int, allowed: Allowed | None = None) -> int:
        """Return how many queries for k candidates should be searched and ranked at once: a few milliseconds' work."""
        return max(1, int(_SLICE_COMPONENTS / (self._compared(k, allowed) + k * _CANDIDATE_COMPONENTS)))

    def is_quick(self, queries: int, k: int, allowed: Allowed | None = None) -> bool:
        """Say whether so many queries for k candidates are searched in about a tenth of a millisecond."""
        return queries * self._compared(k, allowed) <= _QUICK_COMPONENTS

    def search(self, queries: Matrix, k: int, allowed: Allowed | None = None) -> Candidates:
        """Find for each query (N, D) the k candidates that there are, or as many as are held or allowed.

        Changes wait for it, so N should be at most `queries_at_once`. A quantized index finds by codes: to rank the k
        nearest, ask for `candidates_for`.

        Raises:
            Unavailable: the index is not whole.
        """
        with self._lock.reading():
            if not self.whole:
                raise Unavailable(NOT_WHOLE)
            lists, position = self._lists, self.position
            available = lists.count if allowed is None else min(lists.count, allowed.count)
            if not min(k, available):
                return Candidates(queries, [[] for _ in queries], None, position, k >= available)
            bits, found = None if allowed is None else allowed.bits, min(k, available)
            scores: list[list[float]] | None = None
            if lists.kind is IndexKind.EXACT:
                exact, ids = lists.search(queries, found, lists.lists, bits)
                scores = exact.tolist()
            else:
                ids = self._candidates(lists, queries, found, available / lists.count, bits)
        return Candidates(queries, self._seqs_of(ids), scores, position, k >= available)

    def apply(self, position: int, forgotten: Sequence[range], seqs: Sequence[int], vectors: Matrix) -> None:
        """Bring the index to `position`: without the forgotten seqs, with these seqs and vectors (N, D).

        May be repeated: what is gone already is passed over, what is there already is replaced. FAISS would keep
        both of two vectors with one id, and remove only one of them later. Searches wait for as long as adding takes,
        so N should be at most `limits.CHANGES_AT_ONCE`.
        """
        # Only this thread changes the lists, so the longer part of adding is done beside searches.
        ids = flat_ids([], seqs, self.base)
        places = self._lists.assign(ids, vectors)
        gone = flat_ids(forgotten, [], self.base)
        for start in range(0, len(gone), limits.REMOVED_AT_ONCE):
            with self._lock.writing():
                self._lists.remove(gone[start : start + limits.REMOVED_AT_ONCE])
        with self._lock.writing():
            self._lists.remove(ids)
            self._lists.add(ids, vectors, places)
            self.position = position

    def adopt(self, lists: InvertedLists, position: int, clustered_at: int) -> InvertedLists:
        """Take up other lists, whole and current up to `position`; return the old ones, for the caller to release."""
        return self._exchange(lists, position, clustered_at, True)

    def lose(self, position: int) -> None:
        """Hold nothing of what was written up to `position`, until whole lists are adopted."""
        self._exchange(InvertedLists.exact(self.dimension), position, position, False)

    def _exchange(self, lists: InvertedLists, position: int, clustered_at: int, whole: bool) -> InvertedLists:
        with self._lock.writing():
            old, self._lists = self._lists, lists
            self.position = position
            self.clustered_at = clustered_at
            self.whole = whole
            self.generation += 1
        return old

    def release(self) -> None:
        """Free the memory at once, of an index that nobody uses any more; the garbage collector may come late."""
        with self._lock.writing():
            self._lists.release()

    def seqs(self) -> Seqs:
        """Return the seqs of all vectors, in no order; each list as it is when it comes to it."""
        while (found := self._ids_of(self._lists)) is None:
            pass
        return np.concatenate(found) + self.base

    def _ids_of(self, lists: InvertedLists) -> list[Seqs] | None:
        """Return the ids of each list; None when there were other lists meanwhile."""
        found: list[Seqs] = []
        for number in range(lists.lists):
            # One list at a time, because writes wait.
            with self._lock.reading():
                if self._lists is not lists:
                    return None
                found.append(lists.ids_of(number))
        return found

    def holds(self, seq: int, vector: Vector | None = None) -> bool:
        """Say whether the index holds `seq`; with a vector (D,), whether it holds what it would hold for that."""
        with self._lock.reading():
            code = self._lists.code(seq - self.base)
            return code is not None and (vector is None or np.array_equal(code, self._lists.encode(vector)))

    def _compared(self, k: int, allowed: Allowed | None) -> float:
        """The components that are compared for one query."""
        lists = self._lists
        share = 1.0 if allowed is None else min(1.0, allowed.count / max(lists.count, 1))
        passed = lists.count * self._probes(lists, k, share) / lists.lists
        return (lists.lists + passed * share) * self.dimension + passed * _CHECK_COMPONENTS

    def _candidates(
        self, lists: InvertedLists, queries: Matrix, k: int, share: float, bits: npt.NDArray[np.uint8] | None
    ) -> Seqs:
        probes = self._probes(lists, k, share)
        _, ids = lists.search(queries, k, probes, bits)
        short = ids[:, -1] < 0
        if probes < lists.lists and short.any():
            _, ids[short] = lists.search(queries[short], k, lists.lists, bits)
        return ids

    def _seqs_of(self, ids: Seqs) -> list[list[int]]:
        """Return the seqs of each row of ids (N, K), which ends where there are no more."""
        return [[number + self.base for number in row if number >= 0] for row in ids.tolist()]

    def _probes(self, lists: InvertedLists, k: int, share: float) -> int:
        if lists.kind is IndexKind.EXACT:
            return lists.lists
        # A selection leaves a share of each list, so that as many more lists hold what is searched for.
        wanted = max(PROBES, _FOUND_SHARE * k * lists.lists / max(lists.count, 1)) / max(share, 1e-9)
        return min(lists.lists, ceil(wanted))

    def _slices(self, lists: InvertedLists) -> Iterator[Slice]:
        at_once = max(1, limits.COPIED_AT_ONCE // lists.code_bytes)
        for number in range(lists.lists):
            # From the end: removing moves the last entry into the gap, so nothing that stays can get behind the copy,
            # and what it moves out of the part that is copied already comes twice.
            stop: int | None = None
            while stop is None or stop > 0:
                with self._lock.reading():
                    size = lists.size(number)
                    stop = size if stop is None else min(stop, size)
                    start = max(0, stop - at_once)
                    ids, codes = lists.entries(number, start, stop)
                stop = start
                if len(ids):
                    yield number, ids, codes


def candidates_for(k: int) -> int:
    """Return how many candidates to ask an index for, so that neither codes nor a few dead ones hide the k nearest.

    For k = 5, two more find what 16 more find (docs/performance.md), and each of them costs reading its vector.
    """
    return k + k // _SPARE_SHARE + _SPARE


def ranked(scored: Iterable[tuple[float, int]]) -> Proposal:
    """Return candidates in order: the same question has the same answer, whatever order the index keeps."""
    return sorted(scored, key=lambda pair: (-pair[0], pair[1]))


def _by_vectors(queries: Matrix, candidates: Sequence[Sequence[int]], fetch: Fetch) -> list[Proposal]:
    """Rank the candidates of each query (N, D) by their exact vectors; those that have none are left out."""
    found, vectors = fetch(sorted(set().union(*candidates)))
    if len(queries) == 1:
        return [ranked(zip(_products(vectors, queries[0]), found, strict=True))]
    rows = dict(zip(found, range(len(found)), strict=True))
    proposals = []
    for query, seqs in zip(queries, candidates, strict=True):
        held = [seq for seq in seqs if seq in rows]
        scores = _products(vectors[[rows[seq] for seq in held]], query)
        proposals.append(ranked(zip(scores, held, strict=True)))
    return proposals


def _products(vectors: Matrix, query: Vector) -> list[float]:
    """Return the product of each vector (N, D) with the query (D,), by the same sum whatever stands beside it."""
    products: list[float] = np.einsum("nd,d->n", vectors, query).tolist()
    return products


def _check_head(snapshot: Snapshot) -> None:
    """Refuse lists that searches would pass over, and positions that are no seqs of the shard.

    FAISS finds no list for a vector where a centroid is NaN, and no vector where products of the scale overflow.
    """
    if snapshot.kind is IndexKind.EXACT:
        fit = len(snapshot.centroids) == EXACT_LISTS
    else:
        least, widths = snapshot.ranges
        # NaN is within nothing.
        within = [_lengths(snapshot.centroids) <= 1 + limits.VECTOR_NORM_TOLERANCE, np.abs(least) <= _LEAST_MAX]
        fit = all(part.all() for part in [*within, widths >= _WIDTH_MIN, widths <= _WIDTH_MAX])
    if not fit:
        raise Corrupted("the index snapshot has lists that no index has")
    if not snapshot.base <= snapshot.clustered_at <= snapshot.seq < snapshot.base + (1 << SHARD_SHIFT):
        raise Corrupted(f"the index snapshot is of seq {snapshot.seq}, clustered at {snapshot.clustered_at}")


def _checked(snapshot: Snapshot) -> Iterator[Slice]:
    """Refuse ids that are none of the shard, and vectors that are not of length one, which none is found by."""
    for number, ids, codes in snapshot.slices:
        if len(ids) and not (ids.min() >= 0 and ids.max() < 1 << SHARD_SHIFT):
            raise Corrupted(f"the index snapshot holds ids of {ids.min()} to {ids.max()}")
        off = np.abs(_lengths(codes.view("<f4")) - 1) if snapshot.kind is IndexKind.EXACT else np.zeros(1)
        if not (off <= limits.VECTOR_NORM_TOLERANCE).all():
            raise Corrupted("the index snapshot holds vectors that are not of length one")
        yield number, ids, codes


def _lengths(vectors: Matrix) -> npt.NDArray[np.float64]:
    """Return the length of each vector (N, D), shape (N,); NaN and infinity are no warnings."""
    with np.errstate(invalid="ignore"):
        lengths: npt.NDArray[np.float64] = np.linalg.norm(vectors.astype(np.float64), axis=1)
    return lengths


def _distinct(slices: Iterable[Slice]) -> Iterator[Slice]:
    """Leave out what a list holds already: the first that came is the same as any that comes again."""
    last, seen = -1, np.empty(0, np.int64)
    for number, ids, codes in slices:
        if number != last:
            last, seen = number, np.empty(0, np.int64)
        fresh = ~np.isin(ids, seen)
        seen = np.concatenate([seen, ids[fresh]])
        yield number, ids[fresh], np.ascontiguousarray(codes[fresh])
