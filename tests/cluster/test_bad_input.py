"""Bad input over real gRPC: right status code, a message that says what to do, nothing lost, server still up."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from memory3.client import Client
from memory3.cluster.embedded import Embedded
from memory3.cluster.server import Server, ServerLimits
from memory3.model.engine.limits import EngineLimits
from memory3.protos.memory3.v1 import generation_service_pb2 as generation_pb
from memory3.protos.memory3.v1 import memory_service_pb2 as pb
from memory3.protos.memory3.v1 import types_pb2
from memory3.store.errors import (
    AlreadyExists,
    Cancelled,
    DeadlineExceeded,
    DirectoryInUse,
    FailedPrecondition,
    FingerprintMismatch,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
    UnsupportedFormat,
)
from memory3.store.types import Document
from memory3.wire import convert
from memory3.wire.key_values import KeyValuesItem, PutKeyValues, encode_put

from .builders import raw

BEES = Document("bees", "Mira Sandoval keeps bees on the roof of the old post office.")


@pytest.fixture(autouse=True)
def nothing_lost(client: Client, collection: str) -> Iterator[None]:
    """Around each test: a document goes in before, and stands, is found and checks out after."""
    client.upsert(BEES, collection=collection)
    yield
    found = client.get("bees", collection=collection)
    assert found is not None and found.text == BEES.text
    assert client.recall("Who keeps bees?", 1, collection=collection)[0].key == "bees"
    assert client.check(full=True, collection=collection).ok


BAD_DOCUMENTS: dict[str, tuple[Document, str]] = {
    "empty text": (Document("new", ""), "empty"),
    "huge text": (Document("new", "x" * ((16 << 20) + 1)), "at most 16777216 are allowed"),
    "empty key": (Document("", "text"), "not empty"),
    "long key": (Document("k" * 600, "text"), "at most 511"),
    "key with NUL": (Document("a\0b", "text"), "NUL"),
    "text that is no text": (Document("new", "half a pair: \ud800"), "surrogate|cannot be sent"),
    "metadata of a bad kind": (Document("new", "text", {"size": None}), "size"),  # type: ignore[dict-item]
    "metadata not a number": (Document("new", "text", {"size": float("nan")}), "finite"),
    "metadata too large": (Document("new", "text", {"size": 2**63}), "64 bits"),
    "metadata too many": (Document("new", "text", {str(number): 1 for number in range(65)}), "at most 64"),
    "metadata without a name": (Document("new", "text", {"": 1}), "a name must be text and not empty"),
    "metadata of a long name": (Document("new", "text", {"n" * 129: 1}), "over 128 bytes"),
    "metadata of many bytes": (Document("new", "text", {"size": "x" * (64 << 10)}), "at most 65536 are allowed"),
}
NO_MESSAGE_CARRIES = {"text that is no text", "metadata of a bad kind", "metadata too large"}
"""Strings are UTF-8, values of the kinds declared, integers of 64 bits; what comes nearest stands in tests below."""
GOOD = Document("good", "A good document.")


@pytest.mark.parametrize(("bad", "message"), BAD_DOCUMENTS.values(), ids=BAD_DOCUMENTS.keys())
def test_a_bad_document_is_refused_with_all_of_its_call(
    client: Client, collection: str, bad: Document, message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        client.upsert([GOOD, bad], collection=collection)
    assert client.count(collection=collection).documents == 1


@pytest.mark.parametrize("name", sorted(BAD_DOCUMENTS.keys() - NO_MESSAGE_CARRIES))
def test_the_server_refuses_a_bad_document_itself(server: Server, client: Client, collection: str, name: str) -> None:
    """The Python client refuses them before it sends, so for long nobody knew what another client is told."""
    bad, message = BAD_DOCUMENTS[name]
    documents = [convert.document_to_wire(document) for document in (GOOD, bad)]
    with pytest.raises(grpc.RpcError) as caught:
        raw(server, "Upsert", pb.UpsertRequest(collection=collection, documents=documents))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT and re.search(message, str(caught.value))
    assert client.count(collection=collection).documents == 1


@pytest.mark.parametrize("name", sorted(NO_MESSAGE_CARRIES))
def test_the_others_are_in_no_message(name: str) -> None:
    with pytest.raises(InvalidArgument):
        convert.document_to_wire(BAD_DOCUMENTS[name][0])


def test_a_key_twice_in_one_call(server: Server, client: Client, collection: str) -> None:
    twice = [Document("new", "one"), Document("new", "two")]
    with pytest.raises(InvalidArgument, match="'new' comes twice"):
        client.upsert(twice, collection=collection)
    documents = [types_pb2.Document(key=document.key, text=document.text) for document in twice]
    with pytest.raises(grpc.RpcError) as caught:
        raw(server, "Upsert", pb.UpsertRequest(collection=collection, documents=documents))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT and "'new' comes twice" in str(caught.value)


@pytest.mark.parametrize("text", [b"\xff\xfe\xfd\xfc", b"\xed\xa0\x80!"], ids=["no UTF-8", "half a surrogate pair"])
def test_bytes_that_are_no_utf8(server: Server, collection: str, text: bytes) -> None:
    request = pb.UpsertRequest(collection=collection, documents=[types_pb2.Document(key="new", text="MARK")])
    with pytest.raises(grpc.RpcError) as caught:
        raw(server, "Upsert", request.SerializeToString().replace(b"MARK", text))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "request of Upsert cannot be read" in str(caught.value) and "in UTF-8" in str(caught.value)


def test_metadata_without_a_value(server: Server, collection: str) -> None:
    document = types_pb2.Document(key="new", text="text", metadata={"size": types_pb2.MetadataValue()})
    with pytest.raises(grpc.RpcError) as caught:
        raw(server, "Upsert", pb.UpsertRequest(collection=collection, documents=[document]))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT and "'size' has no value" in str(caught.value)


IN_A_COLLECTION: dict[str, Callable[[Client, str], object]] = {
    "upsert": lambda client, name: client.upsert(Document("k", "t"), collection=name),
    "delete": lambda client, name: client.delete("k", collection=name),
    "get": lambda client, name: client.get("k", collection=name),
    "list": lambda client, name: client.list(collection=name),
    "count": lambda client, name: client.count(collection=name),
    "recall": lambda client, name: client.recall("q", collection=name),
    "ask": lambda client, name: client.ask("q", collection=name).result(),
    "write": lambda client, name: client.write(collection=name),
    "put": lambda client, name: client.put_key_values("f", {1: b"x"}, collection=name),
    "fetch": lambda client, name: client.fetch_key_values("f", [1], collection=name),
    "stats": lambda client, name: client.stats(collection=name),
    "check": lambda client, name: client.check(collection=name),
    "describe": lambda client, name: client.describe_collection(name),
    "drop": lambda client, name: client.drop_collection(name),
}


@pytest.mark.parametrize("call", IN_A_COLLECTION.values(), ids=IN_A_COLLECTION.keys())
def test_an_unknown_collection(client: Client, call: Callable[[Client, str], object]) -> None:
    with pytest.raises(NotFound, match="no collection 'nowhere'; create it first"):
        call(client, "nowhere")


def test_names_of_collections(client: Client, memory: Embedded) -> None:
    for name in ("", "a/b", "x" * 65, "ä"):
        with pytest.raises(InvalidArgument, match="must be 1 to 64"):
            client.create_collection(name)
    memory._directory.create_collection("other-embedder", "another", 8)
    with pytest.raises(AlreadyExists):
        client.create_collection("other-embedder")
    with pytest.raises(FailedPrecondition, match="embedded with 'another'"):
        client.recall("text", collection="other-embedder")
    assert client.recall(np.eye(8, dtype=np.float32)[0], collection="other-embedder") == []
    client.drop_collection("other-embedder")


def test_vectors_of_the_wrong_size_or_value(client: Client, collection: str) -> None:
    good = np.eye(384, dtype=np.float32)[0]
    for bad, message in (
        (np.ones(7, np.float32), r"expected \(N, 384\)"),
        (good * np.nan, "NaN"),
        (np.full(384, np.inf, np.float32), "NaN|infinity"),
        (good * 2, "normalise"),
        (np.zeros((2, 2, 2), np.float32), "3 dimensions"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            client.recall(bad, collection=collection)
    with pytest.raises(InvalidArgument, match="mix"):
        client.recall(["text", good], collection=collection)
    for k in (0, 1001, -1):
        with pytest.raises(InvalidArgument):
            client.recall(good, k, collection=collection)


def test_a_recall_of_nothing_and_of_both(server: Server, collection: str) -> None:
    vector = types_pb2.Vector(float32_le=b"1234")
    for request in (
        pb.RecallRequest(collection=collection),
        pb.RecallRequest(collection=collection, texts=["q"], vectors=[vector]),
        pb.RecallRequest(collection=collection, vectors=[types_pb2.Vector(float32_le=b"123")]),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            raw(server, "Recall", request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_bad_page_token(client: Client, collection: str) -> None:
    for token in ("nonsense", "AAAA", "ä"):
        with pytest.raises(InvalidArgument):
            client.list(page_token=token, collection=collection)
    with pytest.raises(InvalidArgument):
        client.list(limit=100_000, collection=collection)


def test_bad_options_of_a_generation(client: Client, collection: str) -> None:
    for options in ({"max_tokens": 0}, {"memories": 65}, {"temperature": -1.0}, {"top_p": 0.0}, {"seed": -1}):
        with pytest.raises(InvalidArgument):
            client.ask("q", collection=collection, **options).result()


def test_an_empty_stop_string(server: Server, client: Client, memory: Embedded, collection: str) -> None:
    """Every text holds the empty one: with it each answer once ended at once, empty and as if all were well."""
    for end in (client, memory):
        for stop in ("", ["a", ""]):
            with pytest.raises(InvalidArgument, match="stop string is empty"):
                end.ask("q", collection=collection, stop=stop)
    request = generation_pb.GenerateRequest(collection=collection, question="q", stop=["a", ""])
    with grpc.insecure_channel(server.address) as channel:
        generate: Any = channel.unary_stream("/memory3.v1.GenerationService/Generate")
        with pytest.raises(grpc.RpcError) as caught:
            list(generate(request.SerializeToString(), timeout=30))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT and "stop string is empty" in str(caught.value)


def test_key_values_of_another_length_or_fingerprint(client: Client, memory: Embedded, collection: str) -> None:
    model = memory.models.language_model
    seq = client.recall("bees", 1, collection=collection)[0].seq
    with pytest.raises(FingerprintMismatch, match="write them with the model"):
        client.put_key_values(model.fingerprint, {seq: b"short"}, collection=collection)
    client.put_key_values("another", {seq: b"12345678"}, collection=collection)
    with pytest.raises(InvalidArgument):
        client.put_key_values("another", {seq: b"123"}, collection=collection)
    with pytest.raises(InvalidArgument):
        client.put_key_values("", {seq: b"12345678"}, collection=collection)
    assert client.fetch_key_values(model.fingerprint, [seq], collection=collection) == [None]
    # What one model wrote is never read by another: the answer comes from key-values of its own.
    client.ask("Who keeps bees?", collection=collection, max_tokens=2).result()
    assert client.fetch_key_values(model.fingerprint, [seq], collection=collection) == model.write([BEES.text])
    assert client.fetch_key_values("another", [seq], collection=collection) == [b"12345678"]


def test_a_stream_of_key_values_that_cannot_be_read(server: Server, collection: str) -> None:
    whole = encode_put(PutKeyValues(collection, "another", [KeyValuesItem(1, b"x" * 100)]))
    empty = encode_put(PutKeyValues(collection, "another", [KeyValuesItem(1, None)]))
    with grpc.insecure_channel(server.address) as channel:
        put: Any = channel.stream_unary("/memory3.v1.MemoryService/PutKeyValues")
        for message in (whole[:-1], b"\xff" * 40, b"\x0a\x01\xff", empty):
            with pytest.raises(grpc.RpcError) as caught:
                put(iter([message]), timeout=30)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_message_over_the_limit(tmp_path: Path, memory: Embedded, collection: str) -> None:
    """A request that is too large, an answer that would be, and a page that is cut to fit."""
    limits = ServerLimits(message_bytes_max=1 << 20)
    with Server(memory, limits=limits, write_in_background=False) as small, Client(small.address) as client:
        with pytest.raises(ResourceExhausted, match=r"over the size limit.*send fewer or smaller"):
            client.upsert(Document("new", "x " * (1 << 20)), collection=collection)
        assert client.get("new", collection=collection) is None
        long = [Document(f"long-{number}", "x " * 300_000) for number in range(2)]
        vector = np.eye(384, dtype=np.float32)[0]
        with one_vector_for_all(memory):
            memory.upsert(long, collection=collection)
        with pytest.raises(ResourceExhausted, match="ask for less"):
            client.get(["long-0", "long-1"], collection=collection)
        assert len(client.list(collection=collection).documents) < 3
        assert client.recall(vector, 1, collection=collection)
    memory.delete(["long-0", "long-1"], collection=collection)


@contextmanager
def one_vector_for_all(memory: Embedded) -> Iterator[None]:
    """Within it texts are embedded as one unit vector, so that a test can store megabytes without waiting for them."""
    unit = np.eye(384, dtype=np.float32)[1]
    embedder = memory.models.embedder
    embedder.embed = lambda texts: np.tile(unit, (len(texts), 1))  # type: ignore[method-assign]
    try:
        yield
    finally:
        del embedder.embed


def test_an_expired_deadline(server: Server, client: Client, collection: str) -> None:
    """A long upsert stops when its time is over; what it had not stored by then never appears."""
    text = "".join(f"Sentence number {number} of a long document. " for number in range(6_000))
    with Client(server.address, timeout_s=0.5) as hasty, pytest.raises(DeadlineExceeded, match="ran out"):
        hasty._transport.call(
            "Upsert",
            pb.UpsertRequest(collection=collection, documents=[types_pb2.Document(key="long", text=text)]),
        )
    with Client(server.address, timeout_s=0.0005) as hasty, pytest.raises(DeadlineExceeded):
        hasty.recall("bees", collection=collection)
    time.sleep(2)
    assert client.get("long", collection=collection) is None


def test_a_client_that_goes_away_in_the_middle_of_a_stream(random_model: str, tmp_path: Path) -> None:
    """Its generation ends: where only one may run and none may wait, the next one gets in."""
    limits, collection = EngineLimits(running_max=1, waiting_max=0), "default"
    with (
        Embedded(tmp_path / "one", model=random_model, engine=limits) as memory,
        Server(memory, write_in_background=False) as server,
    ):
        memory.upsert(Document("bees", "Mira keeps bees."))
        for _ in range(2):
            with Client(server.address) as leaving:
                stream = leaving.ask("Who keeps bees?", collection=collection, max_tokens=1_000)
                next(stream.events())
                with Client(server.address) as other, pytest.raises(ResourceExhausted, match="try again"):
                    other.ask("Who keeps bees?", collection=collection, max_tokens=1).result()
            # Left without a word: the channel is closed with the stream open.
            with Client(server.address) as staying:
                _until(lambda: staying.ask("Who?", collection=collection, max_tokens=1).result())
        with Client(server.address) as closing:
            with closing.ask("Who keeps bees?", collection=collection, max_tokens=1_000) as answer:
                next(iter(answer))
            with pytest.raises(Cancelled):
                list(answer)
            _until(lambda: closing.ask("Who?", collection=collection, max_tokens=1).result())


def _until(attempt: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            attempt()
            return
        except ResourceExhausted:
            assert time.monotonic() < deadline, "the abandoned generation still runs"
            time.sleep(0.05)


def test_a_document_deleted_while_it_is_read(client: Client, memory: Embedded, collection: str) -> None:
    """Deletes and questions at the same time: never an error, and after the delete never its text."""
    stop = threading.Event()
    errors: list[BaseException] = []

    def ask() -> None:
        while not stop.is_set():
            try:
                client.ask("When does the ferry leave?", collection=collection, max_tokens=2).result()
            except BaseException as error:
                errors.append(error)
                return

    thread = threading.Thread(target=ask)
    thread.start()
    for number in range(15):
        ferry = Document("ferry", f"The ferry leaves at {number}.")
        client.upsert(ferry, collection=collection)
        client.delete("ferry", collection=collection)
        read = client.ask("When does the ferry leave?", collection=collection, max_tokens=1).result().memories
        assert "ferry" not in {hit.key for hit in read}
    stop.set()
    thread.join()
    assert not errors


def test_a_second_opener_is_told_the_address(server: Server, memory: Embedded) -> None:
    with pytest.raises(DirectoryInUse, match=r"connect to 127\.0\.0\.1:\d+ instead"):
        Embedded(memory._directory.path)


def test_another_format_version(tmp_path: Path) -> None:
    with Embedded(tmp_path / "data") as memory:
        memory.count()
    path = tmp_path / "data" / "format.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(UnsupportedFormat, match="99"):
        Embedded(tmp_path / "data")


def test_an_address_without_a_server() -> None:
    with Client("127.0.0.1:1", timeout_s=5) as nobody, pytest.raises(Unavailable, match="cannot be reached"):
        nobody.count()


def test_an_address_in_use(server: Server, memory: Embedded) -> None:
    with pytest.raises(Unavailable, match="cannot listen"):
        Server(memory, server.address)
