"""The collection "default" is there for every embedder, until something is stored in it."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from memory3.client import Client
from memory3.cluster.embedded import Embedded
from memory3.cluster.server import Server
from memory3.model import embedder as packaged
from memory3.model.embedder import DEFAULT_EMBEDDER
from memory3.store.errors import AlreadyExists, FailedPrecondition, NotFound
from memory3.store.types import Document

BEES = Document("bees", "Mira Sandoval keeps bees on the roof of the old post office.")
DIMENSION = 16


@pytest.fixture(scope="module")
def small_embedder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of an embedder with random weights and vectors of another length than the packaged one's."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    folder = tmp_path_factory.mktemp("embedder")
    tokenizer = AutoTokenizer.from_pretrained(packaged._packaged_folder())
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=DIMENSION,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=DIMENSION,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


LOOKS: dict[str, Callable[[Embedded | Client], object]] = {
    "list": lambda memory: memory.list(),
    "get": lambda memory: memory.get("bees"),
    "count": lambda memory: memory.count(),
    "stats": lambda memory: memory.stats(),
    "check": lambda memory: memory.check(full=True),
    "delete": lambda memory: memory.delete("bees"),
    "recall": lambda memory: memory.recall(np.eye(384, dtype=np.float32)[0]),
    "fetch": lambda memory: memory.fetch_key_values("f", [1]),
    "describe": lambda memory: memory.describe_collection("default"),
    "collections": lambda memory: memory.list_collections(),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS.keys())
def test_a_look_does_not_choose_the_embedder(
    look: Callable[[Embedded | Client], object], tmp_path: Path, small_embedder: str, random_model: str
) -> None:
    """It did: `memory3 list` in a new directory made "default" for the packaged embedder, and from then on nothing
    could be added with another."""
    with Embedded(tmp_path) as memory:
        look(memory)
    with Embedded(tmp_path, embedder=small_embedder, model=random_model) as memory:
        assert memory.describe_collection("default").embedder == small_embedder
        assert memory.upsert(BEES)[0].changed
        assert [hit.key for hit in memory.recall("Who keeps bees?")] == ["bees"]
        assert memory.check(full=True).ok


def test_nor_does_it_over_grpc(tmp_path: Path, small_embedder: str, random_model: str) -> None:
    with Embedded(tmp_path) as memory, Server(memory) as server, Client(server.address) as client:
        for look in LOOKS.values():
            look(client)
    with (
        Embedded(tmp_path, embedder=small_embedder, model=random_model) as memory,
        Server(memory) as server,
        Client(server.address) as client,
    ):
        assert client.list_collections() == [client.create_collection("default")]
        client.upsert(BEES)
        assert client.recall(np.eye(DIMENSION, dtype=np.float32)[0])[0].key == "bees"
        assert client.describe_collection("default").dimension == DIMENSION


def test_what_is_stored_keeps_its_embedder_until_it_is_deleted(
    tmp_path: Path, small_embedder: str, random_model: str
) -> None:
    with Embedded(tmp_path, model=random_model) as memory:
        memory.upsert(BEES)
    with Embedded(tmp_path, embedder=small_embedder, model=random_model) as memory:
        for refused in (lambda: memory.upsert(Document("new", "text")), lambda: memory.recall("bees")):
            with pytest.raises(FailedPrecondition, match="open it with embedder="):
                refused()
        with pytest.raises(AlreadyExists):
            memory.create_collection("default")
        found = memory.get("bees")
        assert found is not None and found.text == BEES.text
        assert memory.describe_collection("default").embedder == DEFAULT_EMBEDDER
        memory.delete("bees")
        assert memory.upsert(BEES)[0].changed
        assert memory.describe_collection("default").embedder == small_embedder


def test_an_embedder_that_cannot_be_loaded_leaves_it_as_it_is(tmp_path: Path) -> None:
    with Embedded(tmp_path) as memory:
        info = memory.describe_collection("default")
    with Embedded(tmp_path, embedder=str(tmp_path / "none")) as memory, pytest.raises(NotFound, match="embedder"):
        memory.count()
    with Embedded(tmp_path) as memory:
        assert memory.list_collections() == [info]


def test_other_collections_keep_the_embedder_that_they_were_made_for(tmp_path: Path, small_embedder: str) -> None:
    """They were made by a call of their own, and a call can drop them."""
    with Embedded(tmp_path) as memory:
        made = memory.create_collection("empty")
    with Embedded(tmp_path, embedder=small_embedder) as memory:
        with pytest.raises(AlreadyExists):
            memory.create_collection("empty")
        assert memory.describe_collection("empty") == made


def test_many_that_come_first_at_once_lose_nothing(tmp_path: Path, small_embedder: str, random_model: str) -> None:
    with Embedded(tmp_path) as memory:
        memory.count()
    with Embedded(tmp_path, embedder=small_embedder, model=random_model) as memory:
        memory.load_models()
        start = threading.Barrier(8)

        def work(number: int) -> None:
            start.wait()
            memory.upsert(Document(f"key-{number}", f"Sentence number {number}."))
            memory.count()

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(work, range(8)))
        assert memory.count().documents == 8
