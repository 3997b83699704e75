"""Key-values that LMDB cannot read: memories answer on without them, and they begin anew without a restart."""

import threading
import time
from pathlib import Path

import pytest
from memory3.store import limits
from memory3.store.collection import Collection
from memory3.store.disk import points
from memory3.store.errors import Corrupted, Unavailable
from memory3.store.format import VALUE_KEY
from memory3.store.key_values import KeyValues
from memory3.store.shard.maintenance import Maintenance
from memory3.tests.reliability.pages import pages_in_use

from .builders import KEY_VALUES, collection_at, embedded, put_raw, vector_of

COUNT = 60
MODEL = "model"


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the damage were in pages for which there is no time before an opening."""
    monkeypatch.setattr("memory3.store.disk.set_aside.LOOKED_AT_TOGETHER_BYTES_MAX", 0)


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were too many key-values to be looked through at each opening."""
    monkeypatch.setattr(limits, "VERIFIED_AT_OPENING_MAX", 0)
    monkeypatch.setattr(limits, "VERIFIED_AT_ONCE", 7)


@pytest.fixture
def asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is done in the background."""
    monkeypatch.setattr(Maintenance, "wake", lambda _: None)


def fill(collection: Collection) -> None:
    results = collection.upsert([embedded(str(i), f"text {i}") for i in range(COUNT)])
    collection.put_key_values(MODEL, [(result.version, b"value" * 100) for result in results])


def damage_leaves(path: Path, spared: int = 1) -> None:
    """Make leaf pages of the key-values none of LMDB's, so that it says that they are corrupted, but for the last."""
    file = path / KEY_VALUES / "data.mdb"
    data = file.read_bytes()
    leaves = [page.start for page in pages_in_use(data) if (page.kind, page.table) == ("leaf", "values")]

    def first_key(start: int) -> bytes:
        node = start + int.from_bytes(data[start + 16 : start + 18], "little")
        return data[node + 8 : node + 8 + VALUE_KEY.itemsize]

    leaves.sort(key=first_key)
    assert len(leaves) > 4
    with open(file, "r+b") as opened:
        for start in leaves[: len(leaves) - spared]:
            opened.seek(start + 10)  # its flags
            opened.write(bytes(2))


def warm(collection: Collection) -> list[bool]:
    """Whether each of five hits came with its key-values; the first of them is right in any case."""
    hits = collection.recall(vector_of("text 7")[None], 5, MODEL, key_values=True)[0]
    assert hits[0].text == "text 7"
    assert len(hits) == 5
    return [hit.key_values == b"value" * 100 for hit in hits]


def settle(collection: Collection) -> None:
    collection._shards[0]._maintenance.wait()


def assert_begun_anew(collection: Collection) -> None:
    assert collection.stats().warm == {}
    assert warm(collection) == [False] * 5
    (hit,) = collection.recall(vector_of("text 7")[None], 1)[0]
    assert collection.put_key_values(MODEL, [(hit.seq, b"value" * 100)]) == [True]
    assert warm(collection) == [True] + [False] * 4
    assert collection.check(full=True).problems == ()


@pytest.mark.usefixtures("asleep", "many")
def test_opening_reads_none_of_many_key_values(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        fill(collection)
    damage_leaves(tmp_path)
    with collection_at(tmp_path) as collection:
        assert not collection._shards[0]._key_values.verified
        assert warm(collection) == [False] * 5


@pytest.mark.usefixtures("many")
def test_many_whole_key_values_are_looked_through_beside_calls(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        fill(collection)
    with collection_at(tmp_path) as collection:
        settle(collection)
        assert collection._shards[0]._key_values.verified
        assert warm(collection) == [True] * 5


@pytest.mark.usefixtures("many")
def test_what_is_found_damaged_beside_calls_begins_anew(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        fill(collection)
    damage_leaves(tmp_path)
    with collection_at(tmp_path) as collection:
        settle(collection)
        assert_begun_anew(collection)
    with collection_at(tmp_path) as collection:
        settle(collection)
        assert warm(collection) == [True] + [False] * 4


@pytest.mark.usefixtures("many")
def test_a_key_of_another_kind_is_damage_too(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        fill(collection)
    put_raw(tmp_path / KEY_VALUES, "values", b"\0\0", b"x")
    with collection_at(tmp_path) as collection:
        settle(collection)
        assert_begun_anew(collection)


def test_what_is_damaged_while_the_shard_is_open_is_mended_without_a_restart(tmp_path: Path) -> None:
    """Every call that came to it failed until a restart."""
    with collection_at(tmp_path) as collection:
        fill(collection)
        assert warm(collection) == [True] * 5
        damage_leaves(tmp_path)
        assert warm(collection) == [False] * 5
        settle(collection)
        assert_begun_anew(collection)


def test_key_values_that_cannot_be_written_are_mended_too(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        fill(collection)
        damage_leaves(tmp_path)
        with pytest.raises(Corrupted, match="damaged"):
            collection.put_key_values(MODEL, [(1, b"value" * 100)])
        settle(collection)
        assert_begun_anew(collection)


def test_mending_waits_for_a_backup_and_keeps_nobody_else_waiting(tmp_path: Path) -> None:
    """Its read would be waited for, and behind that everybody's."""
    with collection_at(tmp_path) as collection:
        fill(collection)
        shard = collection._shards[0]
        with shard.frozen():
            damage_leaves(tmp_path)
            assert warm(collection) == [False] * 5
            time.sleep(0.2)
            assert shard._maintenance._thread is not None
            answered = threading.Event()

            def call() -> None:
                warm(collection)
                collection.upsert([embedded("another", "another text")])
                answered.set()

            threading.Thread(target=call, daemon=True).start()
            assert answered.wait(30)
            assert shard._key_values.environment.broken
        settle(collection)
        assert_begun_anew(collection)


@pytest.mark.parametrize("point", [points.BEFORE_RENAME, points.RENAMED])
def test_mending_that_is_interrupted_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    def reached(passed: str, path: Path) -> None:
        if passed == point and path == tmp_path / KEY_VALUES / "data.mdb":
            raise Unavailable("no further")

    with collection_at(tmp_path) as collection:
        fill(collection)
        damage_leaves(tmp_path)
        monkeypatch.setattr(points, "reached", reached)
        assert warm(collection) == [False] * 5
        settle(collection)
        assert (tmp_path / KEY_VALUES / "anew").exists()
        assert collection._shards[0]._key_values.environment.broken is (point == points.BEFORE_RENAME)
        monkeypatch.undo()
    with collection_at(tmp_path) as collection:
        settle(collection)
        assert not (tmp_path / KEY_VALUES / "anew").exists()
        assert_begun_anew(collection)


@pytest.mark.usefixtures("asleep", "many")
def test_a_last_key_that_cannot_be_read_does_not_keep_the_shard_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collection_at(tmp_path) as collection:
        fill(collection)
        collection.close(save=False)
    damage_leaves(tmp_path, spared=0)
    begun = []
    begin_anew = KeyValues.begin_anew

    def begin(key_values: KeyValues, applied: int) -> None:
        begun.append(applied)
        begin_anew(key_values, applied)

    monkeypatch.setattr(KeyValues, "begin_anew", begin)
    with collection_at(tmp_path) as collection:
        assert len(begun) == 1
        assert_begun_anew(collection)
