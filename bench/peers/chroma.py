"""Chroma, in process and by its own server. Metadata are strings, so key-values travel as base64."""

import base64
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ["ANONYMIZED_TELEMETRY"] = "False"  # read when the library loads

import chromadb
import numpy as np
from chromadb.api.shared_system_client import SharedSystemClient
from chromadb.config import Settings
from memory3.bench.peers.protocol import Found, Item, Peer, Vector, Where

STARTING_S = 120.0
_NAME = "items"
_SETTINGS = {"space": "ip", "max_neighbors": 16, "ef_construction": 100, "num_threads": 1}


class ChromaStore:
    """One collection of a client, which `connect` makes."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._collection = self._opened()

    def load(self, items: Sequence[Item]) -> None:
        self.upsert(items)

    def settle(self) -> None:
        """Nothing that its docs advise."""

    def upsert(self, items: Sequence[Item]) -> None:
        self._collection.upsert(
            ids=[str(item.key) for item in items],
            embeddings=np.stack([item.vector for item in items]),
            metadatas=[
                {
                    "key_values": base64.b64encode(item.key_values).decode(),
                    "percent": item.percent,
                    "tenth": item.tenth,
                }
                for item in items
            ],
        )

    def delete(self, keys: Sequence[int]) -> None:
        self._collection.delete(ids=[str(key) for key in keys])

    def recall(self, vector: Vector, k: int, where: Where | None = None) -> list[Found]:
        wanted = None if where is None else {where.field: where.value}
        found = self._collection.query(query_embeddings=vector[None], n_results=k, where=wanted, include=["metadatas"])
        return [
            Found(int(key), base64.b64decode(metadata["key_values"]))
            for key, metadata in zip(found["ids"][0], found["metadatas"][0], strict=True)
        ]

    def set_effort(self, effort: int) -> None:
        self._collection.modify(configuration={"hnsw": {"ef_search": effort}})
        # An index in memory keeps the setting with which it was loaded.
        SharedSystemClient.clear_system_cache()
        self._collection = self._opened()

    def processes(self) -> list[int]:
        return []

    def close(self) -> None:
        SharedSystemClient.clear_system_cache()

    def _opened(self) -> Any:
        return self._connect().get_or_create_collection(
            _NAME, embedding_function=None, configuration={"hnsw": _SETTINGS}
        )


class ChromaServer:
    """`chroma run` on a free port."""

    def __init__(self, path: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [str(Path(sys.executable).with_name("chroma")), "run", "--path", str(path)]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.address = f"127.0.0.1:{port}"
        deadline = time.monotonic() + STARTING_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


def _settings() -> Any:
    return Settings(anonymized_telemetry=False)


def _open(path: Path, size: int) -> ChromaStore:
    return ChromaStore(lambda: chromadb.PersistentClient(str(path), settings=_settings()))


def _connect(address: str, effort: int) -> ChromaStore:
    host, _, port = address.rpartition(":")
    return ChromaStore(lambda: chromadb.HttpClient(host, int(port), settings=_settings()))


PEER = Peer(
    "Chroma",
    ("chromadb",),
    _open,
    "HNSW, max_neighbors 16, ef_construction 100 (its defaults)",
    "SQLite with a rollback journal, synced at each change (as by default)",
    (10, 20, 40, 80, 160, 320, 640, 1280, 2560),
    effort_name="ef_search",
    transport="its own HTTP server",
    serve=lambda path, size, effort: ChromaServer(path),
    connect=_connect,
)
