"""Key-values in LMDB, beside a bare index that keeps vectors in memory only: the floors' half of a store."""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import lmdb
import numpy as np
from memory3.bench.peers.protocol import Item, Vector, Where

_MAP_BYTES = 1 << 40
_HEAD = struct.Struct("<I")


class Payloads:
    """Items by key. A commit is synced, unless `synced` is False."""

    def __init__(self, path: Path, synced: bool = True) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._lmdb = lmdb.open(
            str(path), map_size=_MAP_BYTES, max_dbs=2, readahead=False, sync=synced, max_spare_txns=32
        )
        self._values = self._lmdb.open_db(b"values", integerkey=True)
        self._vectors = self._lmdb.open_db(b"vectors", integerkey=True)

    def put(self, items: Sequence[Item]) -> None:
        with self._lmdb.begin(write=True) as txn:
            for item in items:
                txn.put(_key(item.key), item.key_values, db=self._values)
                txn.put(_key(item.key), _HEAD.pack(item.percent) + item.vector.tobytes(), db=self._vectors)

    def delete(self, keys: Sequence[int]) -> None:
        with self._lmdb.begin(write=True) as txn:
            for key in keys:
                txn.delete(_key(key), db=self._values)
                txn.delete(_key(key), db=self._vectors)

    def get(self, keys: Sequence[int]) -> list[bytes | None]:
        """The key-values of each key, None where there is no such item."""
        with self._lmdb.begin() as txn:
            return [txn.get(_key(key), db=self._values) for key in keys]

    def vectors(self) -> Iterator[tuple[int, int, Vector]]:
        """Every item's key, percent and vector."""
        with self._lmdb.begin() as txn, txn.cursor(self._vectors) as cursor:
            for key, value in cursor:
                (percent,) = _HEAD.unpack_from(value)
                yield int.from_bytes(key, "little"), percent, np.frombuffer(value, dtype=np.float32, offset=_HEAD.size)

    def close(self) -> None:
        self._lmdb.close()


def matches(where: Where, percent: int) -> bool:
    return (percent if where.field == "percent" else percent % 10) == where.value


def _key(key: int) -> bytes:
    return key.to_bytes(8, "little")
