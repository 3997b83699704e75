"""The index is clustered and saved beside calls, follows what changes meanwhile, and stops when the shard closes."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from memory3.store import limits
from memory3.store.collection import Collection
from memory3.store.disk.environment import Transaction
from memory3.store.filters.term_keys import ALL_LIVE, part_key
from memory3.store.index import clustering
from memory3.store.index.building import Builder
from memory3.store.index.clustering import GiveWay, plan
from memory3.store.index.inverted import InvertedLists
from memory3.store.index.vector_index import Seqs
from memory3.store.records import Records
from memory3.store.shard import maintenance
from memory3.store.shard.maintenance import Maintenance
from memory3.store.types import IndexKind, IndexState

from .builders import SNAPSHOT, collection_at, damage_value, embedded, recalled, seq_key

EXACT_MAX = 40
RECORDS = Path("collections/00000001/shard-0000/records")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EXACT_MAX", EXACT_MAX)


def fill(collection: Collection, numbers: Sequence[int]) -> None:
    collection.upsert([embedded(str(i), f"text {i}") for i in numbers])


def settled(collection: Collection) -> IndexState:
    """How the index stands when the thread has done what was due."""
    collection._shards[0]._maintenance.wait()
    return collection._shards[0]._derived.state()


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Do something once, when an index has been built and not been taken up yet."""
    build = Builder.build
    acts = [act]

    def built(builder: Builder, give_way: GiveWay, quick: bool = False) -> InvertedLists:
        lists = build(builder, give_way, quick)
        if acts:
            acts.pop()()
        return lists

    monkeypatch.setattr(Builder, "build", built)


def one_held_up(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Hold up the first index of a shard that counts as large: events that it has been built, and that it may go on."""
    monkeypatch.setattr(limits, "CLUSTERED_ALONE_MIN", EXACT_MAX)
    built, may_go_on = threading.Event(), threading.Event()

    def wait() -> None:
        built.set()
        assert may_go_on.wait(60)

    meanwhile(monkeypatch, wait)
    return built, may_go_on


def assert_all_found(collection: Collection, numbers: Sequence[int]) -> None:
    assert collection.check(full=True).problems == ()
    for number in numbers:
        assert recalled(collection, f"text {number}", 1) == [f"text {number}"]


def test_an_index_beyond_the_exact_limit_is_clustered_and_saved(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        fill(collection, range(EXACT_MAX))
        assert settled(collection) == IndexState(IndexKind.EXACT, EXACT_MAX, 32, False, None)
        fill(collection, [EXACT_MAX])
        position = collection.stats().positions[0]
        expected = IndexState(
            IndexKind.QUANTIZED, EXACT_MAX + 1, plan(EXACT_MAX + 1).lists, clustering=False, saved_at=position
        )
        assert settled(collection) == expected
        assert_all_found(collection, range(EXACT_MAX + 1))
    with collection_at(tmp_path) as collection:
        assert collection._shards[0]._derived.state() == expected
        assert_all_found(collection, range(EXACT_MAX + 1))


def test_it_is_clustered_again_when_it_has_grown_and_exact_again_when_it_has_shrunk(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        fill(collection, range(60))
        lists = settled(collection).lists
        fill(collection, range(60, 150))
        assert settled(collection).lists == lists
        fill(collection, range(150, 400))
        assert settled(collection).lists == plan(400).lists > lists
        assert_all_found(collection, range(400))
        collection.delete([str(i) for i in range(391)])
        assert settled(collection).kind is IndexKind.EXACT
        assert_all_found(collection, range(391, 400))


def test_it_is_clustered_again_when_all_it_holds_is_other_than_it_was(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        fill(collection, range(60))
        settled(collection)
        first = collection._shards[0]._derived.index.clustered_at
        for turn in range(5):
            collection.upsert([embedded(str(i), f"turn {turn} {i}") for i in range(60)])
            settled(collection)
        assert collection._shards[0]._derived.index.clustered_at > first
        assert collection.check(full=True).ok


def test_what_changes_while_it_is_built_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHANGES_AT_ONCE", 7)
    with collection_at(tmp_path) as collection:

        def change() -> None:
            state = collection._shards[0]._derived.state()
            assert state.clustering and state.kind is IndexKind.EXACT
            fill(collection, range(60, 90))
            collection.delete([str(i) for i in range(10)])
            collection.upsert([embedded("20", "another text")])

        meanwhile(monkeypatch, change)
        fill(collection, range(60))
        assert settled(collection).kind is IndexKind.QUANTIZED
        assert_all_found(collection, [*range(10, 20), *range(21, 90)])
        assert recalled(collection, "another text", 1) == ["another text"]
        assert "text 5" not in recalled(collection, "text 5", 100)


def test_all_may_be_deleted_before_its_vectors_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There was nothing to make lists of: the work failed, and was tried again half a minute later."""
    seqs = Builder._seqs

    def deleted(builder: Builder, give_way: GiveWay) -> Seqs:
        found = seqs(builder, give_way)
        monkeypatch.setattr(Builder, "_seqs", seqs)
        collection.delete([str(i) for i in range(60)])
        return found

    monkeypatch.setattr(Builder, "_seqs", deleted)
    with collection_at(tmp_path) as collection:
        fill(collection, range(60))
        assert settled(collection).count == 0
        fill(collection, range(100, 160))
        assert settled(collection).kind is IndexKind.QUANTIZED
        assert_all_found(collection, range(100, 160))


def test_it_is_taken_up_when_little_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a large upsert had brought meanwhile was put into the new index while all writes waited."""
    monkeypatch.setattr(limits, "TAKEN_UP_MAX", 2)
    replay, written = Builder.replay, 60
    beside: list[int] = []
    waited_for: list[int] = []

    def write() -> None:
        nonlocal written
        if written < 150:
            fill(collection, range(written, written + 30))
            written += 30

    with collection_at(tmp_path) as collection:
        shard = collection._shards[0]
        shard._maintenance.stop()

        def replayed(builder: Builder, lists: InvertedLists, position: int, until: int, give_way: GiveWay) -> int:
            (waited_for if shard._writer.locked() else beside).append(until - position)
            return replay(builder, lists, position, until, give_way)

        monkeypatch.setattr(Builder, "replay", replayed)
        fill(collection, range(written))
        shard._derived.cluster(shard._writer, write)
        assert settled(collection).kind is IndexKind.QUANTIZED
        assert sum(beside) == 90 and waited_for == [0]
        assert_all_found(collection, range(150))


def test_it_gains_on_somebody_who_writes_faster_than_it_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CHANGES_AT_ONCE", 2)
    monkeypatch.setattr(limits, "TAKEN_UP_MAX", 1)
    written = 60

    def write() -> None:
        """Write more, at every step, than a step takes in."""
        nonlocal written
        fill(collection, range(written, written + 5))
        written += 5

    with collection_at(tmp_path) as collection:
        shard = collection._shards[0]
        shard._maintenance.stop()
        fill(collection, range(written))
        shard._derived.cluster(shard._writer, write)
        assert settled(collection).kind is IndexKind.QUANTIZED
        assert written > 60
        assert_all_found(collection, range(written))


def test_the_log_is_kept_for_an_index_that_is_being_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHANGES_KEPT", 1)
    with collection_at(tmp_path) as collection:

        def save() -> None:
            fill(collection, range(60, 90))
            collection.save()

        meanwhile(monkeypatch, save)
        fill(collection, range(60))
        assert settled(collection).kind is IndexKind.QUANTIZED
        assert_all_found(collection, range(90))


def test_building_starts_over_when_the_log_does_not_reach_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with collection_at(tmp_path) as collection:

        def trim() -> None:
            fill(collection, range(60, 90))
            records = collection._shards[0]._records
            with records.environment.writing() as txn:
                records.trim_changes(txn, records.position(txn) - 1)

        meanwhile(monkeypatch, trim)
        monkeypatch.setattr(maintenance, "_RETRY_S", 0.0)
        fill(collection, range(60))
        assert settled(collection).kind is IndexKind.EXACT
        assert "the log does not reach back" in caplog.text
        fill(collection, [90])
        assert settled(collection).kind is IndexKind.QUANTIZED
        assert_all_found(collection, range(91))


def test_a_failure_is_logged_and_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("out of luck")

    meanwhile(monkeypatch, fail)
    with collection_at(tmp_path) as collection:
        fill(collection, range(60))
        assert settled(collection).kind is IndexKind.EXACT
        assert "out of luck" in caplog.text
        fill(collection, [60])
        assert settled(collection).kind is IndexKind.EXACT, "it was tried again at once"
        collection._shards[0]._maintenance._not_before = 0.0
        fill(collection, [61])
        assert settled(collection).kind is IndexKind.QUANTIZED
        assert_all_found(collection, range(62))


def test_closing_stops_the_work_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as endless:
        endless.setattr(clustering, "_ITERATIONS", 1 << 40)
        with collection_at(tmp_path) as collection:
            fill(collection, range(60))
            while not collection._shards[0]._derived.state().clustering:
                time.sleep(0.001)
            start = time.monotonic()
        assert time.monotonic() - start < 2
        assert collection._shards[0]._derived.index.kind is IndexKind.EXACT
    with collection_at(tmp_path) as collection:
        assert settled(collection).kind is IndexKind.QUANTIZED
        assert_all_found(collection, range(60))


def test_large_shards_are_clustered_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys spread evenly, so all shards of a collection are due together, and each index is held twice meanwhile."""
    built, may_go_on = one_held_up(monkeypatch)
    with collection_at(tmp_path / "one") as one, collection_at(tmp_path / "two") as two:
        fill(one, range(60))
        assert built.wait(60)
        fill(two, range(60))
        time.sleep(0.2)
        assert [each._shards[0]._derived.state().clustering for each in (one, two)] == [True, False]
        may_go_on.set()
        assert {settled(one).kind, settled(two).kind} == {IndexKind.QUANTIZED}
        assert_all_found(two, range(60))


def test_a_shard_that_waits_to_be_clustered_closes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built, may_go_on = one_held_up(monkeypatch)
    with collection_at(tmp_path / "one") as one:
        fill(one, range(60))
        assert built.wait(60)
        with collection_at(tmp_path / "two") as two:
            fill(two, range(60))
        may_go_on.set()
        assert settled(one).kind is IndexKind.QUANTIZED
    with collection_at(tmp_path / "two") as two:
        assert settled(two).kind is IndexKind.QUANTIZED


def test_a_closed_shard_holds_no_index(tmp_path: Path) -> None:
    """Left to the garbage collector, three openings of one shard held its index three times."""
    with collection_at(tmp_path) as collection:
        fill(collection, range(60))
        settled(collection)
        lists = collection._shards[0]._derived.index._lists
        assert sum(map(lists.size, range(lists.lists))) == 60
    assert sum(map(lists.size, range(lists.lists))) == 0


@pytest.mark.parametrize("damage", [False, True])
def test_which_memories_there_are_is_read_from_whole_terms_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bool
) -> None:
    with collection_at(tmp_path) as collection:
        fill(collection, range(60))
        settled(collection)
    (tmp_path / SNAPSHOT).unlink()
    if damage:
        damage_value(tmp_path / RECORDS, "terms", part_key(ALL_LIVE, 0))
    walks = []
    walk = Records.seqs

    def seqs(records: Records, txn: Transaction, after: int = 0) -> Iterator[int]:
        walks.append(after)
        return walk(records, txn, after)

    monkeypatch.setattr(Records, "seqs", seqs)
    with collection_at(tmp_path) as collection:
        assert bool(walks) is damage
        assert collection._shards[0]._derived.index.count == 60


def test_terms_that_lack_a_memory_are_not_believed(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        fill(collection, range(60))
        settled(collection)
        records = collection._shards[0]._records
        with records.environment.writing() as txn:
            records.terms.remove(txn, {}, range(7, 8))
    (tmp_path / SNAPSHOT).unlink()
    with collection_at(tmp_path) as collection:
        assert collection._shards[0]._derived.index.count == 60


def test_without_a_saved_index_a_start_makes_do_with_few_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All vectors are read, but nobody waits for the best lists; they are made while calls go on."""
    with collection_at(tmp_path) as collection:
        fill(collection, range(400))
        settled(collection)
    (tmp_path / SNAPSHOT).unlink()
    monkeypatch.setattr(clustering, "_QUICK_LISTS_MAX", 4)
    with monkeypatch.context() as asleep:
        asleep.setattr(Maintenance, "wake", lambda _: None)
        with collection_at(tmp_path) as collection:
            assert collection._shards[0]._derived.state().lists == 4
            assert_all_found(collection, range(400))
            collection.close(save=False)
    with collection_at(tmp_path) as collection:
        assert settled(collection).lists == plan(400).lists
        assert_all_found(collection, range(400))


def test_a_damaged_vector_is_left_out_and_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with collection_at(tmp_path) as collection:
        fill(collection, range(30))
    damage_value(tmp_path / RECORDS, "vectors", seq_key(7))
    caplog.set_level(logging.ERROR)
    with collection_at(tmp_path) as collection:
        fill(collection, range(30, 60))
        state = settled(collection)
        assert (state.kind, state.count) == (IndexKind.QUANTIZED, 59)
        assert "vectors" in caplog.text
        assert collection.stats().quarantined == 1
        assert recalled(collection, "text 6", 1) != ["text 6"]
