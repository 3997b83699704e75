"""Short form of the crash loop; the long one is `python bench/reliability.py --only crash`."""

from pathlib import Path

from memory3.store.directory import DataDirectory
from memory3.store.disk import points
from memory3.tests.reliability.content import DIMENSION, EMBEDDER, embedded_of
from memory3.tests.reliability.crash import IN_BACKUP, OPENING, RANDOM, UNDER_LOAD, crash_loop, points_spared
from memory3.tests.reliability.faults import BACKUP_POINTS, POINTS, file_at
from memory3.tests.reliability.outcome import Outcome
from memory3.tests.reliability.processes import processes
from memory3.tests.reliability.serving import die_reading

REWRITES = 60


def test_nothing_acknowledged_is_lost_and_nothing_deleted_answers(tmp_path: Path) -> None:
    outcome = crash_loop(tmp_path / "data", kills=20)
    assert outcome.violations == []
    assert outcome.counts["kills"] == 20 and outcome.counts["changes acknowledged"] > 100
    assert outcome.places.total() == 20 and len(outcome.places) > 3
    assert outcome.counts["changes watched"] > 100 and outcome.counts["watches resumed"] > 10
    assert outcome.counts["watches that had to list"] < 10


def test_a_point_without_a_kill_is_named() -> None:
    outcome = Outcome("crash", "")
    outcome.places[RANDOM, UNDER_LOAD] = 1
    for when, reached in ((UNDER_LOAD, POINTS), (IN_BACKUP, BACKUP_POINTS)):
        for point in reached:
            outcome.places[f"{point}: data.mdb", when] = 1
    assert points_spared(outcome) == []
    del outcome.places[f"{points.COPYING}: data.mdb", IN_BACKUP]
    outcome.places[f"{points.COPIED}: data.mdb", OPENING] = outcome.places.pop(
        (f"{points.COPIED}: data.mdb", UNDER_LOAD)
    )
    assert points_spared(outcome) == [f"{points.COPIED}, {UNDER_LOAD}", f"{points.COPYING}, {IN_BACKUP}"]


def test_files_are_named_alike_wherever_they_are() -> None:
    shard = Path("any", "data-2", "collections", "00000001", "shard-0002")
    found = [
        shard.parent,
        shard,
        shard / "index.snapshot",
        shard / "kv",
        shard / "kv" / "data.mdb",
        Path("catalog.json"),
    ]
    assert [file_at(path) for path in found] == [
        *("collections/N", "shard-N", "index.snapshot", "kv", "kv/data.mdb", "catalog.json")
    ]


def test_a_process_killed_while_it_read_keeps_no_page_from_being_used_again(tmp_path: Path) -> None:
    """A reader that is still registered would hold every page that was freed since: the file would grow for ever."""
    with DataDirectory.open(tmp_path) as directory:
        directory.create_collection("default", EMBEDDER, DIMENSION).upsert([embedded_of("key", "0")])
    reader = processes().Process(target=die_reading, args=(tmp_path,))
    reader.start()
    reader.join()
    assert reader.exitcode == -9
    (file,) = tmp_path.glob("collections/*/shard-0000/records/data.mdb")
    with DataDirectory.open(tmp_path) as directory:
        collection = directory.collection("default")
        for rewrite in range(REWRITES):
            collection.upsert([embedded_of("key", f"{rewrite + 1}")])
            if rewrite == REWRITES // 2:
                size = file.stat().st_size
        assert collection.check(full=True).problems == ()
    assert file.stat().st_size <= size + (8 << 12)
