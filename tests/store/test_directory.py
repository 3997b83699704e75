import json
import os
import re
import shutil
from pathlib import Path

import pytest
from memory3.store import directory as directory_module
from memory3.store import limits
from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.errors import (
    AlreadyExists,
    Corrupted,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
    UnsupportedFormat,
)
from memory3.store.types import CollectionInfo

from .builders import DIMENSION, EMBEDDER, KEY_VALUES, RECORDS, collection_at, copy_of, embedded, recalled


def test_collections_are_there_after_reopening(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path / "not" / "yet" / "there") as directory:
        directory.create_collection("b", EMBEDDER, DIMENSION)
        directory.create_collection("a", "other", 3)
    with DataDirectory.open(tmp_path / "not" / "yet" / "there") as directory:
        assert directory.collections() == [CollectionInfo("a", "other", 3), CollectionInfo("b", EMBEDDER, DIMENSION)]
        assert directory.collection("a").info == CollectionInfo("a", "other", 3)
        assert directory.collection("a") is directory.collection("a")


def test_creating_the_same_again_returns_it_and_other_settings_are_refused(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path) as directory:
        collection = directory.create_collection("one", EMBEDDER, DIMENSION)
        assert directory.create_collection("one", EMBEDDER, DIMENSION) is collection
        with pytest.raises(AlreadyExists, match="dimension 16 and 1 shards, asked for are 'test embedder', 17 and 1"):
            directory.create_collection("one", EMBEDDER, 17)
        with pytest.raises(AlreadyExists, match="'other'"):
            directory.create_collection("one", "other", DIMENSION)
        with pytest.raises(AlreadyExists, match="1 shards"):
            directory.create_collection("one", EMBEDDER, DIMENSION, shards=2)
        assert directory.create_collection("many", EMBEDDER, DIMENSION, shards=3).info.shards == 3
        assert directory.create_collection("many", EMBEDDER, DIMENSION).info.shards == 3
        for shards in (0, 65, 1.0):
            with pytest.raises(InvalidArgument, match="shards"):
                directory.create_collection("new", EMBEDDER, DIMENSION, shards=shards)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "a b", "ä", "a/b", "..", "x" * 65, "a\0", "a\n"])
def test_a_bad_name_is_refused(tmp_path: Path, name: str) -> None:
    with DataDirectory.open(tmp_path) as directory:
        for call in (directory.collection, directory.drop_collection):
            with pytest.raises(InvalidArgument, match="collection name"):
                call(name)
        with pytest.raises(InvalidArgument, match="collection name"):
            directory.create_collection(name, EMBEDDER, DIMENSION)


@pytest.mark.parametrize(("embedder", "dimension"), [("", 3), ("e" * 513, 3), ("e", 0), ("e", -1), ("e", 8193)])
def test_bad_settings_are_refused(tmp_path: Path, embedder: str, dimension: int) -> None:
    with DataDirectory.open(tmp_path) as directory:
        with pytest.raises(InvalidArgument):
            directory.create_collection("name", embedder, dimension)
        assert directory.collections() == []


def test_a_missing_collection_is_not_found(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path) as directory:
        with pytest.raises(NotFound, match="'none'"):
            directory.collection("none")
        with pytest.raises(NotFound, match="'none'"):
            directory.drop_collection("none")


def test_a_dropped_collection_is_gone_and_a_new_one_of_its_name_is_empty(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path) as directory:
        old = directory.create_collection("one", EMBEDDER, DIMENSION)
        old.upsert([embedded("key", "text")])
        directory.drop_collection("one")
        with pytest.raises(Unavailable):
            old.count()
        assert not (tmp_path / RECORDS).exists()
        new = directory.create_collection("one", "another embedder", DIMENSION + 1)
        assert new.count().documents == 0
    with DataDirectory.open(tmp_path) as directory:
        assert directory.collection("one").info.embedder == "another embedder"
        directory.drop_collection("one")
    with DataDirectory.open(tmp_path) as directory:
        assert directory.collections() == []
        assert list((tmp_path / "collections").iterdir()) == []


def test_more_collections_than_allowed_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COLLECTIONS_MAX", 2)
    with DataDirectory.open(tmp_path) as directory:
        for name in "ab":
            directory.create_collection(name, EMBEDDER, DIMENSION)
        with pytest.raises(ResourceExhausted, match="2 collections exist"):
            directory.create_collection("c", EMBEDDER, DIMENSION)


def test_a_crash_between_catalog_and_files_of_a_drop_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DataDirectory.open(tmp_path) as directory:
        directory.create_collection("one", EMBEDDER, DIMENSION)
        monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
        directory.drop_collection("one")
    monkeypatch.undo()
    assert (tmp_path / RECORDS).exists()
    with DataDirectory.open(tmp_path) as directory:
        assert directory.collections() == []
        assert not (tmp_path / RECORDS).exists()


def test_a_crash_between_files_and_catalog_of_a_creation_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object) -> None:
        raise ResourceExhausted("the disk is full")

    with DataDirectory.open(tmp_path) as directory:
        with monkeypatch.context() as patched:
            patched.setattr(directory_module, "write_catalog", no_space)
            with pytest.raises(ResourceExhausted):
                directory.create_collection("one", EMBEDDER, DIMENSION)
        assert directory.collections() == []
        copy = copy_of(tmp_path, tmp_path.parent / "crashed")
        assert directory.create_collection("one", EMBEDDER, DIMENSION).count().documents == 0
    assert (copy / RECORDS).exists()
    with DataDirectory.open(copy) as directory:
        assert directory.collections() == []
    assert not (copy / RECORDS).exists()


def test_another_format_version_is_refused_with_both_versions(tmp_path: Path) -> None:
    DataDirectory.open(tmp_path).close()
    (tmp_path / "format.json").write_text(json.dumps({"magic": "memory3 data directory", "format": 3}))
    for _ in range(2):
        with pytest.raises(UnsupportedFormat, match="format version 3, this release reads version 2"):
            DataDirectory.open(tmp_path)


def test_a_directory_of_another_version_is_left_as_it_is(tmp_path: Path) -> None:
    """Its version was looked at only after `lock` had been made and a crashed server's `server.json` removed."""
    files = {
        "format.json": '{"magic": "memory3 data directory", "format": 3}',
        "server.json": '{"address": "localhost:1"}',
        "catalog.json.tmp": "{",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(UnsupportedFormat):
        DataDirectory.open(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"magic": "memory3 data directory"}', "\xff", pytest.param("[" * 20_000, id="nested deeply")],
)
def test_a_damaged_format_file_is_corrupted(tmp_path: Path, content: str) -> None:
    DataDirectory.open(tmp_path).close()
    (tmp_path / "format.json").write_text(content)
    with pytest.raises(Corrupted, match=r"format\.json"):
        DataDirectory.open(tmp_path)


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(FailedPrecondition, match=r"thesis\.txt"):
        DataDirectory.open(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(FailedPrecondition, match="not a directory"):
        DataDirectory.open(tmp_path / "thesis.txt")


def test_a_directory_of_somebody_s_temporary_files_is_left_alone(tmp_path: Path) -> None:
    """Whatever ended in `.tmp` was taken for ours: a folder that held only `thesis.tmp` became a data directory, and
    the first opening deleted the thesis."""
    for name in ("thesis.tmp", "catalog.json.tmp"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text("precious")
        with pytest.raises(FailedPrecondition, match=re.escape(name)):
            DataDirectory.open(folder)
        assert [entry.name for entry in folder.iterdir()] == [name]


def test_what_others_keep_in_a_data_directory_is_left_alone(tmp_path: Path) -> None:
    """Every `*.tmp` in it was deleted at open, and every folder beside the collections."""
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded("key", "text")])
    strangers = ("notes.tmp", "notes/format.json.tmp", "collections/copy/data.mdb", f"{RECORDS}/data.tmp")
    for name in strangers:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("precious")
    with collection_at(tmp_path) as collection:
        assert collection.count().documents == 1
    assert [name for name in strangers if not (tmp_path / name).exists()] == []


@pytest.mark.parametrize("name", ["format.json", "catalog.json", "server.json", "index.snapshot"])
def test_a_crash_while_a_file_is_written_leaves_nothing_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    replace = os.replace

    def crash(source: Path, to: Path) -> None:
        if Path(to).name == name:
            raise KeyboardInterrupt
        replace(source, to)

    def write_every_file() -> None:
        with DataDirectory.open(tmp_path) as directory:
            directory.create_collection("default", EMBEDDER, DIMENSION).upsert([embedded("key", "text")])
            directory.publish("localhost:1")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        write_every_file()
    monkeypatch.undo()
    assert [left.name for left in tmp_path.rglob("*.tmp")] == [f"{name}.tmp"]
    DataDirectory.open(tmp_path).close()
    assert list(tmp_path.rglob("*.tmp")) == []


def test_a_crash_while_the_disk_is_probed_leaves_nothing_for_good(tmp_path: Path) -> None:
    with collection_at(tmp_path):
        pass
    (tmp_path / KEY_VALUES / "space.tmp").write_bytes(bytes(9))
    DataDirectory.open(tmp_path).close()
    assert not (tmp_path / KEY_VALUES / "space.tmp").exists()


def test_a_crash_while_a_directory_is_made_is_made_up_for(tmp_path: Path) -> None:
    for left in ([], ["lock"], ["lock", "format.json.tmp"], ["lock", "format.json"]):
        path = tmp_path / str(len(left))
        DataDirectory.open(path).close()
        for entry in path.iterdir():
            if entry.name not in left:
                entry.unlink()
        if "format.json.tmp" in left:
            (path / "format.json.tmp").write_text("{")
        with DataDirectory.open(path) as directory:
            assert directory.collections() == []
            assert not (path / "format.json.tmp").exists()


def test_every_flipped_bit_of_the_catalog_is_noticed(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path) as directory:
        directory.create_collection("one", EMBEDDER, DIMENSION)
    good = (tmp_path / "catalog.json").read_bytes()
    for place in range(len(good)):
        damaged = bytearray(good)
        damaged[place] ^= 1 << place % 7
        if json_of(bytes(damaged)) == json.loads(good):
            continue
        (tmp_path / "catalog.json").write_bytes(damaged)
        with pytest.raises((Corrupted, UnsupportedFormat)):
            DataDirectory.open(tmp_path)
    (tmp_path / "catalog.json").write_bytes(good)
    with DataDirectory.open(tmp_path) as directory:
        assert [info.name for info in directory.collections()] == ["one"]


def json_of(data: bytes) -> object:
    try:
        return json.loads(data)
    except ValueError:
        return None


def test_a_lost_catalog_or_lost_records_are_never_taken_for_empty(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded("key", "text")])
    catalog = (tmp_path / "catalog.json").read_bytes()
    (tmp_path / "catalog.json").unlink()
    with pytest.raises(Corrupted, match=r"catalog\.json"):
        DataDirectory.open(tmp_path)
    (tmp_path / "catalog.json").write_bytes(catalog)
    for name in ("data.mdb", "lock.mdb"):
        (tmp_path / RECORDS / name).rename(tmp_path / name)
    with DataDirectory.open(tmp_path) as directory, pytest.raises(Corrupted, match="missing"):
        directory.collection("default")
    (tmp_path / "data.mdb").rename(tmp_path / RECORDS / "data.mdb")
    with collection_at(tmp_path) as collection:
        assert recalled(collection, "text") == ["text"]


def test_records_of_another_collection_are_refused(tmp_path: Path) -> None:
    for name in ("one", "other"):
        with DataDirectory.open(tmp_path / name) as directory:
            directory.create_collection(name, EMBEDDER, DIMENSION)
    (tmp_path / "one" / RECORDS).rename(tmp_path / "aside")
    (tmp_path / "other" / RECORDS).rename(tmp_path / "one" / RECORDS)
    with DataDirectory.open(tmp_path / "one") as directory, pytest.raises(Corrupted, match="the catalog expects"):
        directory.collection("one")


def test_key_values_of_another_shard_are_refused_and_left_alone(tmp_path: Path) -> None:
    for name in ("one", "other"):
        with collection_at(tmp_path / name) as collection:
            collection.upsert([embedded("key", "text")])
            collection.put_key_values("f", [(1, name.encode())])
    (tmp_path / "one" / KEY_VALUES).rename(tmp_path / "aside")
    (tmp_path / "other" / KEY_VALUES).rename(tmp_path / "one" / KEY_VALUES)
    with DataDirectory.open(tmp_path / "one") as directory:
        with pytest.raises(FailedPrecondition, match="key-values of another shard"):
            directory.collection("default")
        (tmp_path / "one" / KEY_VALUES).rename(tmp_path / "other" / KEY_VALUES)
        (tmp_path / "aside").rename(tmp_path / "one" / KEY_VALUES)
        assert directory.collection("default").fetch_key_values("f", [1]) == [b"one"]


def test_everything_is_unavailable_after_close(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path)
    collection: Collection = directory.create_collection("one", EMBEDDER, DIMENSION)
    directory.close()
    directory.close()
    for call in (directory.collections, lambda: directory.collection("one"), lambda: directory.publish("a:1")):
        with pytest.raises(Unavailable, match="is closed"):
            call()
    with pytest.raises(Unavailable, match="'one' is closed"):
        collection.count()
