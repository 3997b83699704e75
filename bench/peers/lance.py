"""LanceDB in process."""

import os
import threading
import warnings
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

os.environ.setdefault("LANCE_LOG", "error")  # read when the library loads

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import Bitmap, BTree, HnswSq
from memory3.bench.peers.protocol import Found, Item, Peer, Vector, Where

DIMENSION = 384
ROWS_PER_PARTITION = 1 << 20
"""What LanceDB's docs advise for HNSW: one partition for each million rows."""
_NAME = "items"


class LanceStore:
    """One table. Changes are made one at a time: concurrent ones would conflict and be tried again."""

    def __init__(self, path: Path, size: int) -> None:
        database = lancedb.connect(str(path))
        made = _NAME in database.table_names()
        self._table: Any = database.open_table(_NAME) if made else database.create_table(_NAME, schema=_schema())
        self._partitions = max(1, size // ROWS_PER_PARTITION)
        self._indexed = made
        self._writing = threading.Lock()
        self._ef = 0

    def load(self, items: Sequence[Item]) -> None:
        self._table.add(_rows(items))

    def settle(self) -> None:
        if not self._indexed:
            self._table.create_index(
                "vector",
                config=HnswSq(distance_type="dot", num_partitions=self._partitions, m=20, ef_construction=300),
            )
            self._table.create_index("key", config=BTree())
            self._table.create_index("percent", config=Bitmap())
            self._table.create_index("tenth", config=Bitmap())
            self._indexed = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # older versions are dropped on purpose: nobody else reads them
            self._table.optimize(cleanup_older_than=timedelta(0))

    def upsert(self, items: Sequence[Item]) -> None:
        with self._writing:
            merge = self._table.merge_insert("key").when_matched_update_all().when_not_matched_insert_all()
            merge.execute(_rows(items))

    def delete(self, keys: Sequence[int]) -> None:
        with self._writing:
            self._table.delete(f"key in ({', '.join(map(str, keys))})")

    def recall(self, vector: Vector, k: int, where: Where | None = None) -> list[Found]:
        search = self._table.search(vector, vector_column_name="vector").distance_type("dot").limit(k)
        if where is not None:
            search = search.where(f"{where.field} = {where.value}", prefilter=True)
        if self._ef:
            search = search.ef(self._ef).nprobes(self._partitions)
        found = search.select(["key", "key_values", "_distance"]).to_arrow()
        return [
            Found(key, values)
            for key, values in zip(found.column("key").to_pylist(), found.column("key_values").to_pylist(), strict=True)
        ]

    def set_effort(self, effort: int) -> None:
        self._ef = effort

    def processes(self) -> list[int]:
        return []

    def close(self) -> None:
        """A table holds nothing open that needs it."""


def _schema() -> Any:
    return pa.schema(
        [
            ("key", pa.int64()),
            ("vector", pa.list_(pa.float32(), DIMENSION)),
            ("percent", pa.int32()),
            ("tenth", pa.int32()),
            ("key_values", pa.large_binary()),
        ]
    )


def _rows(items: Sequence[Item]) -> Any:
    vectors = np.concatenate([item.vector for item in items])
    columns = {
        "key": pa.array([item.key for item in items], pa.int64()),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors), DIMENSION),
        "percent": pa.array([item.percent for item in items], pa.int32()),
        "tenth": pa.array([item.tenth for item in items], pa.int32()),
        "key_values": pa.array([item.key_values for item in items], pa.large_binary()),
    }
    return pa.table(columns, schema=_schema())


PEER = Peer(
    "LanceDB",
    ("lancedb",),
    LanceStore,
    "IVF_HNSW_SQ, a partition for each million rows, m 20, ef_construction 300, `optimize()` after the load and after "
    "changes",
    "files are written and renamed at each change, not synced: it survives a kill, not a power failure; its docs name "
    "no setting for it",
    (8, 16, 32, 64, 128, 256, 512),
    effort_name="ef",
)
