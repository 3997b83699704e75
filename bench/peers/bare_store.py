"""A floor: a bare index in memory with key-values in LMDB, and no more of a store than a lock around both.

The index is built again from LMDB at each start, since such a library keeps no log of its own. `N` vectors, `D` size.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from memory3.bench.peers.payloads import Payloads, matches
from memory3.bench.peers.protocol import Found, Item, Vector, Where
from memory3.store.disk.locks import ReadWriteLock

Keys = npt.NDArray[np.int64]
_BATCH = 10_000


class Index(Protocol):
    """A library's index."""

    def add(self, keys: Keys, vectors: npt.NDArray[np.float32]) -> None:
        """Take vectors (N, D) under keys that it does not hold."""
        ...

    def remove(self, keys: Keys) -> None:
        """Forget keys that it holds."""
        ...

    def settle(self) -> None:
        """Train or build, once the first load is there."""
        ...

    def selector(self, keys: Keys) -> Any:
        """What makes a search look at these keys alone.

        Raises:
            Unsupported: the library has no filters.
        """
        ...

    def search(self, vector: Vector, k: int, selector: Any) -> list[int]:
        """The keys of the k nearest, best first; only of those selected, where `selector` is not None."""
        ...

    def set_effort(self, effort: int) -> None: ...


class BareStore:
    """An index, and what it is of in LMDB. Changes are synced before they return, and made one at a time."""

    def __init__(self, path: Path, index: Index, synced: bool = True) -> None:
        self._payloads = Payloads(path, synced)
        self._index = index
        self._lock = ReadWriteLock()
        self._percents: dict[int, int] = {}
        self._selectors: dict[Where, Any] = {}
        batch: list[tuple[int, int, Vector]] = []
        for row in self._payloads.vectors():
            batch.append(row)
            if len(batch) == _BATCH:
                self._take(batch)
                batch = []
        self._take(batch)
        if self._percents:
            index.settle()

    def load(self, items: Sequence[Item]) -> None:
        self.upsert(items)

    def settle(self) -> None:
        with self._lock.writing():
            self._index.settle()

    def upsert(self, items: Sequence[Item]) -> None:
        with self._lock.writing():
            self._payloads.put(items)
            self._forget([item.key for item in items])
            self._take([(item.key, item.percent, item.vector) for item in items])

    def delete(self, keys: Sequence[int]) -> None:
        with self._lock.writing():
            self._payloads.delete(keys)
            self._forget(keys)

    def recall(self, vector: Vector, k: int, where: Where | None = None) -> list[Found]:
        with self._lock.reading():
            keys = self._index.search(vector, k, None if where is None else self._selector(where))
            values = self._payloads.get(keys)
        return [Found(key, value) for key, value in zip(keys, values, strict=True) if value is not None]

    def set_effort(self, effort: int) -> None:
        self._index.set_effort(effort)

    def processes(self) -> list[int]:
        return []

    def close(self) -> None:
        self._payloads.close()

    def _selector(self, where: Where) -> Any:
        if where not in self._selectors:
            found = [key for key, percent in self._percents.items() if matches(where, percent)]
            self._selectors[where] = self._index.selector(np.array(found, dtype=np.int64))
        return self._selectors[where]

    def _take(self, rows: Sequence[tuple[int, int, Vector]]) -> None:
        if rows:
            self._index.add(np.array([key for key, _, _ in rows]), np.stack([vector for _, _, vector in rows]))
            self._percents.update((key, percent) for key, percent, _ in rows)
            self._selectors.clear()

    def _forget(self, keys: Sequence[int]) -> None:
        held = [key for key in keys if key in self._percents]
        if held:
            self._index.remove(np.array(held))
            self._selectors.clear()
        for key in held:
            del self._percents[key]
