"""The background writer goes on whatever happens: to one collection, or through a mistake of ours."""

import time
from collections.abc import Callable, Iterator

import pytest
from memory3.cluster import background_writer as module
from memory3.cluster.activity import Activity
from memory3.cluster.background_writer import BackgroundWriter
from memory3.cluster.embedded import Embedded
from memory3.store.collection import Collection
from memory3.store.errors import Corrupted
from memory3.store.types import CollectionInfo, Document

BEES = Document("bees", "Mira Sandoval keeps bees on the roof of the old post office.")


@pytest.fixture
def writer(memory: Embedded, monkeypatch: pytest.MonkeyPatch) -> Iterator[BackgroundWriter]:
    """Not started; it looks often, so that tests need not wait."""
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    made = BackgroundWriter(memory, Activity())
    yield made
    made.stop()


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def is_warm(memory: Embedded, collection: str) -> bool:
    return bool(memory.stats(collection=collection).warm)


@pytest.mark.parametrize("error", [Corrupted("its records are damaged"), KeyError("a mistake of ours")], ids=repr)
def test_a_broken_collection_does_not_keep_others_cold(
    error: Exception,
    memory: Embedded,
    collection: str,
    writer: BackgroundWriter,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One failure once ended the round, so that all collections behind it in the alphabet stayed cold for ever."""
    memory.upsert(BEES, collection=collection)
    memory.create_collection("broken")
    opened = Embedded.opened

    def fail_for_one(self: Embedded, name: str) -> Collection:
        if name == "broken":
            raise error
        return opened(self, name)

    monkeypatch.setattr(Embedded, "opened", fail_for_one)
    assert [info.name for info in memory.list_collections()].index("broken") == 0
    writer.start()
    until(lambda: is_warm(memory, collection))
    assert "background writing of collection 'broken'" in caplog.text and str(error) in caplog.text
    monkeypatch.undo()
    memory.drop_collection("broken")


def test_an_unexpected_exception_does_not_end_the_thread(
    memory: Embedded,
    collection: str,
    writer: BackgroundWriter,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It did: from the first mistake of ours on, memories stayed cold until the server was started again."""
    memory.upsert(BEES, collection=collection)
    listed = Embedded.list_collections
    looks = []

    def fail_at_first(self: Embedded) -> list[CollectionInfo]:
        looks.append(self)
        if len(looks) <= 2:
            raise KeyError("a mistake of ours")
        return listed(self)

    monkeypatch.setattr(Embedded, "list_collections", fail_at_first)
    writer.start()
    until(lambda: is_warm(memory, collection))
    assert caplog.text.count("background writing of the list of collections failed") == 2
