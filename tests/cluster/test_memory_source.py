"""A model reads the key-values that it wrote itself and no others, also where another model's stand beside them."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from memory3.answers import Answer
from memory3.client import Client
from memory3.cluster.embedded import Embedded
from memory3.cluster.server import Server
from memory3.protos.memory3.v1 import memory_service_pb2 as pb
from memory3.store.collection import Collection
from memory3.store.types import Document
from memory3.wire.key_values import decode_fetched

DOCUMENTS = [
    Document("bees", "Mira Sandoval keeps bees on the roof of the old post office."),
    Document("ferry", "The ferry to the island leaves at nine."),
]
TEXTS = [document.text for document in DOCUMENTS]


@pytest.fixture(scope="module")
def other_model(random_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a model that differs from `random_model` in its weights alone."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("other-model")
    shutil.copytree(random_model, folder, dirs_exist_ok=True)
    torch.manual_seed(1)
    LlamaForCausalLM(LlamaConfig.from_pretrained(random_model)).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The fingerprint of each fetch from the store, from now on."""
    fingerprints = []
    fetch = Collection.fetch_key_values

    def fetch_and_note(self: Collection, fingerprint: str, seqs: Sequence[int]) -> list[bytes | None]:
        fingerprints.append(fingerprint)
        return fetch(self, fingerprint, seqs)

    monkeypatch.setattr(Collection, "fetch_key_values", fetch_and_note)
    return fingerprints


@contextmanager
def served(data: Path, model: str) -> Iterator[tuple[Embedded, Client]]:
    with (
        Embedded(data, model=model) as memory,
        Server(memory, write_in_background=False) as server,
        Client(server.address) as client,
    ):
        memory.load_models()
        yield memory, client


def answer(of: Client) -> Answer:
    return of.ask("Who keeps bees?", memories=2, max_tokens=12, temperature=1.0, seed=1).result()


def test_another_model_on_the_same_data(
    tmp_path: Path, random_model: str, other_model: str, fetched: list[str]
) -> None:
    """To the second model all is cold: it writes key-values of its own, and both models' stand side by side."""
    with served(tmp_path / "data", random_model) as (memory, client):
        seqs = [result.version for result in client.upsert(DOCUMENTS)]
        first_answer = answer(client)
        first = memory.models.language_model
        written_first = client.fetch_key_values(first.fingerprint, seqs)
        assert written_first == first.write(TEXTS)
    fetched.clear()
    with served(tmp_path / "data", other_model) as (memory, client):
        second = memory.models.language_model
        assert second.fingerprint != first.fingerprint
        assert not any(hit.warm for hit in client.recall("Who keeps bees?"))
        assert client.stats().warm == {first.fingerprint: 2}
        second_answer = answer(client)
        assert set(fetched) == {second.fingerprint}
        written_second = client.fetch_key_values(second.fingerprint, seqs)
        assert written_second == second.write(TEXTS) != written_first
        assert client.fetch_key_values(first.fingerprint, seqs) == written_first
        assert client.stats().warm == {first.fingerprint: 2, second.fingerprint: 2}
        assert client.check(full=True).ok
    # As the second model answers where the first never was.
    with served(tmp_path / "alone", other_model) as (_, client):
        client.upsert(DOCUMENTS)
        assert answer(client).text == second_answer.text != first_answer.text
    fetched.clear()
    with served(tmp_path / "data", random_model) as (_, client):
        assert all(hit.warm for hit in client.recall("Who keeps bees?"))
        assert answer(client).text == first_answer.text
        assert set(fetched) == {first.fingerprint}


def test_key_values_of_a_fingerprint_that_nobody_has(server: Server, client: Client, collection: str) -> None:
    """Each memory asked for is answered, without values: to that model it is cold."""
    seqs = [result.version for result in client.upsert(DOCUMENTS, collection=collection)]
    client.write(collection=collection)
    assert client.fetch_key_values("of no model", seqs, collection=collection) == [None, None]
    request = pb.FetchKeyValuesRequest(collection=collection, fingerprint="of no model", seqs=seqs)
    with grpc.insecure_channel(server.address) as channel:
        fetch = channel.unary_stream(  # type: ignore[var-annotated]
            "/memory3.v1.MemoryService/FetchKeyValues", pb.FetchKeyValuesRequest.SerializeToString
        )
        items = [item for message in fetch(request) for item in decode_fetched(message)]
    assert [(item.seq, item.values) for item in items] == [(seq, None) for seq in seqs]
    assert client.stats(collection=collection).warm.keys().isdisjoint({"of no model"})
