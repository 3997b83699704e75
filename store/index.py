"""The vector index: a cache of the records in memory, exact inner product, ids = seqs.

`N` queries, `D` embedding size, `K` results. Why one inverted list with a hashtable: docs/format.md.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import faiss
import numpy as np
import numpy.typing as npt

from .errors import Corrupted
from .locks import ReadWriteLock
from .snapshot import Snapshot
from .types import Vector

Scores = npt.NDArray[np.float32]
Seqs = npt.NDArray[np.int64]

# OpenMP threads that wait for each other collapse beside any other busy process, and do not survive a fork.
# Searches run side by side in the callers' threads instead: FAISS lets go of the interpreter's lock.
faiss.omp_set_num_threads(1)

_ID_BYTES = 8
_HASHTABLE_ENTRY_BYTES = 48


class VectorIndex:
    """Vectors by seq, current up to `position`. FAISS crashes when it is changed under a search, hence `reading`."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.position = 0
        self._lock = ReadWriteLock()
        self._faiss = _empty(dimension)

    @classmethod
    def load(cls, snapshot: Snapshot) -> "VectorIndex":
        """Restore a saved index.

        Raises:
            Corrupted: the payload is not such an index.
        """
        index = cls(snapshot.dimension)
        try:
            loaded = faiss.deserialize_index(np.frombuffer(snapshot.payload, dtype=np.uint8))
        except RuntimeError as error:
            raise Corrupted(f"FAISS cannot read the index snapshot: {error}") from error
        if not isinstance(loaded, faiss.IndexIVFFlat) or (loaded.d, loaded.ntotal) != (index.dimension, snapshot.count):
            raise Corrupted("the index snapshot holds another index than its header says")
        index._faiss = loaded
        index.position = snapshot.seq
        return index

    def snapshot(self, shard_id: str) -> Snapshot:
        """Return the index as it stands, to be written by the only thread that changes it."""
        payload = faiss.serialize_index(self._faiss).data
        return Snapshot(self.dimension, shard_id, self.position, self.count, payload)

    @property
    def count(self) -> int:
        return int(self._faiss.ntotal)

    @property
    def bytes_used(self) -> int:
        return self.count * (self.dimension * 4 + _ID_BYTES + _HASHTABLE_ENTRY_BYTES)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the index still."""
        with self._lock.reading():
            yield

    def search(self, queries: npt.NDArray[np.float32], k: int) -> tuple[Scores, Seqs]:
        """Return scores (N, K) and seqs (N, K), K = min(k, count), best first. Only within `reading`."""
        k = min(k, self.count)
        if not k:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        scores, seqs = self._faiss.search(np.ascontiguousarray(queries), k)
        return scores, seqs

    def apply(
        self, position: int, forgotten: Sequence[range], seqs: Sequence[int], vectors: npt.NDArray[np.float32]
    ) -> None:
        """Bring the index to `position`: without the forgotten seqs, with these seqs and vectors (N, D).

        May be repeated: what is gone already is passed over, what is there already is replaced. FAISS would keep
        both of two vectors with one id, and remove only one of them later.
        """
        gone = np.array([seq for run in forgotten for seq in run] + list(seqs), dtype=np.int64)
        with self._lock.writing():
            if self.count and len(gone):
                self._faiss.remove_ids(faiss.IDSelectorArray(gone))
            _add(self._faiss, seqs, vectors)
            self.position = position

    def rebuild(self, position: int, batches: Iterable[tuple[Sequence[int], npt.NDArray[np.float32]]]) -> None:
        """Start over from batches of seqs and vectors (N, D); searches see the old index until the new one stands."""
        fresh = _empty(self.dimension)
        for seqs, vectors in batches:
            _add(fresh, seqs, vectors)
        with self._lock.writing():
            self._faiss = fresh
            self.position = position

    def seqs(self) -> Seqs:
        """Return the seqs of all vectors, in no order."""
        if not self.count:
            return np.empty(0, np.int64)
        lists = self._faiss.invlists
        assert lists is not None
        return np.array(faiss.rev_swig_ptr(lists.get_ids(0), self.count), dtype=np.int64)

    def vector(self, seq: int) -> Vector:
        """Return the vector of a seq that the index holds, shape (D,)."""
        return np.asarray(self._faiss.reconstruct(seq), dtype=np.float32)


def _add(index: faiss.IndexIVFFlat, seqs: Sequence[int], vectors: npt.NDArray[np.float32]) -> None:
    if not len(seqs):
        return
    expected = int(index.ntotal) + len(seqs)
    index.add_with_ids(np.ascontiguousarray(vectors), np.array(seqs, dtype=np.int64))
    assert index.ntotal == expected, f"the index holds {index.ntotal} vectors, expected {expected}"


def _empty(dimension: int) -> faiss.IndexIVFFlat:
    # One list needs no training: every vector is nearest to its only centre.
    centre = faiss.IndexFlatIP(dimension)
    centre.add(np.zeros((1, dimension), dtype=np.float32))
    index = faiss.IndexIVFFlat(centre, dimension, 1, faiss.METRIC_INNER_PRODUCT)
    index.is_trained = True
    index.set_direct_map_type(faiss.DirectMap.Hashtable)  # type: ignore[attr-defined]  # missing in FAISS's stubs
    return index
