"""The service over real gRPC: what goes in comes out, at once, and the same as without a server."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from memory3.answers import Finished, Recalled, Text
from memory3.client import Client
from memory3.cluster.embedded import Embedded
from memory3.cluster.server import Server
from memory3.store.errors import Memory3Error, Unavailable
from memory3.store.types import Document, EmbeddedDocument, Reference

BEES = Document("bees", "Mira Sandoval keeps bees on the roof of the old post office.", {"page": 3, "checked": True})
FERRY = Document("ferry", "The ferry to the island leaves at nine.")
CLOCKS = Document("clocks", "Tomas repairs clocks in the harbour.", {"weight": 0.5, "town": "Brackwater"})


def test_a_document_comes_back_as_it_went_in(client: Client, collection: str) -> None:
    results = client.upsert([BEES, FERRY], collection=collection)
    assert [(result.key, result.changed, result.memories) for result in results] == [
        ("bees", True, 1),
        ("ferry", True, 1),
    ]
    found = client.get("bees", collection=collection)
    assert found is not None
    assert (found.key, found.text, found.metadata) == (BEES.key, BEES.text, BEES.metadata)
    assert client.get(["no", "ferry", "no"], collection=collection)[0] is None
    assert client.count(collection=collection).documents == 2
    assert not client.upsert(BEES, collection=collection)[0].changed


def test_client_and_embedded_answer_alike(client: Client, memory: Embedded, collection: str) -> None:
    client.upsert([BEES, FERRY, CLOCKS], collection=collection)
    vectors = memory.models.embedder.embed(["who has bees?", "when does the boat go?"])

    def everything(of: Client | Embedded) -> list[object]:
        nothing: list[str] = []
        return [
            of.get("clocks", collection=collection),
            of.get(["bees", "none", "bees"], collection=collection),
            of.list(limit=2, collection=collection),
            of.count(collection=collection),
            of.recall("who has bees?", collection=collection),
            of.recall(["who has bees?", "boat"], 2, collection=collection),
            of.recall(vectors, 1, collection=collection),
            of.recall(vectors[0], 1, collection=collection),
            of.recall(list(vectors), 1, collection=collection),
            of.recall(nothing, collection=collection),
            of.check(full=True, collection=collection),
            of.describe_collection(collection),
            of.list_collections(),
            # The file system is not ours alone.
            replace(of.stats(most_read=2, collection=collection), disk_free_bytes=0),
        ]

    def generated(of: Client | Embedded) -> list[object]:
        return [
            of.ask("who keeps bees?", max_tokens=4, collection=collection).result().text,
            of.generate("Mira", max_tokens=4, collection=collection).result().memories,
        ]

    memory.write(collection=collection)
    for ask in (everything, generated, everything):
        for over_grpc, in_process in zip(ask(client), ask(memory), strict=True):
            assert over_grpc == in_process
    assert len(client.stats(most_read=2, collection=collection).most_read) == 2


def test_an_answer_streams_its_events_in_order(client: Client, collection: str) -> None:
    client.upsert([BEES, FERRY, CLOCKS], collection=collection)
    with client.ask("Who keeps bees?", collection=collection, memories=2, max_tokens=8) as stream:
        events = list(stream.events())
        answer = stream.result()
    assert isinstance(events[0], Recalled) and isinstance(events[-1], Finished)
    assert len(events[0].memories) == 2
    assert answer.text == "".join(event.text for event in events if isinstance(event, Text)).strip()
    assert answer.memories[0].key == "bees"
    without = client.ask("Who keeps bees?", collection=collection, memories=0, max_tokens=8).result()
    assert without.memories == ()


def test_one_text_is_one_stop_string(client: Client, memory: Embedded, collection: str) -> None:
    """Over gRPC a text once became as many stop strings as it has letters, in process it was one."""

    def made(of: Client | Embedded, stop: str | list[str]) -> str:
        stream = of.generate("Mira", collection=collection, max_tokens=40, temperature=1.0, seed=1, stop=stop)
        return stream.result().text

    whole = made(client, [])
    stop = whole[-4:-1]
    expected = whole[: whole.index(stop)].strip()
    assert made(client, stop) == made(memory, stop) == made(client, [stop]) == expected
    assert len(made(client, list(stop))) < len(expected)


def test_what_is_written_is_read_at_once_and_what_is_deleted_never_again(client: Client, collection: str) -> None:
    client.upsert([BEES, FERRY], collection=collection)
    client.upsert(Document("bees", "Mira Sandoval sold her bees and keeps geese now."), collection=collection)
    texts = [hit.text for hit in client.recall("What does Mira keep?", 10, collection=collection)]
    assert texts[0] == "Mira Sandoval sold her bees and keeps geese now." and BEES.text not in texts
    receipt = client.delete(["bees", "nothing"], collection=collection)
    assert (receipt.deleted, receipt.missing, receipt.memories) == (("bees",), ("nothing",), 1)
    read = client.ask("What does Mira keep?", collection=collection, max_tokens=4).result().memories
    assert [hit.key for hit in read] == ["ferry"]
    assert client.get("bees", collection=collection) is None


def test_reading_a_cold_memory_warms_it(client: Client, memory: Embedded, collection: str) -> None:
    client.upsert([BEES, FERRY], collection=collection)
    model = memory.models.language_model
    assert client.stats(collection=collection).warm.get(model.fingerprint, 0) == 0
    client.ask("Who keeps bees?", collection=collection, memories=1, max_tokens=2).result()
    assert client.stats(collection=collection).warm[model.fingerprint] == 1
    assert client.write(collection=collection) == 1
    assert client.write(collection=collection) == 0
    warm = client.recall("bees", 1, collection=collection)[0]
    assert warm.warm
    (values,) = client.fetch_key_values(model.fingerprint, [warm.seq], collection=collection)
    assert values == model.write([warm.text])[0] and len(values) == model.key_value_bytes


def test_references_cut_for_another_model_are_read_as_far_as_this_one_reads(
    client: Client, memory: Embedded, collection: str
) -> None:
    """A data directory that is served with another model must go on answering: once such a reference, which has more
    than 128 tokens of the new model, failed every question that found it."""
    client.upsert(BEES, collection=collection)
    text = "Mira Sandoval keeps goats. " * 60
    (vector,) = memory.models.embedder.embed([text])
    memory.opened(collection).upsert([EmbeddedDocument(Document("goats", text), [Reference(text, vector)])])
    model = memory.models.language_model
    assert len(model.checkpoint.encode(text)) > 128
    with client.ask("Who keeps goats?", collection=collection, memories=2, max_tokens=2) as stream:
        assert {hit.key for hit in stream.result().memories} == {"goats", "bees"}
    assert client.stats(collection=collection).warm[model.fingerprint] == 2


def test_key_values_travel_in_pieces(client: Client, collection: str) -> None:
    """More than one message of a stream each way, of a model that this server does not run."""
    documents = [Document(f"key-{number}", f"Sentence number {number}.") for number in range(40)]
    results = client.upsert(documents, collection=collection)
    rng = np.random.default_rng(0)
    values = {result.version: rng.bytes(450_000) for result in results}
    gone = max(values) + 1
    assert client.put_key_values("another-model", values | {gone: rng.bytes(450_000)}, collection=collection) == 40
    fetched = client.fetch_key_values("another-model", [*values, gone], collection=collection)
    assert fetched == [*values.values(), None]
    assert client.fetch_key_values("a-third-model", list(values)[:2], collection=collection) == [None, None]
    assert client.fetch_key_values("another-model", [], collection=collection) == []


def test_write_takes_keys(client: Client, collection: str) -> None:
    client.upsert([BEES, FERRY, CLOCKS], collection=collection)
    progress: list[tuple[int, int]] = []
    assert client.write(["bees", "none"], collection=collection, progress=lambda *p: progress.append(p)) == 1
    assert client.write([], collection=collection) == 0
    assert progress[-1] == (1, 1)
    assert [hit.key for hit in client.recall("bees", 9, collection=collection) if hit.warm] == ["bees"]


def test_a_list_longer_than_a_message_is_paged_shorter(memory: Embedded, collection: str) -> None:
    """Pages are cut to the size of a message, and their tokens still lead through everything."""
    from memory3.cluster.memory_service import MemoryServicer
    from memory3.protos.memory3.v1 import memory_service_pb2 as pb

    memory.upsert([Document(f"{number:03}", "word " * 100) for number in range(20)], collection=collection)
    servicer = MemoryServicer(memory, message_bytes_max=2_000, watches_max=1)
    keys, token = [], ""
    while True:
        page = servicer.List(pb.ListRequest(collection=collection, page_token=token), None)  # type: ignore[arg-type]
        assert page.ByteSize() <= 2_000
        keys += [document.key for document in page.documents]
        token = page.next_page_token
        if not token:
            break
    assert keys == [f"{number:03}" for number in range(20)]


def test_an_upsert_in_several_calls_tells_its_progress(client: Client, collection: str) -> None:
    progress: list[tuple[int, int]] = []
    documents = [Document(f"key-{number}", f"Sentence number {number}.") for number in range(100)]
    client.upsert(documents, collection=collection, progress=lambda *p: progress.append(p))
    assert progress == [(64, 100), (100, 100)]
    assert client.count(collection=collection).documents == 100


def test_collections_come_and_go(client: Client) -> None:
    created = client.create_collection("passing")
    assert created == client.describe_collection("passing") and created in client.list_collections()
    client.drop_collection("passing")
    assert created not in client.list_collections()
    assert "default" in {info.name for info in client.list_collections()}


def test_health_and_reflection_answer(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for name in ("", "memory3.v1.MemoryService", "memory3.v1.GenerationService"):
            status = stub.Check(health_pb2.HealthCheckRequest(service=name)).status
            assert status == health_pb2.HealthCheckResponse.SERVING
        database = ProtoReflectionDescriptorDatabase(channel)
        assert {"memory3.v1.MemoryService", "memory3.v1.GenerationService"} <= set(database.get_services())
        assert database.FindFileContainingSymbol("memory3.v1.KeyValues").name == "memory3/v1/types.proto"


def test_another_client_may_use_key_values_as_plain_protobuf(server: Server, client: Client, collection: str) -> None:
    """What reflection promises of the streams that Python frames by hand is true."""
    from memory3.protos.memory3.v1 import memory_service_pb2 as pb
    from memory3.protos.memory3.v1.types_pb2 import KeyValues

    version = client.upsert(BEES, collection=collection)[0].version
    service = "/memory3.v1.MemoryService/"
    with grpc.insecure_channel(server.address) as channel:
        put = channel.stream_unary(
            service + "PutKeyValues", pb.PutKeyValuesRequest.SerializeToString, pb.PutKeyValuesResponse.FromString
        )
        items = [KeyValues(seq=version, values=b"xyz")]
        request = pb.PutKeyValuesRequest(collection=collection, fingerprint="f", items=items)
        assert put(iter([request])).stored == 1
        fetch = channel.unary_stream(
            service + "FetchKeyValues", pb.FetchKeyValuesRequest.SerializeToString, pb.FetchKeyValuesResponse.FromString
        )
        answers = list(fetch(pb.FetchKeyValuesRequest(collection=collection, fingerprint="f", seqs=[version])))
    assert [item.values for answer in answers for item in answer.items] == [b"xyz"]


def test_calls_from_many_threads(client: Client, collection: str) -> None:
    def work(number: int) -> None:
        document = Document(f"key-{number}", f"House number {number} is painted in colour {number}.")
        client.upsert(document, collection=collection)
        assert client.recall(document.text, 1, collection=collection)[0].key == document.key
        client.ask("Which colour?", collection=collection, max_tokens=2).result()
        client.delete(document.key, collection=collection)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert client.count(collection=collection).documents == 0
    assert client.check(full=True, collection=collection).ok


def test_the_background_writer_warms_what_is_cold(tmp_path: Path, random_model: str) -> None:
    with (
        Embedded(tmp_path / "data", model=random_model) as memory,
        Server(memory) as server,
        Client(server.address) as client,
    ):
        client.upsert([BEES, FERRY, CLOCKS])
        deadline = time.monotonic() + 60
        while sum(memory.stats().warm.values()) < 3:  # not through the server: it would never be quiet
            assert time.monotonic() < deadline
            time.sleep(0.05)
        client.delete("bees")
        assert client.check(full=True).ok


def test_a_stop_finishes_calls_and_loses_nothing(tmp_path: Path, random_model: str) -> None:
    """Every upsert that was answered stands after a stop in the middle of many; the rest fail as Unavailable."""
    answered: list[str] = []
    ended: list[type[Memory3Error]] = []
    with Embedded(tmp_path / "data", model=random_model) as memory:
        memory.load_models()
        with Server(memory) as server, Client(server.address) as client:
            client.upsert(Document("first", "The first."))

            def work() -> None:
                for number in range(10_000):
                    try:
                        client.upsert(Document(f"key-{number}", f"Sentence number {number}."))
                    except Memory3Error as error:
                        ended.append(type(error))
                        return
                    answered.append(f"key-{number}")

            thread = threading.Thread(target=work)
            thread.start()
            while len(answered) < 5:
                time.sleep(0.01)
            server.stop()
            thread.join(timeout=30)
            assert not thread.is_alive() and ended == [Unavailable]
    with Embedded(tmp_path / "data", model=random_model) as memory:
        assert all(memory.get(answered)) and memory.check(full=True).ok
