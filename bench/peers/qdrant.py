"""Qdrant's engine in process: qdrant-edge. Payloads are JSON, so key-values travel as base64."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import qdrant_edge as edge
from memory3.bench.peers.protocol import Found, Item, Peer, Vector, Where

DIMENSION = 384
INDEXING_THRESHOLD_KB = 1_000
FULL_SCAN_THRESHOLD_KB = 1_000
"""Qdrant scans what is smaller than these; its defaults of 10,000 would leave sets of a few thousand unindexed."""


class QdrantStore:
    """One shard. Changes go to its log; `flushed` also syncs all of it to disk before each acknowledgement."""

    def __init__(self, path: Path, flushed: bool) -> None:
        self._flushed = flushed
        if (path / "edge_config.json").exists():
            self._shard = edge.EdgeShard.load(str(path))
        else:
            self._shard = edge.EdgeShard.create(str(path), _config())
            for field in ("percent", "tenth"):
                self._shard.update(edge.UpdateOperation.create_field_index(field, edge.PayloadSchemaType.Integer))
        self._params = edge.SearchParams()

    def load(self, items: Sequence[Item]) -> None:
        self._shard.update(edge.UpdateOperation.upsert_points([_point(item) for item in items]))

    def settle(self) -> None:
        self._shard.optimize()
        self._shard.flush()

    def upsert(self, items: Sequence[Item]) -> None:
        self.load(items)
        self._acknowledge()

    def delete(self, keys: Sequence[int]) -> None:
        self._shard.update(edge.UpdateOperation.delete_points(list(keys)))
        self._acknowledge()

    def recall(self, vector: Vector, k: int, where: Where | None = None) -> list[Found]:
        query = edge.QueryRequest(
            limit=k,
            query=edge.Query.Nearest(vector.tolist()),
            with_payload=["key_values"],
            filter=None if where is None else _filter(where),
            params=self._params,
        )
        return [Found(int(p.id), base64.b64decode(p.payload["key_values"])) for p in self._shard.query(query)]

    def set_effort(self, effort: int) -> None:
        self._params = edge.SearchParams(hnsw_ef=effort)

    def processes(self) -> list[int]:
        return []

    def close(self) -> None:
        self._shard.close()

    def _acknowledge(self) -> None:
        if self._flushed:
            self._shard.flush()


def _config() -> Any:
    return edge.EdgeConfig(
        vectors=edge.EdgeVectorParams(size=DIMENSION, distance=edge.Distance.Dot),
        hnsw_config=edge.HnswIndexConfig(
            m=16, ef_construct=100, full_scan_threshold=FULL_SCAN_THRESHOLD_KB, max_indexing_threads=1
        ),
        optimizers=edge.EdgeOptimizersConfig(indexing_threshold=INDEXING_THRESHOLD_KB),
        max_search_threads=1,
    )


def _point(item: Item) -> Any:
    payload = {
        "key_values": base64.b64encode(item.key_values).decode(),
        "percent": item.percent,
        "tenth": item.tenth,
    }
    return edge.Point(item.key, item.vector.tolist(), payload)


def _filter(where: Where) -> Any:
    return edge.Filter(must=[edge.FieldCondition(where.field, match=edge.MatchValue(where.value))])


PACKAGES = ("qdrant-edge-py",)
INDEX = "HNSW, m 16, ef_construct 100, `optimize()` after the load and after changes"
EFFORTS = (8, 16, 32, 64, 128, 256, 512)
PEER = Peer(
    "Qdrant Edge",
    PACKAGES,
    lambda path, size: QdrantStore(path, flushed=False),
    INDEX,
    "its log (on, as by default), not synced: it survives a kill, not a power failure",
    EFFORTS,
    effort_name="hnsw_ef",
)
FLUSHED = Peer(
    "Qdrant Edge, flushed",
    PACKAGES,
    lambda path, size: QdrantStore(path, flushed=True),
    INDEX,
    "its log, and `flush()` before each acknowledgement, which syncs",
    EFFORTS,
    effort_name="hnsw_ef",
)
