"""FAISS's inverted lists: the vectors of an index by id, exact or quantized. FAISS's inner ways are known here only.

`N` vectors or queries, `D` embedding size, `L` lists, `K` results. Ids are int64, not negative, each held once.
FAISS crashes when lists are changed under a search, and `VectorIndex` keeps the two apart.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from ..types import IndexKind, Vector
from .nearest import nearest
from .openmp import in_this_thread

Ids = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]

EXACT_LISTS = 32
"""More than one only because a list that grows is copied whole, which takes long for a single one."""
_EXACT_BLOCK = 1_024
"""Ids in a row that go to the same exact list, so that the lists do not grow, and are not copied, all at once."""
_RESERVED = 4
"""Entries for which a quantized index's table of ids has room, as a multiple of those it begins with. A table that
grows is built anew in one go; before it comes to that, the index is clustered again."""
_TABLE: int = faiss.DirectMap.Hashtable  # type: ignore[attr-defined]  # missing in FAISS's stubs
_NO_TABLE: int = faiss.DirectMap.NoMap  # type: ignore[attr-defined]
_SIGNED = faiss.ScalarQuantizer.QT_8bit_direct_signed
_MIDDLE = 128
"""The byte that FAISS takes for zero."""
_GREATEST = 127
"""Of a query's whole numbers."""
_ID_BYTES = 8
_NO_IDS: Ids = np.empty(0, np.int64)
_TABLE_ENTRY_BYTES = 48
_BUCKET_BYTES = 8


class InvertedLists:
    """Lists of codes with a table that says where each id is.

    Exact: codes are the vectors, a list is a block of ids, and every search goes through all lists. Quantized: a byte
    for each component, within `ranges` (2, D): the least values and the widths; a list holds what is nearest to its
    centroid, and a search goes through the nearest lists.

    To FAISS the codes are plain signed bytes, which it compares with a query of whole numbers, in half to two thirds of
    the time that codes with ranges take (docs/performance.md): a product of query and vector is, but for what is the
    same for all vectors, one of bytes and of the query times the widths.
    """

    def __init__(self, kind: IndexKind, dimension: int, centroids: Matrix, ranges: Matrix) -> None:
        """Make empty lists, one for each of the `centroids` (L, D). Of an exact index they are all zero."""
        self.kind = kind
        self.dimension = dimension
        self.centroids = np.ascontiguousarray(centroids, np.float32)
        self.ranges = np.ascontiguousarray(ranges, np.float32)
        self._room = 0
        self.count = 0
        """How many vectors are held."""
        in_this_thread()
        # Where all vectors are alike any scale will do.
        self._scale = np.where(self.ranges[1] > 0, self.ranges[1], np.float32(1))
        self._codes = faiss.ScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_8bit)
        faiss.copy_array_to_vector(self.ranges.ravel(), self._codes.trained)
        self._faiss: Any = self._exact() if kind is IndexKind.EXACT else self._quantized()
        self._faiss.is_trained = True
        self.make_room(0)

    @classmethod
    def exact(cls, dimension: int) -> "InvertedLists":
        """Make an empty exact index."""
        centroids = np.zeros((EXACT_LISTS, dimension), np.float32)
        return cls(IndexKind.EXACT, dimension, centroids, np.zeros((2, dimension), np.float32))

    @property
    def lists(self) -> int:
        return len(self.centroids)

    @property
    def code_bytes(self) -> int:
        return int(self._faiss.code_size)

    @property
    def bytes_used(self) -> int:
        entries = self.count * (self.code_bytes + _ID_BYTES + _TABLE_ENTRY_BYTES)
        if self.kind is IndexKind.EXACT:
            return entries
        return entries + self.centroids.nbytes + self._room * _BUCKET_BYTES

    def make_room(self, count: int) -> None:
        """Build the table of ids from the lists, with room for a quantized index to grow from `count` vectors."""
        self._room = 0 if self.kind is IndexKind.EXACT else _RESERVED * count
        # FAISS builds a table only where there was none.
        table, lists = self._faiss.direct_map, self._faiss.invlists
        table.set_type(_NO_TABLE, lists, 0)
        table.set_type(_TABLE, lists, max(self._room, self.count))

    def assign(self, ids: Ids, vectors: Matrix) -> Ids:
        """Return the list that each vector (N, D) belongs to, shape (N,). May be called beside searches."""
        if self.kind is IndexKind.EXACT:
            return ids // _EXACT_BLOCK % self.lists
        if not len(ids):
            return np.empty(0, np.int64)
        return nearest(vectors, self.centroids)

    def add(self, ids: Ids, vectors: Matrix, lists: Ids) -> None:
        """Add vectors (N, D) that are not held, to the lists `assign` returned for them."""
        if not len(ids):
            return
        in_this_thread()
        expected = self.count + len(ids)
        ids, lists = np.ascontiguousarray(ids, np.int64), np.ascontiguousarray(lists, np.int64)
        vectors = np.ascontiguousarray(vectors, np.float32)
        if self.kind is IndexKind.QUANTIZED:
            vectors = self._signed(vectors)
        pointers = [faiss.swig_ptr(array) for array in (vectors, ids, lists)]
        self._faiss.add_core(len(ids), *pointers, None)
        self.count = int(self._faiss.ntotal)
        assert self.count == expected, f"the index holds {self.count} vectors, expected {expected}"

    def remove(self, ids: Ids) -> None:
        """Remove ids; those that are not held are passed over."""
        if self.count and len(ids):
            self._faiss.remove_ids(faiss.IDSelectorArray(np.ascontiguousarray(ids, np.int64)))
            self.count = int(self._faiss.ntotal)

    def search(self, queries: Matrix, k: int, probes: int, allowed: Codes | None) -> tuple[Matrix, Ids]:
        """Return scores and ids (N, K), best first, of the `probes` nearest lists; -1 where there are no more.

        `allowed` says by the bit of each id, lowest bit first, what may be returned. Scores of a quantized index only
        rank the ids of one query.
        """
        in_this_thread()
        # FAISS holds pointers only: selector and bits live here until the search has ended.
        selector = None if allowed is None else faiss.IDSelectorBitmap(allowed)  # type: ignore[call-arg,arg-type]
        parameters = faiss.SearchParametersIVF()
        parameters.nprobe = min(probes, self.lists)
        parameters.sel = selector
        scores, ids = self._faiss.search(self._asked(queries), k, params=parameters)
        return scores, ids

    def ids(self) -> Ids:
        """Return all ids, in no order; an id that is held twice comes twice."""
        return np.concatenate([self.ids_of(number) for number in range(self.lists)])

    def ids_of(self, number: int) -> Ids:
        """Return a copy of the ids (N,) of a list."""
        size = self.size(number)
        return np.array(faiss.rev_swig_ptr(self._faiss.invlists.get_ids(number), size)) if size else _NO_IDS

    def size(self, number: int) -> int:
        """Return how many entries a list has."""
        return int(self._faiss.invlists.list_size(number))

    def entries(self, number: int, start: int, stop: int) -> tuple[Ids, Codes]:
        """Return copies of entries of a list: ids (N,) and codes (N, code_bytes)."""
        if start >= stop:
            return _NO_IDS, np.empty((0, self.code_bytes), np.uint8)
        lists = self._faiss.invlists
        ids = faiss.rev_swig_ptr(lists.get_ids(number), stop)[start:]
        codes = faiss.rev_swig_ptr(lists.get_codes(number), stop * self.code_bytes)[start * self.code_bytes :]
        return np.array(ids), np.array(codes).reshape(stop - start, self.code_bytes)

    def put_entries(self, slices: Iterable[tuple[int, Ids, Codes]]) -> None:
        """Fill empty lists with saved entries: (list, ids (N,), codes (N, code_bytes))."""
        for number, ids, codes in slices:
            self._faiss.invlists.add_entries(number, len(ids), faiss.swig_ptr(ids), faiss.swig_ptr(codes))
        self._faiss.ntotal = self._faiss.invlists.compute_ntotal()
        self.count = int(self._faiss.ntotal)
        self.make_room(self.count)

    def code(self, number: int) -> Codes | None:
        """Return the code of an id, shape (code_bytes,), None when it is not held."""
        try:
            place = self._faiss.direct_map.get(number)
        except RuntimeError:
            return None
        codes = self.entries(place >> 32, place & 0xFFFFFFFF, (place & 0xFFFFFFFF) + 1)[1]
        return codes.reshape(-1)

    def encode(self, vector: Vector) -> Codes:
        """Return the code that a vector (D,) has here, shape (code_bytes,)."""
        in_this_thread()
        row = np.ascontiguousarray(vector[None], np.float32)
        if self.kind is IndexKind.EXACT:
            return row.view(np.uint8).reshape(-1)
        return np.asarray(self._codes.compute_codes(row)[0], np.uint8)

    def release(self) -> None:
        """Free the memory of lists that nobody uses any more.

        Left to the garbage collector, FAISS would free it while the interpreter stands still.
        """
        self._faiss.direct_map.set_type(_NO_TABLE, self._faiss.invlists, 0)
        nothing = faiss.ArrayInvertedLists(self.lists, self.code_bytes)
        self._faiss.replace_invlists(nothing, False)
        self._faiss.referenced_objects = [nothing]

    def _exact(self) -> Any:
        quantizer = faiss.IndexFlatIP(self.dimension)
        quantizer.add(self.centroids)
        return faiss.IndexIVFFlat(quantizer, self.dimension, self.lists, faiss.METRIC_INNER_PRODUCT)

    def _quantized(self) -> Any:
        # The centroids have codes as the vectors have: of a million, they are a third of what a search reads.
        quantizer: Any = faiss.IndexScalarQuantizer(self.dimension, _SIGNED, faiss.METRIC_INNER_PRODUCT)
        quantizer.is_trained = True
        quantizer.add(self._signed(self.centroids))
        return faiss.IndexIVFScalarQuantizer(
            quantizer,
            self.dimension,
            self.lists,
            _SIGNED,
            faiss.METRIC_INNER_PRODUCT,
            False,  # codes of the vectors themselves, not of their distance to the centroid: they need not be decoded
        )

    def _signed(self, vectors: Matrix) -> Matrix:
        """Return the codes of vectors (N, D) as FAISS takes them in: numbers from -128 to 127."""
        return self._codes.compute_codes(np.ascontiguousarray(vectors, np.float32)).astype(np.float32) - _MIDDLE

    def _asked(self, queries: Matrix) -> Matrix:
        """Return queries (N, D) as FAISS is to be asked."""
        if self.kind is IndexKind.QUANTIZED:
            scaled = queries * self._scale
            scaled *= _GREATEST / np.abs(scaled).max(axis=1, keepdims=True)
            # Whole numbers, because FAISS makes bytes of them where its processor multiplies these. It costs about as
            # much of a score as a code does, and the best are ranked by their vectors.
            queries = np.rint(scaled, out=scaled)
        return np.ascontiguousarray(queries, np.float32)


def flat_ids(runs: Sequence[range], seqs: Sequence[int], base: int) -> Ids:
    """Return the ids of runs of seqs and of single seqs, shape (N,)."""
    parts = [np.arange(run.start, run.stop, dtype=np.int64) for run in runs]
    return np.concatenate([*parts, np.array(seqs, dtype=np.int64)]) - base
