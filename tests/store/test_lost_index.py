"""A lost index, by damage or with a restored backup, is built again beside changes, and recalls wait for it."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from memory3.store import limits
from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.disk.seal import Damaged
from memory3.store.errors import Unavailable
from memory3.store.index.building import Builder
from memory3.store.index.clustering import GiveWay
from memory3.store.index.inverted import InvertedLists
from memory3.store.records import Records
from memory3.store.shard.derived import Derived
from memory3.store.types import Hit

from .builders import DIMENSION, EMBEDDER, SNAPSHOT, embedded, vector_of

DOCUMENTS = 40
LONG_S = 60.0


class HeldUp:
    """An index is not built before `go_on`; leaves off, as any building does, when the shard closes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go_on = threading.Event()
        build = Builder.build

        def held_up(builder: Builder, give_way: GiveWay, quick: bool = False) -> InvertedLists:
            while not self.go_on.wait(0.01):
                give_way()
            return build(builder, give_way, quick)

        monkeypatch.setattr(Builder, "build", held_up)


@pytest.fixture
def held_up(monkeypatch: pytest.MonkeyPatch) -> HeldUp:
    monkeypatch.setattr(limits, "BUILT_AT_OPENING_MAX", 5)
    monkeypatch.setattr(limits, "INDEX_WAITERS_MAX", 2)
    return HeldUp(monkeypatch)


@pytest.fixture(params=[1, 3])
def collection(tmp_path: Path, held_up: HeldUp, request: pytest.FixtureRequest) -> Iterator[Collection]:
    """One whose indices are lost, and not built before they are let."""
    with DataDirectory.open(tmp_path) as directory:
        filled = directory.create_collection("default", EMBEDDER, DIMENSION, request.param)
        filled.upsert([embedded(f"{number}", f"text {number}") for number in range(DOCUMENTS)])
    snapshots = list(tmp_path.rglob("index.snapshot"))
    assert len(snapshots) == request.param
    for snapshot in snapshots:
        snapshot.unlink()
    with DataDirectory.open(tmp_path) as directory:
        yield directory.collection("default")


class Recall(threading.Thread):
    """A caller of his own, with what he gets."""

    def __init__(self, collection: Collection, text: str) -> None:
        super().__init__(daemon=True)
        self.hits: list[Hit] | None = None
        self.error: Exception | None = None
        self._collection, self._text = collection, text
        self.start()

    def run(self) -> None:
        try:
            self.hits = self._collection.recall(vector_of(self._text)[None], DOCUMENTS)[0]
        except Exception as error:
            self.error = error


def waiting(collection: Collection, text: str) -> Recall:
    """A recall that has come to wait."""
    shard = collection._shards[0]
    waiters = shard._recall._waiting
    free = waiters._value
    recall = Recall(collection, text)
    while waiters._value == free:
        assert recall.is_alive()
        time.sleep(0.001)
    return recall


def test_changes_go_on_while_a_lost_index_is_built(collection: Collection, held_up: HeldUp) -> None:
    recalls = [waiting(collection, "text 7"), waiting(collection, "new")]
    collection.upsert([embedded("7", "text 7 anew"), embedded("more", "new")])
    assert collection.delete(["8"]).deleted == ("8",)
    assert collection.get(["8", "more"])[0] is None
    assert collection.count().documents == DOCUMENTS
    assert [document.key for document in collection.list(3).documents] == ["0", "1", "10"]
    assert all(index.clustering for index in collection.stats().indices)
    assert all(recall.is_alive() for recall in recalls)
    held_up.go_on.set()
    for recall in recalls:
        recall.join(LONG_S)
        assert recall.hits is not None
        found = [hit.text for hit in recall.hits]
        assert len(found) == len(set(found)) == DOCUMENTS
        assert {"text 7 anew", "new", "text 39"} < set(found)
        assert not {"text 7", "text 8"} & set(found)
    assert recalls[1].hits is not None and recalls[1].hits[0].text == "new"
    assert collection.check(full=True).problems == ()


def test_more_recalls_than_may_wait_are_refused(collection: Collection, held_up: HeldUp) -> None:
    recalls = [waiting(collection, "text 1") for _ in range(2)]
    with pytest.raises(Unavailable, match=r"default.*index is being built again.*try again later"):
        collection.recall(vector_of("text 1")[None], 1)
    held_up.go_on.set()
    for recall in recalls:
        recall.join(LONG_S)
        assert recall.hits is not None and recall.hits[0].text == "text 1"
    assert collection.recall(vector_of("text 1")[None], 1)[0][0].text == "text 1"


def test_closing_ends_those_who_wait(collection: Collection) -> None:
    recall = waiting(collection, "text 1")
    collection.close()
    recall.join(LONG_S)
    assert isinstance(recall.error, Unavailable)


def test_an_index_that_lacks_memories_is_never_saved(collection: Collection, tmp_path: Path, held_up: HeldUp) -> None:
    collection.upsert([embedded("more", "new")])
    collection.save()
    collection.close()
    assert not list(tmp_path.rglob("index.snapshot"))


def test_the_index_comes_before_all_other_upkeep(
    tmp_path: Path, held_up: HeldUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking through millions of key-values takes minutes, in which nothing would have been recalled."""
    held_up.go_on.set()
    with DataDirectory.open(tmp_path) as directory:
        collection = directory.create_collection("default", EMBEDDER, DIMENSION)
        collection.upsert([embedded(f"{number}", f"text {number}") for number in range(DOCUMENTS)])
    (tmp_path / SNAPSHOT).unlink()
    whole: list[bool] = []

    def look(derived: Derived, give_way: GiveWay) -> bool:
        whole.append(derived.index.whole)
        derived._key_values.verified = True
        return True

    monkeypatch.setattr(limits, "VERIFIED_AT_OPENING_MAX", -1)
    monkeypatch.setattr(Derived, "key_values_are_whole", look)
    with DataDirectory.open(tmp_path) as directory:
        directory.collection("default")._shards[0]._maintenance.wait()
        assert whole == [True]


def test_a_check_waits_for_the_index(collection: Collection, held_up: HeldUp) -> None:
    problems: list[tuple[str, ...]] = []
    check = threading.Thread(target=lambda: problems.append(collection.check(full=True).problems), daemon=True)
    check.start()
    check.join(0.3)
    assert check.is_alive()
    held_up.go_on.set()
    check.join(LONG_S)
    assert problems == [()]


def test_a_damaged_log_holds_up_no_change(tmp_path: Path, held_up: HeldUp, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index was built again while everybody waited for the writer lock."""
    with DataDirectory.open(tmp_path) as directory:
        collection = directory.create_collection("default", EMBEDDER, DIMENSION)
        collection.upsert([embedded(f"{number}", f"text {number}") for number in range(DOCUMENTS)])
        with monkeypatch.context() as damaged:

            def changes_after(*_: object) -> None:
                raise Damaged("changes", b"", "it is damaged")

            damaged.setattr(Records, "changes_after", changes_after)
            collection.upsert([embedded("damaged", "damaged")])
        collection.upsert([embedded("more", "new")])
        recall = waiting(collection, "damaged")
        held_up.go_on.set()
        recall.join(LONG_S)
        assert recall.hits is not None and recall.hits[0].text == "damaged"
        found = collection.recall(np.stack([vector_of("new"), vector_of("text 5")]), 1)
        assert [hits[0].text for hits in found] == ["new", "text 5"]
