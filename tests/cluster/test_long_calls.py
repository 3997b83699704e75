"""Backups, compactions and checks over real gRPC: how far they are, their reports, and callers who go away."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from memory3.client import Client
from memory3.cluster import long_call
from memory3.cluster.embedded import Embedded
from memory3.cluster.server import Server
from memory3.store.backup.restore import restore, verify
from memory3.store.collection import Collection
from memory3.store.errors import FailedPrecondition, InvalidArgument, Memory3Error, NotFound
from memory3.store.metadata import content_digest
from memory3.store.types import Document, EmbeddedDocument, Reference

Both = Embedded | Client


@pytest.fixture
def own(tmp_path: Path, random_model: str) -> Iterator[tuple[Embedded, Client]]:
    """A memory of the test's own, and a client of it."""
    with (
        Embedded(tmp_path / "data", model=random_model) as memory,
        Server(memory, write_in_background=False) as server,
        Client(server.address) as client,
    ):
        yield memory, client


def churn(collection: Collection) -> None:
    """Store long texts several times over, so that most of the file is free."""
    vector = np.eye(collection.info.dimension, dtype=np.float32)[0]
    for number in range(4):
        documents = [(f"key {key}", f"text {number} " * 500) for key in range(100)]
        collection.upsert([EmbeddedDocument(Document(key, text), [Reference(text, vector)]) for key, text in documents])


def slowed(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Make a piece small and each of them slow, and let the server tell of them often."""
    monkeypatch.setattr("memory3.store.backup.copying.COPY_PIECE_BYTES", 4096)
    monkeypatch.setattr(long_call, "TELL_S", 0.02)
    monkeypatch.setattr("memory3.store.disk.points.reached", lambda point, path: time.sleep(seconds))


def test_client_and_embedded_back_up_and_compact_alike(own: tuple[Embedded, Client], tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    memories: dict[str, Both] = {"embedded": own[0], "client": own[1]}
    for name, memory in memories.items():
        churn(own[0].opened("default"))
        before = memory.stats()
        compacted = memory.compact(progress=lambda *how_far: told.append(how_far))
        after = memory.stats()
        assert compacted.bytes_after < compacted.bytes_before
        assert before.records_free_bytes > 0 == after.records_free_bytes
        assert told[-1][0] == told[-1][1] > 0
        told.clear()
        report = memory.backup(tmp_path / name, progress=lambda *how_far: told.append(how_far))
        assert told[-1][0] == told[-1][1] > 0
        assert report == verify(tmp_path / name)
        assert [(found.name, found.documents) for found in report.collections] == [("default", 100)]
    restore(tmp_path / "client", tmp_path / "new")
    with Embedded(tmp_path / "new") as restored:
        assert restored.check(full=True).ok and restored.count().documents == 100


def test_both_refuse_alike(own: tuple[Embedded, Client], tmp_path: Path) -> None:
    def refusal(memory: Both, path: Path) -> str:
        with pytest.raises(Memory3Error) as refused:
            memory.backup(path)
        return f"{type(refused.value).__name__}: {refused.value}"

    for path in (tmp_path, tmp_path / "data" / "x", tmp_path / "none" / "x"):
        assert refusal(own[0], path) == refusal(own[1], path)
    with pytest.raises(InvalidArgument, match="name it from the root on"):
        own[1].backup("relative")
    with pytest.raises(NotFound, match="no collection 'none'"):
        own[1].compact(collection="none")


def test_the_stream_tells_how_far_it_is(
    own: tuple[Embedded, Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, client = own
    churn(memory.opened("default"))
    slowed(monkeypatch, 0.001)
    told: list[tuple[int, int]] = []
    client.backup(tmp_path / "backup", progress=lambda *how_far: told.append(how_far))
    assert told == sorted(told) and len({done for done, _ in told}) > 5


def test_a_caller_who_goes_away_ends_the_work(
    own: tuple[Embedded, Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Enough(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done:
            raise Enough

    memory, client = own
    churn(memory.opened("default"))
    with monkeypatch.context() as patched:
        slowed(patched, 0.01)
        with pytest.raises(Enough):
            client.backup(tmp_path / "backup", progress=stop)
        with pytest.raises(Enough):
            client.compact(progress=stop)
        deadline = time.monotonic() + 20
        while any(thread.name == "memory3-long-call" for thread in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]
    assert list(tmp_path.rglob("*.tmp")) == []
    # Nothing is held any more, and the compaction that was given up is made up for.
    compacted = client.compact()
    assert compacted.bytes_after < compacted.bytes_before
    client.backup(tmp_path / "backup")


def test_client_and_embedded_check_alike(own: tuple[Embedded, Client]) -> None:
    memory, client = own
    churn(memory.opened("default"))
    for full in (False, True):
        told: list[tuple[int, int]] = []
        report = client.check(full=full, progress=lambda *how_far, told=told: told.append(how_far))
        assert report == memory.check(full=full) and report.ok and report.documents == 100
        assert told and told[-1][0] == told[-1][1] > 0


def test_a_caller_who_goes_away_ends_a_check(own: tuple[Embedded, Client], monkeypatch: pytest.MonkeyPatch) -> None:
    class Enough(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if digested:
            raise Enough

    def digest(document: Document, embedder: str) -> bytes:
        digested.append(1)
        time.sleep(0.05)
        return content_digest(document, embedder)

    memory, client = own
    churn(memory.opened("default"))
    digested: list[int] = []
    monkeypatch.setattr(long_call, "TELL_S", 0.02)
    monkeypatch.setattr("memory3.store.checks.findings._BATCH", 1)
    monkeypatch.setattr("memory3.store.checks.records.content_digest", digest)
    with pytest.raises(Enough):
        client.check(full=True, progress=stop)
    deadline = time.monotonic() + 20
    while any(thread.name == "memory3-long-call" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert len(digested) < 100


def test_stopping_the_server_ends_the_work(tmp_path: Path, random_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[Exception] = []
    begun = threading.Event()
    with Embedded(tmp_path / "data", model=random_model) as memory:
        churn(memory.opened("default"))
        with (
            monkeypatch.context() as patched,
            Server(memory, write_in_background=False, stop_grace_s=0.1) as server,
            Client(server.address) as client,
        ):
            slowed(patched, 0.02)

            def back_up() -> None:
                try:
                    client.backup(tmp_path / "backup", progress=lambda done, total: begun.set() if done else None)
                except Memory3Error as error:
                    failures.append(error)

            thread = threading.Thread(target=back_up)
            thread.start()
            assert begun.wait(20)
            server.stop()
            thread.join(20)
            assert not thread.is_alive()
        assert len(failures) == 1
        assert memory.count().documents == 100
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


def test_a_backup_is_not_opened_as_data(own: tuple[Embedded, Client], tmp_path: Path) -> None:
    own[1].backup(tmp_path / "backup")
    with pytest.raises(FailedPrecondition, match="not a Memory3 data directory"):
        Embedded(tmp_path / "backup")
