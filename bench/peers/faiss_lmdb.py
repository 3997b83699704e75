"""Floors: bare FAISS with LMDB, exact and with inverted lists."""

import math
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
from memory3.bench.peers.bare_store import BareStore, Keys
from memory3.bench.peers.protocol import Peer, Vector

DIMENSION = 384
TRAINING_POINTS_PER_LIST = 64
EFFORTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

faiss.omp_set_num_threads(1)


class FaissIndex:
    """An index of inverted lists, by inner product; with one list it is exact."""

    def __init__(self, lists: int, code: str) -> None:
        # FAISS's stubs know no more of what a factory makes than that it is an index.
        made: Any = faiss.index_factory(DIMENSION, f"IVF{lists},{code}", faiss.METRIC_INNER_PRODUCT)
        self._index = made
        made.cp.max_points_per_centroid = TRAINING_POINTS_PER_LIST
        made.cp.min_points_per_centroid = 1  # of the handful that the check stores; else it warns
        self._waiting: list[tuple[Keys, npt.NDArray[np.float32]]] = []
        self._nprobe = 1

    def add(self, keys: Keys, vectors: npt.NDArray[np.float32]) -> None:
        if self._index.is_trained:
            self._index.add_with_ids(np.ascontiguousarray(vectors), keys)
        else:
            self._waiting.append((keys, vectors))

    def remove(self, keys: Keys) -> None:
        self.settle()
        self._index.remove_ids(faiss.IDSelectorArray(keys))

    def settle(self) -> None:
        if self._index.is_trained or not self._waiting:
            return
        self._index.train(np.concatenate([vectors for _, vectors in self._waiting]))
        # Without it a removal looks through every list: milliseconds in place of microseconds.
        self._index.set_direct_map_type(faiss.DirectMap.Hashtable)  # type: ignore[attr-defined]
        waiting, self._waiting = self._waiting, []
        for keys, vectors in waiting:
            self.add(keys, vectors)

    def selector(self, keys: Keys) -> Any:
        mask = np.zeros(int(keys.max(initial=0)) + 1, dtype=bool)
        mask[keys] = True
        bits = np.packbits(mask, bitorder="little")
        return faiss.IDSelectorBitmap(bits)  # type: ignore[call-arg, arg-type]  # Python's takes the array alone

    def search(self, vector: Vector, k: int, selector: Any) -> list[int]:
        self.settle()
        parameters = faiss.SearchParametersIVF(sel=selector, nprobe=self._nprobe)  # type: ignore[call-arg]
        _, keys = self._index.search(vector[None], k, params=parameters)
        return [key for key in keys[0].tolist() if key >= 0]

    def set_effort(self, effort: int) -> None:
        self._nprobe = effort


def lists_of(size: int) -> int:
    """How many lists FAISS's guidelines advise: from four times the root of the number of vectors."""
    return max(1, round(4 * math.sqrt(size)))


def _open_flat(path: Path, size: int) -> BareStore:
    return BareStore(path, FaissIndex(1, "Flat"))


def _open_ivf(path: Path, size: int) -> BareStore:
    return BareStore(path, FaissIndex(lists_of(size), "SQ8"))


PACKAGES = ("faiss-cpu", "lmdb")
DURABLE = "synced LMDB commit; the index is built anew at each start"
FLAT = Peer("FAISS flat + LMDB", PACKAGES, _open_flat, "exact, IVF1,Flat", DURABLE, floor=True)
IVF = Peer(
    "FAISS IVF + LMDB", PACKAGES, _open_ivf, "IVF, SQ8, 4√N lists", DURABLE, EFFORTS, effort_name="nprobe", floor=True
)
