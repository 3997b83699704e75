"""The stores of the comparison by name. A library is imported only when its own store is asked for."""

from importlib import import_module

from memory3.bench.peers.protocol import Peer

MODULES = {
    "memory3": ("memory3_store", "PEER"),
    "qdrant": ("qdrant", "PEER"),
    "qdrant-flushed": ("qdrant", "FLUSHED"),
    "lancedb": ("lance", "PEER"),
    "pgvector": ("postgres", "PEER"),
    "chroma": ("chroma", "PEER"),
    "milvus": ("milvus", "PEER"),
    "faiss-flat": ("faiss_lmdb", "FLAT"),
    "faiss-ivf": ("faiss_lmdb", "IVF"),
    "hnswlib": ("hnswlib_lmdb", "PEER"),
    "usearch": ("usearch_lmdb", "PEER"),
}


def peer(name: str) -> Peer:
    """Raises ImportError where the library is not installed."""
    module, attribute = MODULES[name]
    found = getattr(import_module(f"memory3.bench.peers.{module}"), attribute)
    assert isinstance(found, Peer)
    return found
