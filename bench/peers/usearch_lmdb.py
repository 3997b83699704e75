"""A floor: USearch with LMDB."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from memory3.bench.peers.bare_store import BareStore, Keys
from memory3.bench.peers.protocol import Peer, Unsupported, Vector
from usearch.index import Index

DIMENSION = 384


class UsearchIndex:
    """A graph by inner product, with the library's own defaults for its shape."""

    def __init__(self) -> None:
        self._index = Index(ndim=DIMENSION, metric="ip", dtype="f32")

    def add(self, keys: Keys, vectors: npt.NDArray[np.float32]) -> None:
        self._index.add(keys.astype(np.uint64), vectors, threads=1)

    def remove(self, keys: Keys) -> None:
        self._index.remove(keys.astype(np.uint64), threads=1)

    def settle(self) -> None:
        """The graph grows with each element."""

    def selector(self, keys: Keys) -> Any:
        raise Unsupported("its Python index has no filters")

    def search(self, vector: Vector, k: int, selector: Any) -> list[int]:
        return [int(key) for key in self._index.search(vector, k, threads=1).keys]

    def set_effort(self, effort: int) -> None:
        self._index.expansion_search = effort


def _open(path: Path, size: int) -> BareStore:
    return BareStore(path, UsearchIndex())


PEER = Peer(
    "USearch + LMDB",
    ("usearch", "lmdb"),
    _open,
    "HNSW, connectivity 16, expansion_add 128",
    "synced LMDB commit; the index is built anew at each start",
    (10, 20, 40, 80, 160, 320, 640, 1280, 2560),
    effort_name="expansion_search",
    floor=True,
)
