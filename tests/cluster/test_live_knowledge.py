"""Knowledge that changes, over real gRPC and in process: filters, expiry, versions, repeated requests, watching."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from memory3.answers import Recalled
from memory3.changes import ChangeStream
from memory3.client import Client
from memory3.cluster.embedded import Embedded
from memory3.cluster.server import Server, ServerLimits
from memory3.store.errors import (
    Aborted,
    Corrupted,
    FailedPrecondition,
    InvalidArgument,
    Memory3Error,
    ResourceExhausted,
    Unavailable,
)
from memory3.store.placement import shard_of_key
from memory3.store.types import Change, Count, Document, Hits, Quotas

BOOKS = [
    Document("moby", "A captain hunts a white whale.", {"year": 1851, "kind": "novel"}),
    Document("walden", "A man lives by himself beside a pond.", {"year": 1854, "kind": "essay"}),
    Document("emma", "A young woman makes matches in her village.", {"year": 1815, "kind": "novel"}),
    Document("notes", "Somebody hunts for a pond."),
]
FIFTIES = {"year": {"$gte": 1850, "$lt": 1860}}


@pytest.fixture(params=["over gRPC", "in process"])
def store(request: pytest.FixtureRequest, client: Client, memory: Embedded) -> Client | Embedded:
    return client if request.param == "over gRPC" else memory


@pytest.fixture
def books(store: Client | Embedded, collection: str) -> str:
    store.upsert(BOOKS, collection=collection)
    return collection


def test_filters_choose_what_is_found_listed_counted_and_deleted(store: Client | Embedded, books: str) -> None:
    found = store.recall("hunting", 9, filter=FIFTIES, collection=books)
    assert {hit.key for hit in found} == {"moby", "walden"}
    many = store.recall(["hunting", "pond"], 1, filter={"kind": "novel"}, collection=books)
    assert [hits[0].key for hits in many] == ["moby", "emma"] or {hits[0].key for hits in many} <= {"moby", "emma"}
    page = store.list(filter={"$not": {"kind": "novel"}}, collection=books)
    assert [document.key for document in page.documents] == ["notes", "walden"]
    assert store.count(filter=FIFTIES, collection=books) == Count(2, 2)
    receipt = store.delete(filter=FIFTIES, collection=books)
    assert set(receipt.deleted) == {"moby", "walden"} and receipt.missing == ()
    assert store.recall("hunting", 9, filter=FIFTIES, collection=books) == []
    assert store.count(collection=books) == Count(2, 2)


def test_an_answer_reads_only_what_matches(store: Client | Embedded, books: str) -> None:
    answer = store.ask("Who hunts?", filter={"kind": "essay"}, max_tokens=4, collection=books).result()
    assert [hit.key for hit in answer.memories] == ["walden"]
    answer = store.generate("Somebody", filter={"kind": "novel"}, max_tokens=4, collection=books).result()
    assert {hit.key for hit in answer.memories} == {"moby", "emma"}


@pytest.mark.parametrize(
    "filter", [{}, {"year": {"$above": 3}}, {"$and": "x"}, {"year": [1]}, {"year": float("nan")}, {"a": object()}]
)
def test_what_is_no_filter_is_refused(store: Client | Embedded, books: str, filter: dict[str, object]) -> None:
    for call in (
        lambda: store.recall("x", filter=filter, collection=books),
        lambda: store.count(filter=filter, collection=books),
        lambda: store.list(filter=filter, collection=books),
        lambda: store.delete(filter=filter, collection=books),
        lambda: store.ask("x", filter=filter, collection=books).result(),
    ):
        with pytest.raises(InvalidArgument, match="filter"):
            call()
    assert store.count(collection=books).documents == 4


def test_a_delete_takes_keys_or_a_filter(store: Client | Embedded, books: str) -> None:
    with pytest.raises(InvalidArgument, match="keys, with their expected versions, or a filter"):
        store.delete("moby", filter=FIFTIES, collection=books)
    assert store.delete(collection=books).deleted == ()
    assert store.count(collection=books).documents == 4


def test_a_document_ends_when_its_time_comes(store: Client | Embedded, collection: str) -> None:
    at = time.time() + 1.5
    store.upsert([Document("brief", "A mayfly lives for a day.", expires_at=at), BOOKS[0]], collection=collection)
    stored = store.get("brief", collection=collection)
    assert stored is not None and stored.expires_at == at
    (hit, *_) = store.recall("mayfly", collection=collection)
    assert hit.key == "brief"
    store.write(collection=collection)
    time.sleep(at - time.time() + 0.05)
    assert store.get("brief", collection=collection) is None
    assert [hit.key for hit in store.recall("mayfly", collection=collection)] == ["moby"]
    assert [document.key for document in store.list(collection=collection).documents] == ["moby"]
    assert store.count(collection=collection) == Count(1, 1)
    fingerprint = next(iter(store.stats(collection=collection).warm))
    assert store.fetch_key_values(fingerprint, [hit.seq], collection=collection) == [None]
    assert store.delete("brief", collection=collection).missing == ("brief",)
    assert store.check(full=True, collection=collection).ok


@pytest.mark.parametrize("at", [60, 1.8e12, float("nan"), "tomorrow"])
def test_a_time_that_is_none_is_refused(store: Client | Embedded, collection: str, at: float) -> None:
    with pytest.raises(InvalidArgument, match="seconds since the epoch"):
        store.upsert(Document("brief", "text", expires_at=at), collection=collection)


def test_a_change_that_came_first_is_told(store: Client | Embedded, books: str) -> None:
    standing = store.get("moby", collection=books)
    assert standing is not None
    store.upsert(
        Document("moby", "A captain lets a whale go."), expected_versions={"moby": standing.version}, collection=books
    )
    with pytest.raises(Aborted, match=r"'moby' has version .* read it again"):
        store.upsert(Document("moby", "Another text."), expected_versions={"moby": standing.version}, collection=books)
    with pytest.raises(Aborted, match="'emma'"):
        store.delete(["moby", "emma"], expected_versions={"emma": 1 << 40}, collection=books)
    with pytest.raises(Aborted, match="there is no document 'new'"):
        store.delete("new", expected_versions={"new": 3}, collection=books)
    assert store.upsert(Document("new", "text"), expected_versions={"new": 0}, collection=books)[0].changed
    with pytest.raises(Aborted):
        store.upsert(Document("new", "other"), expected_versions={"new": 0}, collection=books)
    with pytest.raises(InvalidArgument, match="not in this call"):
        store.upsert(Document("new", "other"), expected_versions={"old": 0}, collection=books)
    assert store.count(collection=books).documents == 5


def test_a_request_that_is_sent_again_is_not_carried_out_again(store: Client | Embedded, collection: str) -> None:
    """Meanwhile another change came, which the repeated request must not undo."""
    first = store.upsert(BOOKS, request_id="load-1", collection=collection)
    store.upsert(Document("moby", "A newer text."), collection=collection)
    assert store.upsert(BOOKS, request_id="load-1", collection=collection) == first
    found = store.get("moby", collection=collection)
    assert found is not None and found.text == "A newer text."
    with pytest.raises(InvalidArgument, match="was used for another request"):
        store.upsert(BOOKS[1:], request_id="load-1", collection=collection)
    receipt = store.delete("moby", request_id="drop-1", collection=collection)
    store.upsert(BOOKS[0], collection=collection)
    assert store.delete("moby", request_id="drop-1", collection=collection) == receipt
    assert store.get("moby", collection=collection) is not None
    for bad in ("", "x" * 300):
        with pytest.raises(InvalidArgument, match="request_id"):
            store.upsert(BOOKS, request_id=bad, collection=collection)
    assert len(store.upsert(BOOKS, request_id="x" * 256, collection=collection)) == 4


def test_a_recall_brings_key_values_that_are_not_held(store: Client | Embedded, memory: Embedded, books: str) -> None:
    fingerprint = memory.models.language_model.fingerprint
    assert [hit.key_values for hit in store.recall("pond", key_values=fingerprint, collection=books)] == [None] * 4
    store.write(["moby", "walden", "emma"], collection=books)
    hits = store.recall(["pond", "whale"], 4, key_values=fingerprint, collection=books)
    for hit in (hit for found in hits for hit in found):
        (expected,) = store.fetch_key_values(fingerprint, [hit.seq], collection=books)
        assert hit.key_values == expected and hit.warm == (expected is not None)
        assert (hit.key_values is None) == (hit.key == "notes")
    held = hits[0][0].seq
    again = store.recall("pond", 4, key_values=fingerprint, held=[held], collection=books)
    assert [hit.key for hit in again if hit.key_values is None] == sorted(
        (hit.key for hit in again if hit.seq == held or hit.key == "notes"), key=[hit.key for hit in again].index
    )
    with pytest.raises(InvalidArgument, match="seq"):
        store.recall("pond", key_values=fingerprint, held=[-1], collection=books)
    with pytest.raises(InvalidArgument, match="5 queries of 300 memories each with their key-values, at most 1024"):
        store.recall(["pond"] * 5, 300, key_values=fingerprint, collection=books)


def collected(changes: ChangeStream, count: int) -> list[Change]:
    return [next(changes) for _ in range(count)]


def test_changes_are_told_as_they_come(store: Client | Embedded, collection: str) -> None:
    with store.watch(collection=collection) as changes:
        told: list[Change] = []
        thread = threading.Thread(target=lambda: told.extend(collected(changes, 3)))
        thread.start()
        store.upsert(BOOKS[:2], collection=collection)
        store.delete("moby", collection=collection)
        thread.join(20)
        assert [(change.kind, change.key) for change in told] == [
            ("upsert", "moby"),
            ("upsert", "walden"),
            ("delete", "moby"),
        ]
        assert told[-1].seq == store.stats(collection=collection).positions[0]
        positions = changes.positions
    store.upsert(BOOKS[2], collection=collection)
    with store.watch(positions, collection=collection) as changes:
        assert next(changes).key == "emma"
    with store.watch([0], collection=collection) as changes:
        assert [change.key for change in collected(changes, 3)] == ["moby", "walden", "moby"]


def test_a_watch_of_what_is_not_there_is_refused(store: Client | Embedded, collection: str) -> None:
    for after in ([1 << 48], [0, 0], [-1]):
        with pytest.raises(InvalidArgument), store.watch(after, collection=collection) as changes:
            next(changes)


@pytest.fixture
def sharded(tmp_path: Path, random_model: str) -> Iterator[tuple[Embedded, Server, Client]]:
    with (
        Embedded(tmp_path, model=random_model, shards=3) as memory,
        Server(memory, limits=ServerLimits(watches_max=1), write_in_background=False) as server,
        Client(server.address) as client,
    ):
        yield memory, server, client


def test_shards_are_one_collection_to_their_callers(sharded: tuple[Embedded, Server, Client]) -> None:
    memory, _, client = sharded
    texts = [f"Sentence number {number} of many." for number in range(40)]
    documents = [Document(f"key {number:02}", text, {"n": number}) for number, text in enumerate(texts)]
    results = client.upsert(documents)
    assert [result.key for result in results] == [document.key for document in documents]
    assert {result.version >> 48 for result in results} == {0, 1, 2}
    assert client.describe_collection("default").shards == 3
    assert [hit.shard for hit in client.recall("number 7", 9)] == [
        shard_of_key(hit.key, 3) for hit in client.recall("number 7", 9)
    ]
    scores = [hit.score for hit in client.recall("number 7", 40)]
    assert len(scores) == 40 and scores == sorted(scores, reverse=True)
    keys: list[str] = []
    token = ""
    while True:
        page = client.list(limit=7, page_token=token)
        keys += [document.key for document in page.documents]
        token = page.next_page_token
        if not token:
            break
    assert keys == sorted(document.key for document in documents)
    assert client.count(filter={"n": {"$lt": 10}}) == Count(10, 10)
    assert client.write() == 40
    fingerprint = memory.models.language_model.fingerprint
    assert all(client.recall("number 7", 40, key_values=fingerprint)[n].key_values for n in range(40))
    seqs = [result.version for result in reversed(results)]
    assert None not in client.fetch_key_values(fingerprint, seqs)
    receipt = client.delete([document.key for document in documents[::2]])
    assert receipt.deleted == tuple(document.key for document in documents[::2]) and len(receipt.positions) == 3
    assert client.fetch_key_values(fingerprint, seqs).count(None) == 20
    # The file system is not ours alone.
    assert replace(client.stats(), disk_free_bytes=0) == replace(memory.stats(), disk_free_bytes=0)
    assert client.check(full=True).ok


def test_every_shard_is_watched(sharded: tuple[Embedded, Server, Client]) -> None:
    _, _, client = sharded
    with client.watch() as changes:
        client.upsert([Document(f"key {number:02}", "text") for number in range(20)])
        told = collected(changes, 20)
        assert {change.key for change in told} == {f"key {number:02}" for number in range(20)}
        assert {change.seq >> 48 for change in told} == {0, 1, 2}
        with pytest.raises(ResourceExhausted), client.watch() as second:
            next(second)
    assert sorted(changes.positions) == sorted(client.stats().positions)


def test_a_server_that_stops_ends_the_watches(tmp_path: Path, random_model: str) -> None:
    """A watch never ends by itself, and a stop would have waited for its whole grace time."""
    with Embedded(tmp_path, model=random_model) as memory:
        server = Server(memory, write_in_background=False, stop_grace_s=30)
        server.start()
        with Client(server.address) as client:
            changes = client.watch()
            began = time.monotonic()
            server.stop()
            assert time.monotonic() - began < 15
            with pytest.raises((Unavailable, Memory3Error)):
                next(changes)


def test_a_log_that_is_trimmed_says_so(tmp_path: Path, random_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memory3.store.limits.CHANGES_KEPT", 2)
    with Embedded(tmp_path, model=random_model) as memory:
        memory.upsert([Document(f"key {number}", "text") for number in range(9)])
        memory.opened("default").save()
        with pytest.raises(FailedPrecondition, match="list the documents anew"), memory.watch([1]) as changes:
            next(changes)


def test_a_full_quota_is_told_over_grpc(tmp_path: Path, random_model: str) -> None:
    with (
        Embedded(tmp_path, model=random_model, quotas=Quotas(bytes_max=300_000)) as memory,
        Server(memory, write_in_background=False) as server,
        Client(server.address) as client,
    ):
        with pytest.raises(ResourceExhausted, match="its quota is 300000"):
            client.upsert([Document(f"key {number}", "word " * 200) for number in range(300)])
        assert client.delete("key 0").deleted == ("key 0",)


def test_a_full_store_answers_on(tmp_path: Path, random_model: str) -> None:
    """Key-values written to be read had to be stored, so a full store answered nothing that was cold."""
    with Embedded(tmp_path, model=random_model) as memory:
        memory.upsert(BOOKS)
        expected = memory.ask("Who hunts?", max_tokens=4).result()
        memory.delete([book.key for book in BOOKS])
        memory.upsert(BOOKS)
    with Embedded(tmp_path, model=random_model, quotas=Quotas(bytes_max=1)) as memory:
        answer = memory.ask("Who hunts?", max_tokens=4).result()
        assert answer.text == expected.text
        assert [hit.key for hit in answer.memories] == [hit.key for hit in expected.memories]
        assert memory.stats().warm == {}
        with pytest.raises(ResourceExhausted, match="quota"):
            memory.write()


def test_a_watch_does_not_keep_memories_cold(tmp_path: Path, random_model: str) -> None:
    """It counted as a call under way, and the background writes only while there is none."""
    with (
        Embedded(tmp_path, model=random_model) as memory,
        Server(memory) as server,
        Client(server.address) as client,
        client.watch() as changes,
    ):
        client.upsert(BOOKS)
        assert next(changes).key == "moby"
        deadline = time.monotonic() + 60
        while sum(memory.stats().warm.values()) < len(BOOKS):
            assert time.monotonic() < deadline, "they stay cold"
            time.sleep(0.05)


def test_a_missing_shard_is_told_over_grpc(tmp_path: Path, random_model: str) -> None:
    with Embedded(tmp_path, model=random_model, shards=3) as memory:
        memory.upsert([Document(f"key {number:02}", f"text {number}") for number in range(20)])
    (tmp_path / "collections/00000001/shard-0002/records/data.mdb").unlink()
    with (
        Embedded(tmp_path, model=random_model) as memory,
        Server(memory, write_in_background=False) as server,
        Client(server.address) as client,
    ):
        hits = client.recall("text 7", 20)
        assert isinstance(hits, Hits) and hits.missing_shards == (2,) == client.stats().missing_shards
        assert hits and 2 not in {hit.shard for hit in hits}
        for asked in (client, memory):
            stream = asked.ask("What is text 7?", max_tokens=2)
            recalled = next(stream.events())
            assert isinstance(recalled, Recalled) and recalled.missing_shards == (2,) and recalled.memories
            assert stream.result().missing_shards == (2,)
            assert asked.ask("What is text 7?", max_tokens=2, memories=0).result().missing_shards == ()
        with pytest.raises(Corrupted, match=r"shard 2 .* is missing"):
            client.count()
        assert not client.check().ok
