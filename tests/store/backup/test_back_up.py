"""Backups made while others read and write: whole, consistent, and nothing left behind when they fail."""

import json
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from memory3.store import limits
from memory3.store.backup.back_up import back_up
from memory3.store.backup.copying import FrozenEnvironment, frozen
from memory3.store.backup.restore import restore, verify
from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.disk import points
from memory3.store.disk.environment import Environment
from memory3.store.errors import (
    Cancelled,
    Corrupted,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from memory3.store.format import FORMAT

from ..builders import DIMENSION, EMBEDDER, RECORDS, collection_at, embedded, largest_file
from ..test_threads import Storm


@contextmanager
def opened(path: Path) -> Iterator[tuple[DataDirectory, Collection]]:
    with DataDirectory.open(path) as directory:
        yield directory, directory.create_collection("default", EMBEDDER, DIMENSION)


def fill(collection: Collection, documents: int, words: int = 20) -> None:
    collection.upsert([embedded(f"{number:05}", f"text {number} " * words) for number in range(documents)])


def test_a_backup_restored_is_what_was_backed_up(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as (directory, collection):
        fill(collection, 50)
        collection.delete(["00007"])
        collection.put_key_values("model", [(seq, b"%20d" % seq) for seq in range(1, 51)])
        other = directory.create_collection("other", "another embedder", 3)
        report = back_up(directory, tmp_path / "backup")
        expected = collection.list(1000)
        assert report.path == str(tmp_path / "backup")
        counts = {found.name: (found.documents, found.memories, found.positions) for found in report.collections}
        assert counts == {"default": (49, 49, (51,)), "other": (0, 0, (0,))}
        info = other.info
    assert verify(tmp_path / "backup") == report
    for name in ("first", "second"):
        assert restore(tmp_path / "backup", tmp_path / name) == report
        with opened(tmp_path / name) as (directory, collection):
            assert [found.name for found in directory.collections()] == ["default", "other"]
            assert directory.collection("other").info == info
            assert collection.list(1000) == expected
            assert collection.stats().warm == {"model": 49}
            assert collection.check(full=True).problems == ()
            # What was opened and changed is no backup any more; the backup is, whatever becomes of its children.
            collection.upsert([embedded("new", "text")])
    assert verify(tmp_path / "backup") == report


def test_a_backup_under_a_storm_is_consistent(tmp_path: Path) -> None:
    """Each document has the same number in all of its references; each key's number only grows."""
    keys = [f"key {number}" for number in range(40)]
    acknowledged = dict.fromkeys(keys, 0)
    guards = {key: threading.Lock() for key in keys}
    numbers = iter(range(1, 1_000_000))
    reports = []
    before: list[dict[str, int]] = []

    with opened(tmp_path / "data") as (directory, collection):

        def write() -> None:
            key = random.choice(keys)
            with guards[key]:
                number = next(numbers)
                if random.random() < 0.25:
                    collection.delete([key])
                    acknowledged[key] = -number
                    return
                parts = [f"{key} {number} {part} {'x' * 500}. " for part in range(3)]
                (result,) = collection.upsert([embedded(key, *parts)])
                acknowledged[key] = number
            seqs = range(result.version - 2, result.version + 1)
            collection.put_key_values("model", [(seq, b"%2000d" % seq) for seq in seqs])

        def copy() -> None:
            before.append(dict(acknowledged))
            reports.append(back_up(directory, tmp_path / f"backup-{len(before)}"))

        storm = Storm()
        for work in (write, write, write, write, copy):
            storm.add(work)
        storm.run()
        assert collection.check(full=True).problems == ()
    assert len(reports) > 1
    for number, known in enumerate(before[: len(reports)], start=1):
        restore(tmp_path / f"backup-{number}", tmp_path / "restored")
        with collection_at(tmp_path / "restored") as restored:
            assert restored.check(full=True).problems == ()
            stands = {stored.key: stored for stored in restored.list(1000).documents}
            for key, least in known.items():
                if key in stands:
                    pieces = [piece.split() for piece in stands[key].text.split(". ") if piece]
                    assert len(pieces) == 3 and len({piece[2] for piece in pieces}) == 1
                    assert int(pieces[0][2]) >= abs(least)
                    values = restored.fetch_key_values("model", stands[key].memories)
                    for seq, value in zip(stands[key].memories, values, strict=True):
                        assert value in (None, b"%2000d" % seq)
                else:
                    # Deleted before the backup, or by a change that came while it began.
                    assert least <= 0 or acknowledged[key] != least
        shutil.rmtree(tmp_path / "restored")


def test_reads_and_writes_go_on_while_a_backup_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memory3.store.backup.copying.COPY_PIECE_BYTES", 4096)
    with opened(tmp_path / "data") as (directory, collection):
        fill(collection, 200)
        written = 0

        def slowly(done: int, total: int) -> None:
            nonlocal written
            if done and written < 20:
                collection.upsert([embedded(f"late {written}", "late")])
                assert collection.get([f"late {written}"])[0] is not None
                stats = collection.stats()
                assert stats.oldest_reader >= written and 0 < stats.records_held_bytes <= stats.records_free_bytes
                written += 1

        back_up(directory, tmp_path / "backup", slowly)
        assert written == 20 and collection.count().documents == 220
        stats = collection.stats()
        assert (stats.oldest_reader, stats.records_held_bytes, stats.key_values_held_bytes) == (0, 0, 0)
    restore(tmp_path / "backup", tmp_path / "new")
    with collection_at(tmp_path / "new") as restored:
        assert restored.count().documents == 200


def test_progress_counts_every_byte(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as (directory, collection):
        fill(collection, 100)
        told: list[tuple[int, int]] = []
        report = back_up(directory, tmp_path / "backup", lambda *how_far: told.append(how_far))
    assert told == sorted(told) and told[0][0] == 0
    done, total = told[-1]
    assert done == total
    small = sum((tmp_path / "backup" / "data" / name).stat().st_size for name in ("format.json", "catalog.json"))
    assert report.bytes == total + small


def test_a_backup_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done:
            raise Cancelled("enough")

    with opened(tmp_path / "data") as (directory, collection):
        fill(collection, 300)
        with pytest.raises(Cancelled, match="enough"):
            back_up(directory, tmp_path / "backup", stop)
        assert [entry.name for entry in tmp_path.iterdir()] == ["data"]
        # Nothing is held any more.
        back_up(directory, tmp_path / "backup")
        collection.compact()
        assert collection.stats().oldest_reader == 0


def test_a_full_disk_refuses_a_backup_whole(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as (directory, collection):
        fill(collection, 300, words=200)
        with largest_file(100_000), pytest.raises(ResourceExhausted, match="disk is full"):
            back_up(directory, tmp_path / "backup")
        assert [entry.name for entry in tmp_path.iterdir()] == ["data"]
        fill(collection, 10)
        back_up(directory, tmp_path / "backup")


def test_a_target_that_will_not_do_is_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "data" / "backup")
    with opened(tmp_path / "data") as (directory, _):
        for target, error, said in (
            ("full", FailedPrecondition, "holds 'mine'"),
            ("file", FailedPrecondition, "no directory"),
            ("data", InvalidArgument, "within the data directory"),
            ("data/backup", InvalidArgument, "within the data directory"),
            ("full/../data/collections/backup", InvalidArgument, "within the data directory"),
            ("link", InvalidArgument, "within the data directory"),
            ("nul\0", InvalidArgument, "which no path can"),
            ("none/backup", NotFound, "create it first"),
        ):
            with pytest.raises(error, match=said):
                back_up(directory, tmp_path / target)
        (tmp_path / "empty").mkdir()
        back_up(directory, tmp_path / "empty")
        with pytest.raises(FailedPrecondition, match=r"holds 'backup\.json'"):
            back_up(directory, tmp_path / "empty")
    assert verify(tmp_path / "empty").collections[0].documents == 0
    with pytest.raises(FailedPrecondition, match="choose an empty directory"), DataDirectory.open(tmp_path / "empty"):
        pass


def test_what_a_killed_backup_left_is_replaced_and_what_is_others_is_not(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as (directory, _):
        left = tmp_path / "backup.tmp"
        (left / "data" / "collections").mkdir(parents=True)
        (left / "data" / "format.json").touch()
        back_up(directory, tmp_path / "backup")
        assert not left.exists()
        (tmp_path / "second.tmp").mkdir()
        (tmp_path / "second.tmp" / "letters").touch()
        with pytest.raises(FailedPrecondition, match=r"second\.tmp is in the way and not ours: it holds 'letters'"):
            back_up(directory, tmp_path / "second")
        assert (tmp_path / "second.tmp" / "letters").exists()


def test_a_collection_dropped_meanwhile_does_not_wait_and_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memory3.store.backup.copying.COPY_PIECE_BYTES", 4096)
    with opened(tmp_path / "data") as (directory, collection):
        fill(collection, 100)
        for name in ("away", "made-before", "zone"):
            fill(directory.create_collection(name, EMBEDDER, DIMENSION), 100)
        changed = threading.Event()

        def change() -> None:
            # The first to be copied, and one that comes later.
            directory.drop_collection("away")
            directory.drop_collection("zone")
            directory.create_collection("made-after", EMBEDDER, DIMENSION)
            directory.create_collection("zone", "another", 3)
            changed.set()

        changing = threading.Thread(target=change)

        def slowly(done: int, total: int) -> None:
            if done and not changing.ident:
                changing.start()
            time.sleep(0.002)

        report = back_up(directory, tmp_path / "backup", slowly)
        changing.join(10)
        assert changed.is_set()
    assert [found.name for found in report.collections] == ["default", "made-before"]
    restore(tmp_path / "backup", tmp_path / "new")
    with DataDirectory.open(tmp_path / "new") as directory:
        assert [found.name for found in directory.collections()] == ["default", "made-before"]
        assert directory.collection("made-before").check(full=True).problems == ()
        assert sorted(entry.name for entry in (tmp_path / "new" / "collections").iterdir()) == ["00000001", "00000003"]


def test_closing_ends_a_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memory3.store.backup.copying.COPY_PIECE_BYTES", 4096)
    with opened(tmp_path / "data") as (directory, collection):
        fill(collection, 300)
        closing = threading.Thread(target=directory.close)

        def slowly(done: int, total: int) -> None:
            if done and not closing.ident:
                closing.start()
            time.sleep(0.005)

        with pytest.raises(Unavailable, match="is closed"):
            back_up(directory, tmp_path / "backup", slowly)
        closing.join(10)
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


def test_a_second_backup_waits_for_the_first_and_may_give_up(tmp_path: Path) -> None:
    class Impatient(Exception):
        pass

    def give_up(done: int, total: int) -> None:
        raise Impatient

    with opened(tmp_path / "data") as (directory, _):
        with directory.maintenance, pytest.raises(Impatient):
            back_up(directory, tmp_path / "backup", give_up)
        with directory.maintenance, pytest.raises(Impatient):
            directory.compact("default", give_up)


def test_a_damaged_collection_fails_the_backup(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as (_, collection):
        fill(collection, 10)
    (tmp_path / "data" / RECORDS / "data.mdb").write_bytes(b"nonsense" * 1000)
    with DataDirectory.open(tmp_path / "data") as directory, pytest.raises(Corrupted, match="records"):
        back_up(directory, tmp_path / "backup")
    assert not (tmp_path / "backup").exists() and not (tmp_path / "backup.tmp").exists()


def test_key_values_behind_the_records_are_put_right_at_the_first_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the log was trimmed between the two, so that it no longer says what was forgotten."""
    monkeypatch.setattr(limits, "CHANGES_KEPT", 0)
    with opened(tmp_path / "data") as (directory, collection):
        fill(collection, 20)
        collection.put_key_values("model", [(seq, b"%20d" % seq) for seq in range(1, 21)])
        key_values = collection._shards[0]._key_values.environment

        @contextmanager
        def between(environment: Environment) -> Iterator[FrozenEnvironment]:
            with frozen(environment) as state:
                if environment is key_values:
                    collection.delete([f"{number:05}" for number in range(10)])
                    collection.upsert([embedded("new", "new")])
                    collection.put_key_values("model", [(31, b"%20d" % 31)])
                    collection.save()
                yield state

        monkeypatch.setattr("memory3.store.shard.shard.frozen", between)
        back_up(directory, tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "new")
    with collection_at(tmp_path / "new") as restored:
        assert restored.check(full=True).problems == ()
        assert (restored.count().documents, restored.stats().warm) == (11, {"model": 10})


def test_the_manifest_is_as_documented(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as (directory, collection):
        fill(collection, 3)
        back_up(directory, tmp_path / "backup")
    manifest = json.loads((tmp_path / "backup" / "backup.json").read_text())
    assert (manifest["magic"], manifest["layout"], manifest["format"]) == ("memory3 backup", 1, FORMAT)
    assert manifest["collections"] == [{"name": "default", "documents": 3, "memories": 3, "positions": [3]}]
    shard = "data/collections/00000001/shard-0000"
    assert [file["path"] for file in manifest["files"]] == [
        "data/catalog.json",
        "data/format.json",
        f"{shard}/records/data.mdb",
        f"{shard}/kv/data.mdb",
    ]
    assert sorted(manifest["files"][0]) == ["bytes", "checksum", "path"]


KILLED = """
import os, sys
from memory3.store.disk import points
from memory3.store.backup.back_up import back_up
from memory3.store.directory import DataDirectory
from memory3.store.backup.restore import restore

data, place, target, kind = sys.argv[1:]

def reached(point, path):
    if [point, path.name] == place.split(":"):
        os.kill(os.getpid(), 9)

if kind == "restore":
    points.reached = reached
    restore(data, target)
else:
    with DataDirectory.open(data) as directory:
        points.reached = reached
        back_up(directory, target)
"""
PLACES = {
    f"{points.COPYING}:data.mdb": False,
    f"{points.BEFORE_RENAME}:backup.json": False,
    f"{points.RENAMED}:backup.json": False,
    f"{points.BEFORE_RENAME}:target": False,
    f"{points.RENAMED}:target": True,
}


@pytest.mark.parametrize(("place", "stands"), PLACES.items(), ids=PLACES.keys())
def test_a_killed_backup_stands_whole_or_not_at_all(tmp_path: Path, place: str, stands: bool) -> None:
    with opened(tmp_path / "data") as (_, collection):
        fill(collection, 50)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "data"), place, str(tmp_path / "target"), "backup"]
    assert subprocess.run(command, timeout=60).returncode == -9
    assert (tmp_path / "target").exists() is stands
    if stands:
        shutil.rmtree(tmp_path / "target")
    with opened(tmp_path / "data") as (directory, _):
        report = back_up(directory, tmp_path / "target")
    assert verify(tmp_path / "target") == report
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["data", "target"]


@pytest.mark.parametrize(
    ("place", "stands"), [(name, stands) for name, stands in PLACES.items() if "backup.json" not in name]
)
def test_a_killed_restore_stands_whole_or_not_at_all(tmp_path: Path, place: str, stands: bool) -> None:
    with opened(tmp_path / "data") as (directory, collection):
        fill(collection, 50)
        back_up(directory, tmp_path / "backup")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "backup"), place, str(tmp_path / "target"), "restore"]
    assert subprocess.run(command, timeout=60).returncode == -9
    assert (tmp_path / "target").exists() is stands
    if not stands:
        restore(tmp_path / "backup", tmp_path / "target")
    with collection_at(tmp_path / "target") as restored:
        assert restored.count().documents == 50
        assert restored.check(full=True).problems == ()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["backup", "data", "target"]
