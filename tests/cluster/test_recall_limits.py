"""A recall of too much is refused before it costs anything, and one that nobody waits for ends."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import grpc
import numpy as np
import numpy.typing as npt
import pytest
from memory3.client import Client
from memory3.cluster.embedded import Embedded
from memory3.cluster.server import Server
from memory3.protos.memory3.v1 import memory_service_pb2 as pb
from memory3.store.errors import DeadlineExceeded
from memory3.store.types import Document

from .builders import raw


@pytest.fixture(autouse=True)
def one_document(client: Client, collection: str) -> None:
    client.upsert(Document("bees", "Mira Sandoval keeps bees."), collection=collection)


@contextmanager
def slow_embedding(memory: Embedded, seconds: float) -> Iterator[list[int]]:
    """Within it a batch of texts takes so long; gives the sizes of the batches embedded."""
    embedder = memory.models.embedder
    sizes: list[int] = []

    def embed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        time.sleep(seconds)
        sizes.append(len(texts))
        return np.tile(np.eye(384, dtype=np.float32)[1], (len(texts), 1))

    embedder.embed = embed  # type: ignore[method-assign]
    try:
        yield sizes
    finally:
        del embedder.embed


def test_a_recall_of_too_much_is_refused_unembedded(server: Server, memory: Embedded, collection: str) -> None:
    """All of a message's texts were embedded before they were counted: a million kept a worker busy for hours."""
    with slow_embedding(memory, 0.0) as embedded:
        for texts, message in ((["q"] * 1_000_000, "1000000 queries"), (["x" * 1_025] * 1_024, "1049600 bytes")):
            with pytest.raises(grpc.RpcError) as caught:
                raw(server, "Recall", pb.RecallRequest(collection=collection, texts=texts))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT and message in str(caught.value)
    assert embedded == []


def test_a_recall_nobody_waits_for_ends(server: Server, memory: Embedded, collection: str) -> None:
    """It went on to embed what was left of its texts, deadline or not."""
    with slow_embedding(memory, 0.2) as embedded:
        with Client(server.address, timeout_s=0.5) as hasty, pytest.raises(DeadlineExceeded, match="ran out"):
            hasty.recall(["q"] * 1_000, collection=collection)
        time.sleep(1)
        assert len(embedded) <= 4, "of 16 batches"


def test_a_recall_tells_its_progress(client: Client, memory: Embedded, collection: str) -> None:
    told: list[tuple[int, int]] = []
    client.recall(["q"] * 100, 1, collection=collection, progress=lambda *p: told.append(p))
    assert told == [(100, 100)]
    memory.recall(["q"] * 100, 1, collection=collection, progress=lambda *p: told.append(p))
    assert told[1:] == [(0, 100), (64, 100), (100, 100)]
