"""Milvus Lite. Binary fields are not offered, so key-values travel as base64 in a VARCHAR.

Its client always talks gRPC, to a server that it starts in the same process; "over gRPC" here is that server from
another process.
"""

import base64
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from memory3.bench.peers.protocol import Found, Item, Peer, Vector, Where
from milvus_lite.server_manager import server_manager_instance
from pymilvus import DataType, MilvusClient

DIMENSION = 384
_NAME = "items"


class MilvusStore:
    """One collection. Changes are made one at a time, as its docs ask."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._writing = threading.Lock()
        self._params: dict[str, Any] = {"metric_type": "IP"}
        self._client: Any = self._opened()

    def load(self, items: Sequence[Item]) -> None:
        self.upsert(items)

    def settle(self) -> None:
        self._client.flush(_NAME)
        # Indices are built in the background, and closing waits for them.
        self.close()
        self._client = self._opened()

    def upsert(self, items: Sequence[Item]) -> None:
        with self._writing:
            self._client.upsert(_NAME, [_row(item) for item in items])

    def delete(self, keys: Sequence[int]) -> None:
        with self._writing:
            self._client.delete(_NAME, ids=list(keys))

    def recall(self, vector: Vector, k: int, where: Where | None = None) -> list[Found]:
        found = self._client.search(
            _NAME,
            data=[vector],
            anns_field="vector",
            limit=k,
            filter="" if where is None else f"{where.field} == {where.value}",
            output_fields=["key_values"],
            search_params=self._params,
        )
        return [Found(int(hit["key"]), base64.b64decode(hit["entity"]["key_values"])) for hit in found[0]]

    def set_effort(self, effort: int) -> None:
        self._params = {"metric_type": "IP", "params": {"ef": effort}}

    def processes(self) -> list[int]:
        return []

    def close(self) -> None:
        self._client.close()
        server_manager_instance.release_server(self._uri)

    def _opened(self) -> Any:
        client: Any = MilvusClient(self._uri)
        if not client.has_collection(_NAME):
            _create(client)
        client.load_collection(_NAME)
        return client


def _create(client: Any) -> None:
    schema = MilvusClient.create_schema(auto_id=False)
    schema.add_field("key", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIMENSION)
    schema.add_field("percent", DataType.INT32)
    schema.add_field("tenth", DataType.INT32)
    schema.add_field("key_values", DataType.VARCHAR, max_length=65_535)
    indices = client.prepare_index_params()
    indices.add_index("vector", index_type="HNSW", metric_type="IP", params={"M": 16, "efConstruction": 200})
    indices.add_index("percent", index_type="INVERTED")
    indices.add_index("tenth", index_type="INVERTED")
    client.create_collection(_NAME, schema=schema, index_params=indices)


class MilvusServer:
    """The server that the client starts for a local path."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        uri = server_manager_instance.start_and_get_uri(self._path)
        if uri is None:
            raise RuntimeError("Milvus Lite's server does not start; its log says why")
        self.address = uri

    def stop(self) -> None:
        server_manager_instance.release_server(self._path)


def _row(item: Item) -> dict[str, Any]:
    return {
        "key": item.key,
        "vector": item.vector,
        "percent": item.percent,
        "tenth": item.tenth,
        "key_values": base64.b64encode(item.key_values).decode(),
    }


def _connect(address: str, effort: int) -> MilvusStore:
    store = MilvusStore(address)
    if effort:
        store.set_effort(effort)
    return store


def _local(path: Path) -> Path:
    # The client takes a path for a local one by its ending.
    return path / "data.db"


PEER = Peer(
    "Milvus Lite",
    ("milvus-lite", "pymilvus"),
    lambda path, size: MilvusStore(str(_local(path))),
    "HNSW, M 16, efConstruction 200, `flush()` after the load and after changes",
    "written to its log, not synced: it survives a kill, not a power failure; the log's setting for it is not offered",
    (8, 16, 32, 64, 128, 256, 512),
    effort_name="ef",
    transport="its own gRPC server",
    serve=lambda path, size, effort: MilvusServer(_local(path)),
    connect=_connect,
)
