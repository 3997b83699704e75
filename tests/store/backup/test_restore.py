"""A backup is restored only when every byte of it is what was written, and only to where nothing stands."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from memory3.store.backup.back_up import back_up
from memory3.store.backup.restore import restore, verify
from memory3.store.catalog import checksum_of
from memory3.store.directory import DataDirectory
from memory3.store.errors import (
    Cancelled,
    Corrupted,
    DirectoryInUse,
    FailedPrecondition,
    ResourceExhausted,
    UnsupportedFormat,
)

from ..builders import DIMENSION, EMBEDDER, KEY_VALUES, RECORDS, collection_at, embedded, largest_file

Break = Callable[[Path], object]


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    with DataDirectory.open(tmp_path / "data") as directory:
        collection = directory.create_collection("default", EMBEDDER, DIMENSION)
        collection.upsert([embedded(f"{number}", f"text {number}") for number in range(20)])
        back_up(directory, tmp_path / "backup")
    return tmp_path / "backup"


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def say(path: Path, **changed: object) -> None:
    fields = json.loads(path.read_bytes()) | changed
    del fields["checksum"]
    path.write_text(json.dumps(fields | {"checksum": checksum_of(fields)}))


DATA = "data/"
BROKEN: dict[str, tuple[Break, type[Exception], str]] = {
    "a bit of the records": (lambda b: flip(b / DATA / RECORDS / "data.mdb", 9000), Corrupted, "records/data.mdb is d"),
    "the last bit": (lambda b: flip(b / DATA / KEY_VALUES / "data.mdb", -1), Corrupted, "kv/data.mdb is damaged"),
    "a bit of the catalog": (lambda b: flip(b / DATA / "catalog.json", 30), Corrupted, "catalog.json is damaged"),
    "records cut short": (lambda b: cut(b / DATA / RECORDS / "data.mdb"), Corrupted, "records/data.mdb has"),
    "records missing": (lambda b: (b / DATA / RECORDS / "data.mdb").unlink(), Corrupted, "data.mdb is missing"),
    "format missing": (lambda b: (b / DATA / "format.json").unlink(), Corrupted, "format.json is missing"),
    "a bit of the manifest": (lambda b: flip(b / "backup.json", 200), Corrupted, "backup.json"),
    "the manifest cut short": (lambda b: cut(b / "backup.json"), Corrupted, "backup.json cannot be read"),
    "an empty manifest": (lambda b: (b / "backup.json").write_text("{}"), Corrupted, "backup.json cannot be read"),
    "no manifest": (lambda b: (b / "backup.json").unlink(), FailedPrecondition, "not a whole backup"),
    "another format": (lambda b: say(b / "backup.json", format=99), UnsupportedFormat, "version 99"),
    "another layout": (lambda b: say(b / "backup.json", layout=2), UnsupportedFormat, "layout 2"),
    "a file outside": (
        lambda b: say(b / "backup.json", files=[{"path": "data/../../x", "bytes": 1, "checksum": ""}]),
        Corrupted,
        r"data/\.\./\.\./x",
    ),
}


@pytest.mark.parametrize(("broken", "error", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_a_damaged_backup_is_refused_before_anything_is_written(
    backup: Path, tmp_path: Path, broken: Break, error: type[Exception], said: str
) -> None:
    broken(backup)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error, match=said):
        verify(backup)
    with pytest.raises(error, match=said):
        restore(backup, tmp_path / "deep" / "new")
    assert sorted(tmp_path.iterdir()) == before


def test_every_byte_is_under_a_checksum(backup: Path) -> None:
    for path in sorted(backup.rglob("*.*")):
        whole = path.read_bytes()
        for place in range(0, len(whole), max(1, len(whole) // 7)):
            if path.name == "backup.json" and whole[place : place + 1].isspace():
                continue
            flip(path, place)
            with pytest.raises((Corrupted, UnsupportedFormat, FailedPrecondition)):
                verify(backup)
            path.write_bytes(whole)
    verify(backup)


def test_what_stands_is_never_overwritten(backup: Path, tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"not empty: it holds .* move it away"):
        restore(backup, tmp_path / "data")
    (tmp_path / "file").touch()
    with pytest.raises(FailedPrecondition, match="no directory"):
        restore(backup, tmp_path / "file")
    with DataDirectory.open(tmp_path / "data") as directory:
        directory.publish("localhost:7")
        with pytest.raises(DirectoryInUse, match="served at localhost:7") as refused:
            restore(backup, tmp_path / "data")
        assert refused.value.address == "localhost:7"
    (tmp_path / "empty").mkdir()
    restore(backup, tmp_path / "empty")
    with collection_at(tmp_path / "empty") as collection:
        assert collection.count().documents == 20


def test_a_restore_that_fails_leaves_nothing(backup: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    with largest_file(10_000), pytest.raises(ResourceExhausted, match="disk is full"):
        restore(backup, tmp_path / "new")
    assert sorted(tmp_path.iterdir()) == before

    def stop(done: int, total: int) -> None:
        if done > total * 0.6:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        restore(backup, tmp_path / "new", stop)
    assert sorted(tmp_path.iterdir()) == before
    told: list[tuple[int, int]] = []
    report = restore(backup, tmp_path / "new", lambda *how_far: told.append(how_far))
    assert told[-1] == (2 * report.bytes, 2 * report.bytes)


def test_a_file_that_changes_between_two_readings_is_noticed(backup: Path, tmp_path: Path) -> None:
    def change(done: int, total: int) -> None:
        if done == total // 2:
            flip(backup / DATA / RECORDS / "data.mdb", 9000)

    with pytest.raises(Corrupted, match=r"records/data\.mdb is damaged"):
        restore(backup, tmp_path / "new", change)
    assert not (tmp_path / "new").exists()
