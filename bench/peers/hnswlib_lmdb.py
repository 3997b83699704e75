"""A floor: hnswlib with LMDB."""

from pathlib import Path
from typing import Any

import hnswlib
import numpy as np
import numpy.typing as npt
from memory3.bench.peers.bare_store import BareStore, Keys
from memory3.bench.peers.protocol import Peer, Vector
from memory3.bench.peers.work import SPARE

DIMENSION = 384


class HnswlibIndex:
    """A graph by inner product. A removed element stays in the graph, marked, and its place is used again."""

    def __init__(self, capacity: int) -> None:
        self._index = hnswlib.Index(space="ip", dim=DIMENSION)
        self._index.init_index(capacity, M=16, ef_construction=200, random_seed=1, allow_replace_deleted=True)
        self._index.set_num_threads(1)

    def add(self, keys: Keys, vectors: npt.NDArray[np.float32]) -> None:
        self._index.add_items(vectors, keys, num_threads=1, replace_deleted=True)

    def remove(self, keys: Keys) -> None:
        for key in keys.tolist():
            self._index.mark_deleted(key)

    def settle(self) -> None:
        """The graph grows with each element."""

    def selector(self, keys: Keys) -> Any:
        return set(keys.tolist()).__contains__

    def search(self, vector: Vector, k: int, selector: Any) -> list[int]:
        found, _ = self._index.knn_query(vector, k=k, num_threads=1, filter=selector)
        return [int(key) for key in found[0]]

    def set_effort(self, effort: int) -> None:
        self._index.set_ef(effort)


def _open(path: Path, size: int) -> BareStore:
    return BareStore(path, HnswlibIndex(size + SPARE))


PEER = Peer(
    "hnswlib + LMDB",
    ("hnswlib", "lmdb"),
    _open,
    "HNSW, M 16, ef_construction 200",
    "synced LMDB commit; the index is built anew at each start",
    (10, 20, 40, 80, 160, 320, 640, 1280, 2560),
    effort_name="ef",
    floor=True,
)
