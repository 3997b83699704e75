"""Memory3 itself: in process through the store, over the network through its own server and client."""

from collections.abc import Sequence
from pathlib import Path

from memory3.bench.peers.protocol import Found, Item, Peer, Vector, Where
from memory3.calls import DEFAULT_COLLECTION
from memory3.client import Client
from memory3.cluster.embedded import Embedded
from memory3.cluster.server import Server
from memory3.model.embedder import DEFAULT_DIMENSION, DEFAULT_EMBEDDER
from memory3.store.directory import DataDirectory
from memory3.store.filters.parser import parse_filter
from memory3.store.types import Document, EmbeddedDocument, Hit, Reference

FINGERPRINT = "benchmark"


class Memory3Store:
    """A data directory, open in this process."""

    def __init__(self, path: Path, size: int) -> None:
        self._directory = DataDirectory.open(path)
        self._collection = self._directory.create_collection(DEFAULT_COLLECTION, DEFAULT_EMBEDDER, DEFAULT_DIMENSION)

    def load(self, items: Sequence[Item]) -> None:
        self.upsert(items)

    def settle(self) -> None:
        """Wait for the lists to be made that suit what is stored; each change is in the index when it returns."""
        for shard in self._collection._shards.values():
            shard._maintenance.wait()

    def upsert(self, items: Sequence[Item]) -> None:
        results = self._collection.upsert([_embedded(item) for item in items])
        # A document of one memory: its version is the memory's seq.
        written = zip(results, items, strict=True)
        self._collection.put_key_values(
            FINGERPRINT, [(result.version, item.key_values) for result, item in written if item.key_values]
        )

    def delete(self, keys: Sequence[int]) -> None:
        self._collection.delete([str(key) for key in keys])

    def recall(self, vector: Vector, k: int, where: Where | None = None) -> list[Found]:
        filter = None if where is None else parse_filter({where.field: where.value})
        return _found(self._collection.recall(vector[None], k, FINGERPRINT, filter, key_values=True)[0])

    def set_effort(self, effort: int) -> None:
        """The store chooses by itself."""

    def processes(self) -> list[int]:
        return []

    def close(self) -> None:
        self._directory.close()


class Memory3Client:
    """A connection to `memory3 serve`'s server."""

    def __init__(self, address: str) -> None:
        self._client = Client(address)

    def recall(self, vector: Vector, k: int, where: Where | None = None) -> list[Found]:
        filter = None if where is None else {where.field: where.value}
        return _found(self._client.recall(vector, k, filter=filter, key_values=FINGERPRINT))

    def set_effort(self, effort: int) -> None:
        """The server's store chooses by itself."""

    def close(self) -> None:
        self._client.close()


class Memory3Server:
    """What `memory3 serve` runs, less its background writing, which needs a model and nothing here has one to read."""

    def __init__(self, path: Path) -> None:
        self._memory = Embedded(path)
        self._server = Server(self._memory, write_in_background=False)
        self._server.start()
        self.address = self._server.address

    def stop(self) -> None:
        self._server.stop()
        self._memory.close()


def _embedded(item: Item) -> EmbeddedDocument:
    document = Document(str(item.key), item.text, {"percent": item.percent, "tenth": item.tenth})
    return EmbeddedDocument(document, [Reference(item.text, item.vector)])


def _found(hits: Sequence[Hit]) -> list[Found]:
    return [Found(int(hit.key), hit.key_values or b"") for hit in hits]


PEER = Peer(
    "Memory3",
    ("faiss-cpu", "lmdb"),
    Memory3Store,
    "exact up to 5,000, then IVF, SQ8 with 2 sqrt(N) lists, ranked by the exact vectors",
    "synced LMDB commit of document and vector; key-values may lose their last commits to a power failure (not to a "
    "kill) and are written again from text",
    transport="its own gRPC server",
    serve=lambda path, size, effort: Memory3Server(path),
    connect=lambda address, effort: Memory3Client(address),
)
